//! `--generate-fhe-keys`: a key set where the generation's scripts look for it.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use cipherloom_fhe::{KeySet, ParameterSet};

use super::options::CoprocessorOptions;
use crate::progress::KeyGenerationBar;

/// Where the keys are written, below the current directory.
const DIRECTORY: &str = "fhevm-keys";

/// Generates the keys and says what they are for.
///
/// # Errors
/// If the directory is there already, or cannot be written.
pub(super) fn run(options: &CoprocessorOptions) -> Result<()> {
    let directory = std::path::absolute(DIRECTORY).context("cannot tell the current directory")?;
    ensure!(
        std::fs::read_dir(&directory).map_or_else(|_| !directory.exists(), |mut entries| entries.next().is_none()),
        "{} exists, and keys are never overwritten: ciphertexts under them would be lost. Move it away, or use `cipherloom keys generate DIR`",
        directory.display()
    );
    let parameters = if options.insecure_keys {
        ParameterSet::InsecureClear
    } else {
        ParameterSet::Production
    };
    let start = Instant::now();
    let keys = KeySet::generate(&directory, parameters, &KeyGenerationBar::new())?;
    let id = keys.manifest().id.to_string();
    if options.json {
        println!(
            "{}",
            serde_json::json!({ "keySetId": id, "directory": directory, "parameters": parameters.to_string() })
        );
        return Ok(());
    }
    println!("key set {id} generated in {:.1} s", start.elapsed().as_secs_f64());
    if !parameters.is_secure() {
        println!("INSECURE: its parameters are {parameters}; what is encrypted under it is not hidden");
    }
    print!("{}", describe(&directory));
    Ok(())
}

fn describe(directory: &Path) -> String {
    format!(
        "\nIn {}:
  public_key.bin, crs.bin   for clients: they encrypt inputs and prove what they know with them
  evaluation_key.bin        for the coprocessor: it computes with it and decrypts nothing
  manifest.json             what belongs together, with digests
  secret_key.bin            SECRET: decrypts everything. It belongs to the KMS; move it there and delete it here

`cipherloom tenant set-keys NAME --keys {DIRECTORY}` gives them to a tenant, without the secret key.\n",
        directory.display()
    )
}
