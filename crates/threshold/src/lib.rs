//! Threshold decryption: a secret key shared among parties, of which any `t` together learn nothing, and of which any `t` cannot keep the others from decrypting rightly.
//!
//! # Roles
//!
//! * The **dealer** shares the secrets of a new key set, once ([`deal`]).
//! * **Parties**, numbered from 1, hold a [`KeyShare`] each and compute [partial decryptions](PartialDecryption). Up to `t` of them are *corrupt*: they pool what they know and send what they like, or nothing.
//! * A **reader** [reconstructs](reconstruct()) values from partial decryptions: every party itself for public decryptions, the user for user decryptions.
//!
//! # Messages and flow
//!
//! ```text
//!             SquashedCiphertext (the same for all; where it comes from is checked before)
//!                    │
//!       ┌────────────┼────────────┐
//!   party 1      party 2  …   party n        each: phase share + mask share, a pure function of share and ciphertext
//!       │            │            │
//!       └── PartialDecryption ────┘          one message per party, 256 bytes for 64 bits
//!                    ▼
//!                 reader                     locates up to t wrong or missing, gives the value or an error
//! ```
//!
//! There is no other message, no broadcast and no preprocessing. Committees, epochs and their change are in [`deal`] and [`reshare`].
//!
//! # The scheme in short
//!
//! The secret key is a list of bits. It is shared over the ring GR(2^128, 4) ([`ring`](Element)), in which up to fifteen parties have a point, because ciphertexts are numbers modulo 2^128. Decryption is linear up to rounding: a party
//! computes `b - <a, s_i>` with its share and gets a share of the *phase*: plaintext times 2^123 plus noise. The noise depends on the key, so it is hidden under masks that are 2^40 times as wide, for which the
//! parties hold shares without talking (`prss`). The reader interpolates, corrects errors (`correction`) and rounds.
//!
//! The masks of a ciphertext are derived from its digest, and from key, context, epoch and committee. So one ciphertext has one mask: asking again tells nothing new, and there is no way to
//! get two ciphertexts decrypted under one mask, which would cancel it. Parties keep no state for that and cannot be made to forget it by a restart.
//!
//! # Restart
//!
//! Decryption has no state. A share is read from its file, checked against its digest, the manifest and the highest epoch known. Ceremonies and resharings that are interrupted are
//! begun anew; a resharing leaves the old shares valid until the new ones have decrypted a known value.
//!
//! # Assumptions
//!
//! * At most `t` parties of a committee are corrupt within an epoch, `3t < n`. Erased shares are erased.
//! * Ciphertexts come from noise squashing with the production parameters: their noise is below 2^70, taken from the public protocol. **Which ciphertexts are decrypted is decided before this crate is called**:
//!   a party that decrypts ciphertexts of an attacker's choice gives away the key, whatever the threshold.
//! * SHAKE256 with AES-256 in counter mode is a pseudo-random function, SHA-256 is collision resistant. Channels between parties are private and authenticated; where a module says *broadcast*, all
//!   receive the same or notice.
//! * Statistical hiding: one mask is the sum of two uniforms, each 2^40 times as wide as the noise. Telling the noise from none takes in the order of 2^80 samples of the same noise; a ciphertext gives one sample per epoch.
//!
//! # What is our own derivation and not yet reviewed
//!
//! That masks bound to the ciphertext's digest are as good as fresh ones; locating errors by their lowest plane of bits (`correction`; its outcome is checked, so a flaw
//! could refuse but not lie); the resharing protocol; the claim of 2^80 for two uniforms, which follows the public protocol's documents. Nobody outside has reviewed the code.
//!
//! # Effects
//!
//! None: no input, output, clock or threads, no operating system; randomness is an argument. It depends on nothing that could not be built for WebAssembly, which a test checks by the list of dependencies.
//! No unsafe code. Secrets are wiped when dropped, except temporary copies inside the hash and cipher implementations and in registers.
//!
//! # Example
//!
//! ```
//! use cipherloom_threshold::*;
//!
//! # struct Random(u64);
//! # impl rand_core::TryRng for Random {
//! #     type Error = std::convert::Infallible;
//! #     fn try_next_u32(&mut self) -> Result<u32, Self::Error> { Ok(self.try_next_u64()? as u32) }
//! #     fn try_next_u64(&mut self) -> Result<u64, Self::Error> { self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1; Ok(self.0 >> 1) }
//! #     fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> { for byte in bytes { *byte = self.try_next_u64()? as u8; } Ok(()) }
//! # }
//! # impl rand_core::TryCryptoRng for Random {}
//! # let mut rng = Random(1);
//! // Four parties, of which one may be corrupt, share a key. A real one has 4096 and 6144 bits.
//! let committee = Committee::new(1, vec![[1; 32], [2; 32], [3; 32], [4; 32]])?;
//! let scope = Scope { key: KeyId([7; 32]), context: ContextId([8; 32]), epoch: EpochId([1; 32]), committee };
//! let secrets = SecretKeys { squashed: &[1, 0, 1], compressed: &[0, 1] };
//! let Dealing { shares, manifest } = deal(&scope, secrets, &mut rng)?;
//! manifest.check(&shares[0])?;
//!
//! // A value of four bits: one LWE ciphertext, whose body is 13 times Delta plus the product of mask and key, plus noise.
//! let words = vec![5, 6, 7, (13 << DELTA_BITS) + 5 + 7 + 1000];
//! let ciphertext = SquashedCiphertext::new(KeyKind::Squashed, ValueShape::new(4)?, 3, words)?;
//!
//! // Party 2 is silent; the others decrypt.
//! let expected = [Expected { tag: ciphertext.tag(&scope), shape: ciphertext.shape() }];
//! let mut contributions = Vec::new();
//! for share in [&shares[0], &shares[2], &shares[3]] {
//!     contributions.push(Contribution::of_partials(share.party(), &expected, &[share.decrypt(&ciphertext)?]));
//! }
//! let read = reconstruct(scope.committee.size(), &[ciphertext.shape()], &contributions)?;
//! assert_eq!(read.values[0].little_endian()[0], 13);
//! assert_eq!(read.missing.to_string(), "2");
//! # Ok::<(), ThresholdError>(())
//! ```
//!
//! What is secret can neither be printed nor copied:
//!
//! ```compile_fail,E0277
//! fn printable<T: std::fmt::Debug>() {}
//! printable::<cipherloom_threshold::KeyShare>();
//! ```
//!
//! ```compile_fail,E0277
//! fn copyable<T: Clone>() {}
//! copyable::<cipherloom_threshold::KeyShare>();
//! ```
//!
//! ```compile_fail,E0277
//! fn printable<T: std::fmt::Debug>() {}
//! printable::<cipherloom_threshold::PartialDecryption>();
//! ```
//!
//! ```compile_fail,E0277
//! fn printable<T: std::fmt::Debug>() {}
//! printable::<cipherloom_threshold::Plaintext>();
//! ```
#![forbid(unsafe_code)]

mod ciphertext;
mod codec;
mod committee;
mod correction;
mod dealing;
mod error;
mod interpolation;
mod partial;
mod plaintext;
mod prss;
mod reconstruct;
pub mod reshare;
mod ring;
mod share;
mod sharing;

pub use ciphertext::{
    BITS_PER_LWE, COMPRESSED_DIMENSION, DecryptionTag, KeyKind, MAX_DIMENSION, MAX_VALUE_BITS, PACKING_FACTOR, SQUASHED_DIMENSION,
    SquashedCiphertext, ValueShape,
};
pub use committee::{
    Committee, CommitteeSize, ContextId, DELTA_BITS, EpochId, KeyId, MAX_PARTIES, NOISE_BITS, PartyId, PartyIdentity, PartySet,
    STATISTICAL_BITS, Scope,
};
pub use dealing::{Dealing, MAX_MANIFEST_BYTES, Manifest, SecretKeys, deal};
pub use error::ThresholdError;
pub use partial::{PartialDecryption, share_from_bytes};
pub use plaintext::Plaintext;
pub use reconstruct::{Contribution, Expected, MAX_VALUES, Reconstruction, reconstruct};
pub use ring::{DEGREE, ELEMENT_BYTES, Element};
pub use share::{KeyDimensions, KeyShare, MAX_SHARE_BYTES};
