//! What tests of dApps share: a running stack on plaintext, people with accounts, contracts and their values.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use cipherloom_client::{Client, ClientConfig, InputBuilder, KeyTrust, PermitTerms};
use cipherloom_contracts::development;
use cipherloom_primitives::{Handle, U256};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Running;

/// A running `cipherloom dev` on plaintext.
pub(crate) struct Stack {
    summary: Value,
    pub(crate) client: Client,
    _process: Running,
    _directory: TempDir,
}

/// An encrypted argument.
pub(crate) struct Argument {
    pub(crate) handle: B256,
    pub(crate) proof: Bytes,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().to_str().unwrap();
        let ports = ["--rpc-port", "0", "--gateway-port", "0"];
        let mut process = Running::start(&[&["dev", "--json", "--insecure-clear", "--data-dir", data_dir], &ports[..]].concat());
        let summary: Value = serde_json::from_str(&process.wait_for("rpcUrl")).unwrap();
        let config = ClientConfig::new(development::addresses(), development::signing_domains()).trusting(KeyTrust::InsecureAny);
        let url = |name: &str| summary[name].as_str().unwrap().to_owned();
        let client = Client::connect(&url("gatewayUrl"), &url("rpcUrl"), config).await.unwrap();
        Self {
            summary,
            client,
            _process: process,
            _directory: directory,
        }
    }

    pub(crate) fn rpc_url(&self) -> &str {
        self.summary["rpcUrl"].as_str().unwrap()
    }

    pub(crate) fn signer(&self, person: usize) -> PrivateKeySigner {
        self.summary["accounts"][person]["privateKey"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn address(&self, person: usize) -> Address {
        self.signer(person).address()
    }

    /// Sends transactions in the name of a person.
    pub(crate) fn provider(&self, person: usize) -> DynProvider {
        ProviderBuilder::new()
            .wallet(EthereumWallet::from(self.signer(person)))
            .connect_http(self.rpc_url().parse().unwrap())
            .erased()
    }

    /// Deploys a compiled contract.
    pub(crate) async fn deploy(&self, person: usize, artifact: &str, arguments: &[u8]) -> Address {
        let artifact: Value = serde_json::from_str(artifact).unwrap();
        let bytecode: Bytes = artifact["bytecode"].as_str().unwrap().parse().unwrap();
        let request = TransactionRequest::default().with_deploy_code([bytecode.as_ref(), arguments].concat());
        let pending = self.provider(person).send_transaction(request).await.unwrap();
        let receipt = pending.get_receipt().await.unwrap();
        assert!(receipt.status());
        receipt.contract_address.unwrap()
    }

    /// Encrypts one value of a person for a contract.
    pub(crate) async fn encrypt(&self, person: usize, contract: Address, add: impl FnOnce(InputBuilder) -> InputBuilder) -> Argument {
        let input = add(self.client.encrypt(contract, self.address(person))).encrypt().await.unwrap();
        Argument {
            handle: input.handles[0].as_b256(),
            proof: input.input_proof,
        }
    }

    /// Decrypts a value as the person who may.
    pub(crate) async fn decrypt(&self, person: usize, contract: Address, handle: B256) -> U256 {
        let signer = self.signer(person);
        let permit = self
            .client
            .permit(&signer, PermitTerms::starting_now(vec![contract], 1))
            .await
            .unwrap();
        let values = self
            .client
            .user_decrypt(&[(Handle::try_from(handle).unwrap(), contract)], &permit)
            .await
            .unwrap();
        values[0].1.to_u256()
    }

    /// Lets time pass on the chain.
    pub(crate) async fn pass(&self, seconds: u64) {
        let provider = self.provider(0);
        let _: Value = provider.raw_request("evm_increaseTime".into(), (seconds,)).await.unwrap();
        let _: Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
    }
}

/// Sends a call and waits until it is in a block; gives the transaction's hash.
macro_rules! sent {
    ($call:expr) => {{
        let receipt = $call.send().await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        receipt.transaction_hash
    }};
}
pub(crate) use sent;
