//! `cipherloom keys export`: copies without the secret key.

use anyhow::{Context, Result};
use cipherloom_fhe::KeySetCopy;
use serde_json::json;

use super::ExportOptions;

/// Writes the copy.
///
/// # Errors
/// If the key set cannot be read, a part of it is damaged, or the directory is taken.
pub(super) fn run(options: &ExportOptions) -> Result<()> {
    let directory = options.from.directory()?;
    let keys = super::open(&directory)?;
    let copy = match (options.public_only, options.tfhe_files) {
        (true, _) => KeySetCopy::Public,
        (_, true) => KeySetCopy::TfheFiles,
        _ => KeySetCopy::Evaluation,
    };
    keys.copy_to(&options.to, copy)
        .with_context(|| format!("cannot copy the keys in {} to {}", directory.display(), options.to.display()))?;
    let mut files = std::fs::read_dir(&options.to)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    files.sort_unstable();
    let id = keys.manifest().id.to_string();
    if options.from.json {
        println!("{}", json!({ "id": id, "directory": options.to, "files": files }));
        return Ok(());
    }
    println!("key set {id}");
    println!("{} has {}, without the secret key", options.to.display(), files.join(", "));
    match copy {
        KeySetCopy::Public => {
            println!("clients check the two keys with the id: it is a digest of both; tell it to them on another way than the files");
        }
        KeySetCopy::TfheFiles => println!("programs on tfhe-rs 1.8 read them with safe_deserialize; software of the 0.6 generation cannot"),
        KeySetCopy::Evaluation => println!("it is a complete key set for a coprocessor or an executor"),
    }
    Ok(())
}
