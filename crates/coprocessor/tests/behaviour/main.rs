//! The coprocessor fed with events: admission, evaluation, workers, restarts. On the clear backend unless a name says otherwise.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod admission;
mod backend;
mod boundary;
mod determinism;
mod evaluation;
mod fixture;
mod mirror;
mod recording;
mod squashing;
mod workers;
