//! The algorithm, without I/O: messages, verdicts and timeouts go in; things to do, to write down and to wait for come out.
//!
//! The rules of agreement are the library's. What is here gives it signatures and their checks, collects what it asks for as [`Action`]s, keeps its
//! timers, and turns what it wants to be written down into entries of the log. Whoever drives it writes [`Core::take_log`] to disk **before** it
//! does what [`Core::take_actions`] says.

mod entries;
mod presence;
mod shell;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use arc_malachitebft_core_consensus::{Error, Input, LocallyProposedValue, Params, ProposedValue, State, process};
use arc_malachitebft_core_types::{Round, ThresholdParams, Timeout, Validity, ValueOrigin, ValuePayload, VoteExtensionPolicy};
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};
use cipherloom_rpc::cipherloom::consensus::v1 as wire;
use prost::Message as _;
use tokio::time::Instant;

use self::{entries::read_entry, shell::Shell};
use crate::{
    codec::{Malformed, Message},
    config::Timeouts,
    context::{BlockHash, ChainContext, Height, Members, Name, proposer},
    signing::Digests,
};

/// Messages for this many heights to come are kept, and so many for each.
const HEIGHTS_AHEAD: usize = 2;
const MESSAGES_AHEAD: usize = 1_024;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send a message to all.
    Publish(Message),
    /// Have the application make a block, if the round still waits for it.
    MakeBlock { round: u32 },
    /// Send a block once more: it is proposed again, or validators may lack it.
    SendBlock(B256),
    /// A round began.
    RoundBegan { round: u32, proposer: Address },
    /// A block is decided.
    Decided(CommitCertificate),
    /// These validators contradicted themselves.
    Contradicted(BTreeSet<Address>),
}

/// Where the algorithm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waiting for a proposal, or making it.
    Propose,
    /// Waiting for prevotes.
    Prevote,
    /// Waiting for precommits.
    Precommit,
    /// The height is decided.
    Commit,
}

impl Step {
    /// Its name in logs and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Propose => "propose",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
            Self::Commit => "commit",
        }
    }
}

/// The algorithm stopped, which means that something is broken: going on could contradict earlier votes.
#[derive(Debug, thiserror::Error)]
#[error("consensus cannot go on: {0}")]
pub(crate) struct CoreError(pub(crate) String);

impl From<Malformed> for CoreError {
    fn from(error: Malformed) -> Self {
        Self(format!("an entry of the log is {error}"))
    }
}

/// The algorithm of a validator at one height after the other.
pub(crate) struct Core {
    state: State<ChainContext>,
    shell: Shell,
}

impl Core {
    pub(crate) fn new(digests: Digests, signer: PrivateKeySigner, timeouts: Timeouts, height: u64, set: ValidatorSet) -> Self {
        let params = Params {
            address: Name(signer.address()),
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let members = Members::from(&set);
        Self {
            state: State::new(ChainContext, Height(height), members, params, HEIGHTS_AHEAD, MESSAGES_AHEAD),
            shell: Shell::new(digests, signer, set, timeouts),
        }
    }

    pub(crate) fn height(&self) -> u64 {
        self.state.height().0
    }

    pub(crate) fn round(&self) -> u32 {
        self.state.round().as_u32().unwrap_or_default()
    }

    pub(crate) fn step(&self) -> Step {
        let driver = &self.state.driver;
        if driver.step_is_commit() {
            Step::Commit
        } else if driver.step_is_precommit() {
            Step::Precommit
        } else if driver.step_is_prevote() {
            Step::Prevote
        } else {
            Step::Propose
        }
    }

    pub(crate) const fn validators(&self) -> &ValidatorSet {
        &self.shell.set
    }

    pub(crate) fn proposer(&self, round: u32) -> Address {
        self.state.get_proposer(self.state.height(), Round::new(round)).0
    }

    /// Who proposes in a round of the next height, if the validators stay the same.
    pub(crate) fn next_proposer(&self, round: u32) -> Address {
        proposer(&self.shell.set, self.height().saturating_add(1), round)
    }

    /// The block that may have been locked by a quorum: it must not be forgotten.
    pub(crate) fn valid_block(&self) -> Option<B256> {
        self.state.driver.valid_value().map(|valid| valid.value.0)
    }

    /// Whether the node is the proposer of its round and has proposed nothing yet.
    pub(crate) fn waits_for_own_block(&self, round: u32) -> bool {
        self.round() == round && self.state.driver.step_is_propose() && self.proposer(round) == self.shell.signer.address()
    }

    /// When the current round stops waiting for verdicts.
    pub(crate) fn propose_until(&self) -> Instant {
        let until = self.shell.propose_until(self.round());
        until.unwrap_or_else(|| Instant::now() + self.shell.timeouts.propose_in(self.round()))
    }

    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.shell.actions)
    }

    pub(crate) fn take_log(&mut self) -> Vec<wire::LogEntry> {
        std::mem::take(&mut self.shell.log)
    }

    /// Begins a height.
    pub(crate) fn begin(&mut self, height: u64, set: ValidatorSet) -> Result<(), CoreError> {
        let members = Members::from(&set);
        self.shell.next_height(set);
        self.input(Input::StartHeight(
            Height(height),
            members,
            false,
            None,
            VoteExtensionPolicy::Disabled,
        ))
    }

    /// Goes again through what was written down at the current height before a restart. Comes to the same votes, or fails.
    pub(crate) fn replay(&mut self, entries: &[wire::LogEntry]) -> Result<(), CoreError> {
        let inputs: Vec<_> = entries
            .iter()
            .filter_map(|entry| read_entry(entry).transpose())
            .collect::<Result<_, _>>()?;
        self.shell.written = entries.iter().map(|entry| entry.encode_to_vec()).collect();
        self.state.index_wal_entries(&inputs);
        for input in inputs {
            self.input(input)?;
        }
        self.state.reset_entries_index();
        self.shell.written.clear();
        Ok(())
    }

    /// Takes a message, whose signature was checked or will be.
    pub(crate) fn message(&mut self, message: Message) -> Result<(), CoreError> {
        match message {
            Message::Vote(vote) => {
                self.heard(vote.message.validator.0);
                self.input(Input::Vote(vote))
            }
            Message::Proposal(proposal) => {
                self.heard(proposal.message.validator.0);
                if proposal.message.height == self.state.height() {
                    self.shell.proposer_proposed(proposal.message.round.as_u32().unwrap_or_default());
                }
                self.input(Input::Proposal(proposal))
            }
            Message::Polka(polka) => self.input(Input::PolkaCertificate(polka)),
            Message::RoundCertificate(certificate) => self.input(Input::RoundCertificate(certificate)),
            Message::Working(working) => {
                if working.height == self.height() {
                    self.heard(self.proposer(working.round));
                    self.shell.proposer_works(working.round);
                }
                Ok(())
            }
        }
    }

    /// Proposes a block of one's own.
    pub(crate) fn propose(&mut self, round: u32, hash: B256) -> Result<(), CoreError> {
        let value = LocallyProposedValue::new(self.state.height(), Round::new(round), BlockHash(hash));
        self.input(Input::Propose(value))
    }

    /// Takes the application's verdict over a block that was made in `round`.
    pub(crate) fn verdict(&mut self, round: u32, hash: B256, valid: bool) -> Result<(), CoreError> {
        let value = ProposedValue {
            height: self.state.height(),
            round: Round::new(round),
            valid_round: Round::Nil,
            proposer: Name(self.proposer(round)),
            value: BlockHash(hash),
            validity: Validity::from_bool(valid),
        };
        self.input(Input::ProposedValue(value, ValueOrigin::Consensus))
    }

    /// When the next timeout is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.shell.timers.values().min().copied()
    }

    /// Goes through the timeouts that are due.
    pub(crate) fn elapse(&mut self, now: Instant) -> Result<(), CoreError> {
        let mut due: Vec<(Instant, Timeout)> = self
            .shell
            .timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(timeout, at)| (*at, *timeout))
            .collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, timeout) in due {
            // An earlier one may have cancelled it.
            if self.shell.timers.remove(&timeout).is_some() {
                self.input(Input::TimeoutElapsed(timeout))?;
            }
        }
        Ok(())
    }

    /// Takes note of who is connected.
    pub(crate) fn connected(&mut self, peers: impl IntoIterator<Item = Address>) {
        self.shell.presence.connected(peers.into_iter().collect());
        self.shell.renew_propose();
    }

    fn heard(&mut self, validator: Address) {
        self.shell.presence.heard(validator);
        self.shell.renew_propose();
    }

    fn input(&mut self, input: Input<ChainContext>) -> Result<(), CoreError> {
        let shell = &mut self.shell;
        let result: Result<(), Error<ChainContext>> = process!(
            input: input,
            state: &mut self.state,
            metrics: &(),
            with: effect => shell.handle(effect)
        );
        result.map_err(|error| CoreError(error.to_string()))
    }
}
