//! Catching up: who is how far, whom to ask for which decided blocks, and what came.
//!
//! Peers tell their heights. What they tell decides only whom to ask: a decided block proves itself by its certificate and by what the application
//! finds in it. A peer that does not deliver what it claims to have is left alone for a while, twice as long each time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{application::DecidedBlock, codec::MAX_RANGE, network::PeerId};

/// Blocks that wait to be applied; no more are asked for while there are this many.
const ENOUGH: usize = 8;
/// Most peers whose heights are remembered.
const MAX_PEERS: usize = 512;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Peer {
    height: u64,
    /// Not to be asked before.
    not_before: Option<Instant>,
    pause: Duration,
    /// When it was asked last, to take turns.
    asked: Option<Instant>,
}

/// A range of decided blocks to ask a peer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) peer: PeerId,
    pub(crate) from: u64,
    pub(crate) count: u32,
}

/// What is known about peers and got from them.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    peers: BTreeMap<PeerId, Peer>,
    asking: Option<Range>,
    /// Blocks at consecutive heights.
    got: VecDeque<(PeerId, DecidedBlock)>,
    behind_since: Option<Instant>,
}

impl Sync {
    pub(crate) fn connected(&mut self, peer: PeerId) {
        if self.peers.len() < MAX_PEERS {
            self.peers.entry(peer).or_insert(Peer {
                height: 0,
                not_before: None,
                pause: FIRST_PAUSE,
                asked: None,
            });
        }
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// Takes what a peer says about its height.
    pub(crate) fn heard(&mut self, peer: PeerId, height: u64) {
        self.connected(peer);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.height = height;
        }
    }

    /// The largest height that any peer claims.
    pub(crate) fn best(&self) -> u64 {
        self.peers.values().map(|peer| peer.height).max().unwrap_or_default()
    }

    /// Whether blocks are there, or on their way if those count.
    pub(crate) fn is_under_way(&self, asked_counts: bool) -> bool {
        !self.got.is_empty() || (asked_counts && self.asking.is_some())
    }

    /// Whom to ask for what, if anything is missing after `head`. Who takes part in deciding the next block gives it `grace` to come by itself.
    pub(crate) fn next_question(&mut self, head: u64, grace: Duration, now: Instant) -> Option<Range> {
        let askable = |peer: &Peer| peer.not_before.is_none_or(|until| until <= now);
        // What peers claim that did not deliver makes nobody hurry.
        let best = self
            .peers
            .values()
            .filter(|peer| askable(peer))
            .map(|peer| peer.height)
            .max()
            .unwrap_or_default();
        if best <= head {
            self.behind_since = None;
            return None;
        }
        let behind_since = *self.behind_since.get_or_insert(now);
        let only_next = best == head + 1;
        if self.asking.is_some() || self.got.len() >= ENOUGH || (only_next && now < behind_since + grace) {
            return None;
        }
        let from = self.got.back().map_or(head, |(_, last)| last.certificate.height) + 1;
        let able = |(_, peer): &(&PeerId, &mut Peer)| peer.height >= from && askable(peer);
        let (peer, known) = self.peers.iter_mut().filter(able).min_by_key(|(_, peer)| peer.asked)?;
        known.asked = Some(now);
        let count = u32::try_from(known.height - from + 1).unwrap_or(MAX_RANGE).min(MAX_RANGE);
        let range = Range { peer: *peer, from, count };
        self.asking = Some(range);
        Some(range)
    }

    /// Takes an answer. An error says what no honest peer sends.
    pub(crate) fn answered(&mut self, range: Range, decided: Vec<DecidedBlock>, now: Instant) -> Result<(), &'static str> {
        self.asking = None;
        let heights = decided.iter().map(|decided| decided.certificate.height);
        if decided.len() > range.count as usize || !heights.eq((range.from..).take(decided.len())) {
            self.pause(range.peer, now);
            return Err("decided blocks that were not asked for");
        }
        if decided.is_empty() {
            // It may have thrown old blocks away.
            self.pause(range.peer, now);
            return Ok(());
        }
        if let Some(peer) = self.peers.get_mut(&range.peer) {
            peer.pause = FIRST_PAUSE;
        }
        // The head may have moved meanwhile, or blocks been thrown away.
        if self.got.back().is_none_or(|(_, last)| last.certificate.height + 1 == range.from) {
            self.got.extend(decided.into_iter().map(|decided| (range.peer, decided)));
        }
        Ok(())
    }

    /// Notes that a question got no answer.
    pub(crate) fn unanswered(&mut self, range: Range, now: Instant) {
        self.asking = None;
        self.pause(range.peer, now);
    }

    /// Takes the block after `head`, if it is there.
    pub(crate) fn next_block(&mut self, head: u64) -> Option<(PeerId, DecidedBlock)> {
        while let Some((_, decided)) = self.got.front() {
            let height = decided.certificate.height;
            if height == head + 1 {
                return self.got.pop_front();
            }
            if height > head + 1 {
                self.got.clear();
                return None;
            }
            self.got.pop_front();
        }
        None
    }

    /// Puts a block back that could not be applied yet.
    pub(crate) fn put_back(&mut self, peer: PeerId, decided: DecidedBlock) {
        self.got.push_front((peer, decided));
    }

    /// Throws away what came: a block in it was not what it should be.
    pub(crate) fn refused(&mut self, peer: PeerId, now: Instant) {
        self.got.clear();
        self.pause(peer, now);
    }

    fn pause(&mut self, peer: PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.not_before = Some(now + peer.pause);
            peer.pause = (peer.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes};
    use cipherloom_primitives::quorum::CommitCertificate;

    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn block(height: u64) -> DecidedBlock {
        DecidedBlock {
            block: Bytes::new(),
            certificate: CommitCertificate {
                height,
                round: 0,
                block_hash: B256::repeat_byte(1),
                signatures: Vec::new(),
            },
            sidecar: Bytes::new(),
        }
    }

    #[test]
    fn a_peer_that_does_not_deliver_is_left_alone_for_longer_each_time() {
        let (liar, honest) = (PeerId::repeat_byte(1), PeerId::repeat_byte(2));
        let mut now = Instant::now();
        let mut sync = Sync::default();
        sync.heard(liar, 1 << 60);
        let mut asked = Vec::new();
        let start = now;
        while now < start + Duration::from_secs(20) {
            if let Some(range) = sync.next_question(0, NONE, now) {
                assert_eq!(
                    range,
                    Range {
                        peer: liar,
                        from: 1,
                        count: MAX_RANGE
                    }
                );
                asked.push((now - start).as_secs());
                sync.unanswered(range, now);
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(asked, [0, 1, 3, 7, 15]);
        sync.heard(honest, 5);
        let range = sync.next_question(0, NONE, now).expect("somebody who is there");
        assert_eq!(
            range,
            Range {
                peer: honest,
                from: 1,
                count: 5
            }
        );
    }

    #[test]
    fn blocks_that_were_not_asked_for_are_refused() {
        let peer = PeerId::repeat_byte(1);
        let now = Instant::now();
        for heights in [vec![3, 4], vec![2, 4], vec![2, 3, 4, 5]] {
            let mut sync = Sync::default();
            sync.heard(peer, 4);
            let range = sync.next_question(1, NONE, now).expect("behind");
            assert_eq!((range.from, range.count), (2, 3));
            assert!(sync.answered(range, heights.into_iter().map(block).collect(), now).is_err());
            assert!(!sync.is_under_way(true));
        }
    }

    #[test]
    fn who_takes_part_waits_for_the_next_block_before_it_asks() {
        let peer = PeerId::repeat_byte(1);
        let (now, grace) = (Instant::now(), Duration::from_secs(1));
        let mut sync = Sync::default();
        sync.heard(peer, 5);
        assert_eq!(sync.next_question(4, grace, now), None);
        assert!(sync.next_question(4, grace, now + grace).is_some());
        let mut sync = Sync::default();
        sync.heard(peer, 6);
        assert!(sync.next_question(4, grace, now).is_some(), "two behind is behind");
    }

    #[test]
    fn blocks_come_out_in_order_and_stale_ones_not_at_all() {
        let peer = PeerId::repeat_byte(1);
        let now = Instant::now();
        let mut sync = Sync::default();
        sync.heard(peer, 4);
        let range = sync.next_question(0, NONE, now).expect("behind");
        sync.answered(range, (1..=4).map(block).collect(), now).expect("as asked");
        let next = sync.next_block(2).expect("there").1;
        assert_eq!(next.certificate.height, 3);
        assert_eq!(sync.next_block(2), None, "four does not follow two");
        assert!(!sync.is_under_way(true));
    }
}
