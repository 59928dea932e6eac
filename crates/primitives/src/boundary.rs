//! What crosses the boundary of a transaction: the two forms of a stored ciphertext, and which one a computation reads.
//!
//! The rules are part of the definition of every result's bytes (`spec/boundary.md`). They look at chain data alone, never at what a
//! process happens to keep, because otherwise two honest coprocessors would compute different bytes.

use alloy_primitives::{B256, Keccak256, U256};
use serde::{Deserialize, Serialize};

use crate::handle::Handle;

const RANDOMISER_DOMAIN: &[u8] = b"cipherloom randomiser 1";

/// A form in which a ciphertext is stored, served and vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CiphertextForm {
    /// All blocks as they were computed: large, and read without any bootstrap.
    Raw,
    /// All blocks in one compressed ciphertext: hundreds of times smaller, one bootstrap per block to read.
    Packed,
}

impl std::fmt::Display for CiphertextForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Packed => "packed",
        })
    }
}

/// How long, in blocks of the host chain, computations read the raw form of a value. Fixed per key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HotWindow(pub u64);

impl HotWindow {
    /// What new key sets get: hours on a chain with a block every 12 seconds, half an hour with one every 2 seconds.
    pub const DEFAULT: Self = Self(1024);

    /// Says which form of a value a transaction reads.
    ///
    /// `created_block` is the block of the transaction that published the value, `used_block` that of the transaction that
    /// reads it.
    #[must_use]
    pub const fn form_read(self, created_block: u64, used_block: u64) -> CiphertextForm {
        if used_block.saturating_sub(created_block) <= self.0 {
            CiphertextForm::Raw
        } else {
            CiphertextForm::Packed
        }
    }
}

/// What the randomness is derived from that is added to a value when a transaction takes it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomiserContext {
    /// The key set the value is encrypted under.
    pub key_set_id: B256,
    /// The host chain.
    pub chain_id: u64,
    /// The transaction that reads the value.
    pub transaction: B256,
}

impl RandomiserContext {
    /// Derives the seed for one value: the Keccak hash of a tag, the context, the handle, and the digest of what is read.
    ///
    /// That is the Keccak hash of the stored bytes in the form that is read, and for an input [`list_digest`](crate::input::list_digest) of its
    /// list. A value gets one seed per transaction, whatever the number of its uses.
    #[must_use]
    pub fn seed(&self, handle: Handle, digest: B256) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(RANDOMISER_DOMAIN);
        hasher.update(self.key_set_id);
        hasher.update(U256::from(self.chain_id).to_be_bytes::<32>());
        hasher.update(self.transaction);
        hasher.update(handle.as_slice());
        hasher.update(digest);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;

    use super::*;
    use crate::fhe_type::FheType;

    #[test]
    fn a_seed_depends_on_everything_it_is_derived_from() {
        let context = RandomiserContext {
            key_set_id: B256::repeat_byte(1),
            chain_id: 31337,
            transaction: B256::repeat_byte(2),
        };
        let handle = Handle::computed(B256::repeat_byte(3), 31337, FheType::Uint64);
        let digest = B256::repeat_byte(4);
        let chain = U256::from(31337).to_be_bytes::<32>();
        let bytes = [
            b"cipherloom randomiser 1".as_slice(),
            &[1; 32],
            &chain,
            &[2; 32],
            handle.as_slice(),
            &[4; 32],
        ]
        .concat();
        assert_eq!(context.seed(handle, digest), keccak256(bytes));
        let other = B256::repeat_byte(9);
        let others = [
            RandomiserContext {
                key_set_id: other,
                ..context
            }
            .seed(handle, digest),
            RandomiserContext { chain_id: 1, ..context }.seed(handle, digest),
            RandomiserContext {
                transaction: other,
                ..context
            }
            .seed(handle, digest),
            context.seed(Handle::computed(other, 31337, FheType::Uint64), digest),
            context.seed(handle, other),
        ];
        assert!(others.iter().all(|seed| *seed != context.seed(handle, digest)));
    }

    #[test]
    fn a_value_is_read_raw_up_to_the_last_block_of_the_window() {
        let window = HotWindow(10);
        assert_eq!(window.form_read(5, 5), CiphertextForm::Raw);
        assert_eq!(window.form_read(5, 15), CiphertextForm::Raw);
        assert_eq!(window.form_read(5, 16), CiphertextForm::Packed);
        assert_eq!(HotWindow(0).form_read(5, 6), CiphertextForm::Packed);
        assert_eq!(HotWindow(u64::MAX).form_read(0, u64::MAX), CiphertextForm::Raw);
    }
}
