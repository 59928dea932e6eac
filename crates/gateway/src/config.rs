//! What an operator can set, with defaults that suit a small deployment.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{addresses::AddressRange, clients::ClientConfig};

/// Settings of a gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free port.
    pub bind: SocketAddr,
    /// The base URL that clients use, without a version (`https://fhe.example`): download URLs start with it.
    ///
    /// Without it the gateway takes the `Host` header of each request, with `https` if [`Config::tls`] is set and else with `http`. Set it
    /// behind a proxy that terminates TLS.
    pub public_url: Option<String>,
    /// The ids of the host chains; requests for others are refused. Handles and permits name theirs.
    pub host_chain_ids: Vec<u64>,
    /// How many jobs there may be and for how long.
    pub jobs: JobLimits,
    /// How many requests one client may post; unlimited without it. It counts by API key for clients that have one and no limit of
    /// their own, and else by address.
    pub rate_limit: Option<RateLimit>,
    /// The clients that are known by an API key. Keys in requests are ignored while there are none and none is required.
    pub clients: Vec<ClientConfig>,
    /// Whether only known clients are served. Key material and the routes for operators stay open: they tell nothing about anybody.
    pub require_api_key: bool,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// The certificate to speak HTTPS with; HTTP without it.
    pub tls: Option<TlsConfig>,
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
    /// What `/metrics` shows after the gateway's own metrics: those of other parts in the same process. The route is open to everybody who reaches the gateway.
    pub more_metrics: Option<MoreMetrics>,
}

/// Writes metrics in Prometheus' text format, of parts that the gateway does not know.
#[derive(Clone)]
pub struct MoreMetrics(Arc<dyn Fn() -> String + Send + Sync>);

impl MoreMetrics {
    /// Takes what writes them; it is called for each request and must not block.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }

    pub(crate) fn render(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for MoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoreMetrics")
    }
}

/// How many jobs there may be, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct JobLimits {
    /// The most input proofs given to the coprocessor at once.
    pub max_running_inputs: usize,
    /// The most decryptions given to the KMS at once, those included that wait for a ciphertext to be computed.
    pub max_running_decryptions: usize,
    /// The most jobs waiting or running in this process; further requests get `protocol_overload`.
    pub max_unfinished: usize,
    /// The most finished jobs kept; the oldest go first.
    pub max_finished: usize,
    /// The most bytes of answers kept; the oldest go first.
    pub max_finished_bytes: usize,
    /// How long a finished job is kept.
    pub retention: Duration,
    /// How long a job may take from when this process has it, waiting included.
    pub deadline: Duration,
    /// For how long a job asks again while a service answers `gateway_not_reachable`, as one does that is being restarted.
    pub retry_unreachable: Duration,
    /// With a database: for how long a job belongs to the gateway that runs it, unless that renews it. After a crash another gateway, or
    /// the same one restarted, takes the job up when this has passed.
    pub lease: Duration,
    /// With a database: how often a job is begun before it is given up. Only a crash in its middle makes it begin again.
    pub max_attempts: u32,
}

/// A token bucket for POST requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests a client may post at once after a pause.
    pub burst: u32,
    /// How many requests per second a client may post in the long run.
    pub per_second: u32,
}

/// Files of a certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, followed by those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// How often the files are looked at; new contents are used for new connections. SIGHUP has them looked at immediately.
    pub check_interval: Duration,
}

impl TlsConfig {
    /// Names the files, which are looked at every ten seconds.
    #[must_use]
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            check_interval: Duration::from_secs(10),
        }
    }
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
            clients: Vec::new(),
            require_api_key: false,
            trusted_proxies: Vec::new(),
            tls: None,
            max_connections: 1024,
            idle_timeout: Duration::from_secs(180),
            max_held_body_bytes: 256 << 20,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
            more_metrics: None,
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
            retry_unreachable: Duration::from_secs(60),
            lease: Duration::from_secs(10),
            max_attempts: 5,
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
