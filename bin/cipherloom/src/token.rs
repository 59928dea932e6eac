//! The confidential token of `examples/confidential-token`, as the demo calls it.

use std::path::Path;

use alloy::{primitives::Bytes, sol};
use anyhow::{Context, Result};
use serde::Deserialize;

/// The compiled example, from our library.
const BUILT_IN: &str = include_str!("../../../examples/confidential-token/artifacts/ConfidentialToken.json");

sol! {
    /// What the demo uses of the token.
    #[sol(rpc)]
    interface ConfidentialToken {
        function mint(address to, uint64 amount) external;
        function transfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32 moved);
        function makeTotalSupplyPublic() external;
        function verifyTotalSupply(uint64 clear, bytes calldata decryptionProof) external;
        function balanceOf(address account) external view returns (bytes32);
        function publishedTotalSupply() external view returns (bytes32);
        function verifiedTotalSupply() external view returns (uint64);
    }
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

/// Returns the token's creation bytecode, built in or from an artifact file.
///
/// # Errors
/// If the file cannot be read or has no bytecode.
pub(crate) fn bytecode(artifact: Option<&Path>) -> Result<Bytes> {
    let text = match artifact {
        None => BUILT_IN.to_owned(),
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
    };
    let artifact: Artifact = serde_json::from_str(&text).context("the artifact is not JSON with a `bytecode`")?;
    anyhow::ensure!(!artifact.bytecode.is_empty(), "the artifact's bytecode is empty");
    Ok(artifact.bytecode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_token_is_there() {
        assert!(bytecode(None).unwrap().len() > 1000);
    }
}
