//! Relays on real chains, the embedded one and anvil: what contracts ask for reaches them once, whatever happens.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod delivered;
mod interrupted;
mod money;
mod reorganised;
mod scene;
