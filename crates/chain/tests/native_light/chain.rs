//! A made-up native chain: blocks with real hashes, tries and signatures.

use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, U256},
    rlp,
    signers::{SignerSync, local::PrivateKeySigner},
};
use cipherloom_chain::{NativeGenesis, manifest::Domains};
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::{
    FheType, Handle,
    ciphertext_state::{STORAGE_ACCOUNT, StoredMetadata, word_slot, words_of},
    quorum::{CertifiedHeader, CommitCertificate, CommitSignature, ConsensusDomain, Validator, ValidatorChange, ValidatorSet, VoteKind},
};

use crate::state::State;

pub(crate) const CHAIN_ID: u64 = 31338;
/// The time of block 0; each block is a second later.
pub(crate) const START: u64 = 1_800_000_000;

/// The key of a validator.
pub(crate) fn key(index: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(index)).unwrap()
}

/// The set of the validators with these keys, of equal power.
pub(crate) fn set(keys: &[u8]) -> ValidatorSet {
    let member = |index: &u8| Validator {
        address: key(*index).address(),
        power: 1,
    };
    ValidatorSet::new(keys.iter().map(member).collect()).unwrap()
}

pub(crate) fn addresses() -> HostAddresses {
    HostAddresses::of_deployer(Address::repeat_byte(0xde))
}

/// A block, and who signs the next one.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) certificate: CommitCertificate,
    pub(crate) next: Vec<u8>,
    pub(crate) state: State,
}

impl Block {
    pub(crate) fn certified(&self) -> CertifiedHeader {
        CertifiedHeader {
            header: rlp::encode(&self.header).into(),
            certificate: self.certificate.clone(),
        }
    }

    pub(crate) fn change(&self) -> ValidatorChange {
        ValidatorChange {
            header: rlp::encode(&self.header).into(),
            certificate: self.certificate.clone(),
            validators: set(&self.next),
        }
    }
}

/// A chain, from block 0 on.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) blocks: Vec<Block>,
}

impl Chain {
    pub(crate) fn new(validators: &[u8]) -> Self {
        let state = State::default();
        let header = Header {
            timestamp: START,
            extra_data: set(validators).digest().into(),
            state_root: state.root(),
            ..Header::default()
        };
        let hash = header.hash_slow();
        let block = Block {
            header,
            hash,
            certificate: CommitCertificate {
                height: 0,
                round: 0,
                block_hash: hash,
                signatures: vec![],
            },
            next: validators.to_vec(),
            state,
        };
        Self { blocks: vec![block] }
    }

    pub(crate) fn head(&self) -> &Block {
        self.blocks.last().unwrap()
    }

    pub(crate) fn domain(&self) -> ConsensusDomain {
        ConsensusDomain {
            chain_id: CHAIN_ID,
            genesis_hash: self.blocks[0].hash,
        }
    }

    /// The genesis, as it would be read from a file.
    pub(crate) fn genesis(&self) -> NativeGenesis {
        NativeGenesis {
            chain_id: CHAIN_ID,
            hash: self.blocks[0].hash,
            validators: set(&self.blocks[0].next),
            contracts: addresses(),
            domains: Domains {
                gateway_chain_id: 10901,
                decryption: Address::repeat_byte(0xd1),
                input_verification: Address::repeat_byte(0xd2),
            },
            key_set_id: B256::repeat_byte(0x5e),
        }
    }

    /// Adds a block that nobody signs yet.
    pub(crate) fn draft(&self, change: impl FnOnce(&mut State), next: &[u8]) -> Block {
        let parent = self.head();
        let mut state = parent.state.clone();
        change(&mut state);
        let header = Header {
            number: parent.header.number + 1,
            parent_hash: parent.hash,
            timestamp: parent.header.timestamp + 1,
            state_root: state.root(),
            extra_data: set(next).digest().into(),
            ..Header::default()
        };
        let hash = header.hash_slow();
        Block {
            certificate: CommitCertificate {
                height: header.number,
                round: 1,
                block_hash: hash,
                signatures: vec![],
            },
            header,
            hash,
            next: next.to_vec(),
            state,
        }
    }

    /// Has validators sign a block.
    pub(crate) fn signed(&self, mut block: Block, signers: &[u8]) -> Block {
        let header = &block.header;
        let digest = self
            .domain()
            .vote_digest(VoteKind::Precommit, header.number, block.certificate.round, Some(block.hash));
        let signature = |index: &u8| CommitSignature {
            validator: key(*index).address(),
            signature: key(*index).sign_hash_sync(&digest).unwrap().as_bytes(),
        };
        block.certificate.signatures = signers.iter().map(signature).collect();
        block
    }

    /// Adds a block that all validators sign.
    pub(crate) fn extend(&mut self, change: impl FnOnce(&mut State), next: &[u8]) {
        let signers = self.head().next.clone();
        let block = self.signed(self.draft(change, next), &signers);
        self.blocks.push(block);
    }

    /// Adds blocks in which nothing happens.
    pub(crate) fn idle(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let next = self.head().next.clone();
            self.extend(|_| {}, &next);
        }
    }
}

pub(crate) fn handle(index: u8, ty: FheType) -> Handle {
    Handle::computed(B256::repeat_byte(index), CHAIN_ID, ty)
}

/// Stores a ciphertext, perhaps under another type than its handle's.
pub(crate) fn store(state: &mut State, handle: Handle, ty: FheType, bytes: &[u8]) {
    let metadata = StoredMetadata::of_ciphertext(ty, bytes).unwrap();
    state.set(STORAGE_ACCOUNT, handle.as_b256(), metadata.encode());
    for (index, word) in (0..).zip(words_of(bytes)) {
        state.set(STORAGE_ACCOUNT, word_slot(handle.as_b256(), index), word);
    }
}

/// Bytes that differ everywhere.
pub(crate) fn ciphertext(length: usize) -> Bytes {
    (0..length).map(|index| U256::from(index * 7 + 1).byte(0)).collect()
}
