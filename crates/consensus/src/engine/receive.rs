//! Takes what peers send.
//!
//! Nothing of it is believed: signatures are checked before a message costs more than that, and what no honest node sends counts against the peer.
//! Only messages that were checked are passed on, each content only once in a while, so that nobody can have others multiply
//! what it sends.

use alloy::primitives::{B256, Bytes, keccak256};
use tokio::{sync::oneshot, time::Instant};

use super::{Engine, RETRY, jobs::Wanted};
use crate::{
    blocks::{BlockKey, Knowledge},
    codec::{self, Answer, Message, Question, SignedBlock},
    context::Name,
    network::{Channel, PeerId, Received},
    node::ConsensusError,
    signing::is_signed_by,
    status::count,
};

/// Rounds ahead of one's own in which blocks are taken: as far ahead as votes are.
const ROUNDS_AHEAD: u32 = 10;
/// Most messages remembered as seen.
const MAX_SEEN: usize = 1 << 16;
/// Most blocks asked for at a time.
const MAX_WANTED: usize = 16;

/// What a message turned out to be.
enum Checked {
    /// Signed by whom it names.
    Good,
    /// To be checked by the algorithm, which knows whether it is of use at all.
    Unchecked,
    /// Of no use here and now.
    Useless,
    /// What no honest node sends.
    Forged(&'static str),
}

impl Engine {
    pub(super) async fn receive(&mut self, received: Received) -> Result<(), ConsensusError> {
        match received {
            Received::Connected(peer) => {
                self.sync.connected(peer);
                let head = self.application.head();
                self.network
                    .send(peer, Channel::Status, codec::encode_status(head.height, head.hash));
                self.note_peers();
                self.greet(peer);
            }
            Received::Disconnected(peer) => {
                self.sync.disconnected(peer);
                self.answers.gone(peer);
                self.note_peers();
            }
            Received::Message { peer, channel, message } => match channel {
                Channel::Consensus => self.receive_message(peer, message).await?,
                Channel::Blocks => match SignedBlock::decode(message) {
                    Ok(block) => self.take_block(peer, block),
                    Err(error) => self.punish(peer, error.0),
                },
                // More of them than the application can look at are dropped; their senders send them again.
                Channel::Transactions => drop(self.transactions.try_send((peer, message))),
                Channel::Status => match codec::decode_status(&message) {
                    Ok((height, _)) => self.sync.heard(peer, height),
                    Err(error) => self.punish(peer, error.0),
                },
                Channel::Sync => self.punish(peer, "a message in place of a request"),
            },
            Received::Request { peer, request, answer } => match Question::decode(&request) {
                Ok(question) => self.answer(peer, question, answer),
                Err(error) => self.punish(peer, error.0),
            },
        }
        Ok(())
    }

    async fn receive_message(&mut self, peer: PeerId, bytes: Bytes) -> Result<(), ConsensusError> {
        if self.core.is_none() {
            return Ok(());
        }
        let message = match Message::decode(&bytes) {
            Ok(message) => message,
            Err(error) => {
                self.punish(peer, error.0);
                return Ok(());
            }
        };
        let content = keccak256(message.encode(0));
        let recently = self.config.timeouts.rebroadcast.min(self.config.timeouts.silence) / 8;
        if self.seen.get(&content).is_some_and(|at| at.elapsed() < recently) {
            return Ok(());
        }
        let relay = match self.check(&message) {
            Checked::Good => true,
            Checked::Unchecked => false,
            Checked::Useless => return Ok(()),
            Checked::Forged(reason) => {
                self.punish(peer, reason);
                return Ok(());
            }
        };
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(content, Instant::now());
        if relay {
            self.network.relay(peer, Channel::Consensus, bytes);
        }
        if let Message::Proposal(proposal) = &message {
            let hash = proposal.message.value.0;
            if proposal.message.height.0 == self.height {
                self.want(hash, peer);
            } else if self.wanted_next.len() < MAX_WANTED {
                self.wanted_next.entry(hash).or_insert(peer);
            }
        }
        if let Some(core) = &mut self.core {
            core.message(message)?;
        }
        self.carry_out().await
    }

    /// Asks for a block in a while, unless it comes by itself.
    fn want(&mut self, hash: B256, peer: PeerId) {
        if self.wanted.len() < MAX_WANTED && self.blocks.candidates(hash).is_empty() {
            self.wanted.entry(hash).or_insert((peer, Instant::now() + RETRY));
        }
    }

    fn check(&self, message: &Message) -> Checked {
        let Some(core) = &self.core else { return Checked::Useless };
        let (height, signer, digest, signature) = match message {
            Message::Vote(vote) => {
                let name = vote.message.validator;
                (vote.message.height.0, name, self.digests.vote(&vote.message), &vote.signature)
            }
            Message::Proposal(proposal) => {
                let name = proposal.message.validator;
                (
                    proposal.message.height.0,
                    name,
                    self.digests.proposal(&proposal.message),
                    &proposal.signature,
                )
            }
            Message::Working(working) => {
                let name = Name(core.proposer(working.round));
                let digest = self.digests.working(working.height, working.round);
                (working.height, name, Some(digest), &working.signature)
            }
            Message::Polka(polka) if polka.height.0 == core.height() => return Checked::Unchecked,
            Message::RoundCertificate(certificate) if certificate.height.0 == core.height() => return Checked::Unchecked,
            Message::Polka(_) | Message::RoundCertificate(_) => return Checked::Useless,
        };
        let this_height = height == core.height();
        // Signs of life of other heights are of no use, and who proposes there is not known.
        let next_height = height == core.height() + 1 && !matches!(message, Message::Working(_));
        // Who joins with the next height is heard when it repeats itself.
        if !(this_height || next_height) || !core.validators().contains(&signer.0) {
            return Checked::Useless;
        }
        match digest.is_some_and(|digest| is_signed_by(digest, signature, signer)) {
            true => Checked::Good,
            false => Checked::Forged("a signature that is not its validator's"),
        }
    }

    /// Takes a proposed block, and asks the application about it.
    pub(super) fn take_block(&mut self, peer: PeerId, block: SignedBlock) {
        let Some(core) = &self.core else { return };
        if block.height == core.height() + 1 {
            // If the validators change, who makes the first block is not known yet: it will be asked for.
            let digest = self.digests.block(block.height, block.round, block.hash, &block.block);
            if is_signed_by(digest, &block.signature, Name(core.next_proposer(block.round))) {
                self.blocks.keep_early(peer, block);
            }
            return;
        }
        if block.height != core.height()
            || block.round > core.round().saturating_add(ROUNDS_AHEAD)
            || self.blocks.valid(block.hash).is_some()
        {
            return;
        }
        let (maker, needed) = (Name(core.proposer(block.round)), core.valid_block());
        let key = BlockKey::of(&block);
        if self.blocks.get(&key).is_some() {
            return;
        }
        let digest = self.digests.block(block.height, block.round, block.hash, &block.block);
        if !is_signed_by(digest, &block.signature, maker) {
            self.punish(peer, "a block that its round's proposer did not sign");
            return;
        }
        if !self.blocks.may_bring(peer, block.round, key) {
            self.punish(peer, "more blocks of one round than an honest proposer makes");
            return;
        }
        self.wanted.remove(&block.hash);
        if self.blocks.add(key, block, Knowledge::Unknown, needed) {
            self.judge(key);
        }
    }

    pub(super) fn punish(&self, peer: PeerId, reason: &str) {
        count(&self.counters.punished);
        tracing::debug!(%peer, reason, "an offence");
        self.network.punish(peer, reason);
    }

    fn answer(&mut self, peer: PeerId, question: Question, answer: oneshot::Sender<Bytes>) {
        match question {
            Question::Undecided { height, hash } if height == self.height => {
                // Only what was found valid is handed on.
                let found = Answer {
                    undecided: self.blocks.valid(hash).cloned(),
                    ..Answer::default()
                };
                // Whoever asked may be gone.
                let _ = answer.send(found.encode());
            }
            Question::Undecided { .. } => {}
            Question::Decided { from, count } => {
                let is_favoured = self.network.is_favoured(&peer);
                // Who is refused hears of it by the answer's end.
                self.answers.ask(
                    peer,
                    is_favoured,
                    Wanted {
                        from,
                        count,
                        answer,
                        asked: Instant::now(),
                    },
                );
                self.answer_waiting();
            }
        }
    }
}
