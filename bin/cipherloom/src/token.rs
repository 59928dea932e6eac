//! The confidential token of `examples/confidential-token`, as the demo calls it.

use std::path::Path;

use alloy::{json_abi::JsonAbi, primitives::Bytes, sol, sol_types::SolValue};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_contracts::{HostAddresses, development};
use serde::Deserialize;

/// The compiled example, from our library, which knows the host contracts of the chains that the published libraries know.
const BUILT_IN: &str = include_str!("../../../examples/confidential-token/artifacts/ConfidentialToken.json");

/// The one for other chains, which is told where the host contracts are.
const FOR_OTHER_CHAINS: &str = include_str!("../../../examples/own-chain/artifacts/OwnChainToken.json");

/// The type of a constructor's parameter that tells a contract where the host contracts are: `CoprocessorConfig`.
const CONFIG: &str = "(address,address,address)";

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
    abi: JsonAbi,
    bytecode: Bytes,
}

/// A compiled token.
pub(crate) struct Token(Artifact);

impl Token {
    /// Reads a token from an artifact file.
    ///
    /// # Errors
    /// If the file cannot be read or has no bytecode.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    /// Returns the built-in token for a chain with these host contracts.
    ///
    /// # Errors
    /// If the artifact is unusable, which tests rule out.
    pub(crate) fn built_in(chain_id: u64, addresses: &HostAddresses) -> Result<Self> {
        let known = chain_id == development::HOST_CHAIN_ID && *addresses == development::addresses();
        Self::parse(if known { BUILT_IN } else { FOR_OTHER_CHAINS })
    }

    fn parse(text: &str) -> Result<Self> {
        let artifact: Artifact = serde_json::from_str(text).context("the artifact is not JSON with an `abi` and a `bytecode`")?;
        ensure!(!artifact.bytecode.is_empty(), "the artifact's bytecode is empty");
        Ok(Self(artifact))
    }

    /// Returns what creates the token, with the constructor's argument if it takes one.
    ///
    /// # Errors
    /// If the constructor takes something else than where the host contracts are.
    pub(crate) fn creation_code(&self, addresses: &HostAddresses) -> Result<Bytes> {
        let Self(Artifact { abi, bytecode }) = self;
        let parameters: Vec<String> = abi
            .constructor()
            .into_iter()
            .flat_map(|constructor| &constructor.inputs)
            .map(|input| input.selector_type().into_owned())
            .collect();
        match parameters.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => Ok(bytecode.clone()),
            [CONFIG] => {
                let config = (addresses.acl, addresses.executor, addresses.kms_verifier).abi_encode_params();
                Ok([bytecode.as_ref(), &config].concat().into())
            }
            other => bail!(
                "the token's constructor takes ({}); the demo can only pass a CoprocessorConfig",
                other.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chain_has_its_token() {
        let known = development::addresses();
        let own = HostAddresses::of_deployer(alloy::primitives::Address::repeat_byte(7));
        let built_in = Token::built_in(development::HOST_CHAIN_ID, &known).unwrap();
        assert_eq!(built_in.creation_code(&known).unwrap(), built_in.0.bytecode);
        for (chain_id, addresses) in [(12345, &known), (development::HOST_CHAIN_ID, &own)] {
            let token = Token::built_in(chain_id, addresses).unwrap();
            let code = token.creation_code(addresses).unwrap();
            assert_eq!(
                code.len(),
                token.0.bytecode.len() + 3 * 32,
                "the constructor is told three addresses"
            );
            assert!(code.ends_with(addresses.kms_verifier.as_slice()));
        }
    }

    #[test]
    fn a_constructor_that_wants_something_else_is_refused() {
        let token =
            r#"{"abi":[{"type":"constructor","stateMutability":"nonpayable","inputs":[{"name":"a","type":"uint256"}]}],"bytecode":"0x00"}"#;
        let error = Token::parse(token).unwrap().creation_code(&development::addresses()).unwrap_err();
        assert!(error.to_string().contains("uint256"), "{error}");
    }
}
