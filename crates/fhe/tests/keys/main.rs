//! Key sets, input lists and stored ciphertexts: round trips, and everything that must be refused.
//!
//! * `key_sets`: directories, whole and half written.
//! * `tampering`: directories whose files were changed.
//! * `inputs`: what a coprocessor admits and what it does not, on both backends.
//! * `crafted`: lists no honest client makes, built with tfhe itself.
//! * `stored`: ciphertexts in their raw form.
//! * `packed`: ciphertexts in their packed form, and re-randomised ones.
//! * `decoders`: random and mutated bytes for every decoder.
//! * `vectors`: bytes on record.
//! * `production`: a few of these on real parameters.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod crafted;
mod decoders;
mod fixture;
mod inputs;
mod key_sets;
mod packed;
mod production;
mod stored;
mod tampering;
mod vectors;
