//! Records to test with.

use cipherloom_primitives::{Address, B256, Computation, FheType, Handle, TypedOperation, U256, input::InputMetadata};
use cipherloom_store::{
    AdmittedInput, BlockRef, Finished, Grant, Grantee, LeaseRequest, LeasedTransaction, NamedHandle, RecordedBlock, RecordedTransaction,
    Store, StoredCiphertext,
};
use sha3::{Digest, Keccak256};

pub(crate) const CHAIN: u64 = 31337;

/// When the tests begin, in milliseconds.
pub(crate) const NOW_MS: u64 = 1_000_000;

/// How long test leases last, in milliseconds.
pub(crate) const LEASE_MS: u64 = 1_000;

pub(crate) fn handle(tag: u8) -> Handle {
    Handle::computed(B256::repeat_byte(tag), CHAIN, FheType::Uint64)
}

/// A block on the branch `branch`, whose parent is on the same branch.
pub(crate) fn block(number: u64, branch: u8) -> BlockRef {
    BlockRef {
        number,
        hash: block_hash(number, branch),
        parent_hash: block_hash(number.wrapping_sub(1), branch),
        timestamp: 1_700_000_000 + number,
    }
}

fn block_hash(number: u64, branch: u8) -> B256 {
    let mut hash = B256::repeat_byte(branch);
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

pub(crate) fn empty_block(number: u64) -> RecordedBlock {
    RecordedBlock {
        block: block(number, 1),
        transactions: Vec::new(),
    }
}

/// A transaction at `index` that computes `output` from `boundary` and grants it to an account.
pub(crate) fn transaction(index: u64, output: Handle, boundary: &[Handle]) -> RecordedTransaction {
    let operation = match boundary {
        [] => TypedOperation::TrivialEncrypt {
            value: U256::from(index),
            ty: FheType::Uint64,
        },
        inputs => TypedOperation::Sum {
            ty: FheType::Uint64,
            count: u8::try_from(inputs.len()).unwrap(),
        },
    };
    RecordedTransaction {
        hash: B256::from(U256::from(1000 + index)),
        index,
        computations: vec![Computation {
            operation,
            inputs: boundary.to_vec(),
            result: output,
        }],
        boundary: boundary.to_vec(),
        outputs: vec![output],
        grants: vec![Grant {
            handle: output,
            grantee: Grantee::Account(Address::repeat_byte(0xaa)),
        }],
        delegations: Vec::new(),
    }
}

pub(crate) async fn record(store: &dyn Store, number: u64, transactions: Vec<RecordedTransaction>) {
    store
        .record_blocks(
            CHAIN,
            &[RecordedBlock {
                block: block(number, 1),
                transactions,
            }],
        )
        .await
        .unwrap();
}

pub(crate) fn request(owner: &str, now_ms: u64, limit: u32) -> LeaseRequest {
    LeaseRequest {
        chain_id: CHAIN,
        owner: owner.to_owned(),
        now_ms,
        duration_ms: LEASE_MS,
        limit,
        first: Vec::new(),
    }
}

pub(crate) async fn lease_one(store: &dyn Store, owner: &str, now_ms: u64) -> Option<LeasedTransaction> {
    store
        .lease_transactions(&request(owner, now_ms, 1))
        .await
        .unwrap()
        .into_iter()
        .next()
}

pub(crate) fn named(name: &[u8], handle: Handle) -> NamedHandle {
    NamedHandle {
        name: name.to_vec(),
        handle,
    }
}

pub(crate) fn ciphertext(handle: Handle, content: u8) -> StoredCiphertext {
    let bytes = vec![content; 100];
    StoredCiphertext::raw(handle, B256::repeat_byte(0x77), keccak(&bytes), bytes)
}

pub(crate) fn keccak(bytes: &[u8]) -> B256 {
    B256::from_slice(&Keccak256::digest(bytes))
}

/// What the store has of [`ciphertext`] after a transaction of this block published it.
pub(crate) fn published(handle: Handle, content: u8, block: u64) -> StoredCiphertext {
    StoredCiphertext {
        created_block: Some(block),
        ..ciphertext(handle, content)
    }
}

/// The packed form of a ciphertext.
pub(crate) fn packed(raw: StoredCiphertext) -> StoredCiphertext {
    let bytes = vec![raw.bytes[0] ^ 0xff; 7];
    raw.packed(keccak(&bytes), bytes)
}

/// Records a transaction that computes `output` in a block and publishes a value for it.
pub(crate) async fn publish(store: &dyn Store, number: u64, output: Handle, content: u8) {
    publish_in(store, block(number, 1), output, content).await;
}

/// The same in a certain block.
pub(crate) async fn publish_in(store: &dyn Store, block: BlockRef, output: Handle, content: u8) {
    let recorded = RecordedBlock {
        block,
        transactions: vec![transaction(0, output, &[])],
    };
    store.record_blocks(CHAIN, &[recorded]).await.unwrap();
    let leased = lease_one(store, "worker", NOW_MS).await.unwrap();
    let done = Finished {
        ciphertexts: vec![ciphertext(output, content)],
        failures: Vec::new(),
    };
    store.finish_transaction(&leased.lease, &done).await.unwrap();
}

pub(crate) fn input(tag: u8) -> (AdmittedInput, Vec<Handle>) {
    let metadata = InputMetadata {
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        acl: Address::repeat_byte(3),
        chain_id: CHAIN,
    };
    let types = vec![FheType::Bool, FheType::Uint64];
    let list = vec![tag; 50];
    let handles = cipherloom_primitives::input::input_handles(&list, &types, metadata.acl, CHAIN).unwrap();
    (
        AdmittedInput {
            digest: cipherloom_primitives::input::list_digest(&list),
            metadata,
            types,
            list,
        },
        handles,
    )
}
