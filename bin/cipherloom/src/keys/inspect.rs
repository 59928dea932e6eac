//! `cipherloom keys inspect`: what a key set is.

use anyhow::{Result, ensure};
use cipherloom_fhe::{KeySet, ParameterSet};

use super::{
    OneKeySet,
    describe::{self, FoundPart},
};

/// Prints what the key set is, and fails if a part is damaged.
///
/// # Errors
/// If the directory holds no key set, or a part of it is not what the manifest says.
pub(super) fn run(options: &OneKeySet) -> Result<()> {
    let directory = options.directory()?;
    let keys = super::open(&directory)?;
    let parts = describe::parts(&keys);
    let damaged = parts.iter().filter(|part| part.problem.is_some()).count();
    if options.json {
        let mut description = describe::to_json(&keys);
        if let Some(fields) = description.as_object_mut() {
            fields.insert("parts".to_owned(), serde_json::to_value(&parts)?);
        }
        println!("{}", serde_json::to_string_pretty(&description)?);
    } else {
        print(&keys, &parts);
    }
    ensure!(
        damaged == 0,
        "{damaged} parts of the key set in {} are damaged",
        directory.display()
    );
    Ok(())
}

fn print(keys: &KeySet, parts: &[FoundPart]) {
    let manifest = keys.manifest();
    println!("key set      {}", manifest.id);
    println!("directory    {}", keys.directory().display());
    println!("parameters   {}", manifest.parameters);
    print_security(keys.parameters());
    for (index, (what, able)) in describe::capabilities(keys).into_iter().enumerate() {
        let label = if index == 0 { "can also" } else { "" };
        println!("{label:<12} {} {what}", if able { "yes" } else { "no " });
    }
    println!(
        "hot window   {} blocks, in which values are read in raw form",
        manifest.hot_window_blocks.0
    );
    println!();
    for part in parts {
        let state = match (&part.problem, part.present) {
            (Some(problem), _) => format!("DAMAGED: {problem}"),
            (None, true) => "here, has its digest".to_owned(),
            (None, false) => "not here".to_owned(),
        };
        println!("{:<20} {:>11} bytes  {state}", part.file, part.size_bytes);
        println!("{:<20} {}", "", part.secrecy);
        println!("{:<20} sha3-256 {}", "", part.sha3_256);
    }
    println!();
    println!("`cipherloom keys verify` uses every part and compares the results");
}

fn print_security(parameters: ParameterSet) {
    let Some(description) = parameters.description() else {
        println!("security     NONE: ciphertexts hold their plaintext");
        return;
    };
    if parameters.is_secure() {
        println!("security     {} bits", description.security_bits);
        println!(
            "failures     a bootstrap gives a wrong result with probability below 2^{:.1}",
            description.failure_probability_log2
        );
    } else {
        println!("security     NONE: anyone can compute the secret key");
    }
    for (name, key) in [
        ("small key", &description.small_key),
        ("large key", &description.large_key),
        ("public key", &description.public_key),
    ] {
        println!("{name:<12} {} secret bits, noise {}", key.dimension, key.noise);
    }
    println!(
        "blocks       {} bits of plaintext each, polynomials of degree {}",
        description.message_bits, description.polynomial_size
    );
}
