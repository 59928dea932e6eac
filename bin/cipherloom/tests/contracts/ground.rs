//! A chain in this process, a directory for files, and the binary.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use alloy::primitives::{Address, address};
use cipherloom_chain::{Deployment, HostChain, LocalProfile};
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig, DevChainHandle};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const COPROCESSOR: Address = address!("c9990FEfE0c27D31D0C2aa36196b085c0c4d456c");
pub(crate) const KMS: Address = address!("0971C80fF03B428fD2094dd5354600ab103201C5");

/// Addresses for those who only sign.
pub(crate) fn signer(number: u8) -> String {
    Address::repeat_byte(number).to_checksum(None)
}

/// Variables that would change what the binary does.
const VARIABLES: [&str; 16] = [
    "RUST_LOG",
    "CIPHERLOOM_RPC_URL",
    "RPC_URL",
    "SEPOLIA_RPC_URL",
    "PRIVATE_KEY_FHEVM_DEPLOYER",
    "PRIVATE_KEY_GATEWAY_DEPLOYER",
    "CIPHERLOOM_DEPLOYER_MNEMONIC",
    "ETHERSCAN_API_KEY",
    "ADDRESS_COPROCESSOR",
    "ADDRESS_COPROCESSOR_ACCOUNT",
    "ADDRESS_GATEWAY_RELAYER",
    "NUM_KMS_SIGNERS",
    "ADDRESS_KMS_SIGNER_0",
    "ADDRESS_KMS_SIGNER_1",
    "HTTP_PROXY",
    "HTTPS_PROXY",
];

/// Prepares `cipherloom contracts` with arguments, cut off from the user's own settings.
pub(crate) fn contracts(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cipherloom"));
    command.arg("contracts").args(arguments).stdin(Stdio::null());
    for name in VARIABLES {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end, and returns what it printed as JSON.
pub(crate) fn json(mut command: Command) -> Value {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{text}");
    assert_eq!(text.lines().count(), 1, "--json prints one line: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Runs a command that must fail, and returns why.
pub(crate) fn refused(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(!status.success(), "{}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stderr).unwrap()
}

/// A chain, and where its files go.
pub(crate) struct Ground {
    pub(crate) node: DevChainHandle,
    pub(crate) directory: TempDir,
    pub(crate) chain_id: u64,
}

impl Ground {
    /// Starts a chain without contracts, on which the deployers of the published plans have ether.
    pub(crate) async fn bare(chain_id: u64) -> Self {
        let node = DevChain::start(DevChainConfig {
            chain_id,
            accounts: AccountsConfig {
                extra_funded: LocalProfile::ALL.map(|profile| profile.deployer).to_vec(),
                ..AccountsConfig::default()
            },
            ..DevChainConfig::default()
        })
        .await
        .unwrap();
        Self {
            node,
            directory: tempfile::tempdir().unwrap(),
            chain_id,
        }
    }

    /// Starts a chain and deploys on it.
    pub(crate) async fn deployed() -> Self {
        let ground = Self::bare(31337).await;
        ground.deploy(&[]);
        ground
    }

    /// Prepares a command about this chain, with its files in the directory.
    pub(crate) fn contracts(&self, arguments: &[&str]) -> Command {
        let mut command = contracts(arguments);
        command
            .args(["--rpc", &self.node.rpc_url(), "--json"])
            .current_dir(self.directory.path());
        command
    }

    /// Deploys with one coprocessor and one KMS node.
    pub(crate) fn deploy(&self, more: &[&str]) -> Value {
        json(self.deployment(more))
    }

    /// Prepares a deployment.
    pub(crate) fn deployment(&self, more: &[&str]) -> Command {
        let (coprocessor, kms) = (COPROCESSOR.to_string(), KMS.to_string());
        let arguments = ["deploy", "--coprocessor", &coprocessor, "--kms-signer", &kms];
        self.contracts(&[&arguments, more].concat())
    }

    /// Where the file about the deployment is.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join(Deployment::file_name(self.chain_id))
    }

    /// Reads the file about the deployment.
    pub(crate) fn record(&self) -> Deployment {
        Deployment::read(&self.file()).unwrap()
    }

    /// The chain as the rest of the software reads it.
    pub(crate) fn host(&self) -> HostChain {
        HostChain::connect(&self.node.rpc_url(), self.record().addresses()).unwrap()
    }
}
