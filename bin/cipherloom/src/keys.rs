//! `cipherloom keys`: generating and inspecting key sets.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use cipherloom_fhe::{KeySet, ParameterSet};

use crate::{cli::KeysCommand, data_dir, progress::KeyGenerationBar};

/// Runs one of the commands.
pub(crate) fn run(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Generate { directory } => generate(&directory),
        KeysCommand::Show { directory, json } => show(&directory.map_or_else(data_dir::default_keys, Ok)?, json),
    }
}

/// Opens the key set of a directory, or generates one there with a progress bar.
///
/// # Errors
/// If the keys cannot be read, or generated.
pub(crate) fn open_or_generate(directory: &Path, parameters: ParameterSet) -> Result<Arc<KeySet>> {
    let keys = KeySet::open_or_generate(directory, parameters, &KeyGenerationBar::new())
        .with_context(|| format!("cannot use the keys in {}", directory.display()))?;
    Ok(Arc::new(keys))
}

fn generate(directory: &Path) -> Result<()> {
    let start = Instant::now();
    let keys = KeySet::generate(directory, ParameterSet::Production, &KeyGenerationBar::new())?;
    println!("key set {} generated in {:.1} s", keys.manifest().id, start.elapsed().as_secs_f64());
    println!(
        "{} holds it; secret_key.bin decrypts everything, so keep it from others",
        directory.display()
    );
    Ok(())
}

fn show(directory: &Path, json: bool) -> Result<()> {
    let keys = KeySet::open(directory)?;
    // Reading a part checks it against its digest and the parameters.
    keys.evaluation()?;
    if keys.has_secret_key() {
        keys.decryptor()?;
    }
    let manifest = keys.manifest();
    if json {
        println!("{}", serde_json::to_string_pretty(manifest)?);
        return Ok(());
    }
    println!("key set      {}", manifest.id);
    println!("directory    {}", directory.display());
    println!("parameters   {}", manifest.parameters);
    let capabilities = manifest.capabilities;
    println!(
        "can also     {}",
        list_of(&[
            ("re-randomise", capabilities.re_randomization),
            ("compress lists", capabilities.compression),
            ("squash noise (threshold decryption)", capabilities.noise_squashing),
        ])
    );
    let parts = &manifest.parts;
    for part in [&parts.public_key, &parts.crs, &parts.evaluation_key, &parts.secret_key] {
        let absent = if directory.join(&part.file).exists() { "" } else { "  (not here)" };
        println!(
            "{:<20} {:>11} bytes  sha3-256 {}{absent}",
            part.file, part.size_bytes, part.sha3_256
        );
    }
    println!("every part present was read and matches the manifest");
    Ok(())
}

fn list_of(capabilities: &[(&str, bool)]) -> String {
    let names: Vec<&str> = capabilities.iter().filter(|(_, able)| *able).map(|(name, _)| *name).collect();
    if names.is_empty() {
        "nothing more".to_owned()
    } else {
        names.join(", ")
    }
}
