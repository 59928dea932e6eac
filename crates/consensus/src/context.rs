//! The words of the consensus library in ours: heights, hashes, members and votes.
//!
//! Blocks travel apart from proposals, so that what is proposed, voted for and decided is a hash.

use std::{convert::Infallible, fmt};

use alloy::primitives::{Address, B256, keccak256};
use arc_malachitebft_core_types::{
    self as malachite, Context, LinearTimeouts, NilOrVal, Round, SignedExtension, SigningScheme, VoteType, VotingPower,
};
use cipherloom_primitives::quorum::{SIGNATURE_BYTES, ValidatorSet};

/// Ties the types together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainContext;

/// A block's height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's address, which is also what its signatures are checked against: they give the signer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(pub(crate) Address);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Address for Name {}

/// A block's hash: what is voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockHash(pub(crate) B256);

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Value for BlockHash {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

/// A recoverable signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature(pub(crate) [u8; SIGNATURE_BYTES]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// Signatures over the digests of [`cipherloom_primitives::quorum::ConsensusDomain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recoverable;

impl SigningScheme for Recoverable {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = Name;
    /// The library signs nothing by itself.
    type PrivateKey = Infallible;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        bytes.try_into().map(Signature).map_err(|_| "a signature has 65 bytes")
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<Name, &'static str> {
        Address::try_from(bytes).map(Name).map_err(|_| "an address has 20 bytes")
    }

    fn encode_public_key(key: &Name) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    name: Name,
    power: u64,
}

impl malachite::Validator<ChainContext> for Member {
    fn address(&self) -> &Name {
        &self.name
    }

    fn public_key(&self) -> &Name {
        &self.name
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// The validators of a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    /// By address, as in the set they come from.
    list: Vec<Member>,
    total: u64,
}

impl From<&ValidatorSet> for Members {
    fn from(set: &ValidatorSet) -> Self {
        let list = set.iter().map(|validator| Member {
            name: Name(validator.address),
            power: validator.power,
        });
        Self {
            list: list.collect(),
            total: set.total_power(),
        }
    }
}

impl malachite::ValidatorSet<ChainContext> for Members {
    fn count(&self) -> usize {
        self.list.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.total
    }

    fn get_by_address(&self, address: &Name) -> Option<&Member> {
        self.list.iter().find(|member| member.name == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.list.get(index)
    }
}

/// Returns the position in the set of who proposes in a round.
///
/// The validators of a height take turns in an order that is drawn anew for each height, each place in it with chances in proportion to the voting
/// power of those who are left: who has twice the power proposes twice as often, and in `n` rounds every one of `n` validators has its turn. The
/// order can be known long before; that it is drawn and not simply rotated keeps it fair for all distributions of power.
fn proposer_position(powers: &[u64], height: u64, round: u32) -> usize {
    let mut left: Vec<(usize, u64)> = powers.iter().copied().enumerate().collect();
    let turn = usize::try_from(round).unwrap_or(usize::MAX) % powers.len().max(1);
    for place in 0..=turn {
        let total: u64 = left.iter().map(|(_, power)| power).sum();
        let mut point = draw(height, place) % total.max(1);
        let chosen = left.iter().position(|(_, power)| {
            let here = point < *power;
            point = point.saturating_sub(*power);
            here
        });
        let Some(chosen) = chosen else { break };
        let (position, _) = left.remove(chosen);
        if place == turn {
            return position;
        }
    }
    0
}

/// Draws a number for a place in a height's order. Powers sum to at most 2^53, so that the remainder of 64 bits favours nobody noticeably.
fn draw(height: u64, place: usize) -> u64 {
    let mut seed = b"Cipherloom proposer".to_vec();
    seed.extend_from_slice(&height.to_be_bytes());
    seed.extend_from_slice(&(place as u64).to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = keccak256(&seed).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Returns who proposes in a round of a height.
#[must_use]
pub fn proposer(set: &ValidatorSet, height: u64, round: u32) -> Address {
    let powers: Vec<u64> = set.iter().map(|validator| validator.power).collect();
    let position = proposer_position(&powers, height, round);
    set.get(position).map_or(Address::ZERO, |validator| validator.address)
}

/// A vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<BlockHash>,
    pub(crate) validator: Name,
}

impl malachite::Vote<ChainContext> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockHash> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockHash> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Name {
        &self.validator
    }

    fn extension(&self) -> Option<&SignedExtension<ChainContext>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<ChainContext>> {
        None
    }

    fn extend(self, _: SignedExtension<ChainContext>) -> Self {
        self
    }
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) valid_round: Round,
    pub(crate) value: BlockHash,
    pub(crate) validator: Name,
}

impl malachite::Proposal<ChainContext> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockHash {
        &self.value
    }

    fn take_value(self) -> BlockHash {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.valid_round
    }

    fn validator_address(&self) -> &Name {
        &self.validator
    }
}

/// Blocks do not travel in parts of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPart {}

impl malachite::ProposalPart<ChainContext> for NoPart {
    fn is_first(&self) -> bool {
        match *self {}
    }

    fn is_last(&self) -> bool {
        match *self {}
    }
}

impl Context for ChainContext {
    type Address = Name;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Member;
    type ValidatorSet = Members;
    type Timeouts = LinearTimeouts;
    type Value = BlockHash;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Recoverable;

    fn select_proposer<'a>(&self, set: &'a Members, height: Height, round: Round) -> &'a Member {
        let powers: Vec<u64> = set.list.iter().map(|member| member.power).collect();
        let position = proposer_position(&powers, height.0, round.as_u32().unwrap_or(0));
        set.list
            .get(position)
            .or_else(|| set.list.first())
            .expect("a validator set has at least one member")
    }

    fn new_proposal(&self, height: Height, round: Round, value: BlockHash, valid_round: Round, validator: Name) -> Proposal {
        Proposal {
            height,
            round,
            valid_round,
            value,
            validator,
        }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<BlockHash>, validator: Name) -> Vote {
        Vote {
            kind: VoteType::Prevote,
            height,
            round,
            value,
            validator,
        }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<BlockHash>, validator: Name) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height,
            round,
            value,
            validator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_validator_has_its_turn_in_as_many_rounds_as_there_are_validators() {
        let powers = [1, 50, 3, 1_000, 7];
        for height in 0..50 {
            let mut turns: Vec<usize> = (0..5).map(|round| proposer_position(&powers, height, round)).collect();
            assert_eq!(proposer_position(&powers, height, 5), turns.first().copied().unwrap_or_default());
            turns.sort_unstable();
            assert_eq!(turns, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn first_rounds_go_by_voting_power() {
        let powers = [1, 3];
        let second = (0..4_000).filter(|height| proposer_position(&powers, *height, 0) == 1).count();
        assert!((2_850..3_150).contains(&second), "{second} of 4000 instead of about 3000");
    }
}
