//! Evidence is believed exactly when it should be: recorded real quotes at their time, simulated ones through the same checks, and channels between
//! attested processes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod agent;
mod channels;
mod fetched;
mod recorded;
mod simulated;
