//! How an executor is set up.

use std::{net::SocketAddr, time::Duration};

use cipherloom_engine::{PoolOptions, graph::MAX_COMPUTATIONS};

/// What an executor accepts. All of it is checked before memory is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request, in bytes.
    pub request_bytes: usize,
    /// The largest answer of `SyncCompute`, in bytes. The streaming service has no such limit.
    pub response_bytes: usize,
    /// The most computations in a request; the engine takes at most [`MAX_COMPUTATIONS`].
    pub computations: usize,
    /// The most ciphertexts in a request, values of input lists included.
    pub ciphertexts: usize,
    /// The most input lists in a request. Each costs the check of a proof.
    pub input_lists: usize,
    /// How many requests are received and computed at a time. More are refused.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 256 << 20,
            response_bytes: 1 << 30,
            computations: 16_384,
            ciphertexts: 16_384,
            input_lists: 64,
            requests: 8,
        }
    }
}

impl Limits {
    /// Returns the limits with no more computations than the engine takes.
    #[must_use]
    pub fn within_engine(self) -> Self {
        Self {
            computations: self.computations.min(MAX_COMPUTATIONS),
            ..self
        }
    }
}

/// How an executor is set up.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What it accepts.
    pub limits: Limits,
    /// Scheduling and threads of the computation.
    pub engine: PoolOptions,
    /// The id of the key set the backend computes with.
    pub key_set_id: [u8; 32],
    /// Whether input lists without a context are expanded without a check of their proofs, because the node vouches for them.
    pub trust_node_for_proofs: bool,
    /// Whether the proofs of lists with a context are not checked, because the only client has checked every one of them itself.
    pub client_checks_proofs: bool,
    /// How long a request may take, from its first byte. Clients can ask for less by a deadline.
    pub request_timeout: Duration,
    /// How long requests may take to finish at shutdown.
    pub drain_timeout: Duration,
}

impl ExecutorConfig {
    /// Returns a configuration with defaults for everything that has one.
    #[must_use]
    pub fn new(listen: SocketAddr, key_set_id: [u8; 32]) -> Self {
        Self {
            listen,
            limits: Limits::default(),
            engine: PoolOptions::default(),
            key_set_id,
            trust_node_for_proofs: false,
            client_checks_proofs: false,
            request_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
