//! The gateway: the HTTP service that client SDKs talk to (the ecosystem also says relayer).
//!
//! It serves key material and takes three kinds of requests: verify an encrypted input, decrypt values that were made
//! public, and decrypt values to a user's key. It holds no secrets and decides nothing: answers are signed by coprocessors and
//! KMS nodes, which check every request themselves. A malicious gateway can withhold or delay answers, but not forge them.
//!
//! * [`services`]: what the gateway needs from the rest of the system, as traits.
//! * [`Gateway::start`]: serves those over HTTP until [`GatewayHandle::shutdown`].
//! * [`legacy`]: the same for clients of the 0.6 generation, as a service of its own.
//! * [`routes::ROUTES`]: every route, which `docs/openapi-gateway.json` describes.
//!
//! A request becomes a *job*: it is parsed and checked at the edge, deduplicated by its content, run under limits on number and time, and
//! its answer is kept for a while for clients that poll. With a database ([`Services::jobs`]) an accepted job is answered whatever happens
//! to this process, by it or by another gateway on the same database; without one, clients of a gateway that restarted get `not_found` and
//! ask again, which is safe because every request can be repeated.
//!
//! Source: public protocol, section 4.

mod access;
mod addresses;
mod answers;
mod body;
mod clients;
mod clock;
mod config;
mod connection;
mod desk;
mod error;
mod fields;
mod jobs;
mod keys;
mod ledger;
pub mod legacy;
mod metrics;
mod rate;
mod requests;
pub mod routes;
mod server;
pub mod services;
mod tls;
mod unified;

pub use addresses::{AddressRange, InvalidAddressRange};
pub use clients::{ApiKey, ApiKeyDigest, ClientConfig, Operation};
pub use clock::{Clock, SystemClock};
pub use config::{Config, JobLimits, MoreMetrics, RateLimit, TlsConfig};
pub use error::{GatewayError, Label};
pub use server::{Gateway, GatewayHandle};
pub use services::{ComputationProgress, FieldIssue, Progress, ServiceError, Services};
