//! Proposed blocks of the current height, which are not decided yet.
//!
//! A block comes apart from its proposal, signed by its maker, the proposer of the round it was made in. Whoever passes it on, or proposes it again
//! in a later round, hands on what the maker signed. So a validator computes only for proposers, and a proposer can make it compute only as often
//! as it finds peers to hand its inventions on: each peer may bring two blocks per round, and honest ones bring only those they found valid.

use std::collections::{BTreeMap, HashMap, HashSet};

use alloy::primitives::{B256, keccak256};

use crate::{codec::SignedBlock, network::PeerId};

/// Most blocks that are kept.
const MAX_BLOCKS: usize = 32;
/// Most blocks of one round from one peer: one, and another if the proposer contradicts itself.
const MAX_PER_PEER: usize = 2;
/// Most peers of whom a block of the next height is kept.
const MAX_EARLY: usize = 16;

/// What is known about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// Nobody asked the application yet, or it could not tell.
    Unknown,
    /// The application is at it.
    Asked,
    /// It is what its hash says, and valid.
    Valid,
    /// It is not.
    Invalid,
}

/// Names a block by its hash and by what is in it: a maker may lie about the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    pub(crate) hash: B256,
    content: B256,
}

impl BlockKey {
    pub(crate) fn of(block: &SignedBlock) -> Self {
        Self {
            hash: block.hash,
            content: keccak256(&block.block),
        }
    }
}

#[derive(Debug)]
struct Kept {
    block: SignedBlock,
    knowledge: Knowledge,
    logged: bool,
    /// Orders blocks by when they came.
    number: u64,
}

/// The blocks.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    kept: HashMap<BlockKey, Kept>,
    brought: HashMap<(PeerId, u32), HashSet<BlockKey>>,
    early: BTreeMap<PeerId, SignedBlock>,
    number: u64,
}

impl Blocks {
    /// Forgets everything but blocks that came too early, which are returned.
    pub(crate) fn next_height(&mut self) -> Vec<(PeerId, SignedBlock)> {
        let early = std::mem::take(&mut self.early);
        *self = Self::default();
        early.into_iter().collect()
    }

    /// Keeps a block of the next height till then, one of each peer.
    pub(crate) fn keep_early(&mut self, peer: PeerId, block: SignedBlock) {
        if self.early.len() < MAX_EARLY || self.early.contains_key(&peer) {
            self.early.insert(peer, block);
        }
    }

    /// Whether a peer may bring this block of a round.
    pub(crate) fn may_bring(&mut self, peer: PeerId, round: u32, key: BlockKey) -> bool {
        let brought = self.brought.entry((peer, round)).or_default();
        brought.contains(&key) || (brought.len() < MAX_PER_PEER && brought.insert(key))
    }

    /// Adds a block. False if it is there already or if there is no room; `needed` is kept in any case.
    pub(crate) fn add(&mut self, key: BlockKey, block: SignedBlock, knowledge: Knowledge, needed: Option<B256>) -> bool {
        if self.kept.contains_key(&key) {
            return false;
        }
        if self.kept.len() >= MAX_BLOCKS {
            let dispensable = |(key, kept): &(&BlockKey, &Kept)| kept.knowledge != Knowledge::Asked && Some(key.hash) != needed;
            let rank = |(_, kept): &(&BlockKey, &Kept)| (kept.knowledge == Knowledge::Valid, kept.number);
            let Some(oldest) = self.kept.iter().filter(dispensable).min_by_key(rank).map(|(key, _)| *key) else {
                return false;
            };
            self.kept.remove(&oldest);
        }
        self.number += 1;
        let kept = Kept {
            block,
            knowledge,
            logged: false,
            number: self.number,
        };
        self.kept.insert(key, kept);
        true
    }

    pub(crate) fn get(&self, key: &BlockKey) -> Option<(&SignedBlock, Knowledge)> {
        self.kept.get(key).map(|kept| (&kept.block, kept.knowledge))
    }

    pub(crate) fn learn(&mut self, key: &BlockKey, knowledge: Knowledge) {
        if let Some(kept) = self.kept.get_mut(key) {
            kept.knowledge = knowledge;
        }
    }

    /// The valid block of a hash.
    pub(crate) fn valid(&self, hash: B256) -> Option<&SignedBlock> {
        self.of(hash)
            .find(|kept| kept.knowledge == Knowledge::Valid)
            .map(|kept| &kept.block)
    }

    /// Blocks that claim a hash and might be it.
    pub(crate) fn candidates(&self, hash: B256) -> Vec<BlockKey> {
        let claims = self
            .kept
            .iter()
            .filter(|(key, kept)| key.hash == hash && kept.knowledge != Knowledge::Invalid);
        claims.map(|(key, _)| *key).collect()
    }

    /// Blocks that the application could not tell about.
    pub(crate) fn unknown(&self) -> Vec<BlockKey> {
        let mut unknown: Vec<_> = self.kept.iter().filter(|(_, kept)| kept.knowledge == Knowledge::Unknown).collect();
        unknown.sort_by_key(|(_, kept)| kept.number);
        unknown.into_iter().map(|(key, _)| *key).collect()
    }

    /// Takes the valid block of a hash for the log, unless it is there already.
    pub(crate) fn take_for_log(&mut self, hash: B256) -> Option<SignedBlock> {
        let kept = self
            .kept
            .iter_mut()
            .find(|(key, kept)| key.hash == hash && kept.knowledge == Knowledge::Valid)?
            .1;
        (!std::mem::replace(&mut kept.logged, true)).then(|| kept.block.clone())
    }

    /// Notes that a block is in the log.
    pub(crate) fn is_logged(&mut self, key: &BlockKey) {
        if let Some(kept) = self.kept.get_mut(key) {
            kept.logged = true;
        }
    }

    fn of(&self, hash: B256) -> impl Iterator<Item = &Kept> {
        self.kept.iter().filter(move |(key, _)| key.hash == hash).map(|(_, kept)| kept)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Bytes;

    use super::*;
    use crate::context::Signature;

    fn block(number: u8, content: u8) -> SignedBlock {
        SignedBlock {
            height: 1,
            round: 0,
            hash: B256::repeat_byte(number),
            block: Bytes::from(vec![content; 4]),
            signature: Signature([0; 65]),
        }
    }

    #[test]
    fn a_false_block_does_not_stand_in_the_way_of_the_one_it_claims_to_be() {
        let mut blocks = Blocks::default();
        let (fake, real) = (block(1, 9), block(1, 1));
        let (fake_key, real_key) = (BlockKey::of(&fake), BlockKey::of(&real));
        assert!(blocks.add(fake_key, fake, Knowledge::Unknown, None));
        blocks.learn(&fake_key, Knowledge::Invalid);
        assert!(blocks.add(real_key, real.clone(), Knowledge::Unknown, None));
        assert_eq!(blocks.candidates(real.hash), [real_key]);
        blocks.learn(&real_key, Knowledge::Valid);
        assert_eq!(blocks.valid(real.hash), Some(&real));
        assert_eq!(blocks.take_for_log(real.hash), Some(real.clone()));
        assert_eq!(blocks.take_for_log(real.hash), None, "once is enough");
    }

    #[test]
    fn one_peer_brings_two_blocks_of_a_round_and_others_still_theirs() {
        let mut blocks = Blocks::default();
        let (liar, honest) = (PeerId::repeat_byte(1), PeerId::repeat_byte(2));
        let brought: Vec<bool> = (0..4)
            .map(|content| blocks.may_bring(liar, 0, BlockKey::of(&block(1, content))))
            .collect();
        assert_eq!(brought, [true, true, false, false]);
        assert!(blocks.may_bring(liar, 0, BlockKey::of(&block(1, 0))), "the same again is no other");
        assert!(blocks.may_bring(honest, 0, BlockKey::of(&block(1, 3))));
    }

    #[test]
    fn what_is_needed_survives_a_flood() {
        let mut blocks = Blocks::default();
        let needed = block(0xff, 0);
        let key = BlockKey::of(&needed);
        blocks.add(key, needed.clone(), Knowledge::Valid, None);
        for number in 0..100 {
            let other = block(number, 1);
            blocks.add(BlockKey::of(&other), other, Knowledge::Valid, Some(needed.hash));
        }
        assert!(blocks.valid(needed.hash).is_some());
        assert_eq!(blocks.kept.len(), MAX_BLOCKS);
    }
}
