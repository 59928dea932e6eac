//! Native execution as another client would use it: an EVM and a database of its own, and from this crate only the library.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect must fail, and says where by panicking"
)]

mod borrowed;
mod client;
mod deposits;
mod deterministic;
mod events;
mod fhe_gas;
mod fhelib;
mod hashing;
mod inputs;
mod program;
mod slots;
mod storing;
