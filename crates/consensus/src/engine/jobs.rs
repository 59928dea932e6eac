//! What takes long: the application, and requests to peers. Each is a task beside the engine and comes back as a [`Done`].

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, Bytes};
use tokio::{sync::oneshot, time::Instant};

use super::{Engine, RETRY};
use crate::{
    application::{ApplicationError, DecidedBlock, MAX_BLOCK_BYTES, ProposedBlock, Verdict},
    blocks::{BlockKey, Knowledge},
    codec::{Answer, Question, SignedBlock},
    network::{NetworkError, PeerId},
    node::ConsensusError,
    status::count,
    sync::Range,
};

/// Most bytes of decided blocks in one answer; a single block may be larger.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How long a question waits for its turn. After that it is declined, so that the peer asks another one.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A peer's question for decided blocks.
pub(super) struct Wanted {
    pub(super) from: u64,
    pub(super) count: u32,
    pub(super) answer: oneshot::Sender<Bytes>,
    pub(super) asked: Instant,
}

/// What came of a job.
pub(super) enum Done {
    Proposed {
        height: u64,
        round: u32,
        result: Result<ProposedBlock, ApplicationError>,
    },
    Judged {
        height: u64,
        round: u32,
        key: BlockKey,
        result: Result<Verdict, ApplicationError>,
    },
    Committed {
        height: u64,
        hash: B256,
        result: Result<(), ApplicationError>,
    },
    Applied {
        peer: PeerId,
        decided: DecidedBlock,
        result: Result<(), ApplicationError>,
    },
    Decided {
        range: Range,
        result: Result<Bytes, NetworkError>,
    },
    Undecided {
        peer: PeerId,
        result: Result<Bytes, NetworkError>,
    },
    Answered(PeerId),
}

impl Done {
    pub(super) const fn ends_a_commit(&self) -> bool {
        matches!(self, Self::Committed { .. } | Self::Applied { .. })
    }
}

/// Waits for the application a little beyond the deadline that it was told.
async fn in_time<T>(deadline: Instant, work: impl Future<Output = Result<T, ApplicationError>>) -> Result<T, ApplicationError> {
    let late = || ApplicationError::Unavailable("the time is over".to_owned());
    tokio::time::timeout_at(deadline + RETRY, work)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// Starting them.
impl Engine {
    pub(super) fn start_proposing(&mut self, height: u64, round: u32) {
        let deadline = Instant::now() + self.config.timeouts.proposer_share(round);
        let application = Arc::clone(&self.application);
        self.jobs.spawn(async move {
            let result = in_time(deadline, application.propose(height, round, deadline)).await;
            Ok(Done::Proposed { height, round, result })
        });
    }

    /// Asks the application about all blocks that it could not tell about before.
    pub(super) fn judge_unknown(&mut self) {
        for key in self.blocks.unknown() {
            self.judge(key);
        }
    }

    /// Asks the application about a block.
    pub(super) fn judge(&mut self, key: BlockKey) {
        let Some(core) = &self.core else { return };
        let Some((block, Knowledge::Unknown)) = self.blocks.get(&key) else {
            return;
        };
        let SignedBlock { height, round, block, .. } = block.clone();
        let proposer = core.proposer(round);
        let now = Instant::now();
        let until = core.propose_until();
        // A verdict that comes too late for this round serves the next, and a decided block has to be judged whatever it takes.
        let deadline = if until > now {
            until
        } else {
            now + self.config.timeouts.propose_in(core.round())
        };
        let application = Arc::clone(&self.application);
        self.blocks.learn(&key, Knowledge::Asked);
        self.jobs.spawn(async move {
            let result = in_time(deadline, application.validate(height, round, proposer, block, deadline)).await;
            Ok(Done::Judged {
                height,
                round,
                key,
                result,
            })
        });
    }

    /// Commits what the algorithm decided, once the application knows the block.
    pub(super) fn commit_decision(&mut self) {
        let Some(certificate) = self.decision.clone() else { return };
        let hash = certificate.block_hash;
        if self.blocks.valid(hash).is_none() {
            // Only after a restart: the log remembers the verdict, the application does not.
            for key in self.blocks.candidates(hash) {
                self.judge(key);
            }
            return;
        }
        let application = Arc::clone(&self.application);
        self.busy = true;
        self.jobs.spawn(async move {
            let height = certificate.height;
            let result = application.commit(hash, certificate).await;
            Ok(Done::Committed { height, hash, result })
        });
    }

    /// Applies a peer's decided block, if its certificate is good.
    pub(super) fn apply(&mut self, peer: PeerId, decided: DecidedBlock) -> Result<(), ConsensusError> {
        let height = decided.certificate.height;
        let set = self.application.validators(height)?;
        let domain = self.digests.domain;
        let here = self
            .decision
            .as_ref()
            .filter(|decision| decision.height == height)
            .map(|decision| decision.block_hash);
        let application = Arc::clone(&self.application);
        self.busy = true;
        self.jobs.spawn(async move {
            let there = decided.certificate.block_hash;
            let result = match decided.certificate.check(&domain, &set) {
                Err(error) => Err(ApplicationError::Refused(format!("the certificate of block {height}: {error}"))),
                Ok(()) => match here {
                    Some(here) if here != there => return Err(ConsensusError::Forked { height, here, there }),
                    _ => application.apply(decided.clone()).await,
                },
            };
            Ok(Done::Applied { peer, decided, result })
        });
        Ok(())
    }

    pub(super) fn ask_for_decided(&mut self, range: Range) {
        let network = Arc::clone(&self.network);
        let Range { peer, from, count } = range;
        tracing::debug!(%peer, from, count, "asking for decided blocks");
        self.jobs.spawn(async move {
            let result = network.request(peer, Question::Decided { from, count }.encode()).await;
            Ok(Done::Decided { range, result })
        });
    }

    /// Asks for blocks whose proposals came without them: first who sent the proposal, then others in turn.
    pub(super) fn ask_for_wanted(&mut self) {
        let now = Instant::now();
        let height = self.height;
        let peers = if self.wanted.is_empty() { Vec::new() } else { self.network.peers() };
        for (hash, (peer, at)) in &mut self.wanted {
            if *at > now {
                continue;
            }
            let (asked, hash, network) = (*peer, *hash, Arc::clone(&self.network));
            let after = peers.iter().position(|known| known == peer).map_or(0, |position| position + 1);
            *peer = peers.get(after).or_else(|| peers.first()).copied().unwrap_or(asked);
            *at = now + 2 * RETRY;
            self.jobs.spawn(async move {
                let result = network.request(asked, Question::Undecided { height, hash }.encode()).await;
                Ok(Done::Undecided { peer: asked, result })
            });
        }
    }

    /// Answers peers whose turn it is.
    pub(super) fn answer_waiting(&mut self) {
        let is_wanted = |wanted: &Wanted| !wanted.answer.is_closed() && wanted.asked.elapsed() < LONGEST_WAIT;
        while let Some((peer, wanted)) = self.answers.next(is_wanted) {
            self.answer_decided(peer, wanted);
        }
    }

    fn answer_decided(&mut self, peer: PeerId, wanted: Wanted) {
        let Wanted { from, count, answer, .. } = wanted;
        let application = Arc::clone(&self.application);
        self.jobs.spawn(async move {
            let mut found = Answer::default();
            let mut bytes = 0;
            for height in (from..).take(count as usize) {
                // Whoever asked may be gone, and others wait.
                if answer.is_closed() {
                    return Ok(Done::Answered(peer));
                }
                let decided = match application.decided(height).await {
                    Ok(Some(decided)) => decided,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(height, %error, "a decided block cannot be read for a peer");
                        break;
                    }
                };
                bytes += decided.block.len() + decided.sidecar.len();
                if bytes > MAX_ANSWER_BYTES && !found.decided.is_empty() {
                    break;
                }
                found.decided.push(decided);
            }
            let _ = answer.send(found.encode());
            Ok(Done::Answered(peer))
        });
    }
}

/// Taking what came of them.
impl Engine {
    pub(super) async fn finish(&mut self, done: Done) -> Result<(), ConsensusError> {
        match done {
            Done::Proposed { height, round, result } => self.proposed(height, round, result).await?,
            Done::Judged {
                height,
                round,
                key,
                result,
            } => self.judged(height, round, key, result).await?,
            Done::Committed { height, hash, result } => self.committed(height, hash, result)?,
            Done::Applied { peer, decided, result } => self.applied(peer, decided, result)?,
            Done::Decided { range, result } => self.got_decided(range, result),
            Done::Undecided { peer, result } => self.got_undecided(peer, result),
            Done::Answered(peer) => {
                self.answers.done(peer);
                self.answer_waiting();
            }
        }
        Ok(())
    }

    async fn proposed(&mut self, height: u64, round: u32, result: Result<ProposedBlock, ApplicationError>) -> Result<(), ConsensusError> {
        let block = match result {
            Ok(block) => block,
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                count(&self.counters.late_proposals);
                tracing::warn!(height, round, %error, "no block was made");
                return Ok(());
            }
        };
        let in_time = self
            .core
            .as_ref()
            .is_some_and(|core| core.height() == height && core.waits_for_own_block(round));
        if !in_time || block.hash.is_zero() || block.bytes.len() > MAX_BLOCK_BYTES {
            count(&self.counters.late_proposals);
            tracing::warn!(
                height,
                round,
                in_time,
                bytes = block.bytes.len(),
                "the block that was made cannot be proposed"
            );
            return Ok(());
        }
        self.propose(round, block.hash, block.bytes).await
    }

    async fn judged(
        &mut self,
        height: u64,
        round: u32,
        key: BlockKey,
        result: Result<Verdict, ApplicationError>,
    ) -> Result<(), ConsensusError> {
        if self.height != height {
            return Ok(());
        }
        let valid = match result {
            Ok(Verdict::Valid { hash }) if hash == key.hash => true,
            Ok(verdict) => {
                count(&self.counters.refused_blocks);
                let reason = match verdict {
                    Verdict::Invalid(reason) => reason,
                    Verdict::Valid { hash } => format!("its hash is {hash}"),
                };
                tracing::warn!(height, round, block = %key.hash, reason, "a proposed block is invalid");
                false
            }
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                count(&self.counters.undecided_blocks);
                tracing::warn!(height, round, block = %key.hash, %error, "no verdict over a proposed block");
                self.blocks.learn(&key, Knowledge::Unknown);
                if self.decision.as_ref().is_some_and(|decision| decision.block_hash == key.hash) {
                    self.retry_at = Some(Instant::now() + RETRY);
                }
                return Ok(());
            }
        };
        self.blocks.learn(&key, if valid { Knowledge::Valid } else { Knowledge::Invalid });
        // A false block says nothing about the real one of that hash.
        if !valid && self.blocks.valid(key.hash).is_some() {
            return Ok(());
        }
        if let Some(core) = &mut self.core {
            core.verdict(round, key.hash, valid)?;
        }
        self.carry_out().await
    }

    fn committed(&mut self, height: u64, hash: B256, result: Result<(), ApplicationError>) -> Result<(), ConsensusError> {
        self.busy = false;
        match result {
            Ok(()) => {
                count(&self.counters.committed);
                tracing::info!(height, block = %hash, "committed");
                self.decision = None;
                self.head_moved();
            }
            Err(error @ (ApplicationError::Unknown(_) | ApplicationError::Unavailable(_))) => {
                tracing::warn!(height, block = %hash, %error, "a decided block is not committed yet");
                for key in self.blocks.candidates(hash) {
                    self.blocks.learn(&key, Knowledge::Unknown);
                }
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn applied(&mut self, peer: PeerId, decided: DecidedBlock, result: Result<(), ApplicationError>) -> Result<(), ConsensusError> {
        self.busy = false;
        let now = Instant::now();
        match result {
            Ok(()) => {
                count(&self.counters.applied);
                self.applied_at = Some(now);
                tracing::debug!(height = decided.certificate.height, "caught up by a block");
                self.head_moved();
            }
            Err(ApplicationError::Refused(reason)) => {
                tracing::warn!(%peer, reason, "a peer's decided block is refused");
                self.punish(peer, &reason);
                self.sync.refused(peer, now);
            }
            Err(error @ (ApplicationError::Unknown(_) | ApplicationError::Unavailable(_))) => {
                tracing::warn!(%error, "a decided block is not applied yet");
                self.sync.put_back(peer, decided);
                self.retry_at = Some(now + RETRY);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn got_decided(&mut self, range: Range, result: Result<Bytes, NetworkError>) {
        let now = Instant::now();
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "no decided blocks");
                self.sync.unanswered(range, now);
                return;
            }
        };
        let taken = match Answer::decode(answer) {
            Ok(answer) => self.sync.answered(range, answer.decided, now),
            Err(error) => {
                self.sync.unanswered(range, now);
                Err(error.0)
            }
        };
        if let Err(reason) = taken {
            self.punish(range.peer, reason);
        }
    }

    fn got_undecided(&mut self, peer: PeerId, result: Result<Bytes, NetworkError>) {
        match result.map(Answer::decode) {
            Ok(Ok(Answer {
                undecided: Some(block), ..
            })) => self.take_block(peer, block),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.punish(peer, error.0),
            Err(error) => tracing::debug!(%error, "no proposed block"),
        }
    }
}
