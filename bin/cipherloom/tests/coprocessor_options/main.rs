//! Every option of the coprocessor does what its help says, shown on the real binaries.
#![cfg(feature = "insecure-development")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod ground;
mod help;
mod limits;
mod observed;
mod ours;
mod process;
mod refused;
mod resources;
mod serving;
