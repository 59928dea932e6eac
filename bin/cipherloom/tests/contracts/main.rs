//! `cipherloom contracts` as operators run it, from outside: on the embedded chain, and on one that others made.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod addresses;
mod anvil;
mod deploying;
mod explorer;
mod ground;
mod interrupted;
mod signers;
mod upgrading;
mod verifying;
