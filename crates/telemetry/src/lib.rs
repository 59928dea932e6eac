//! What a long-running process tells its operators, apart from its metrics: log lines, traces, and whether it is alive and ready.
//!
//! * [`Telemetry`] sends log lines to standard error, as text or as JSON objects, and spans to an OpenTelemetry collector if the environment names
//!   one.
//! * [`transaction`] gives every transaction one trace: its id is the beginning of the transaction's hash, so that the spans of all processes that
//!   touch it meet without anything being stored or passed on.
//! * [`MonitoringServer`] answers `/metrics` and `/health` over HTTP.

mod error;
mod logging;
mod monitoring;
mod traces;
pub mod transaction;

pub use error::TelemetryError;
pub use logging::{LogFormat, Telemetry, TelemetryOptions};
pub use monitoring::{Check, Checks, Health, Metrics, MonitoringServer};
pub use traces::Service;
