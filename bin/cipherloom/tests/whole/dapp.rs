//! What tests of dApps share: a running stack on plaintext, compiled contracts, people with accounts and their values.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use cipherloom_client::{Client, ClientConfig, ClientError, InputBuilder, KeyTrust, PermitTerms, PublicDecryption};
use cipherloom_contracts::development;
use cipherloom_primitives::{Handle, U256};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Running;

/// The compiled examples.
pub(crate) enum Examples {
    /// With our library, as they are committed.
    Ours,
    /// With another library, in a folder for each example below this one.
    In(PathBuf),
}

impl Examples {
    /// Reads the artifact of a contract.
    pub(crate) fn artifact(&self, example: &str, contract: &str) -> String {
        let folder = match self {
            Self::Ours => Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../examples")
                .join(example)
                .join("artifacts"),
            Self::In(folder) => folder.join(example),
        };
        read(&folder, contract)
    }
}

/// Compiles something with a command of `cargo xtask` into a folder of this name, and returns the folder. The command installs what it needs from npm.
pub(crate) fn compile(name: &str, command: &[&str]) -> PathBuf {
    // Two at a time would install into the same folder.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiled = Command::new(env!("CARGO"))
        .arg("xtask")
        .args(command)
        .arg("--out")
        .arg(&out)
        .status()
        .unwrap();
    assert!(compiled.success(), "cargo xtask {} failed", command.join(" "));
    out
}

/// Reads the artifact of a contract in a folder.
pub(crate) fn read(folder: &Path, contract: &str) -> String {
    let path = folder.join(contract).with_extension("json");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A running `cipherloom dev` on plaintext.
pub(crate) struct Stack {
    summary: Value,
    pub(crate) client: Client,
    _process: Running,
    _directory: TempDir,
    /// The chain, if it is not the stack's own.
    _anvil: Option<PrivateAnvil>,
}

/// An encrypted argument.
pub(crate) struct Argument {
    pub(crate) handle: B256,
    pub(crate) proof: Bytes,
}

impl Stack {
    /// Starts it with a chain of its own.
    pub(crate) async fn start() -> Self {
        Self::on(None, &["--rpc-port", "0"]).await
    }

    /// Starts it on a chain that is not ours.
    pub(crate) async fn attached() -> Self {
        let anvil = PrivateAnvil::start(&AnvilOptions {
            chain_id: development::HOST_CHAIN_ID,
            ..AnvilOptions::default()
        });
        let anvil = anvil.unwrap();
        let url = anvil.http_url();
        Self::on(Some(anvil), &["--rpc", &url]).await
    }

    async fn on(anvil: Option<PrivateAnvil>, chain: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().to_str().unwrap();
        let arguments = ["dev", "--json", "--insecure-clear", "--gateway-port", "0", "--data-dir", data_dir];
        let mut process = Running::start(&[&arguments, chain].concat());
        let summary: Value = serde_json::from_str(&process.wait_for("rpcUrl")).unwrap();
        let config = ClientConfig::new(development::addresses(), development::signing_domains()).trusting(KeyTrust::InsecureAny);
        let url = |name: &str| summary[name].as_str().unwrap().to_owned();
        let client = Client::connect(&url("gatewayUrl"), &url("rpcUrl"), config).await.unwrap();
        Self {
            summary,
            client,
            _process: process,
            _directory: directory,
            _anvil: anvil,
        }
    }

    pub(crate) fn gateway_url(&self) -> &str {
        self.summary["gatewayUrl"].as_str().unwrap()
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
        self.provider_of(self.signer(person))
    }

    /// Sends transactions in the name of whoever has this key.
    pub(crate) fn provider_of(&self, signer: PrivateKeySigner) -> DynProvider {
        ProviderBuilder::new()
            .wallet(EthereumWallet::from(signer))
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
        self.try_decrypt(person, contract, handle).await.unwrap()
    }

    /// Asks for a value as somebody who may not have it, and makes sure that the access list is why it is refused.
    pub(crate) async fn expect_secret(&self, person: usize, contract: Address, handle: B256) {
        let refusal = self.try_decrypt(person, contract, handle).await.unwrap_err();
        assert_eq!(refusal.label(), Some("not_allowed_on_host_acl"), "{refusal}");
    }

    async fn try_decrypt(&self, person: usize, contract: Address, handle: B256) -> Result<U256, ClientError> {
        let terms = PermitTerms::starting_now(vec![contract], 1);
        let permit = self.client.permit(&self.signer(person), terms).await.unwrap();
        let pair = (Handle::try_from(handle).unwrap(), contract);
        let values = self.client.user_decrypt(&[pair], &permit).await?;
        Ok(values[0].1.to_u256())
    }

    /// Decrypts public values; gives them with the KMS's proof for contracts.
    pub(crate) async fn decrypt_public(&self, handles: &[B256]) -> (Vec<U256>, Bytes) {
        let public = self.try_decrypt_public(handles).await.unwrap();
        (public.values.iter().map(|(_, value)| value.to_u256()).collect(), public.proof)
    }

    /// Asks for values that are not public, and makes sure that the access list is why it is refused.
    pub(crate) async fn expect_not_public(&self, handle: B256) {
        let refusal = self.try_decrypt_public(&[handle]).await.unwrap_err();
        assert_eq!(refusal.label(), Some("not_allowed_on_host_acl"), "{refusal}");
    }

    async fn try_decrypt_public(&self, handles: &[B256]) -> Result<PublicDecryption, ClientError> {
        let handles: Vec<Handle> = handles.iter().map(|handle| Handle::try_from(*handle).unwrap()).collect();
        self.client.public_decrypt(&handles).await
    }

    /// Lets time pass on the chain.
    pub(crate) async fn pass(&self, seconds: u64) {
        let provider = self.provider(0);
        let _: Value = provider.raw_request("evm_increaseTime".into(), (seconds,)).await.unwrap();
        let _: Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
    }
}

/// Asks what a call would do if a person sent it, and makes sure that it is refused with this error.
macro_rules! refused {
    ($stack:expr, $person:expr, $call:expr, $error:ty) => {{
        let refusal = $call.from($stack.address($person)).call().await.unwrap_err();
        assert!(refusal.as_decoded_error::<$error>().is_some(), "{refusal}");
    }};
}
pub(crate) use refused;

/// Sends a call and waits until it is in a block; gives the receipt.
macro_rules! sent {
    ($call:expr) => {{
        let receipt = $call.send().await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        receipt
    }};
}
pub(crate) use sent;
