//! The coprocessor on the clear backend: admission, evaluation, workers, restarts.

mod admission;
mod backend;
mod evaluation;
mod fixture;
mod recording;
mod workers;
