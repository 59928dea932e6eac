//! A whole stack with values that may be decrypted, and requests for them over HTTP as SDKs send them.
//!
//! The stack is the one of `cipherloom dev`, in this process: chain, coprocessor, KMS and gateway, with its data in a temporary directory. A token is
//! minted again and again; each time its total supply is made public, and the balance is its owner's.

use std::time::Duration;

use alloy::{
    network::TransactionBuilder,
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_client::{Client, ClientConfig, KeyTrust, PermitTerms, UserKeypair};
use cipherloom_coprocessor::HandleStatus;
use cipherloom_primitives::{
    Address, Bytes, Handle, U256,
    decryption::{ClassicPermit, DecryptionPermit, RequestedValue, UserDecryptionRequest, abi_words},
};
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::ground::Ground;
use crate::{
    cli::{Arguments, Command, StackOptions},
    data_dir::DataDir,
    stack::{Listen, Stack, accounts, network::Network},
    token::{ConfidentialToken, Token},
};

/// How long the computation of a value may take.
const COMPUTED_WITHIN: Duration = Duration::from_secs(600);

/// How long a request may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// How long a poll waits after one that came too early.
const POLL_PAUSE: Duration = Duration::from_millis(2);

/// A running stack with computed values.
pub(crate) struct Decryptable {
    /// The stack.
    pub(crate) stack: Stack,
    /// Handles that anybody may have decrypted, with their values.
    pub(crate) public: Vec<(Handle, u64)>,
    /// Handles that only [`Self::request_of_user`]'s account may have decrypted, with their values.
    pub(crate) private: Vec<(Handle, u64)>,
    token: Address,
    owner: PrivateKeySigner,
    http: reqwest::Client,
    _scratch: TempDir,
}

/// Which routes answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Version 1: one request.
    Synchronous,
    /// Version 2: a job, polled until it is done.
    Jobs,
}

impl Route {
    /// Returns the version in paths.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Synchronous => "v1",
            Self::Jobs => "v2",
        }
    }
}

impl Decryptable {
    /// Starts a stack on the keys of a benchmark and has so many public values and private ones computed.
    ///
    /// # Errors
    /// If anything fails.
    pub(crate) async fn prepare(ground: &Ground, count: u16) -> Result<Self> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let options = stack_options(&scratch)?;
        let data = DataDir {
            keys: ground.keys.directory().to_owned(),
            state: scratch.path().join("stack"),
        };
        let start = Stack::start(
            std::sync::Arc::clone(&ground.keys),
            Network::Embedded,
            &data,
            &options,
            Listen::local(0, 0),
        );
        let stack = Box::pin(start).await?;
        let owner = accounts::signer(stack.accounts().first().context("the chain has no accounts")?)?;
        let provider = accounts::wallet(stack.host(), &owner);
        let token = deploy(&stack, &provider).await?;
        let mut this = Self {
            stack,
            public: Vec::new(),
            private: Vec::new(),
            token,
            owner,
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .context("cannot make an HTTP client")?,
            _scratch: scratch,
        };
        Box::pin(this.mint(&provider, count)).await?;
        Ok(this)
    }

    async fn mint(&mut self, provider: &DynProvider, count: u16) -> Result<()> {
        let token = ConfidentialToken::new(self.token, provider);
        let mut total = 0;
        for number in 1..=u64::from(count) {
            total += number;
            for sent in [
                token.mint(self.owner.address(), number).send().await?,
                token.makeTotalSupplyPublic().send().await?,
            ] {
                ensure!(sent.get_receipt().await?.status(), "a transaction was reverted");
            }
            self.public
                .push((Handle::try_from(token.publishedTotalSupply().call().await?)?, total));
            self.private
                .push((Handle::try_from(token.balanceOf(self.owner.address()).call().await?)?, total));
        }
        for (handle, _) in self.public.iter().chain(&self.private) {
            match self.stack.coprocessor().wait_for(*handle, COMPUTED_WITHIN).await? {
                HandleStatus::Computed => {}
                other => bail!("{handle} is not computed: {other:?}"),
            }
        }
        Ok(())
    }

    /// Checks with the Rust client, which verifies everything, that a private value is what it must be.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) async fn check_private(&self) -> Result<()> {
        let config = ClientConfig::new(*self.stack.addresses(), *self.stack.domains()).trusting(KeyTrust::InsecureAny);
        let client = Client::over(&self.stack.gateway_url(), self.stack.host().clone(), config).await?;
        let permit = client.permit(&self.owner, PermitTerms::starting_now(vec![self.token], 1)).await?;
        for (handle, value) in &self.private {
            let values = client.user_decrypt(&[(*handle, self.token)], &permit).await?;
            let found = values.first().map(|(_, value)| value.to_u256());
            ensure!(
                found == Some(U256::from(*value)),
                "{handle} came out as {found:?} instead of {value}"
            );
        }
        Ok(())
    }

    /// Asks for public values and checks them. Returns how long the answer took.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub(crate) async fn public(&self, route: Route, values: &[(Handle, u64)], extra_data: &[u8]) -> Result<Duration> {
        let body = public_body(values, extra_data);
        let start = Instant::now();
        let answer = self.ask(route, "public-decrypt", &body).await?;
        let took = start.elapsed();
        check_public(route, &answer, values)?;
        Ok(took)
    }

    /// Asks for a private value to a new key. Returns how long the answer took; it cannot be read, which [`Self::check_private`] does.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn user(&self, route: Route, values: &[(Handle, u64)]) -> Result<Duration> {
        let body = self.request_of_user(values)?;
        let start = Instant::now();
        let answer = self.ask(route, "user-decrypt", &body).await?;
        let took = start.elapsed();
        let shares = answer.pointer(match route {
            Route::Synchronous => "/response",
            Route::Jobs => "/result/result",
        });
        let count = shares.and_then(Value::as_array).map(Vec::len);
        ensure!(count == Some(1), "no share in {answer}");
        Ok(took)
    }

    async fn ask(&self, route: Route, operation: &str, body: &Value) -> Result<Value> {
        let answer = async {
            let answer = self.post(&format!("{}/{operation}", route.name()), body).await?;
            if route == Route::Synchronous {
                return Ok(answer);
            }
            let job = job_id(&answer)?;
            loop {
                if let Some(answer) = self.poll(operation, &job).await? {
                    return Ok(answer);
                }
                tokio::time::sleep(POLL_PAUSE).await;
            }
        };
        let answered = tokio::time::timeout(ANSWERED_WITHIN, answer).await;
        answered.with_context(|| format!("no answer to {operation} within {} s", ANSWERED_WITHIN.as_secs()))?
    }

    /// Posts a request.
    ///
    /// # Errors
    /// If the gateway refuses it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/{path}", self.stack.gateway_url());
        let response = self.http.post(url).json(body).send().await?;
        let (status, answer) = (response.status(), response.json::<Value>().await?);
        ensure!(status.is_success(), "{path} was answered {status}: {answer}");
        Ok(answer)
    }

    /// Asks how a job stands; nothing while it is not done.
    ///
    /// # Errors
    /// If it failed or is not known.
    pub(crate) async fn poll(&self, operation: &str, job: &str) -> Result<Option<Value>> {
        let url = format!("{}/v2/{operation}/{job}", self.stack.gateway_url());
        let response = self.http.get(url).send().await?;
        let (status, answer) = (response.status(), response.json::<Value>().await?);
        match status.as_u16() {
            200 => Ok(Some(answer)),
            202 => Ok(None),
            _ => bail!("job {job} was answered {status}: {answer}"),
        }
    }

    /// Writes a request for private values to a new key.
    fn request_of_user(&self, values: &[(Handle, u64)]) -> Result<Value> {
        let (domains, keys) = (self.stack.domains(), UserKeypair::generate()?);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let permit = ClassicPermit {
            delegator: None,
            contracts: vec![self.token],
            start_timestamp: now,
            duration_days: 1,
        };
        let value = |(handle, _): &(Handle, u64)| RequestedValue {
            handle: *handle,
            contract_address: self.token,
            owner: self.owner.address(),
        };
        let request = UserDecryptionRequest {
            values: values.iter().map(value).collect(),
            user: self.owner.address(),
            permit: DecryptionPermit::Classic(permit.clone()),
            public_key: keys.public_key().blob().to_vec().into(),
            extra_data: [0].into(),
            signature: Bytes::new(),
        };
        let signature = self.owner.sign_hash_sync(&request.digest(domains))?;
        let contract = self.token.to_checksum(None);
        let pairs: Vec<Value> = values
            .iter()
            .map(|(handle, _)| json!({ "handle": handle.to_string(), "contractAddress": contract }))
            .collect();
        Ok(json!({
            "handleContractPairs": pairs,
            "contractsChainId": domains.host_chain_id.to_string(),
            "contractAddresses": [contract],
            "userAddress": self.owner.address().to_checksum(None),
            "requestValidity": { "startTimestamp": now.to_string(), "durationDays": "1" },
            "signature": hex::encode(signature.as_bytes()),
            "publicKey": hex::encode(&request.public_key),
            "extraData": "0x00",
        }))
    }
}

/// Writes a request for public values.
pub(crate) fn public_body(values: &[(Handle, u64)], extra_data: &[u8]) -> Value {
    let handles: Vec<String> = values.iter().map(|(handle, _)| handle.to_string()).collect();
    json!({ "ciphertextHandles": handles, "extraData": format!("0x{}", hex::encode(extra_data)) })
}

/// Takes the id out of an accepted submission.
///
/// # Errors
/// If it has none.
pub(crate) fn job_id(answer: &Value) -> Result<String> {
    let id = answer.pointer("/result/jobId").and_then(Value::as_str);
    Ok(id.with_context(|| format!("no job id in {answer}"))?.to_owned())
}

/// Checks that an answer has these values.
///
/// # Errors
/// If it has others.
pub(crate) fn check_public(route: Route, answer: &Value, values: &[(Handle, u64)]) -> Result<()> {
    let found = answer.pointer(match route {
        Route::Synchronous => "/response/0/decrypted_value",
        Route::Jobs => "/result/decryptedValue",
    });
    let found = found.and_then(Value::as_str).unwrap_or_default();
    let words: Vec<U256> = values.iter().map(|(_, value)| U256::from(*value)).collect();
    let expected = hex::encode(abi_words(&words));
    ensure!(found.trim_start_matches("0x") == expected, "{found} instead of {expected}");
    Ok(())
}

async fn deploy(stack: &Stack, provider: &DynProvider) -> Result<Address> {
    let creation = Token::built_in(stack.chain_id(), stack.addresses())?.creation_code(stack.addresses())?;
    let request = TransactionRequest::default().with_deploy_code(creation);
    let receipt = provider.send_transaction(request).await?.get_receipt().await?;
    receipt.contract_address.context("the deployment created no contract")
}

/// Returns what `cipherloom dev` does by default, with its data in a directory of its own.
fn stack_options(scratch: &TempDir) -> Result<StackOptions> {
    let line = [
        "cipherloom".as_ref(),
        "dev".as_ref(),
        "--data-dir".as_ref(),
        scratch.path().as_os_str(),
    ];
    match Arguments::try_parse_from(line)?.command {
        Command::Dev(options) => Ok(options.stack),
        _ => bail!("`dev` was read as another command"),
    }
}
