//! How the gRPC server is set up.

use std::{net::SocketAddr, time::Duration};

use cipherloom_primitives::input::{MAX_INPUT_LIST_BYTES, MAX_INPUT_VALUES};
use cipherloom_rpc::codec::MAX_ELEMENTS;

use crate::{Clock, system_clock};

/// The most input lists in a batch that the wire format takes.
const MAX_INPUT_LISTS: usize = 256;
/// What a list takes in a message beside its bytes: addresses, and signatures that are not read.
const LIST_OVERHEAD_BYTES: usize = 16 << 10;
/// What a computation of two operands takes at most, names of 256 bytes included.
const COMPUTATION_BYTES: usize = 1 << 10;
/// The least size of a request that is taken.
const MIN_REQUEST_BYTES: usize = 16 << 20;

/// What the server accepts. All of it is checked before memory is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// The most computations in `AsyncCompute` and values in `TrivialEncryptCiphertexts`.
    pub ciphertexts_to_schedule: usize,
    /// The most handles in `GetCiphertexts`.
    pub ciphertexts_to_get: usize,
    /// The most input lists in `UploadInputs`. Each costs the check of a proof.
    pub compact_inputs: usize,
    /// The most values in an input list.
    pub handles_per_input: usize,
    /// The most bytes of ciphertexts in one answer.
    pub answer_bytes: usize,
    /// The most bytes of served ciphertexts that are kept to be served again.
    pub cached_answer_bytes: usize,
    /// How many requests are received and answered at a time. More are refused.
    pub requests: usize,
    /// How many of them may be of one tenant.
    pub requests_per_tenant: usize,
    /// How many connections are open at a time. More wait, and connections that no tenant uses then make room.
    pub connections: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            ciphertexts_to_schedule: 5000,
            ciphertexts_to_get: 5000,
            compact_inputs: 10,
            handles_per_input: MAX_INPUT_VALUES,
            answer_bytes: 64 << 20,
            cached_answer_bytes: 64 << 20,
            requests: 48,
            requests_per_tenant: 32,
            connections: 512,
        }
    }
}

impl ServerLimits {
    /// Returns the limits, lowered to what the wire format and input lists can have.
    #[must_use]
    pub fn within_protocol(self) -> Self {
        Self {
            ciphertexts_to_schedule: self.ciphertexts_to_schedule.min(MAX_ELEMENTS),
            ciphertexts_to_get: self.ciphertexts_to_get.min(MAX_ELEMENTS),
            compact_inputs: self.compact_inputs.min(MAX_INPUT_LISTS),
            handles_per_input: self.handles_per_input.min(MAX_INPUT_VALUES),
            ..self
        }
    }

    /// Returns the size of the largest request, which follows from the other limits.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        let inputs = self.compact_inputs.saturating_mul(MAX_INPUT_LIST_BYTES + LIST_OVERHEAD_BYTES);
        let computations = self.ciphertexts_to_schedule.saturating_mul(COMPUTATION_BYTES);
        MIN_REQUEST_BYTES.max(inputs).max(computations)
    }
}

/// The server's certificate chain and its key, both in PEM.
#[derive(Clone)]
pub struct TlsIdentity(pub(super) tonic::transport::Identity);

impl TlsIdentity {
    /// Takes a certificate chain, the server's own certificate first, and the key of that certificate.
    #[must_use]
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self(tonic::transport::Identity::from_pem(certificates, key))
    }
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

/// How the gRPC server is set up.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What it accepts.
    pub limits: ServerLimits,
    /// With whose certificate it encrypts. Without, it speaks in clear, API keys included.
    pub tls: Option<TlsIdentity>,
    /// How long a request may take, from its first byte. Clients can ask for less by a deadline.
    pub request_timeout: Duration,
    /// How long requests may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// How long an API key counts after it was looked up: one that was replaced, or whose tenant was disabled, ends within this time.
    pub api_key_lifetime: Duration,
    /// How long a connection may be open without a tenant's request when there is no room for others.
    pub stranger_patience: Duration,
    /// How often the database is asked whether it is there.
    pub health_interval: Duration,
    /// The clock that requests are dated with.
    pub clock: Clock,
}

impl ServerConfig {
    /// Returns a configuration with defaults for everything that has one.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            limits: ServerLimits::default(),
            tls: None,
            request_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(30),
            api_key_lifetime: Duration::from_secs(5),
            stranger_patience: Duration::from_secs(10),
            health_interval: Duration::from_secs(2),
            clock: system_clock(),
        }
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("listen", &self.listen)
            .field("limits", &self.limits)
            .field("tls", &self.tls)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_within_the_limits_fits_the_largest_size() {
        let many = ServerLimits {
            compact_inputs: 100,
            ..ServerLimits::default()
        };
        assert!(many.request_bytes() > 100 * MAX_INPUT_LIST_BYTES);
        let many = ServerLimits {
            ciphertexts_to_schedule: 50_000,
            ..ServerLimits::default()
        };
        // Three names of 256 bytes and what protobuf adds.
        assert!(many.request_bytes() > 50_000 * (3 * 260 + 16));
    }

    #[test]
    fn limits_are_lowered_to_what_messages_can_have() {
        let all = ServerLimits {
            ciphertexts_to_schedule: usize::MAX,
            ciphertexts_to_get: usize::MAX,
            compact_inputs: usize::MAX,
            handles_per_input: usize::MAX,
            ..ServerLimits::default()
        };
        let within = all.within_protocol();
        assert_eq!(within.ciphertexts_to_schedule, MAX_ELEMENTS);
        assert_eq!(within.handles_per_input, MAX_INPUT_VALUES);
        assert_eq!(ServerLimits::default().within_protocol(), ServerLimits::default());
    }
}
