//! A made-up chain of blocks with grants of the ACL, and nothing else.

use std::sync::{Arc, Mutex};

use alloy::{
    consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, proofs::calculate_receipt_root},
    primitives::{Address, B256, Bloom, LogData, U256, keccak256},
    rpc::types::{Log, TransactionReceipt},
    sol_types::SolEvent,
};
use cipherloom_chain::BlockEvents;
use cipherloom_contracts::{HostAddresses, bindings::ACL, development};
use cipherloom_primitives::{FheType, Handle};

pub(crate) const CHAIN_ID: u64 = 31337;

pub(crate) fn addresses() -> HostAddresses {
    development::addresses()
}

/// Random numbers from a seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True this often in a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MadeUpBlock {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) handles: Vec<Handle>,
    pub(crate) receipts: Vec<TransactionReceipt>,
}

impl MadeUpBlock {
    pub(crate) fn logs(&self) -> Vec<Log> {
        self.receipts.iter().flat_map(|receipt| receipt.logs().to_vec()).collect()
    }
}

/// The chain as its nodes see it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct MadeUpChain {
    blocks: Arc<Mutex<Vec<MadeUpBlock>>>,
}

impl MadeUpChain {
    /// A chain with this many blocks, made from a seed.
    pub(crate) fn new(length: u64, seed: u64) -> Self {
        let chain = Self::default();
        let mut random = Random::new(seed);
        (0..length).for_each(|_| chain.grow(&mut random));
        chain
    }

    /// Adds a block with up to three grants.
    pub(crate) fn grow(&self, random: &mut Random) {
        let grants = random.below(4);
        self.add(random.next(), grants);
    }

    pub(crate) fn add(&self, salt: u64, grants: u64) {
        let mut blocks = self.blocks.lock().unwrap();
        let number = u64::try_from(blocks.len()).unwrap();
        let parent = blocks.last().map_or(B256::ZERO, |block| block.hash);
        blocks.push(make(number, parent, salt, grants));
    }

    /// Replaces the newest blocks by as many others, or removes them.
    pub(crate) fn reorganise(&self, depth: usize, random: &mut Random, grow_again: bool) {
        let kept = self.height() + 1 - depth;
        self.blocks.lock().unwrap().truncate(kept);
        if grow_again {
            (0..depth).for_each(|_| self.grow(random));
        }
    }

    /// The number of the newest block.
    pub(crate) fn height(&self) -> usize {
        self.blocks.lock().unwrap().len() - 1
    }

    pub(crate) fn block(&self, number: u64) -> Option<MadeUpBlock> {
        self.blocks.lock().unwrap().get(usize::try_from(number).unwrap()).cloned()
    }

    pub(crate) fn block_with(&self, hash: B256) -> Option<MadeUpBlock> {
        self.blocks.lock().unwrap().iter().find(|block| block.hash == hash).cloned()
    }

    /// Every grant there is: block, its hash, handle.
    pub(crate) fn grants(&self) -> Vec<(u64, B256, Handle)> {
        let blocks = self.blocks.lock().unwrap();
        let grants = blocks
            .iter()
            .flat_map(|block| block.handles.iter().map(|handle| (block.header.number, block.hash, *handle)));
        grants.collect()
    }
}

/// The grants in recorded blocks, as [`MadeUpChain::grants`] has them.
pub(crate) fn grants_of(blocks: &[BlockEvents]) -> Vec<(u64, B256, Handle)> {
    let mut grants = Vec::new();
    for block in blocks {
        for transaction in &block.transactions {
            for grant in &transaction.grants {
                let cipherloom_chain::GrantEvent::Account { handle, .. } = grant else {
                    panic!("{grant:?}")
                };
                grants.push((block.number, block.hash, *handle));
            }
        }
    }
    grants
}

fn make(number: u64, parent: B256, salt: u64, grants: u64) -> MadeUpBlock {
    let mut seed = parent.to_vec();
    seed.extend_from_slice(&salt.to_be_bytes());
    let handles: Vec<Handle> = (0..grants)
        .map(|index| {
            Handle::computed(
                keccak256([seed.as_slice(), &index.to_be_bytes()].concat()),
                CHAIN_ID,
                FheType::Uint64,
            )
        })
        .collect();
    let plain: Vec<ReceiptEnvelope> = handles.iter().map(|handle| receipt(*handle)).collect();
    let header = Header {
        number,
        parent_hash: parent,
        timestamp: 1_700_000_000 + number,
        receipts_root: calculate_receipt_root(&plain),
        logs_bloom: plain.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom()),
        difficulty: U256::from(salt),
        ..Header::default()
    };
    let hash = header.hash_slow();
    let receipts = plain
        .into_iter()
        .enumerate()
        .map(|(index, receipt)| placed(receipt, &header, hash, index))
        .collect();
    MadeUpBlock {
        header,
        hash,
        handles,
        receipts,
    }
}

/// The receipt of a transaction that grants a handle.
fn receipt(handle: Handle) -> ReceiptEnvelope {
    let event = ACL::Allowed {
        caller: Address::repeat_byte(0xca),
        account: Address::repeat_byte(0xac),
        handle: handle.as_b256(),
    };
    let data: LogData = event.encode_log_data();
    let log = alloy::primitives::Log {
        address: addresses().acl,
        data,
    };
    ReceiptEnvelope::Eip1559(ReceiptWithBloom::from(Receipt {
        status: Eip658Value::Eip658(true),
        cumulative_gas_used: 21_000,
        logs: vec![log],
    }))
}

fn placed(receipt: ReceiptEnvelope, header: &Header, hash: B256, index: usize) -> TransactionReceipt {
    let index = u64::try_from(index).unwrap();
    let transaction_hash = keccak256([hash.as_slice(), &index.to_be_bytes()].concat());
    let inner = receipt.map_logs(|log| Log {
        inner: log,
        block_hash: Some(hash),
        block_number: Some(header.number),
        block_timestamp: Some(header.timestamp),
        transaction_hash: Some(transaction_hash),
        transaction_index: Some(index),
        log_index: Some(index),
        removed: false,
    });
    TransactionReceipt {
        inner,
        transaction_hash,
        transaction_index: Some(index),
        block_hash: Some(hash),
        block_number: Some(header.number),
        gas_used: 21_000,
        effective_gas_price: 1,
        blob_gas_used: None,
        blob_gas_price: None,
        from: Address::repeat_byte(0xca),
        to: Some(addresses().acl),
        contract_address: None,
    }
}
