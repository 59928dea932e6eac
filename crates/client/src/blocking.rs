//! The same client for programs that are not asynchronous: every function returns when it is done.
//!
//! ```no_run
//! use cipherloom_client::{DevStack, PermitTerms};
//!
//! # fn run(token: cipherloom_primitives::Address, balance: cipherloom_primitives::Handle) -> Result<(), Box<dyn std::error::Error>> {
//! let stack = DevStack::read("stack.json")?;
//! let alice = &stack.insecure_accounts[0];
//! let client = stack.client().build_blocking()?;
//!
//! let input = client.encrypt(token, alice.address(), |input| input.add64(1_000))?;
//! println!("handle {}", input.handles[0]);
//! let permit = client.permit(alice, PermitTerms::starting_now(vec![token], 1))?;
//! println!("balance {}", client.user_decrypt(&[(balance, token)], &permit)?[0].1);
//! # Ok(())
//! # }
//! ```
//!
//! The client has a thread of its own for its connections. Its functions refuse to be called inside of an asynchronous task
//! ([`ClientError::InsideRuntime`]), which they would stop; the asynchronous client is for those.

use std::sync::Arc;

use alloy::signers::Signer;
use cipherloom_primitives::{
    Address, Bytes, Handle,
    decryption::{DecryptionPermit, RequestedValue},
};
use tokio::runtime::{Handle as RuntimeHandle, Runtime};

use crate::{ClientBuilder, ClientConfig, ClientError, EncryptedInput, InputBuilder, Permit, Plaintext, PublicDecryption, UnsignedPermit};

/// A client whose functions block. Clones share everything.
#[derive(Clone)]
pub struct Client {
    client: crate::Client,
    threads: Arc<Threads>,
}

/// The runtime, which must not be waited for when the last client goes: that may happen inside of an asynchronous task.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    fn start() -> Result<Self, ClientError> {
        refuse_inside_runtime()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cipherloom-client")
            .enable_all()
            .build();
        Ok(Self(Some(runtime.map_err(ClientError::Runtime)?)))
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        refuse_inside_runtime()?;
        match &self.0 {
            Some(runtime) => runtime.block_on(work),
            None => Err(ClientError::Task),
        }
    }
}

fn refuse_inside_runtime() -> Result<(), ClientError> {
    match RuntimeHandle::try_current() {
        Ok(_) => Err(ClientError::InsideRuntime),
        Err(_) => Ok(()),
    }
}

impl Client {
    pub(crate) fn build(builder: ClientBuilder) -> Result<Self, ClientError> {
        let threads = Threads::start()?;
        let client = threads.run(builder.build())?;
        Ok(Self {
            client,
            threads: Arc::new(threads),
        })
    }

    /// Connects to a gateway and a host chain; as [`crate::Client::connect`].
    ///
    /// # Errors
    /// As [`crate::Client::connect`], and as [`ClientBuilder::build_blocking`].
    pub fn connect(gateway_url: &str, rpc_url: &str, config: ClientConfig) -> Result<Self, ClientError> {
        let threads = Threads::start()?;
        let client = threads.run(crate::Client::connect(gateway_url, rpc_url, config))?;
        Ok(Self {
            client,
            threads: Arc::new(threads),
        })
    }

    /// Returns the asynchronous client inside.
    #[must_use]
    pub const fn inner(&self) -> &crate::Client {
        &self.client
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        self.client.config()
    }

    /// Returns the id of the public key inputs are encrypted to; as [`crate::Client::public_key_id`].
    ///
    /// # Errors
    /// As [`crate::Client::public_key_id`].
    pub fn public_key_id(&self) -> Result<String, ClientError> {
        self.threads.run(self.client.public_key_id())
    }

    /// Encrypts the values that `add` adds, for `contract`, to be sent by `user`; as [`InputBuilder::encrypt`].
    ///
    /// # Errors
    /// As [`InputBuilder::encrypt`].
    pub fn encrypt(
        &self,
        contract: Address,
        user: Address,
        add: impl FnOnce(InputBuilder) -> InputBuilder,
    ) -> Result<EncryptedInput, ClientError> {
        self.threads.run(add(self.client.encrypt(contract, user)).encrypt())
    }

    /// Returns whether the chain's validators check inputs themselves; as [`crate::Client::is_native_chain`].
    ///
    /// # Errors
    /// As [`crate::Client::is_native_chain`].
    pub fn is_native_chain(&self) -> Result<bool, ClientError> {
        self.threads.run(self.client.is_native_chain())
    }

    /// Reads the ciphertext of a handle from a native chain; as [`crate::Client::ciphertext`].
    ///
    /// # Errors
    /// As [`crate::Client::ciphertext`].
    pub fn ciphertext(&self, handle: Handle) -> Result<Bytes, ClientError> {
        self.threads.run(self.client.ciphertext(handle))
    }

    /// Asks for the plaintexts of handles that were made public; as [`crate::Client::public_decrypt`].
    ///
    /// # Errors
    /// As [`crate::Client::public_decrypt`].
    pub fn public_decrypt(&self, handles: &[Handle]) -> Result<PublicDecryption, ClientError> {
        self.threads.run(self.client.public_decrypt(handles))
    }

    /// Makes a key pair and has a wallet sign a permit for it; as [`crate::Client::permit`].
    ///
    /// # Errors
    /// As [`crate::Client::permit`].
    pub fn permit(&self, signer: &(impl Signer + Sync), terms: impl Into<DecryptionPermit> + Send) -> Result<Permit, ClientError> {
        self.threads.run(self.client.permit(signer, terms))
    }

    /// Makes a permit that `user` has yet to sign; as [`crate::Client::unsigned_permit`].
    ///
    /// # Errors
    /// As [`crate::Client::unsigned_permit`].
    pub fn unsigned_permit(&self, user: Address, terms: impl Into<DecryptionPermit>) -> Result<UnsignedPermit, ClientError> {
        self.client.unsigned_permit(user, terms)
    }

    /// Asks for plaintexts under a permit; as [`crate::Client::user_decrypt`].
    ///
    /// # Errors
    /// As [`crate::Client::user_decrypt`].
    pub fn user_decrypt(&self, pairs: &[(Handle, Address)], permit: &Permit) -> Result<Vec<(Handle, Plaintext)>, ClientError> {
        self.threads.run(self.client.user_decrypt(pairs, permit))
    }

    /// Asks for plaintexts of values that say whose they are; as [`crate::Client::user_decrypt_of`].
    ///
    /// # Errors
    /// As [`crate::Client::user_decrypt_of`].
    pub fn user_decrypt_of(&self, values: &[RequestedValue], permit: &Permit) -> Result<Vec<(Handle, Plaintext)>, ClientError> {
        self.threads.run(self.client.user_decrypt_of(values, permit))
    }
}
