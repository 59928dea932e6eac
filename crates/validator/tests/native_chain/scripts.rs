//! Two contracts that tests make any computation with: one that makes several calls of a script, and one that stores words.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    primitives::{Address, Bytes},
    rpc::types::TransactionRequest,
    sol,
};
use cipherloom_node::{
    AccountsConfig, DevChain, DevChainConfig, ManualClock,
    native::{Genesis, GenesisAccount},
};
use serde::Deserialize;

sol!(Batch, "../../contracts/test/artifacts/Batch.json");

/// Executes scripts ([`Batch`]).
pub(crate) const BATCH: Address = Address::repeat_byte(0xba);

/// Stores its second word at the slot that its first word names.
pub(crate) const STORE: Address = Address::repeat_byte(0x57);

/// Code of [`STORE`]: `sstore(calldataload(0), calldataload(32))`.
const STORE_CODE: [u8; 8] = [0x60, 0x20, 0x35, 0x60, 0x00, 0x35, 0x55, 0x00];

#[derive(Deserialize)]
struct Dump {
    accounts: BTreeMap<Address, GenesisAccount>,
}

/// Adds them to a chain, which begins a while ago: so that blocks can have any distance.
pub(crate) fn with_scripts(mut genesis: Genesis) -> Genesis {
    let creator = Address::repeat_byte(0xcc);
    let chain = DevChain::new(DevChainConfig {
        accounts: AccountsConfig {
            count: 0,
            extra_funded: vec![creator],
            ..AccountsConfig::default()
        },
        clock: Arc::new(ManualClock::new(1_750_000_000)),
        ..DevChainConfig::default()
    })
    .unwrap();
    let request = TransactionRequest {
        from: Some(creator),
        input: Batch::BYTECODE.clone().into(),
        ..TransactionRequest::default()
    };
    let hash = chain.send_unsigned_transaction(request).unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    let created = block.receipts[index].contract_address.unwrap();
    let mut dump: Dump = serde_json::from_slice(&chain.dump_state().unwrap()).unwrap();
    genesis.alloc.insert(BATCH, dump.accounts.remove(&created).unwrap());
    let store = GenesisAccount {
        code: Bytes::from_static(&STORE_CODE),
        ..GenesisAccount::default()
    };
    genesis.alloc.insert(STORE, store);
    genesis.timestamp -= 10_000;
    genesis.seal().unwrap()
}
