//! Setting a client up step by step.

use std::path::PathBuf;

use cipherloom_chain::{CallLimits, Deployment, HostChain};
use cipherloom_contracts::{HostAddresses, development};
use cipherloom_fhe::KeySetId;
use cipherloom_primitives::eip712::SigningDomains;

use crate::{
    Client, blocking,
    config::{ApiKey, ClientConfig, ClientLimits, KeyTrust, Routes},
    error::ClientError,
};

/// Sets up a [`Client`]. What is left out has a default that is safe.
///
/// Needed are a gateway, a node of the host chain, and where the host contracts are; the last from [`Self::addresses`], [`Self::deployment`] or
/// [`Self::insecure_development`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build` is called"]
pub struct ClientBuilder {
    gateway_url: String,
    rpc_urls: Vec<String>,
    domains: Option<SigningDomains>,
    addresses: Option<HostAddresses>,
    chain_id: Option<u64>,
    /// Holds everything that has a default.
    config: ClientConfig,
}

impl Client {
    /// Starts to set up a client of the gateway at a URL without version (such as `https://fhe.example` or `http://127.0.0.1:8547`) and of the chain
    /// behind the JSON-RPC of a node that the caller trusts.
    pub fn builder(gateway_url: impl Into<String>, rpc_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            gateway_url: gateway_url.into(),
            rpc_urls: vec![rpc_url.into()],
            domains: None,
            addresses: None,
            chain_id: None,
            config: ClientConfig::new(development::addresses(), development::signing_domains()),
        }
    }
}

impl ClientBuilder {
    /// Adds another node of the same chain, which is asked while those before it fail.
    pub fn another_rpc_url(mut self, rpc_url: impl Into<String>) -> Self {
        self.rpc_urls.push(rpc_url.into());
        self
    }

    /// Says where the host contracts are. Where signatures are valid is then asked of them, unless [`Self::domains`] says what they must answer.
    pub const fn addresses(mut self, addresses: HostAddresses) -> Self {
        self.addresses = Some(addresses);
        self
    }

    /// Says where signatures must be valid; a chain that says otherwise is another deployment.
    pub const fn domains(mut self, domains: SigningDomains) -> Self {
        self.domains = Some(domains);
        self.chain_id = Some(domains.host_chain_id);
        self
    }

    /// Takes addresses and domains from the manifest of a deployment, which `cipherloom contracts deploy` writes and [`Deployment::read`] reads.
    pub const fn deployment(self, deployment: &Deployment) -> Self {
        self.addresses(deployment.addresses()).domains(deployment.signing_domains())
    }

    /// Takes addresses and domains of the development chain, and any public key, even one that hides nothing. Whoever runs such a chain knows
    /// every secret on it.
    pub fn insecure_development(self) -> Self {
        self.addresses(development::addresses())
            .domains(development::signing_domains())
            .trust(KeyTrust::InsecureAny)
    }

    /// Says which public keys inputs may be encrypted to; [`KeyTrust::AnySecure`] if it is not called.
    pub const fn trust(mut self, trust: KeyTrust) -> Self {
        self.config.key_trust = trust;
        self
    }

    /// Pins the key set: inputs are encrypted to its public key and to no other, whatever the gateway serves.
    pub const fn pinned_key_set(self, id: KeySetId) -> Self {
        self.trust(KeyTrust::KeySet(id))
    }

    /// Pins the id that the gateway gives its public key; see [`ClientConfig::public_key_id`] for what that is good for.
    pub fn pinned_public_key_id(mut self, id: impl Into<String>) -> Self {
        self.config.public_key_id = Some(id.into());
        self
    }

    /// Keeps downloaded keys in a directory, which is made if need be.
    pub fn key_cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.key_cache = Some(directory.into());
        self
    }

    /// Sends an API key with requests to the gateway.
    pub fn api_key(mut self, key: ApiKey) -> Self {
        self.config.api_key = Some(key);
        self
    }

    /// Trusts these certificates (PEM) to vouch for the gateway instead of those that the system trusts.
    pub fn trusted_certificates(mut self, pem: &[u8]) -> Self {
        self.config.trusted_certificates = Some(pem.into());
        self
    }

    /// Says which of the gateway's routes are used; [`Routes::Fastest`] if it is not called.
    pub const fn routes(mut self, routes: Routes) -> Self {
        self.config.routes = routes;
        self
    }

    /// Sets limits on time and sizes.
    pub const fn limits(mut self, limits: ClientLimits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Connects to the chain and checks that it is the deployment.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] if nothing says where the host contracts are, and as [`Client::connect`].
    pub async fn build(self) -> Result<Client, ClientError> {
        let addresses = self.addresses.ok_or_else(|| ClientError::Configuration {
            what: "addresses",
            reason: "nothing says where the host contracts are".into(),
        })?;
        let limits = CallLimits {
            timeout: self.config.limits.request,
            ..CallLimits::default()
        };
        let chain = HostChain::connect_all(&self.rpc_urls, addresses, limits, self.chain_id)?;
        let domains = match self.domains {
            Some(domains) => domains,
            None => chain.signing_domains().await?,
        };
        let config = ClientConfig {
            addresses,
            domains,
            ..self.config
        };
        Client::over(&self.gateway_url, chain, config).await
    }

    /// As [`Self::build`], for programs that are not asynchronous.
    ///
    /// # Errors
    /// As [`Self::build`], and [`ClientError::Runtime`] or [`ClientError::InsideRuntime`].
    pub fn build_blocking(self) -> Result<blocking::Client, ClientError> {
        blocking::Client::build(self)
    }
}
