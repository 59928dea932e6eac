//! What a client is told, and how patient it is.

use std::time::Duration;

use cipherloom_contracts::HostAddresses;
use cipherloom_fhe::KeySetId;
use cipherloom_primitives::eip712::SigningDomains;

/// Which deployment a client is for.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the host contracts are.
    pub addresses: HostAddresses,
    /// Where signatures are valid; must be what the contracts say.
    pub domains: SigningDomains,
    /// Which public key inputs may be encrypted to.
    pub key_trust: KeyTrust,
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

impl ClientConfig {
    /// Builds a configuration with the default limits that accepts [`KeyTrust::AnySecure`] key.
    #[must_use]
    pub fn new(addresses: HostAddresses, domains: SigningDomains) -> Self {
        Self {
            addresses,
            domains,
            key_trust: KeyTrust::AnySecure,
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
    /// For one operation with all its polls and repetitions.
    pub operation: Duration,
    /// For downloading the public key or the reference string.
    pub download: Duration,
    /// How often an exchange is repeated that failed for a reason that may pass.
    pub retries: u32,
    /// The pause before the first repetition; it doubles each time. Also the shortest time between two polls.
    pub first_pause: Duration,
    /// The longest time between two polls, whatever the server asks for.
    pub longest_pause: Duration,
    /// The most bytes of a JSON answer.
    pub answer_bytes: usize,
    /// The most bytes of a public key or reference string.
    pub key_bytes: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            operation: Duration::from_secs(600),
            download: Duration::from_secs(300),
            retries: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            answer_bytes: 8 << 20,
            key_bytes: 64 << 20,
        }
    }
}
