//! Blocks: what they can hold, what lookups give, and that batches change no bit.
//!
//! * `bounds`: which combinations and tables are allowed.
//! * `values`: combinations and lookups give the right numbers, on toy parameters and in the clear.
//! * `bits`: batches of any size on any number of threads give the bits of tfhe-rs's own lookups.
//! * `ciphertexts`: taking ciphertexts apart and putting them together.
//! * `production`: a few lookups on real parameters.
#![cfg(feature = "insecure-toy-parameters")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod bits;
mod bounds;
mod ciphertexts;
mod fixture;
mod production;
mod values;
