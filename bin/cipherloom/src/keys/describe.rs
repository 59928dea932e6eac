//! What a key set is, for people and for programs.

use cipherloom_fhe::{KeySet, PartInDirectory};
use serde::Serialize;
use serde_json::{Value, json};

/// A part of a key set as it was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundPart {
    /// What manifests call it.
    pub(super) part: &'static str,
    pub(super) file: String,
    pub(super) size_bytes: u64,
    pub(super) sha3_256: String,
    /// Who may have it.
    pub(super) secrecy: &'static str,
    /// Whether the file is there.
    pub(super) present: bool,
    /// What is wrong with the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// Reads and checks every part that is there.
pub(super) fn parts(keys: &KeySet) -> Vec<FoundPart> {
    keys.parts().iter().map(|part| found(keys, part)).collect()
}

fn found(keys: &KeySet, part: &PartInDirectory<'_>) -> FoundPart {
    let problem = part.is_here.then(|| keys.check_digest(part).err()).flatten();
    FoundPart {
        part: part.role,
        file: part.part.file.clone(),
        size_bytes: part.part.size_bytes,
        sha3_256: part.part.sha3_256.clone(),
        secrecy: match part.role {
            "secret_key" => "SECRET: decrypts everything",
            "squashing_secret" => "SECRET: decrypts everything that was squashed",
            "squashing_key" | "squashed_packing_key" => "not secret; coprocessors need it for threshold decryption",
            "evaluation_key" => "not secret; coprocessors need it",
            _ => "public; clients need it",
        },
        present: part.is_here,
        problem: problem.map(|problem| problem.to_string()),
    }
}

/// Says what the evaluation key can do besides the operations, and what not.
pub(super) fn capabilities(keys: &KeySet) -> [(&'static str, bool); 4] {
    let can = keys.manifest().capabilities;
    [
        ("random values from a secret of their own", can.dedicated_random_key),
        ("re-randomise what a transaction takes in", can.re_randomization),
        ("pack ciphertexts", can.compression),
        ("squash noise, for threshold decryption", can.noise_squashing),
    ]
}

/// Describes everything but the parts.
pub(super) fn to_json(keys: &KeySet) -> Value {
    let manifest = keys.manifest();
    json!({
        "id": manifest.id.to_string(),
        "directory": keys.directory(),
        "format": manifest.format,
        "parameters": manifest.parameters,
        "isSecure": keys.parameters().is_secure(),
        "description": keys.parameters().description(),
        "capabilities": manifest.capabilities,
        "hotWindowBlocks": manifest.hot_window_blocks,
        "hasSecretKey": keys.has_secret_key(),
    })
}
