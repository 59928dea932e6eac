//! Parts that are processes of their own, as a gateway sees them: over gRPC, at one of several endpoints (see [`cipherloom_service::endpoints`]).
//!
//! If none answers, the gateway's client learns `gateway_not_reachable`.

pub(crate) mod awaited;
pub(crate) mod coprocessor;
pub(crate) mod decryption;
pub(crate) mod failure;
pub(crate) mod keys;
pub(crate) mod kms;
pub(crate) mod native;
