//! Storage proofs of everything a decryption request depends on, in one parcel.
//!
//! Whoever has a node makes it ([`AclEvidence::gather`]), anybody carries it, and who decrypts verifies it ([`AclEvidence::facts`]) against the hash of its
//! block, which must be known from elsewhere. Nothing in it is believed: the header must have the hash, the account must stand under the header's
//! state root, and each slot under the account's storage root.
//!
//! **Bytes.** Version (1 byte); header; account; nodes; path of the account; slots with value and path. Lengths and counts are 32-bit
//! little-endian numbers before what they count. Paths name nodes by their index, because the proofs of one contract share most of their nodes.

use std::collections::{BTreeSet, HashMap};

use alloy::{
    consensus::Header,
    primitives::keccak256,
    rlp::{Decodable, Encodable},
    rpc::types::EIP1186AccountProofResponse,
};
use alloy_trie::TrieAccount;
use cipherloom_primitives::{AclFacts, AclQuestion, Address, B256, Bytes, U256, acl::MAX_ACL_QUESTIONS};

use crate::{
    error::ChainError,
    host_chain::HostChain,
    proof::{MAX_PROOF_NODES, answer_in_slot, invalid, slot_of_answer, verify_account, verify_slot},
};

/// The most bytes of a parcel.
pub const MAX_EVIDENCE_BYTES: usize = 4 << 20;

/// The version of the bytes.
const VERSION: u8 = 1;
/// The most bytes of a header: Ethereum's have about 600.
const MAX_HEADER_BYTES: usize = 4096;
/// The most bytes of an account: nonce, balance and two hashes.
const MAX_ACCOUNT_BYTES: usize = 128;
/// The most bytes of a node: a branch of 16 hashes has 532.
const MAX_NODE_BYTES: usize = 1024;
/// How many slots nodes are asked for at once.
const SLOTS_PER_CALL: usize = 256;

/// Storage proofs of the access-control contract at one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEvidence {
    header: Header,
    hash: B256,
    account: TrieAccount,
    account_path: Vec<u32>,
    slots: HashMap<B256, ProvenSlot>,
    nodes: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ProvenSlot {
    value: U256,
    path: Vec<u32>,
}

/// Bytes are no [`AclEvidence`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// There are too many.
    #[error("it has {0} bytes; at most {MAX_EVIDENCE_BYTES} are read")]
    TooLong(usize),
    /// They are of a version that is not known.
    #[error("its version is {0}, not {VERSION}")]
    Version(u8),
    /// They end too early, go on too long, or count more than there is.
    #[error("its {0} cannot be read")]
    Malformed(&'static str),
}

impl AclEvidence {
    /// Has a node prove the answers to questions at the block with this header.
    ///
    /// # Errors
    /// As all reads, [`ChainError::Proof`] if what the node says proves nothing, [`ChainError::BlockGone`] if it does not have the block.
    pub async fn gather(host: &HostChain, header: &Header, questions: &BTreeSet<AclQuestion>) -> Result<Self, ChainError> {
        let acl = host.addresses().acl;
        let hash = header.hash_slow();
        if questions.len() > MAX_ACL_QUESTIONS {
            return Err(invalid(acl, "too many questions"));
        }
        let slots: Vec<B256> = questions.iter().map(slot_of_answer).collect();
        let mut parcel = Parcel::default();
        // A parcel without questions still proves that the contract is there.
        let mut chunks = slots.chunks(SLOTS_PER_CALL).collect::<Vec<_>>();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let mut account = None;
        for chunk in chunks {
            let proof = host.storage_proof(acl, chunk, hash).await?;
            account = Some(parcel.add(acl, chunk, proof)?);
        }
        let (account, account_path) = account.ok_or_else(|| invalid(acl, "it is about nothing"))?;
        let evidence = Self {
            header: header.clone(),
            hash,
            account,
            account_path,
            slots: parcel.slots,
            nodes: parcel.nodes,
        };
        // A node that lies is noticed here, where there may be another one.
        evidence.facts(acl, questions)?;
        Ok(evidence)
    }

    /// Returns the number of the block.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.header.number
    }

    /// Returns the header of the block.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the hash of the header. Whether a block of the chain has it is not known here.
    #[must_use]
    pub const fn block_hash(&self) -> B256 {
        self.hash
    }

    /// Returns the answers that the parcel proves, given that the chain has its block.
    ///
    /// # Errors
    /// [`ChainError::Proof`] if one question is not answered, or an answer not proven.
    pub fn facts(&self, acl: Address, questions: &BTreeSet<AclQuestion>) -> Result<AclFacts, ChainError> {
        verify_account(self.header.state_root, acl, &self.account, &self.path(acl, &self.account_path)?)?;
        let answer = |question: &AclQuestion| {
            let slot = slot_of_answer(question);
            let Some(proven) = self.slots.get(&slot) else {
                return Err(invalid(acl, format!("it says nothing about {question:?}")));
            };
            let nodes = self.path(acl, &proven.path)?;
            verify_slot(self.account.storage_root, acl, slot, proven.value, &nodes)?;
            Ok((*question, answer_in_slot(question, acl, proven.value)?))
        };
        questions.iter().map(answer).collect()
    }

    /// The nodes of a path; copies share their bytes.
    fn path(&self, acl: Address, indices: &[u32]) -> Result<Vec<Bytes>, ChainError> {
        let node = |index: &u32| usize::try_from(*index).ok().and_then(|index| self.nodes.get(index)).cloned();
        let nodes: Option<Vec<Bytes>> = indices.iter().map(node).collect();
        nodes.ok_or_else(|| invalid(acl, "a path names a node that is not there"))
    }

    /// Writes the bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let mut header = Vec::new();
        self.header.encode(&mut header);
        put_bytes(&mut out, &header);
        put_bytes(&mut out, &alloy::rlp::encode(self.account));
        put_count(&mut out, self.nodes.len());
        self.nodes.iter().for_each(|node| put_bytes(&mut out, node));
        put_path(&mut out, &self.account_path);
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|(slot, _)| **slot);
        put_count(&mut out, slots.len());
        for (slot, proven) in slots {
            out.extend_from_slice(slot.as_slice());
            out.extend_from_slice(&proven.value.to_be_bytes::<32>());
            put_path(&mut out, &proven.path);
        }
        out
    }

    /// Reads the bytes. What they claim is not checked yet.
    ///
    /// # Errors
    /// [`EvidenceError`] if they are not of the form, or above a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        let (version, rest) = bytes.split_first().ok_or(EvidenceError::Malformed("version"))?;
        if *version != VERSION {
            return Err(EvidenceError::Version(*version));
        }
        let mut reader = Reader(rest);
        let header_bytes = reader.bytes("header", MAX_HEADER_BYTES)?;
        let header: Header = whole(header_bytes).ok_or(EvidenceError::Malformed("header"))?;
        let account = whole(reader.bytes("account", MAX_ACCOUNT_BYTES)?).ok_or(EvidenceError::Malformed("account"))?;
        // Each has at least its length.
        let count = reader.count("nodes", 4)?;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(Bytes::copy_from_slice(reader.bytes("nodes", MAX_NODE_BYTES)?));
        }
        let account_path = reader.path()?;
        let count = reader.count("slots", 68)?;
        if count > MAX_ACL_QUESTIONS {
            return Err(EvidenceError::Malformed("slots"));
        }
        let mut slots = HashMap::with_capacity(count);
        for _ in 0..count {
            let slot = B256::from(reader.word("slots")?);
            let value = U256::from_be_bytes(reader.word("slots")?);
            slots.insert(
                slot,
                ProvenSlot {
                    value,
                    path: reader.path()?,
                },
            );
        }
        if !reader.0.is_empty() {
            return Err(EvidenceError::Malformed("end"));
        }
        Ok(Self {
            // The header may be written in more than one way; the hash is that of these bytes.
            hash: keccak256(header_bytes),
            header,
            account,
            account_path,
            slots,
            nodes,
        })
    }
}

/// What was gathered so far.
#[derive(Default)]
struct Parcel {
    nodes: Vec<Bytes>,
    indices: HashMap<Bytes, u32>,
    slots: HashMap<B256, ProvenSlot>,
}

impl Parcel {
    fn add(&mut self, acl: Address, asked: &[B256], proof: EIP1186AccountProofResponse) -> Result<(TrieAccount, Vec<u32>), ChainError> {
        if proof.address != acl || proof.storage_proof.len() != asked.len() {
            return Err(invalid(acl, "it is about something else"));
        }
        let account_path = self.path(acl, proof.account_proof)?;
        for (slot, storage) in asked.iter().zip(proof.storage_proof) {
            let path = self.path(acl, storage.proof)?;
            let value = storage.value;
            self.slots.insert(*slot, ProvenSlot { value, path });
        }
        let account = TrieAccount {
            nonce: proof.nonce,
            balance: proof.balance,
            storage_root: proof.storage_hash,
            code_hash: proof.code_hash,
        };
        Ok((account, account_path))
    }

    fn path(&mut self, acl: Address, nodes: Vec<Bytes>) -> Result<Vec<u32>, ChainError> {
        if nodes.len() > MAX_PROOF_NODES || nodes.iter().any(|node| node.len() > MAX_NODE_BYTES) {
            return Err(invalid(acl, "it is longer than any path"));
        }
        let mut index = |node: Bytes| -> Result<u32, ChainError> {
            if let Some(index) = self.indices.get(&node) {
                return Ok(*index);
            }
            let index = u32::try_from(self.nodes.len()).map_err(|_| invalid(acl, "it has too many nodes"))?;
            self.nodes.push(node.clone());
            self.indices.insert(node, index);
            Ok(index)
        };
        nodes.into_iter().map(&mut index).collect()
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // What is written was counted in 32 bits when it was gathered or read.
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_path(out: &mut Vec<u8>, path: &[u32]) {
    put_count(out, path.len());
    path.iter().for_each(|index| out.extend_from_slice(&index.to_le_bytes()));
}

/// Reads a value that takes all of the bytes.
fn whole<T: Decodable>(mut bytes: &[u8]) -> Option<T> {
    let value = T::decode(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], EvidenceError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(EvidenceError::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, what: &'static str) -> Result<u32, EvidenceError> {
        let bytes = self.take(what, 4)?;
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| EvidenceError::Malformed(what))
    }

    /// Reads how many follow; each takes at least `least` bytes, so there cannot be more than those that are left have room for.
    fn count(&mut self, what: &'static str, least: usize) -> Result<usize, EvidenceError> {
        let count = usize::try_from(self.number(what)?).map_err(|_| EvidenceError::Malformed(what))?;
        if count > self.0.len() / least {
            return Err(EvidenceError::Malformed(what));
        }
        Ok(count)
    }

    fn bytes(&mut self, what: &'static str, most: usize) -> Result<&'a [u8], EvidenceError> {
        let length = self.count(what, 1)?;
        if length > most {
            return Err(EvidenceError::Malformed(what));
        }
        self.take(what, length)
    }

    fn word(&mut self, what: &'static str) -> Result<[u8; 32], EvidenceError> {
        self.take(what, 32)?.try_into().map_err(|_| EvidenceError::Malformed(what))
    }

    fn path(&mut self) -> Result<Vec<u32>, EvidenceError> {
        let count = self.count("path", 4)?;
        if count > MAX_PROOF_NODES {
            return Err(EvidenceError::Malformed("path"));
        }
        (0..count).map(|_| self.number("path")).collect()
    }
}
