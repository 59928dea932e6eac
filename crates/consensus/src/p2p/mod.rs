//! The network between the nodes of a native chain: authenticated connections, messages, requests.

mod channel;
mod config;
mod error;
mod peer;

pub use channel::{CHANNELS, MAX_REQUEST_BYTES, max_message_bytes};
pub use config::{NetworkConfig, NetworkLimits};
pub use error::PeerError;
pub use peer::{Direction, Offence, PeerAddress, PeerInfo};
