//! State tries, with proofs.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    rlp,
};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::ProofRetainer};
use serde_json::{Value, json};

/// What an account has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) storage: BTreeMap<B256, U256>,
    pub(crate) code: Vec<u8>,
}

/// All accounts after a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct State(pub(crate) BTreeMap<Address, Account>);

impl State {
    pub(crate) fn set(&mut self, account: Address, slot: B256, value: U256) {
        self.0.entry(account).or_default().storage.insert(slot, value);
    }

    pub(crate) fn root(&self) -> B256 {
        prove(&self.leaves(), &[]).0
    }

    /// Answers `eth_getProof`.
    pub(crate) fn proof(&self, address: Address, slots: &[B256]) -> Value {
        let path = keccak256(address);
        let (_, account_proofs) = prove(&self.leaves(), &[path]);
        let found = self.0.get(&address);
        let leaves = found.map(storage_leaves).unwrap_or_default();
        let keys: Vec<B256> = slots.iter().map(keccak256).collect();
        let (_, storage_proofs) = prove(&leaves, &keys);
        let value = |slot: &B256| found.and_then(|account| account.storage.get(slot)).copied().unwrap_or_default();
        let storage: Vec<Value> = slots
            .iter()
            .zip(storage_proofs)
            .map(|(slot, proof)| json!({"key": slot, "value": value(slot), "proof": proof}))
            .collect();
        let account = found.map(trie_account);
        json!({
            "address": address,
            "balance": "0x0",
            "nonce": if account.is_some() { "0x1" } else { "0x0" },
            "codeHash": account.map_or(B256::ZERO, |account| account.code_hash),
            "storageHash": account.map_or(B256::ZERO, |account| account.storage_root),
            "accountProof": account_proofs[0],
            "storageProof": storage,
        })
    }

    fn leaves(&self) -> BTreeMap<B256, Vec<u8>> {
        self.0
            .iter()
            .map(|(address, account)| (keccak256(address), rlp::encode(trie_account(account))))
            .collect()
    }
}

fn trie_account(account: &Account) -> TrieAccount {
    TrieAccount {
        nonce: 1,
        balance: U256::ZERO,
        storage_root: prove(&storage_leaves(account), &[]).0,
        code_hash: keccak256(&account.code),
    }
}

fn storage_leaves(account: &Account) -> BTreeMap<B256, Vec<u8>> {
    let set = account.storage.iter().filter(|(_, value)| !value.is_zero());
    set.map(|(slot, value)| (keccak256(slot), rlp::encode(value))).collect()
}

/// Returns the root of a trie, and the path to each of the keys.
fn prove(leaves: &BTreeMap<B256, Vec<u8>>, keys: &[B256]) -> (B256, Vec<Vec<Bytes>>) {
    let paths: Vec<Nibbles> = keys.iter().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(paths.clone()));
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes();
    let proof = |path: &Nibbles| nodes.matching_nodes_sorted(path).into_iter().map(|(_, node)| node).collect();
    (root, paths.iter().map(proof).collect())
}
