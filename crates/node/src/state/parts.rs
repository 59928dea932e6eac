//! Accounts one after the other, to be written to a file and read from it: neither ever needs all of them beside the state.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use revm::state::Bytecode;

use super::trie::Trie;
use super::{Account, StorageSlot, WorldState, set_slot};

/// An account as it is in the state.
pub(crate) struct AccountParts<'a> {
    pub(crate) address: Address,
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code: &'a Bytecode,
    storage: &'a Trie<StorageSlot>,
}

impl AccountParts<'_> {
    /// Shows `visit` the slots that are not zero, with their values.
    pub(crate) fn for_each_slot(&self, visit: &mut dyn FnMut(U256, U256)) {
        self.storage.for_each(&mut |slot| visit(slot.slot, slot.value));
    }
}

impl WorldState {
    /// Shows `visit` all accounts.
    pub(crate) fn for_each_account(&self, visit: &mut dyn FnMut(AccountParts<'_>)) {
        self.accounts.for_each(&mut |account| {
            visit(AccountParts {
                address: account.address,
                nonce: account.nonce,
                balance: account.balance,
                code: &account.code,
                storage: &account.storage,
            });
        });
    }

    /// Puts an account in as it is, with its slots.
    ///
    /// # Errors
    ///
    /// Those of `slots`, and code that can be none.
    pub(crate) fn insert_account(
        &mut self,
        address: Address,
        nonce: u64,
        balance: U256,
        code: Bytes,
        slots: impl Iterator<Item = Result<(U256, U256), String>>,
    ) -> Result<(), String> {
        let code = Bytecode::new_raw_checked(code).map_err(|error| error.to_string())?;
        let mut storage = Trie::default();
        for slot in slots {
            let (slot, value) = slot?;
            set_slot(&mut storage, slot, value);
        }
        let account = Account {
            address,
            nonce,
            balance,
            code_hash: code.hash_slow(),
            code,
            storage,
        };
        let key: B256 = keccak256(address);
        self.accounts.insert(key, account);
        Ok(())
    }
}
