//! What can go wrong when telemetry is started.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter of log lines cannot be read.
    #[error("the log filter cannot be read: {0}")]
    Filter(String),
    /// Something in this process sends log lines already.
    #[error("logging was started already")]
    Started,
    /// The environment asks for a transport that is not built in.
    #[error("{variable} is {value}; traces are sent over grpc only")]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// What it is set to.
        value: String,
    },
    /// The environment's settings for traces cannot be used.
    #[error("traces cannot be sent: {0}")]
    Exporter(String),
    /// The thread that sends traces could not be started.
    #[error("the thread that sends traces could not be started: {0}")]
    Thread(std::io::Error),
    /// The address for metrics cannot be listened on.
    #[error("cannot serve metrics on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}
