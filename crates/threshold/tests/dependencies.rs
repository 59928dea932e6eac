//! The crate can be built for WebAssembly and for enclaves: nothing it depends on needs an operating system.

use std::{collections::BTreeSet, process::Command};

/// What the crate depends on when it is built for WebAssembly, all of it. A new name here needs a look at what it brings along: no random source, clock, file, socket
/// or C library.
const ALLOWED: [&str; 19] = [
    "aes",
    "block-buffer",
    "cfg-if",
    "cipher",
    "cipherloom-threshold",
    "cpubits",
    "crypto-common",
    "ctr",
    "digest",
    "hybrid-array",
    "inout",
    "keccak",
    "rand_core",
    "sha2",
    "shake",
    "sponge-cursor",
    "thiserror",
    "typenum",
    "zeroize",
];

/// Derive macros and compile-time constants, which run on the machine that compiles.
const COMPILE_TIME: [&str; 7] = [
    "const-oid",
    "proc-macro2",
    "quote",
    "syn",
    "thiserror-impl",
    "unicode-ident",
    "zeroize_derive",
];

#[test]
fn no_dependency_needs_an_operating_system() {
    let arguments = [
        "tree",
        "--locked",
        "--package",
        "cipherloom-threshold",
        "--target",
        "wasm32-unknown-unknown",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let found: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(found.contains("cipherloom-threshold") && found.contains("sha2"), "{text}");
    let strange: Vec<&&str> = found
        .iter()
        .filter(|name| !ALLOWED.contains(name) && !COMPILE_TIME.contains(name))
        .collect();
    assert!(strange.is_empty(), "new dependencies: {strange:?}");
}
