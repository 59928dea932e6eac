//! The Rust client: encrypt inputs with proofs, ask for decryptions, and believe nobody.
//!
//! A [`Client`] talks to a gateway over HTTP and to a node of the host chain over JSON-RPC. The gateway is not trusted: handles are computed again
//! locally, and every answer must carry signatures by enough of the coprocessors or KMS nodes that the chain
//! has registered. What is trusted is the chain's node and, unless [`KeyTrust::KeySet`] names the key set, that the gateway's public key is the
//! right one when inputs are encrypted.
//!
//! ```no_run
//! use cipherloom_client::{DevStack, PermitTerms};
//!
//! # async fn run(token: alloy::primitives::Address, balance: cipherloom_primitives::Handle) -> Result<(), Box<dyn std::error::Error>> {
//! // Where everything is: here from a running `cipherloom dev --json > stack.json`.
//! let stack = DevStack::read("stack.json")?;
//! let client = stack.client().build().await?;
//!
//! // Encrypt an amount that `alice` will send to `token`. Pass the handle and the proof to the contract call.
//! let alice = &stack.insecure_accounts[0];
//! let input = client.encrypt(token, alice.address()).add64(1_000).encrypt().await?;
//! println!("handle {}, proof of {} bytes", input.handles[0], input.input_proof.len());
//!
//! // Read a balance that the contract lets `alice` read. One permit serves many requests.
//! let permit = client.permit(alice, PermitTerms::starting_now(vec![token], 1)).await?;
//! for (handle, plaintext) in client.user_decrypt(&[(balance, token)], &permit).await? {
//!     println!("{handle} is {plaintext}");
//! }
//!
//! // Publish a value that the contract made public; `proof` convinces contracts of it.
//! let public = client.public_decrypt(&[balance]).await?;
//! println!("{} with a proof of {} bytes", public.values[0].1, public.proof.len());
//! # Ok(())
//! # }
//! ```
//!
//! The program `examples/transfer.rs` does all of it on a running stack. Programs that are not asynchronous use [`blocking::Client`].
//!
//! # Which deployment
//!
//! [`Client::builder`] takes the host contracts' addresses from the manifest of a deployment, from the development chain, or one by one:
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use cipherloom_chain::Deployment;
//! use cipherloom_client::{ApiKey, Client};
//!
//! let deployment = Deployment::read("deployment-11155111.json".as_ref())?;
//! let client = Client::builder("https://fhe.example", "https://node.example")
//!     .another_rpc_url("https://other-node.example")
//!     .deployment(&deployment)
//!     .pinned_public_key_id(std::fs::read_to_string("public-key-id")?.trim())
//!     .key_cache("/var/cache/my-service")
//!     .api_key(ApiKey::new(std::env::var("GATEWAY_API_KEY")?))
//!     .build()
//!     .await?;
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! # What is trusted
//!
//! | | trusted for | and if it lies |
//! |---|---|---|
//! | gateway | nothing but answering | [`ErrorKind::Untrustworthy`], never a wrong value |
//! | node of the chain | who the coprocessors and KMS nodes are | answers by others are accepted: use a node of your own |
//! | public key | that nobody unknown has its secret key, unless it is pinned | inputs can be read: pin the key set |
//! | KMS, coprocessors | decrypting and computing correctly | as the deployment's thresholds say |
//!
//! On a native chain there are no coprocessors: an input goes with the transaction, encrypted, and every validator checks it. Nothing in a program
//! changes. [`Client::ciphertext`] reads what a contract has stored there.
//!
//! # Failures
//!
//! Everything that goes over the network is limited in size and time ([`ClientLimits`]) and tried again where that can help: after failures that pass
//! ([`ClientError::is_retryable`]), with pauses that grow, and as long as the server asks (`Retry-After`) unless that is too long. What is left is for
//! the caller, sorted by [`ClientError::kind`]:
//!
//! ```
//! use cipherloom_client::{ClientError, ErrorKind};
//!
//! fn advice(error: &ClientError) -> &'static str {
//!     match error.kind() {
//!         ErrorKind::Network | ErrorKind::Busy => "try again later",
//!         ErrorKind::Refused if error.label() == Some("not_allowed_on_host_acl") => "ask the contract's owner for access",
//!         ErrorKind::Refused => "the request is not allowed",
//!         ErrorKind::Untrustworthy => "do not use this gateway",
//!         _ => "correct the call",
//!     }
//! }
//! # assert_eq!(advice(&ClientError::InputRejected), "the request is not allowed");
//! ```
//!
//! **Cancelling** is dropping the future: nothing is left behind here but a proof that is being computed, which ends by itself. The gateway finishes what
//! it has accepted, and an equal request shares its answer.

pub mod blocking;
mod builder;
mod config;
mod decrypt;
mod dev_stack;
mod error;
mod exchange;
mod gateway;
mod input;
mod key_cache;
mod keys;
mod native;
mod patience;
mod permit;
mod plaintext;
mod reader;
mod shares;
mod signatures;
mod typed_data;
mod wire;

use std::sync::Arc;

use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_fhe::EncryptInputs;
pub use cipherloom_signcryption::UserKeypair;
use tokio::sync::OnceCell;

pub use builder::ClientBuilder;
pub use config::{ApiKey, ClientConfig, ClientLimits, KeyTrust, Routes};
pub use decrypt::PublicDecryption;
pub use dev_stack::DevStack;
pub use error::{ClientError, ErrorKind, FieldIssue, TransportFailure};
pub use input::{EncryptedInput, InputBuilder};
pub use permit::{Permit, PermitTerms, UnifiedTerms, UnsignedPermit};
pub use plaintext::Plaintext;
pub use reader::Reader;

use gateway::Gateway;

/// The extra data of all requests: version 0, "whichever KMS context is current".
const EXTRA_DATA: [u8; 1] = [0];

/// A client of one gateway and one host chain. Clones share their connections and the public key.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    gateway: Gateway,
    chain: HostChain,
    encryptor: OnceCell<Encryptor>,
    is_native_chain: OnceCell<bool>,
}

/// What inputs are encrypted with, once it was fetched.
#[derive(Clone)]
struct Encryptor {
    public_key_id: String,
    encrypt: Arc<dyn EncryptInputs>,
}

impl Client {
    /// Connects to a gateway (its URL without version, such as `http://127.0.0.1:8547`) and a host chain, and checks that the
    /// chain is the configured deployment. The public key is fetched when the first input is encrypted.
    ///
    /// # Errors
    /// [`ClientError::Url`] for unusable URLs, [`ClientError::Chain`] if the chain cannot be read, [`ClientError::Deployment`] if it is
    /// not the configured one.
    pub async fn connect(gateway_url: &str, rpc_url: &str, config: ClientConfig) -> Result<Self, ClientError> {
        let limits = CallLimits {
            timeout: config.limits.request,
            ..CallLimits::default()
        };
        let chain = HostChain::with_limits(rpc_url, config.addresses, limits)?;
        Self::over(gateway_url, chain, config).await
    }

    /// The same with a way to the chain that is there already, for example over several nodes. It must be to the configured addresses.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn over(gateway_url: &str, chain: HostChain, config: ClientConfig) -> Result<Self, ClientError> {
        // Before anything is asked over the network: a wrong URL is found at once.
        let gateway = Gateway::new(gateway_url, &config)?;
        let found = chain.signing_domains().await?;
        if found != config.domains {
            return Err(ClientError::Deployment {
                expected: Box::new(config.domains),
                found: Box::new(found),
            });
        }
        let shared = Shared {
            config,
            gateway,
            chain,
            encryptor: OnceCell::new(),
            is_native_chain: OnceCell::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Returns the id of the public key inputs are encrypted to, fetching the key if that has not happened.
    ///
    /// # Errors
    /// As [`InputBuilder::encrypt`] for fetching keys.
    pub async fn public_key_id(&self) -> Result<String, ClientError> {
        Ok(self.encryptor().await?.public_key_id.clone())
    }
}
