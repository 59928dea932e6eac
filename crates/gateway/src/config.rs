//! What an operator can set, with defaults that suit a small deployment.

use std::{net::SocketAddr, time::Duration};

/// Settings of a gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free port.
    pub bind: SocketAddr,
    /// The base URL that clients use, without a version (`https://fhe.example`): download URLs start with it.
    ///
    /// Without it the gateway takes the `Host` header of each request, with `http`. Set it behind a proxy that terminates TLS.
    pub public_url: Option<String>,
    /// The ids of the host chains; requests for others are refused. Handles and permits name theirs.
    pub host_chain_ids: Vec<u64>,
    /// How many jobs there may be and for how long.
    pub jobs: JobLimits,
    /// How many requests one client address may post; unlimited without it.
    pub rate_limit: Option<RateLimit>,
    /// The most connections open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long a connection may wait for the next request before it is closed.
    ///
    /// Keep it at two minutes or more: a client that computes a proof for a minute and then finds its connection closed fails,
    /// because HTTP clients do not repeat a POST by themselves. It also bounds how long the head of a request may take.
    pub idle_timeout: Duration,
    /// The most bytes of request bodies held at once, for requests being read and for jobs that have not ended; further requests get
    /// `protocol_overload`.
    pub max_held_body_bytes: usize,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// How long a response may make no progress because the client does not read.
    pub write_timeout: Duration,
    /// How long running requests may take to finish at shutdown.
    pub shutdown_grace: Duration,
}

/// How many jobs there may be, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct JobLimits {
    /// The most input proofs given to the coprocessor at once.
    pub max_running_inputs: usize,
    /// The most decryptions given to the KMS at once, those included that wait for a ciphertext to be computed.
    pub max_running_decryptions: usize,
    /// The most jobs waiting or running; further requests get `protocol_overload`.
    pub max_unfinished: usize,
    /// The most finished jobs kept; the oldest go first.
    pub max_finished: usize,
    /// The most bytes of answers kept; the oldest go first.
    pub max_finished_bytes: usize,
    /// How long a finished job is kept.
    pub retention: Duration,
    /// How long a job may take from its submission, waiting included.
    pub deadline: Duration,
}

/// A token bucket per client address for POST requests.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// How many requests a client may post at once after a pause.
    pub burst: u32,
    /// How many requests per second a client may post in the long run.
    pub per_second: u32,
}

impl Config {
    /// Returns the defaults for a chain: listening on a free local port.
    #[must_use]
    pub fn new(host_chain_id: u64) -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
            host_chain_ids: vec![host_chain_id],
            jobs: JobLimits::default(),
            rate_limit: None,
            max_connections: 1024,
            idle_timeout: Duration::from_secs(180),
            max_held_body_bytes: 256 << 20,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            max_running_inputs: 16,
            max_running_decryptions: 256,
            max_unfinished: 1024,
            max_finished: 10_000,
            max_finished_bytes: 256 << 20,
            retention: Duration::from_secs(3600),
            deadline: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_outlive_a_slow_proof_by_default() {
        assert!(Config::new(31337).idle_timeout >= Duration::from_secs(120));
    }
}
