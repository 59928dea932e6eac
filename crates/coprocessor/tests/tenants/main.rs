//! Workers of several tenants: keys, turns, values in memory, failures, stopping. On the clear backend unless a test says otherwise.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod cached_values;
mod failures;
mod fixture;
mod forwarding;
mod keys;
mod turns;
