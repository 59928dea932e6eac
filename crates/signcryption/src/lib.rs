//! Signcryption: how a KMS node hands plaintexts to one user and nobody else.
//!
//! A user decryption answer has to be readable by the user alone, provably from a registered KMS node, and
//! unusable for any other request. The public protocol (sections 5.2 and 5.3) fixes the layout, and published clients read it in
//! WebAssembly, so every byte here is given:
//!
//! * [`UserPublicKey`], [`UserKeypair`]: ML-KEM-512 keys. The public key travels as 869 bytes: a header and the 800-byte key. All
//!   hashes that bind a request to its key are over what was sent, header included.
//! * [`seal()`]: the KMS side. Each value is signed (ECDSA over SHA-256), then encrypted (ML-KEM encapsulation and AES-256-GCM); the list
//!   becomes the payload, which is signed once more as typed data.
//! * [`open()`]: the client side. It checks all of it and returns the values, or an error that says which check failed.
//! * [`seal_shares`], [`open_shares`]: the same for the nodes of a committee, each of which sends shares of the values; the client puts the values together.
//!
//! What binds an answer: the *link*, a typed-data digest over public key, handles and user account, stands in the payload and inside each
//! encrypted value; the inner signature covers value, link, account and key. So a value cannot be moved to another
//! request, user, key or handle list.
//!
//! * [`generation_0_6`]: the same for one value and clients of the 0.6 generation, which have X25519 keys.
//!
//! Nothing here does I/O or reads a clock. Randomness enters through [`Randomness`].
//!
//! ```
//! use cipherloom_primitives::{Address, B256, FheType, Handle, U256, eip712::SigningDomains};
//! use cipherloom_signcryption::{AnswerContext, Randomness, SigningKey, UserKeypair, node_address, open, seal};
//!
//! let kms_key = SigningKey::from_slice(&[7; 32])?;
//! let user_keys = UserKeypair::generate()?;
//! let domains = SigningDomains {
//!     host_chain_id: 31337,
//!     gateway_chain_id: 10901,
//!     decryption: Address::repeat_byte(1),
//!     input_verification: Address::repeat_byte(2),
//! };
//! let handle = Handle::computed(B256::ZERO, 31337, FheType::Uint64);
//! let context = AnswerContext { domains: &domains, public_key: user_keys.public_key(), user: Address::repeat_byte(3), extra_data: &[] };
//! let share = seal(&context, &[(handle, U256::from(42))], &kms_key, Randomness::generate)?;
//! assert_eq!(open(&context, &[handle], &share, &user_keys, node_address(&kms_key))?, [U256::from(42)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod binding;
pub mod error;
pub mod generation_0_6;
pub mod keys;
mod open;
mod seal;
mod shares;
pub mod wire;

pub use error::SigncryptionError;
pub use k256::ecdsa::SigningKey;
pub use keys::{UserKeypair, UserPublicKey};
pub use open::open;
pub use seal::{AnswerContext, Randomness, node_address, seal, sign_digest};
pub use shares::{CommitteeParty, MAX_SHARE_BYTES, SHARE_PACKING_FACTOR, check_sealed_shares, open_shares, seal_shares};
