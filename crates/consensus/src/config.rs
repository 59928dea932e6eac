//! What a node's consensus is told when it starts.

use std::{path::PathBuf, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use arc_malachitebft_core_types::{LinearTimeouts, Timeout, TimeoutKind};
use cipherloom_primitives::quorum::ConsensusDomain;

/// A node's consensus.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The chain: what signatures are bound to.
    pub domain: ConsensusDomain,
    /// The key of a validator. Without it, or while the key is in no validator set, the node follows and does not vote.
    pub signer: Option<PrivateKeySigner>,
    /// Where the log is kept. It belongs to the key: a log that is lost, or two logs of one key, make a validator contradict itself.
    pub directory: PathBuf,
    /// How long steps take.
    pub timeouts: Timeouts,
}

/// How long the steps of consensus take. They decide about speed, never about safety.
///
/// A round lasts at most `propose` + `prevote` + `precommit`, each of them growing with the round. The proposer computes the block's ciphertexts in
/// the first part of `propose`, and all others compute them again in the rest: so `propose` has to be more than twice what the heaviest block
/// takes, plus its way through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a block may take from the beginning of its round to the verdicts of all validators.
    pub propose: Duration,
    /// By how much `propose` grows in each further round.
    pub propose_delta: Duration,
    /// How long a proposer may show no sign of life before the round goes on without it, from when validators that are a quorum are there. Grows with
    /// the round by the same.
    pub silence: Duration,
    /// The same for a proposer that is neither connected nor was heard lately, if the others are a quorum: it does not grow. Who is heard of meanwhile is
    /// waited for like anybody.
    pub absence: Duration,
    /// How long to wait for more prevotes when a quorum of them names different blocks.
    pub prevote: Duration,
    /// How long to wait for more precommits when a quorum of them names different blocks.
    pub precommit: Duration,
    /// By how much `prevote` and `precommit` grow in each further round.
    pub vote_delta: Duration,
    /// After how much time without progress votes are sent again.
    pub rebroadcast: Duration,
    /// No timeout grows beyond this.
    pub longest: Duration,
    /// The least time from the beginning of one height to the beginning of the next.
    pub block_interval: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            propose: Duration::from_secs(20),
            propose_delta: Duration::from_secs(10),
            silence: Duration::from_secs(3),
            absence: Duration::from_millis(750),
            prevote: Duration::from_secs(2),
            precommit: Duration::from_secs(2),
            vote_delta: Duration::from_secs(1),
            rebroadcast: Duration::from_secs(5),
            longest: Duration::from_secs(600),
            block_interval: Duration::from_secs(2),
        }
    }
}

impl Timeouts {
    /// Timeouts of a chain on one machine or in one room, whose blocks take `block` at most to compute.
    #[must_use]
    pub fn local(block: Duration) -> Self {
        Self {
            propose: block.saturating_mul(3),
            propose_delta: block,
            silence: Duration::from_millis(700),
            absence: Duration::from_millis(250),
            prevote: Duration::from_millis(500),
            precommit: Duration::from_millis(500),
            vote_delta: Duration::from_millis(250),
            rebroadcast: Duration::from_millis(1_000),
            longest: Duration::from_secs(600),
            block_interval: Duration::from_millis(500),
        }
    }

    /// The share of `propose` that the proposer has for itself.
    #[must_use]
    pub fn proposer_share(&self, round: u32) -> Duration {
        self.propose_in(round).mul_f64(0.45)
    }

    /// The propose timeout of a round.
    #[must_use]
    pub fn propose_in(&self, round: u32) -> Duration {
        self.duration_of(Timeout::propose(malachite_round(round)))
    }

    /// How long a round's proposer may show no sign of life.
    #[must_use]
    pub fn silence_in(&self, round: u32) -> Duration {
        self.silence.saturating_mul(round.saturating_add(1)).min(self.propose_in(round))
    }

    /// How long a round waits for a proposer that is not there.
    #[must_use]
    pub fn absence_in(&self, round: u32) -> Duration {
        self.absence.min(self.silence_in(round))
    }

    pub(crate) fn duration_of(&self, timeout: Timeout) -> Duration {
        if let TimeoutKind::FinalizeHeight(duration) = timeout.kind {
            return duration;
        }
        let linear = LinearTimeouts {
            propose: self.propose,
            propose_delta: self.propose_delta,
            prevote: self.prevote,
            prevote_delta: self.vote_delta,
            precommit: self.precommit,
            precommit_delta: self.vote_delta,
            rebroadcast: self.rebroadcast,
            max_timeout: self.longest,
        };
        match timeout.kind {
            // Repeating oneself must not become rarer because proposals may take longer.
            TimeoutKind::Rebroadcast => self.rebroadcast,
            _ if timeout.round.is_nil() => Duration::ZERO,
            _ => linear.duration_for(timeout),
        }
    }
}

const fn malachite_round(round: u32) -> arc_malachitebft_core_types::Round {
    arc_malachitebft_core_types::Round::new(round)
}
