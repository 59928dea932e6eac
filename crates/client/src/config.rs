//! What a client is told, and how patient it is.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use cipherloom_contracts::HostAddresses;
use cipherloom_fhe::KeySetId;
use cipherloom_primitives::eip712::SigningDomains;
use zeroize::Zeroizing;

/// Which deployment a client is for, and how it deals with it.
///
/// [`ClientBuilder`](crate::ClientBuilder) fills one in; it can also be made by hand with [`ClientConfig::new`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the host contracts are.
    pub addresses: HostAddresses,
    /// Where signatures are valid; must be what the contracts say.
    pub domains: SigningDomains,
    /// Which public key inputs may be encrypted to.
    pub key_trust: KeyTrust,
    /// The id that the gateway must give its public key, if it is pinned. A guard against a change that nobody noticed, not against a
    /// malicious gateway, which can give any key any id: that is what [`KeyTrust::KeySet`] is for.
    pub public_key_id: Option<String>,
    /// Where downloaded keys are kept between runs; only in memory without it.
    pub key_cache: Option<PathBuf>,
    /// What the gateway knows this client by.
    pub api_key: Option<ApiKey>,
    /// Certificates in PEM that vouch for the gateway, instead of those that the system trusts.
    pub trusted_certificates: Option<Arc<[u8]>>,
    /// Which of the gateway's routes are used.
    pub routes: Routes,
    /// Time and size limits.
    pub limits: ClientLimits,
}

/// Which public key inputs may be encrypted to. The gateway serves it, and whoever owns the secret key to it reads the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrust {
    /// The key of this key set only. A key that is known to be right also needs no lengthy checks.
    KeySet(KeySetId),
    /// Any key of secure parameters: trusts the gateway not to serve a key of its own.
    AnySecure,
    /// Any key, even one that hides nothing. For development.
    InsecureAny,
}

/// Which of the gateway's routes are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routes {
    /// The synchronous ones of version 1 while the gateway has them and answers within [`ClientLimits::synchronous`], and else jobs. Saves
    /// the pause between two polls, which is a second.
    #[default]
    Fastest,
    /// Jobs only: version 2, and 3 for unified permits.
    Jobs,
}

/// A key by which a gateway knows its client. Never shown, and wiped from memory in the end.
#[derive(Clone)]
pub struct ApiKey(Arc<Zeroizing<String>>);

impl ApiKey {
    /// Takes the key as the gateway's operator gave it.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(key.into())))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl ClientConfig {
    /// Builds a configuration with the default limits that accepts [`KeyTrust::AnySecure`] key.
    #[must_use]
    pub fn new(addresses: HostAddresses, domains: SigningDomains) -> Self {
        Self {
            addresses,
            domains,
            key_trust: KeyTrust::AnySecure,
            public_key_id: None,
            key_cache: None,
            api_key: None,
            trusted_certificates: None,
            routes: Routes::default(),
            limits: ClientLimits::default(),
        }
    }

    /// The same with another choice of public keys.
    #[must_use]
    pub const fn trusting(mut self, key_trust: KeyTrust) -> Self {
        self.key_trust = key_trust;
        self
    }
}

/// How long a client waits and how much it accepts.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// For one HTTP or JSON-RPC exchange.
    pub request: Duration,
    /// For the gateway's synchronous routes, before the same is asked for as a job; zero leaves them out.
    pub synchronous: Duration,
    /// For one operation with all its polls and repetitions.
    pub operation: Duration,
    /// For downloading the public key or the reference string, with all repetitions.
    pub download: Duration,
    /// How often an exchange is repeated that failed for a reason that may pass.
    pub retries: u32,
    /// The pause before the first repetition; it doubles each time. Also the shortest time between two polls.
    pub first_pause: Duration,
    /// The longest time between two polls, whatever the server asks for, and the longest pause that is not asked for.
    pub longest_pause: Duration,
    /// The longest pause after a failure that a server may ask for (`Retry-After`). If it asks for more, the failure is returned at once.
    pub longest_retry_after: Duration,
    /// The most bytes of a JSON answer.
    pub answer_bytes: usize,
    /// The most bytes of a public key or reference string.
    pub key_bytes: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            synchronous: Duration::from_secs(5),
            operation: Duration::from_secs(600),
            download: Duration::from_secs(300),
            retries: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            longest_retry_after: Duration::from_secs(60),
            answer_bytes: 8 << 20,
            key_bytes: 64 << 20,
        }
    }
}
