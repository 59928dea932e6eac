//! Parts that are processes of their own, as the parts that need them see them: over gRPC, at one of several endpoints.
//!
//! A call that gets no answer is tried at the next endpoint. If none answers, the caller learns `gateway_not_reachable`; connections are made anew by
//! themselves, so that nothing has to be restarted when a part is back. Whatever a part refuses keeps its label on the way.

pub(crate) mod awaited;
pub(crate) mod ciphertexts;
pub(crate) mod coprocessor;
pub(crate) mod decryption;
pub(crate) mod endpoints;
pub(crate) mod failure;
pub(crate) mod keys;
pub(crate) mod kms;
pub(crate) mod messages;
