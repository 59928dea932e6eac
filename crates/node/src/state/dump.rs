//! The state as a list of accounts, for `anvil_dumpState` and `anvil_loadState`.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

use super::WorldState;
use crate::error::Result;

/// An account with its storage, in the form that anvil writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountDump {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    #[serde(default)]
    pub(crate) code: Bytes,
    #[serde(default)]
    pub(crate) storage: BTreeMap<B256, B256>,
}

impl WorldState {
    /// Returns all accounts.
    pub(crate) fn dump(&self) -> BTreeMap<Address, AccountDump> {
        let mut accounts = BTreeMap::new();
        self.accounts.for_each(&mut |account| {
            let mut storage = BTreeMap::new();
            account.storage.for_each(&mut |slot| {
                storage.insert(B256::from(slot.slot), B256::from(slot.value));
            });
            accounts.insert(
                account.address,
                AccountDump {
                    nonce: account.nonce,
                    balance: account.balance,
                    code: account.code.original_bytes(),
                    storage,
                },
            );
        });
        accounts
    }

    /// Replaces the dumped accounts, storage included; others stay.
    ///
    /// # Errors
    ///
    /// As [`Self::set_code`].
    pub(crate) fn load(&mut self, accounts: BTreeMap<Address, AccountDump>) -> Result<()> {
        for (address, dumped) in accounts {
            self.clear_storage(address);
            self.set_balance(address, dumped.balance);
            self.set_nonce(address, dumped.nonce);
            self.set_code(address, dumped.code)?;
            for (slot, value) in dumped.storage {
                self.set_storage(address, U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_dump_has_the_root_of_the_dumped_state() {
        let mut state = WorldState::default();
        for byte in 1..40 {
            let address = Address::repeat_byte(byte);
            state.set_balance(address, U256::from(byte));
            state.set_nonce(address, u64::from(byte) * 3);
            state.set_code(address, Bytes::from(vec![byte; usize::from(byte % 5)])).unwrap();
            for slot in 0..u64::from(byte % 7) {
                state.set_storage(address, U256::from(slot), U256::from(byte));
            }
        }
        let mut loaded = WorldState::default();
        loaded.set_storage(Address::repeat_byte(1), U256::MAX, U256::from(5));
        loaded.load(state.dump()).unwrap();
        assert_eq!(loaded.root_hash(), state.root_hash(), "slots that are not in the dump are gone");
        assert_eq!(loaded.dump(), state.dump());
    }
}
