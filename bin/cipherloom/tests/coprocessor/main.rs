//! The coprocessor backend as operators run it: real processes on a real database, killed, paused, cut off, and told to end.
//!
//! What is asserted is the same every time: everything accepted is computed, right, once. `CIPHERLOOM_E2E=full` does all of it at full scale;
//! without it the tests do as much as a change needs. Nothing here is timed: figures are `cipherloom bench coprocessor`'s.
#![cfg(feature = "insecure-development")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod database_lost;
mod drained;
mod embedded;
mod ground;
mod killed;
mod measured;
mod memory;
mod objects_lost;
mod paused;
mod real_keys;
mod scale;
mod separated;
mod squashed;
