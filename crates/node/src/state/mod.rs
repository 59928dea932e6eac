//! Accounts, code and storage: a value that can be kept, compared and thrown away.
//!
//! [`WorldState`] is a persistent trie of accounts, each with a persistent trie of storage slots.
//! A clone is a snapshot. revm reads it through [`StateView`] and hands back its changes, which
//! [`WorldState::apply`] writes.

mod dump;
mod parts;
pub(crate) mod trie;

use std::convert::Infallible;

use alloy::consensus::constants::EMPTY_ROOT_HASH;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::rlp::{Encodable, Header};
use revm::DatabaseRef;
use revm::state::{AccountInfo, Bytecode, EvmState};

pub(crate) use self::dump::AccountDump;
pub(crate) use self::parts::AccountParts;
use self::trie::{Trie, TrieValue};
use crate::error::{NodeError, Result};

/// One account of the world state.
///
/// The tries know hashes only; accounts and slots carry what was hashed, so that a state can be dumped.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    address: Address,
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
    pub(crate) code: Bytecode,
    pub(crate) storage: Trie<StorageSlot>,
}

impl Account {
    fn new(address: Address) -> Self {
        let info = AccountInfo::default();
        Self {
            address,
            nonce: 0,
            balance: U256::ZERO,
            code_hash: info.code_hash,
            code: Bytecode::default(),
            storage: Trie::default(),
        }
    }

    fn info(&self) -> AccountInfo {
        AccountInfo::new(self.balance, self.nonce, self.code_hash, self.code.clone())
    }

    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code.is_empty()
    }
}

impl TrieValue for Account {
    fn encode_value(&self, out: &mut Vec<u8>) {
        let storage_root = self.storage.root_hash();
        let payload_length = self.nonce.length() + self.balance.length() + storage_root.length() + self.code_hash.length();
        Header {
            list: true,
            payload_length,
        }
        .encode(out);
        self.nonce.encode(out);
        self.balance.encode(out);
        storage_root.encode(out);
        self.code_hash.encode(out);
    }
}

/// One storage slot that is not zero.
#[derive(Clone, Debug)]
pub(crate) struct StorageSlot {
    slot: U256,
    value: U256,
}

impl TrieValue for StorageSlot {
    fn encode_value(&self, out: &mut Vec<u8>) {
        self.value.encode(out);
    }
}

/// The state of all accounts after a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorldState {
    accounts: Trie<Account>,
}

impl WorldState {
    pub(crate) fn root_hash(&self) -> B256 {
        self.accounts.root_hash()
    }

    pub(crate) fn account(&self, address: &Address) -> Option<&Account> {
        self.accounts.get(&keccak256(address))
    }

    pub(crate) fn nonce(&self, address: &Address) -> u64 {
        self.account(address).map_or(0, |account| account.nonce)
    }

    pub(crate) fn balance(&self, address: &Address) -> U256 {
        self.account(address).map_or(U256::ZERO, |account| account.balance)
    }

    pub(crate) fn code(&self, address: &Address) -> Bytes {
        self.account(address)
            .map_or_else(Bytes::new, |account| account.code.original_bytes())
    }

    pub(crate) fn storage(&self, address: &Address, slot: U256) -> U256 {
        self.account(address)
            .and_then(|account| account.storage.get(&hashed_slot(slot)))
            .map_or(U256::ZERO, |found| found.value)
    }

    /// Proof of the account, from the state root.
    pub(crate) fn account_proof(&self, address: &Address) -> Vec<Bytes> {
        self.accounts.proof(&keccak256(address))
    }

    /// Proof of one storage slot, from the account's storage root.
    pub(crate) fn storage_proof(&self, address: &Address, slot: U256) -> Vec<Bytes> {
        self.account(address)
            .map_or_else(Vec::new, |account| account.storage.proof(&hashed_slot(slot)))
    }

    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) {
        self.edit(address, |account| account.balance = balance);
    }

    pub(crate) fn set_nonce(&mut self, address: Address, nonce: u64) {
        self.edit(address, |account| account.nonce = nonce);
    }

    /// Replaces the code of an account.
    ///
    /// # Errors
    ///
    /// Bytes that start like an EIP-7702 delegation but are none cannot be code.
    pub(crate) fn set_code(&mut self, address: Address, code: Bytes) -> Result<()> {
        let code = Bytecode::new_raw_checked(code).map_err(|error| NodeError::InvalidParams(format!("code: {error}")))?;
        self.edit(address, |account| {
            account.code_hash = code.hash_slow();
            account.code = code;
        });
        Ok(())
    }

    pub(crate) fn set_storage(&mut self, address: Address, slot: U256, value: U256) {
        self.edit(address, |account| set_slot(&mut account.storage, slot, value));
    }

    /// Removes all storage of an account, for the `state` override of a call.
    pub(crate) fn clear_storage(&mut self, address: Address) {
        self.edit(address, |account| account.storage = Trie::default());
    }

    fn edit(&mut self, address: Address, change: impl FnOnce(&mut Account)) {
        let key = keccak256(address);
        let mut account = self.accounts.get(&key).cloned().unwrap_or_else(|| Account::new(address));
        change(&mut account);
        if account.is_empty() && account.storage.root_hash() == EMPTY_ROOT_HASH {
            self.accounts.remove(&key);
        } else {
            self.accounts.insert(key, account);
        }
    }

    /// Writes what one transaction changed (EIP-161: touched and empty accounts disappear).
    pub(crate) fn apply(&mut self, changes: EvmState) {
        for (address, changed) in changes {
            if !changed.is_touched() {
                continue;
            }
            let key = keccak256(address);
            if changed.is_selfdestructed() || changed.is_empty() {
                self.accounts.remove(&key);
                continue;
            }
            let mut account = if changed.is_created() {
                None
            } else {
                self.accounts.get(&key).cloned()
            }
            .unwrap_or_else(|| Account::new(address));
            account.nonce = changed.info.nonce;
            account.balance = changed.info.balance;
            if account.code_hash != changed.info.code_hash
                && let Some(code) = changed.info.code
            {
                account.code_hash = changed.info.code_hash;
                account.code = code;
            }
            for (slot, value) in changed.storage {
                if value.is_changed() {
                    set_slot(&mut account.storage, slot, value.present_value);
                }
            }
            self.accounts.insert(key, account);
        }
    }
}

fn hashed_slot(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}

fn set_slot(storage: &mut Trie<StorageSlot>, slot: U256, value: U256) {
    let key = hashed_slot(slot);
    if value.is_zero() {
        storage.remove(&key);
    } else {
        storage.insert(key, StorageSlot { slot, value });
    }
}

/// Blocks that the BLOCKHASH opcode can look back.
pub(crate) const BLOCKHASH_WINDOW: usize = 256;

/// Hashes of up to 256 blocks for the BLOCKHASH opcode, the last one being the parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentHashes {
    /// Number of the first block in [`Self::hashes`].
    pub(crate) first: u64,
    pub(crate) hashes: Vec<B256>,
}

impl RecentHashes {
    /// Adds the hash of the block after the last one; the oldest makes room for it.
    pub(crate) fn push(&mut self, hash: B256) {
        self.hashes.push(hash);
        if self.hashes.len() > BLOCKHASH_WINDOW {
            self.hashes.remove(0);
            self.first = self.first.saturating_add(1);
        }
    }

    fn get(&self, number: u64) -> B256 {
        number
            .checked_sub(self.first)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.hashes.get(offset).copied())
            .unwrap_or_default()
    }
}

/// What revm reads: one state and the recent block hashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateView<'a> {
    pub(crate) state: &'a WorldState,
    pub(crate) hashes: &'a RecentHashes,
}

impl DatabaseRef for StateView<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.state.account(&address).map(Account::info))
    }

    fn code_by_hash_ref(&self, _code_hash: B256) -> Result<Bytecode, Infallible> {
        // `basic_ref` always returns the code with the account, so revm has nothing left to ask.
        Ok(Bytecode::default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.state.storage(&address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        Ok(self.hashes.get(number))
    }
}

#[cfg(test)]
mod tests {
    use alloy::consensus::TrieAccount;
    use alloy::consensus::proofs::{state_root_unhashed, storage_root_unhashed};

    use super::*;

    #[test]
    fn state_root_equals_the_reference_computation() {
        let mut state = WorldState::default();
        let mut model = Vec::new();
        for seed in 1u64..40 {
            let address = Address::from_word(keccak256(seed.to_be_bytes()));
            state.set_balance(address, U256::from(seed) * U256::from(1_000_000_007u64));
            state.set_nonce(address, seed % 3);
            let slots = (0..seed % 5)
                .map(|slot| (U256::from(slot), U256::from(seed + slot)))
                .collect::<Vec<_>>();
            for (slot, value) in &slots {
                state.set_storage(address, *slot, *value);
            }
            let code = if seed % 4 == 0 {
                Bytes::from(vec![0x60, u8::try_from(seed).unwrap()])
            } else {
                Bytes::new()
            };
            state.set_code(address, code.clone()).unwrap();
            let storage_root = storage_root_unhashed(slots.into_iter().map(|(slot, value)| (B256::from(slot), value)));
            let balance = U256::from(seed) * U256::from(1_000_000_007u64);
            model.push((
                address,
                TrieAccount {
                    nonce: seed % 3,
                    balance,
                    storage_root,
                    code_hash: keccak256(&code),
                },
            ));
        }
        assert_eq!(state.root_hash(), state_root_unhashed(model));
    }

    #[test]
    fn a_clone_keeps_the_old_values() {
        let mut state = WorldState::default();
        let address = Address::repeat_byte(7);
        state.set_storage(address, U256::from(1), U256::from(10));
        let before = state.clone();
        state.set_storage(address, U256::from(1), U256::from(11));
        assert_eq!(before.storage(&address, U256::from(1)), U256::from(10));
        assert_eq!(state.storage(&address, U256::from(1)), U256::from(11));
    }

    #[test]
    fn malformed_delegation_code_is_refused() {
        let mut state = WorldState::default();
        assert!(state.set_code(Address::ZERO, Bytes::from_static(&[0xef, 0x01])).is_err());
    }
}
