//! Decryption callbacks: contracts ask the gateway contract of their chain for decrypted values, and get them as a call.
//!
//! **Roles.** The *gateway contract* takes requests and checks what is delivered. A [`Relay`] serves one such contract with one paying account. The
//! KMS decides what may be decrypted and signs the values ([`Decryption`]); the relay is trusted with nothing: it can withhold or delay, not forge. The
//! contracts that ask are strangers, and so is what their functions do: how much gas, how many wei and whose requests are limited ([`RelayConfig`]).
//!
//! **Flow.** Requests count once their block is as deep as configured. Each is decrypted, which waits for its computation; then the call is simulated,
//! because a delivery whose callback fails counts as delivered all the same; then the transaction is signed, *written down*, and sent. What stays out is
//! sent again, and paid better. A request has ended when the chain says so in a final block, whoever delivered.
//!
//! **Exactly once.** The contract delivers a request once; everything here only avoids paying for transactions that fail. One process at a time serves a
//! contract: it holds a claim in the store, and nothing can be written, and so nothing new sent, without it. Nonces are in the store before anything
//! is sent, so that a process that is killed at any instant and started again, or another one that takes over, sends the same bytes or replaces them
//! under the same nonce.
//!
//! **Restart.** All progress is in the store ([`cipherloom_store::Callbacks`]) and on the chain. Values are decrypted anew; they are public.

mod attempts;
mod config;
mod delivery;
mod error;
mod following;
mod metrics;
mod relay;
mod services;
mod status;

pub use config::RelayConfig;
pub use error::RelayError;
pub use metrics::CallbackMetrics;
pub use relay::{Relay, RelayParts};
pub use services::{Clock, Decrypted, Decryption, DecryptionFailure, SystemClock};
pub use status::{Condition, RelayStatus};
