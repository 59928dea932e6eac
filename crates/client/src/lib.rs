//! The Rust client: encrypt inputs with proofs, ask for decryptions, and believe nobody.
//!
//! A [`Client`] talks to a gateway over HTTP and to a node of the host chain over JSON-RPC. The gateway is not trusted: handles are computed again
//! locally, and every answer must carry signatures by enough of the coprocessors or KMS nodes that the chain
//! has registered. What is trusted is the chain's node and, unless [`KeyTrust::KeySet`] names the key set, that the gateway's public key is the
//! right one when inputs are encrypted.
//!
//! ```no_run
//! use alloy::signers::local::PrivateKeySigner;
//! use cipherloom_client::{Client, ClientConfig, PermitTerms};
//! use cipherloom_contracts::development;
//!
//! # async fn run(token: alloy::primitives::Address, balance: cipherloom_primitives::Handle) -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig::new(development::addresses(), development::signing_domains());
//! let client = Client::connect("http://127.0.0.1:8547", "http://127.0.0.1:8545", config).await?;
//!
//! // Encrypt an amount that `alice` will send to `token`. Pass the handle and the proof to the contract call.
//! let alice = PrivateKeySigner::random();
//! let input = client.encrypt(token, alice.address()).add64(1_000).encrypt().await?;
//! println!("handle {}, proof of {} bytes", input.handles[0], input.input_proof.len());
//!
//! // Read a balance that the contract lets `alice` read. One permit serves many requests.
//! let permit = client.permit(&alice, PermitTerms::starting_now(vec![token], 1)).await?;
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
//! Everything that goes over the network is limited in size and time ([`ClientLimits`]) and tried again where that can help. Plain HTTP only: run
//! the client next to the gateway or behind something that terminates TLS.

mod config;
mod decrypt;
mod error;
mod gateway;
mod input;
mod keys;
mod permit;
mod plaintext;
mod signatures;
mod wire;

use std::sync::Arc;

use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_fhe::EncryptInputs;
pub use cipherloom_signcryption::UserKeypair;
use tokio::sync::OnceCell;

pub use config::{ClientConfig, ClientLimits, KeyTrust};
pub use decrypt::PublicDecryption;
pub use error::{ClientError, FieldIssue};
pub use input::{EncryptedInput, InputBuilder};
pub use permit::{Permit, PermitTerms};
pub use plaintext::Plaintext;

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
        let found = chain.signing_domains().await?;
        if found != config.domains {
            return Err(ClientError::Deployment {
                expected: Box::new(config.domains),
                found: Box::new(found),
            });
        }
        let gateway = Gateway::new(gateway_url, config.limits)?;
        let shared = Shared {
            config,
            gateway,
            chain,
            encryptor: OnceCell::new(),
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
