//! A running `cipherloom dev`, as its `--json` describes it.

use std::path::Path;

use alloy::signers::local::PrivateKeySigner;
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::{Address, eip712::SigningDomains};
use serde::Deserialize;

use crate::{Client, ClientBuilder, KeyTrust, error::ClientError};

/// What `cipherloom dev --json` prints when it is ready: where everything is.
///
/// ```
/// # use cipherloom_client::DevStack;
/// # let printed = r#"{"backend": "clear", "chainId": 31337, "rpcUrl": "http://127.0.0.1:8545", "gatewayUrl": "http://127.0.0.1:8547",
/// #   "gatewayChainId": 10901, "contracts": {"ACL": "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D",
/// #   "FHEVMExecutor": "0xe3a9105a3a932253A70F126eb1E3b589C643dD24", "KMSVerifier": "0x901F8942346f7AB3a01F6D7613119Bca447Bb030",
/// #   "InputVerifier": "0x36772142b74871f255CbD7A3e89B401d3e45825f", "HCULimit": "0x233ff88A48c172d29F675403e6A8e302b0F032D9",
/// #   "ProtocolConfig": "0x233ff88A48c172d29F675403e6A8e302b0F032D9"},
/// #   "verifyingContracts": {"Decryption": "0x5ffdaAB0373E62E2ea2944776209aEf29E631A64",
/// #   "InputVerification": "0x812b06e1CDCE800494b79fFE4f925A504a9A9810"}, "accounts": []}"#;
/// let stack = DevStack::parse(printed)?;
/// let client = stack.client(); // .build().await?, or .build_blocking()?
/// assert_eq!(stack.gateway_url, "http://127.0.0.1:8547");
/// # drop(client);
/// # Ok::<(), cipherloom_client::ClientError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DevStack {
    /// The gateway, without version.
    pub gateway_url: String,
    /// The chain's JSON-RPC.
    pub rpc_url: String,
    /// Where the host contracts are.
    pub addresses: HostAddresses,
    /// Where signatures are valid.
    pub domains: SigningDomains,
    /// Whether the stack computes on plaintext.
    pub insecure_clear: bool,
    /// Accounts with ether. Everybody knows their keys.
    pub insecure_accounts: Vec<PrivateKeySigner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    backend: String,
    chain_id: u64,
    rpc_url: String,
    gateway_url: String,
    gateway_chain_id: u64,
    contracts: Contracts,
    verifying_contracts: VerifyingContracts,
    #[serde(default)]
    accounts: Vec<Account>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contracts {
    #[serde(rename = "ACL")]
    acl: Address,
    #[serde(rename = "FHEVMExecutor")]
    executor: Address,
    #[serde(rename = "KMSVerifier")]
    kms_verifier: Address,
    input_verifier: Address,
    #[serde(rename = "HCULimit")]
    hcu_limit: Address,
    protocol_config: Address,
    /// Clients ask neither of the two.
    #[serde(default)]
    pauser_set: Address,
    #[serde(default)]
    gateway_contract: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VerifyingContracts {
    decryption: Address,
    input_verification: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    private_key: String,
}

impl DevStack {
    /// Reads what was printed.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] if it is something else.
    pub fn parse(json: &str) -> Result<Self, ClientError> {
        let unusable = |reason: String| ClientError::Configuration {
            what: "description of the development stack",
            reason,
        };
        let summary: Summary = serde_json::from_str(json).map_err(|error| unusable(error.to_string()))?;
        let (contracts, verifying) = (summary.contracts, summary.verifying_contracts);
        let signer = |account: &Account| account.private_key.parse().map_err(|_| unusable("an account's key is none".into()));
        Ok(Self {
            gateway_url: summary.gateway_url,
            rpc_url: summary.rpc_url,
            addresses: HostAddresses {
                acl: contracts.acl,
                executor: contracts.executor,
                kms_verifier: contracts.kms_verifier,
                input_verifier: contracts.input_verifier,
                hcu_limit: contracts.hcu_limit,
                protocol_config: contracts.protocol_config,
                pauser_set: contracts.pauser_set,
                gateway_contract: contracts.gateway_contract,
            },
            domains: SigningDomains {
                host_chain_id: summary.chain_id,
                gateway_chain_id: summary.gateway_chain_id,
                decryption: verifying.decryption,
                input_verification: verifying.input_verification,
            },
            insecure_clear: summary.backend == "clear",
            insecure_accounts: summary.accounts.iter().map(signer).collect::<Result<_, _>>()?,
        })
    }

    /// Reads what was printed into a file: `cipherloom dev --json > FILE`.
    ///
    /// # Errors
    /// [`ClientError::File`] if it cannot be read, [`ClientError::Configuration`] if it is something else, or not complete yet.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| ClientError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Starts to set up a client of the stack. A stack on plaintext is accepted, because it is one's own.
    pub fn client(&self) -> ClientBuilder {
        let builder = Client::builder(&self.gateway_url, &self.rpc_url)
            .addresses(self.addresses)
            .domains(self.domains);
        if self.insecure_clear {
            builder.trust(KeyTrust::InsecureAny)
        } else {
            builder
        }
    }
}
