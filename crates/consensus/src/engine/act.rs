//! Does what the algorithm asks for.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};
use cipherloom_rpc::cipherloom::consensus::v1::{LogEntry, log_entry::Content};
use tokio::time::Instant;

use super::Engine;
use crate::{
    blocks::{BlockKey, Knowledge},
    codec::{self, Message, SignedBlock, Working},
    core::Action,
    network::Channel,
    node::ConsensusError,
    signing::sign,
    status::count,
};

impl Engine {
    /// Writes down what has to be, then does what is asked for, until nothing is left.
    pub(super) async fn carry_out(&mut self) -> Result<(), ConsensusError> {
        loop {
            let Some(core) = &mut self.core else { return Ok(()) };
            let entries = core.take_log();
            let actions = core.take_actions();
            self.add_to_log(entries);
            if actions.is_empty() {
                return Ok(());
            }
            let speaks = |action: &Action| matches!(action, Action::Publish(_) | Action::Decided(_) | Action::SendBlock(_));
            if actions.iter().any(speaks) && !self.unwritten.is_empty() {
                let entries = std::mem::take(&mut self.unwritten);
                count(&self.counters.log_writes);
                self.use_log(move |log| log.append(entries)).await?;
            }
            for action in actions {
                self.act(action)?;
            }
        }
    }

    /// A block goes into the log before the verdict over it, so that a restart finds it.
    fn add_to_log(&mut self, entries: Vec<LogEntry>) {
        for entry in entries {
            if let Some(Content::Verdict(verdict)) = &entry.content
                && verdict.valid
                && let Ok(hash) = codec::read_hash(&verdict.hash)
                && let Some(block) = self.blocks.take_for_log(hash)
            {
                let content = Some(Content::Block(codec::write_block(&block)));
                self.unwritten.push(LogEntry { content });
            }
            self.unwritten.push(entry);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), ConsensusError> {
        match action {
            Action::Publish(message) => self.publish(&message),
            Action::MakeBlock { round } => self.make_block(round)?,
            Action::SendBlock(hash) => self.send_block(hash),
            Action::RoundBegan { round, proposer } => self.round_began(round, proposer),
            Action::Decided(certificate) => {
                tracing::debug!(height = certificate.height, round = certificate.round, block = %certificate.block_hash, "decided");
                self.decision = Some(certificate);
            }
            Action::Contradicted(liars) => self.note_liars(&liars),
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, message: &Message) {
        self.repetition = self.repetition.wrapping_add(1);
        if let Some(signer) = &self.config.signer {
            self.said.note(message, signer.address());
        }
        self.network.broadcast(Channel::Consensus, message.encode(self.repetition));
    }

    pub(super) fn send_block(&self, hash: B256) {
        if let Some(block) = self.blocks.valid(hash) {
            self.network.broadcast(Channel::Blocks, block.encode());
        }
    }

    fn round_began(&mut self, round: u32, proposer: Address) {
        count(&self.counters.rounds);
        if round > 0 {
            count(&self.counters.extra_rounds);
            tracing::info!(height = self.height, round, %proposer, "the height takes another round");
        }
        self.judge_unknown();
    }

    /// Says that it is at work, and has the application make a block.
    fn make_block(&mut self, round: u32) -> Result<(), ConsensusError> {
        let (Some(core), Some(signer)) = (&mut self.core, &self.config.signer) else {
            return Ok(());
        };
        // While the log was gone through again, the round may have passed, or the proposal been made.
        if !core.waits_for_own_block(round) {
            return Ok(());
        }
        let height = core.height();
        let signature = sign(signer, self.digests.working(height, round)).map_err(|error| ConsensusError::Core(error.to_string()))?;
        let working = Working { height, round, signature };
        core.message(Message::Working(working))?;
        self.working = Some((working, Instant::now()));
        self.say_working();
        self.start_proposing(height, round);
        Ok(())
    }

    /// Says that it is at work, again and again: others begin the round a little later, and messages get lost.
    pub(super) fn say_working(&mut self) {
        let Some((working, at)) = self.working else { return };
        if !self
            .core
            .as_ref()
            .is_some_and(|core| core.height() == working.height && core.waits_for_own_block(working.round))
        {
            self.working = None;
        } else if at <= Instant::now() {
            self.working = Some((working, Instant::now() + self.config.timeouts.silence / 4));
            self.publish(&Message::Working(working));
        }
    }

    /// Proposes a block that the application made.
    pub(super) async fn propose(&mut self, round: u32, hash: B256, bytes: alloy::primitives::Bytes) -> Result<(), ConsensusError> {
        let (Some(core), Some(signer)) = (&mut self.core, &self.config.signer) else {
            return Ok(());
        };
        let height = core.height();
        let digest = self.digests.block(height, round, hash, &bytes);
        let block = SignedBlock {
            height,
            round,
            hash,
            block: bytes,
            signature: sign(signer, digest).map_err(|error| ConsensusError::Core(error.to_string()))?,
        };
        let (key, message) = (BlockKey::of(&block), block.encode());
        let needed = core.valid_block();
        self.blocks.add(key, block, Knowledge::Valid, needed);
        self.blocks.learn(&key, Knowledge::Valid);
        core.propose(round, hash)?;
        count(&self.counters.proposed);
        self.carry_out().await?;
        self.network.broadcast(Channel::Blocks, message);
        Ok(())
    }

    fn note_liars(&self, liars: &BTreeSet<Address>) {
        for validator in liars {
            count(&self.counters.contradictions);
            tracing::warn!(height = self.height, %validator, "a validator contradicted itself: it signed two different things in one round");
        }
    }
}
