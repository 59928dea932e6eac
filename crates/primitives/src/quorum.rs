//! What more than two thirds of a native chain's validators sign, and how anybody checks it.
//!
//! Validators vote with EIP-712 signatures, so that contracts, light clients and the KMS check certificates as validators do. The domain has the chain's id
//! and, as its salt, the hash of block 0: a vote of one chain is nothing on another one, not even on one that was started again under the same id.
//!
//! * [`ValidatorSet`]: who votes, and with which power. Its [digest](ValidatorSet::digest) stands in the header of the block before the one that the set signs.
//! * [`ConsensusDomain`]: what is signed: votes and proposals.
//! * [`CommitCertificate`]: a block's hash with precommits of more than two thirds of the power.
//! * [`CertifiedHeader`] and [`ValidatorChange`]: what nodes tell light clients.
//!
//! **Followed sets.** Block 0 names the set that signs block 1; the header of block N, which the set of N signed, names the set of N + 1. So whoever knows block 0
//! needs only the blocks at which the set changed to know the present one.

use std::{borrow::Cow, collections::BTreeSet};

use alloy_primitives::{Address, B256, Bytes, FixedBytes, Keccak256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use serde::{Deserialize, Serialize};

use crate::eip712::recover_signer;

/// The most validators of a set: each signs each block, and everybody checks all signatures.
pub const MAX_VALIDATORS: usize = 128;

/// The most voting power of a set: JSON has no larger whole numbers everywhere, and three times of it fit 64 bits.
pub const MAX_TOTAL_POWER: u64 = 1 << 53;

/// The length of a signature: r, s and v of 27 or 28.
pub const SIGNATURE_BYTES: usize = 65;

/// Keeps the digest of a set from being the digest of anything else.
const SET_TAG: &[u8] = b"CIPHERLOOM-VALIDATORS\x01";

sol! {
    /// A validator has seen a proposal it would commit, or (block of zeros) none in time.
    #[derive(Debug)]
    struct Prevote {
        uint64 height;
        uint32 round;
        bytes32 block;
    }

    /// A validator commits to a block, or (block of zeros) goes on to the next round.
    #[derive(Debug)]
    struct Precommit {
        uint64 height;
        uint32 round;
        bytes32 block;
    }

    /// The round's proposer proposes a block, perhaps one that got enough prevotes in an earlier round.
    #[derive(Debug)]
    struct Proposal {
        uint64 height;
        uint32 round;
        bool proposedBefore;
        uint32 validRound;
        bytes32 block;
    }
}

/// One who votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Validator {
    /// The Ethereum address of its signing key.
    pub address: Address,
    /// How much its vote counts; at least 1.
    pub power: u64,
}

/// All who vote on a block: sorted by address, 1 to 128 of them, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Validator>", into = "Vec<Validator>")]
pub struct ValidatorSet {
    members: Vec<Validator>,
    total: u64,
}

/// Something is no set of validators, no certificate, or no certificate of this set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// A set without members cannot agree on anything.
    #[error("a set needs at least one validator")]
    NoValidators,
    /// There are more than are allowed.
    #[error("{0} validators are too many; at most {MAX_VALIDATORS} can be in a set")]
    TooManyValidators(usize),
    /// An address is there twice.
    #[error("validator {0} is there twice")]
    DuplicateValidator(Address),
    /// An address of zeros has no key.
    #[error("the address of zeros cannot be a validator")]
    ZeroAddress,
    /// A power is zero, or all together are too large.
    #[error("the power of each validator must be at least 1, and at most 2^53 together")]
    Power,
    /// The certificate is for the block of zeros, which is how a vote for no block is written.
    #[error("a certificate needs a block")]
    NoBlock,
    /// A signature is by somebody who is not in the set.
    #[error("{0} signed but is not a validator at this height")]
    NotAValidator(Address),
    /// Somebody signed twice.
    #[error("{0} signed twice")]
    SignedTwice(Address),
    /// A signature is not the named validator's over this block, height and round.
    #[error("the signature of {0} is wrong")]
    WrongSignature(Address),
    /// Too few signed.
    #[error("validators with {power} of {total} voting power signed; more than two thirds must")]
    NotEnough {
        /// The power of those who signed.
        power: u64,
        /// The power of all.
        total: u64,
    },
    /// Bytes end too early, go on too long, or count more than there is.
    #[error("its {0} cannot be read")]
    Malformed(&'static str),
}

impl ValidatorSet {
    /// Sorts validators into a set.
    ///
    /// # Errors
    /// [`QuorumError`] if there are none or too many, one is there twice or has the address of zeros, or powers are out of their limits.
    pub fn new(mut members: Vec<Validator>) -> Result<Self, QuorumError> {
        if members.is_empty() {
            return Err(QuorumError::NoValidators);
        }
        if members.len() > MAX_VALIDATORS {
            return Err(QuorumError::TooManyValidators(members.len()));
        }
        members.sort_unstable_by_key(|member| member.address);
        let mut total = 0u64;
        let mut previous = None;
        for member in &members {
            if member.address.is_zero() {
                return Err(QuorumError::ZeroAddress);
            }
            if previous == Some(member.address) {
                return Err(QuorumError::DuplicateValidator(member.address));
            }
            previous = Some(member.address);
            total = total.checked_add(member.power).ok_or(QuorumError::Power)?;
            if member.power == 0 || total > MAX_TOTAL_POWER {
                return Err(QuorumError::Power);
            }
        }
        Ok(Self { members, total })
    }

    /// Returns the members in the order of their addresses.
    pub fn iter(&self) -> std::slice::Iter<'_, Validator> {
        self.members.iter()
    }

    /// Returns the member at a place in the order of the addresses.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Validator> {
        self.members.get(index)
    }

    /// Returns how many members there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns false: no set is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Says whether an address is a member's.
    #[must_use]
    pub fn contains(&self, address: &Address) -> bool {
        self.power_of(address).is_some()
    }

    /// Returns the power of a member.
    #[must_use]
    pub fn power_of(&self, address: &Address) -> Option<u64> {
        let place = self.members.binary_search_by_key(address, |member| member.address).ok()?;
        self.members.get(place).map(|member| member.power)
    }

    /// Returns the power of all members; at most 2^53.
    #[must_use]
    pub const fn total_power(&self) -> u64 {
        self.total
    }

    /// Says whether this much power is more than two thirds of all.
    #[must_use]
    pub fn has_quorum(&self, power: u64) -> bool {
        u128::from(power) * 3 > u128::from(self.total) * 2
    }

    /// Returns the Keccak hash of a tag and of each member's address (20 bytes) and power (8 bytes, the most significant one first).
    #[must_use]
    pub fn digest(&self) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(SET_TAG);
        for member in &self.members {
            hasher.update(member.address);
            hasher.update(member.power.to_be_bytes());
        }
        hasher.finalize()
    }

    /// Writes the bytes: for each member its address and its power, as in [`Self::digest`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let member = |member: &Validator| [member.address.as_slice(), &member.power.to_be_bytes()].concat();
        self.members.iter().flat_map(member).collect()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`QuorumError::Malformed`] if they are not of the form or not in order; and as [`Self::new`].
    pub fn decode(bytes: &[u8]) -> Result<Self, QuorumError> {
        const MEMBER: usize = 28;
        if bytes.len() > MAX_VALIDATORS * MEMBER {
            return Err(QuorumError::TooManyValidators(bytes.len() / MEMBER));
        }
        let mut reader = Reader(bytes);
        let mut members = Vec::with_capacity(bytes.len() / MEMBER);
        while !reader.0.is_empty() {
            let address = Address::from(reader.array::<20>("address")?);
            let power = u64::from_be_bytes(reader.array("power")?);
            members.push(Validator { address, power });
        }
        // One set has one form, so that bytes can be compared and hashed.
        if !members.is_sorted_by_key(|member| member.address) {
            return Err(QuorumError::Malformed("order"));
        }
        Self::new(members)
    }
}

impl TryFrom<Vec<Validator>> for ValidatorSet {
    type Error = QuorumError;

    fn try_from(members: Vec<Validator>) -> Result<Self, QuorumError> {
        Self::new(members)
    }
}

impl From<ValidatorSet> for Vec<Validator> {
    fn from(set: ValidatorSet) -> Self {
        set.members
    }
}

impl<'a> IntoIterator for &'a ValidatorSet {
    type Item = &'a Validator;
    type IntoIter = std::slice::Iter<'a, Validator>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Where votes are valid: one chain since its block 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsensusDomain {
    /// The id of the chain.
    pub chain_id: u64,
    /// The hash of its block 0.
    pub genesis_hash: B256,
}

/// The two votes of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteKind {
    /// The first one: the proposal is good.
    Prevote,
    /// The second one: more than two thirds found it good, so commit it.
    Precommit,
}

impl ConsensusDomain {
    /// Returns the digest that a validator signs to vote for a block, or for none (which is written as a block of zeros).
    #[must_use]
    pub fn vote_digest(&self, kind: VoteKind, height: u64, round: u32, block: Option<B256>) -> B256 {
        let block = block.unwrap_or_default();
        let domain = self.eip712_domain();
        match kind {
            VoteKind::Prevote => Prevote { height, round, block }.eip712_signing_hash(&domain),
            VoteKind::Precommit => Precommit { height, round, block }.eip712_signing_hash(&domain),
        }
    }

    /// Returns the digest that a proposer signs; with the round in which the block already got enough prevotes, if there was one.
    #[must_use]
    pub fn proposal_digest(&self, height: u64, round: u32, valid_round: Option<u32>, block: B256) -> B256 {
        let proposal = Proposal {
            height,
            round,
            proposedBefore: valid_round.is_some(),
            validRound: valid_round.unwrap_or_default(),
            block,
        };
        proposal.eip712_signing_hash(&self.eip712_domain())
    }

    /// Returns the EIP-712 domain: `Cipherloom consensus`, version 1, the chain's id, and the hash of block 0 as the salt.
    #[must_use]
    pub fn eip712_domain(&self) -> Eip712Domain {
        Eip712Domain {
            name: Some(Cow::Borrowed("Cipherloom consensus")),
            version: Some(Cow::Borrowed("1")),
            chain_id: Some(U256::from(self.chain_id)),
            verifying_contract: None,
            salt: Some(self.genesis_hash),
        }
    }
}

/// One validator's precommit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitSignature {
    /// Who signed.
    pub validator: Address,
    /// The signature: r, s and v of 27 or 28; s in the lower half.
    #[serde(with = "hex_signature")]
    pub signature: [u8; SIGNATURE_BYTES],
}

/// A block's hash with precommits for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitCertificate {
    /// The number of the block.
    pub height: u64,
    /// The round in which they were given.
    pub round: u32,
    /// The hash of the block's header.
    pub block_hash: B256,
    /// The precommits.
    pub signatures: Vec<CommitSignature>,
}

impl CommitCertificate {
    /// Checks that validators of a set with more than two thirds of its power committed to the block. One signature that is wrong, foreign or there twice
    /// refuses all, so that nobody can make others spend time on signatures that do not count.
    ///
    /// # Errors
    /// [`QuorumError`], naming the validator whose signature is not as it must be.
    pub fn check(&self, domain: &ConsensusDomain, set: &ValidatorSet) -> Result<(), QuorumError> {
        if self.block_hash.is_zero() {
            return Err(QuorumError::NoBlock);
        }
        let mut signers = BTreeSet::new();
        let mut power = 0;
        // What costs little comes first.
        for CommitSignature { validator, .. } in &self.signatures {
            power += set.power_of(validator).ok_or(QuorumError::NotAValidator(*validator))?;
            if !signers.insert(*validator) {
                return Err(QuorumError::SignedTwice(*validator));
            }
        }
        if !set.has_quorum(power) {
            let total = set.total_power();
            return Err(QuorumError::NotEnough { power, total });
        }
        let digest = domain.vote_digest(VoteKind::Precommit, self.height, self.round, Some(self.block_hash));
        let wrong = |signed: &&CommitSignature| recover_signer(digest, &signed.signature) != Some(signed.validator);
        match self.signatures.iter().find(wrong) {
            None => Ok(()),
            Some(signed) => Err(QuorumError::WrongSignature(signed.validator)),
        }
    }

    /// Writes the bytes: height (8), round (4), hash (32), then validator (20) and signature (65) of each; numbers have their most significant byte first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(44 + self.signatures.len() * 85);
        out.extend_from_slice(&self.height.to_be_bytes());
        out.extend_from_slice(&self.round.to_be_bytes());
        out.extend_from_slice(self.block_hash.as_slice());
        for signed in &self.signatures {
            out.extend_from_slice(signed.validator.as_slice());
            out.extend_from_slice(&signed.signature);
        }
        out
    }

    /// Reads the bytes. What they claim is not checked.
    ///
    /// # Errors
    /// [`QuorumError::Malformed`] if they are not of the form, [`QuorumError::TooManyValidators`] if they hold more signatures than a set has members.
    pub fn decode(bytes: &[u8]) -> Result<Self, QuorumError> {
        let mut reader = Reader(bytes);
        let height = u64::from_be_bytes(reader.array("height")?);
        let round = u32::from_be_bytes(reader.array("round")?);
        let block_hash = B256::from(reader.array("block hash")?);
        let count = reader.0.len() / 85;
        if count > MAX_VALIDATORS {
            return Err(QuorumError::TooManyValidators(count));
        }
        let mut signatures = Vec::with_capacity(count);
        while !reader.0.is_empty() {
            signatures.push(CommitSignature {
                validator: Address::from(reader.array::<20>("validator")?),
                signature: reader.array("signature")?,
            });
        }
        Ok(Self {
            height,
            round,
            block_hash,
            signatures,
        })
    }
}

/// A block's header with the certificate for it: the answer to `cipherloom_getCertificate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertifiedHeader {
    /// The header's RLP. Block 0 has a certificate without signatures, which nobody accepts.
    pub header: Bytes,
    /// What the validators of the block's height signed.
    pub certificate: CommitCertificate,
}

/// A block after which others sign than did before: an item of the answer to `cipherloom_validatorChanges`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidatorChange {
    /// The header's RLP. Its extra data are the digest of the set that signs the next block.
    pub header: Bytes,
    /// What the validators of the block's own height signed.
    pub certificate: CommitCertificate,
    /// Who signs the next block and those after it, until the next change.
    pub validators: ValidatorSet,
}

/// Signatures in JSON are hexadecimal text.
mod hex_signature {
    use super::{Deserialize, FixedBytes, SIGNATURE_BYTES, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(signature: &[u8; SIGNATURE_BYTES], serializer: S) -> Result<S::Ok, S::Error> {
        FixedBytes(*signature).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; SIGNATURE_BYTES], D::Error> {
        FixedBytes::<SIGNATURE_BYTES>::deserialize(deserializer).map(|signature| signature.0)
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], QuorumError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(QuorumError::Malformed(what))?;
        self.0 = rest;
        Ok(*taken)
    }
}
