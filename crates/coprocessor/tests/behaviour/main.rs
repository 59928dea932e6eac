//! The coprocessor on the clear backend: admission, evaluation, workers, restarts.

#![expect(clippy::unwrap_used, reason = "tests and their helpers fail by panicking")]

mod admission;
mod backend;
mod evaluation;
mod fixture;
mod recording;
mod workers;
