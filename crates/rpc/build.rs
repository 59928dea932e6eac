//! Compiles proto/ to Rust, without an installed protoc.

use std::{env, fs, path::Path};

use prost::Message as _;

const FILES: [&str; 11] = [
    "fhevm/operations.proto",
    "fhevm/coprocessor.proto",
    "fhevm/executor.proto",
    "cipherloom/input.proto",
    "cipherloom/executor.proto",
    "cipherloom/failure.proto",
    "cipherloom/coprocessor.proto",
    "cipherloom/kms.proto",
    "cipherloom/committee.proto",
    "cipherloom/ceremony.proto",
    "cipherloom/consensus.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Ciphertexts stay where they were received instead of being copied field by field.
        .bytes(".")
        // Checks how many parts a message has before they are allocated.
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
