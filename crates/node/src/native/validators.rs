//! Who signs the next block: what the contract's storage says after each block.
//!
//! The set is read from storage directly. Nothing is executed for it, so nothing a contract does can make it fail or take long, and anybody can
//! have it proved by `eth_getProof`. Each block's header carries the digest of the set that signs its successor.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256, address, b256};
use cipherloom_primitives::B256;
use cipherloom_primitives::quorum::{MAX_VALIDATORS, Validator, ValidatorSet};

use crate::state::WorldState;

/// The contract that keeps the set of validators.
pub const VALIDATOR_SET: Address = address!("000000000000000000000000000000000000005f");

/// Where the contract's list has its length.
const LENGTH_SLOT: U256 = U256::ZERO;

/// Where its entries begin: keccak-256 of [`LENGTH_SLOT`] as a word.
const ENTRIES: B256 = b256!("290decd9548b62a8d60345a988386fc84ba6bc95484008f6362f93160ef3e563");

/// Bits of an entry below its power.
const ADDRESS_BITS: usize = 160;

/// Reads the contract's set.
///
/// # Errors
///
/// What is wrong with it, in words: it cannot be the set of any block.
pub(crate) fn read(state: &WorldState) -> Result<ValidatorSet, String> {
    let length = state.storage(&VALIDATOR_SET, LENGTH_SLOT);
    let most = U256::from(MAX_VALIDATORS);
    if length > most {
        return Err(format!("{length} validators, at most {most} are possible"));
    }
    let members = (0..length.saturating_to::<u64>()).map(|index| {
        let entry = state.storage(&VALIDATOR_SET, U256::from_be_bytes(ENTRIES.0).wrapping_add(U256::from(index)));
        let power = entry >> ADDRESS_BITS;
        let address = Address::from_word(B256::from(entry));
        let power = u64::try_from(power).map_err(|_| format!("the power of {address} does not fit in 64 bits"))?;
        Ok(Validator { address, power })
    });
    ValidatorSet::new(members.collect::<Result<_, String>>()?).map_err(|error| error.to_string())
}

/// The slots that a contract with this set has: what a genesis file needs.
#[must_use]
pub fn validator_slots(set: &ValidatorSet) -> BTreeMap<B256, B256> {
    let entry = |(index, validator): (u64, &Validator)| {
        let slot = U256::from_be_bytes(ENTRIES.0).wrapping_add(U256::from(index));
        let value = (U256::from(validator.power) << ADDRESS_BITS) | U256::from_be_bytes(validator.address.into_word().0);
        (B256::from(slot), B256::from(value))
    };
    let length = (B256::from(LENGTH_SLOT), B256::from(U256::from(set.len())));
    (0..).zip(set.iter()).map(entry).chain([length]).collect()
}

/// The sets of all blocks, kept as the blocks from which a new one signs.
#[derive(Clone, Debug)]
pub(crate) struct SetHistory {
    by_first_block: BTreeMap<u64, ValidatorSet>,
}

impl SetHistory {
    /// Starts with who signs block 1.
    pub(crate) fn new(first: ValidatorSet) -> Self {
        Self {
            by_first_block: BTreeMap::from([(1, first)]),
        }
    }

    /// The set that signs a block; of one that does not exist yet, the last known set.
    pub(crate) fn at(&self, number: u64) -> Option<&ValidatorSet> {
        self.by_first_block.range(..=number).next_back().map(|(_, set)| set)
    }

    /// Notes who signs the block `number`, unless that has not changed.
    pub(crate) fn note(&mut self, number: u64, set: ValidatorSet) {
        if self.at(number) != Some(&set) {
            self.by_first_block.insert(number, set);
        }
    }

    /// Blocks with a number of at least `from` after which others sign than they were signed by, with who signs then.
    pub(crate) fn changes(&self, from: u64) -> impl Iterator<Item = (u64, &ValidatorSet)> {
        self.by_first_block
            .range(from.max(1).saturating_add(1)..)
            .map(|(first, set)| (first.saturating_sub(1), set))
    }
}

/// Who signs the block after one that left this state behind: the contract's set or, if that can be none, the one before.
pub(crate) fn after(state: &WorldState, before: &ValidatorSet) -> ValidatorSet {
    read(state).unwrap_or_else(|reason| {
        tracing::error!(reason, "the contract's set of validators is none, and the one before goes on");
        before.clone()
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::keccak256;

    use super::*;

    fn set(powers: &[u64]) -> ValidatorSet {
        let members = (1u8..).zip(powers).map(|(byte, power)| Validator {
            address: Address::repeat_byte(byte),
            power: *power,
        });
        ValidatorSet::new(members.collect()).unwrap()
    }

    fn state(set: &ValidatorSet) -> WorldState {
        let mut state = WorldState::default();
        for (slot, value) in validator_slots(set) {
            state.set_storage(VALIDATOR_SET, U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0));
        }
        state
    }

    #[test]
    fn a_written_set_is_read_back() {
        assert_eq!(ENTRIES, keccak256(LENGTH_SLOT.to_be_bytes::<32>()));
        let set = set(&[1, 7, 1 << 40]);
        assert_eq!(read(&state(&set)).unwrap(), set);
    }

    #[test]
    fn a_set_that_is_none_leaves_the_one_before() {
        let good = set(&[1, 2]);
        let mut state = state(&good);
        for length in [U256::ZERO, U256::from(3), U256::from(129), U256::MAX] {
            state.set_storage(VALIDATOR_SET, LENGTH_SLOT, length);
            assert!(read(&state).is_err(), "{length}");
            assert_eq!(after(&state, &good), good);
        }
    }

    #[test]
    fn changes_are_reported_at_the_block_that_made_them() {
        let mut history = SetHistory::new(set(&[1]));
        history.note(2, set(&[1]));
        history.note(5, set(&[1, 1]));
        history.note(6, set(&[1, 1]));
        history.note(9, set(&[2, 1]));
        let found = history.changes(0).map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(found, [4, 8]);
        assert_eq!(history.changes(5).count(), 1);
        assert_eq!(history.changes(4).count(), 2);
        assert_eq!((history.at(4), history.at(5)), (Some(&set(&[1])), Some(&set(&[1, 1]))));
        assert_eq!(history.at(0), None);
    }
}
