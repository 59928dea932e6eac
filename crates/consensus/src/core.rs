//! The algorithm, without I/O: messages, verdicts and timeouts go in; things to do, to write down and to wait for come out.
//!
//! The rules of agreement are the library's. What is here gives it signatures and their checks, collects what it asks for as [`Action`]s, keeps its
//! timers, and turns what it wants to be written down into entries of the log. Whoever drives it writes [`Core::take_log`] to disk **before** it
//! does what [`Core::take_actions`] says.

use std::collections::{BTreeSet, HashMap, HashSet};

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect, Error, Input, LivenessMsg, LocallyProposedValue, MisbehaviorEvidence, Params, ProposedValue, Resumable as _,
    Resume, Role, SignedConsensusMsg, State, VoteExtensionError, process,
};
use arc_malachitebft_core_types::{
    CertificateError, CommitCertificate as LibraryCertificate, Context as _, NilOrVal, PolkaCertificate, Round, RoundCertificate,
    RoundCertificateType, SignedMessage, ThresholdParams, Timeout, TimeoutKind, Validity, ValueOrigin, ValuePayload, VoteExtensionPolicy,
    VoteType,
};
use cipherloom_primitives::quorum::{CommitCertificate, CommitSignature, ValidatorSet};
use cipherloom_rpc::cipherloom::consensus::v1 as wire;
use prost::Message as _;
use tokio::time::Instant;

use crate::{
    codec::{self, Malformed, Message},
    config::Timeouts,
    context::{BlockHash, ChainContext, Height, Members, Name, proposer},
    signing::{Digests, is_signed_by, sign},
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
            shell: Shell {
                digests,
                signer,
                set,
                timeouts,
                timers: HashMap::new(),
                propose_until: None,
                actions: Vec::new(),
                log: Vec::new(),
                written: HashSet::new(),
            },
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
        match self.shell.propose_until {
            Some((round, until)) if round == self.round() => until,
            _ => Instant::now() + self.shell.timeouts.propose_in(self.round()),
        }
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
        self.shell.set = set;
        self.shell.written.clear();
        self.shell.propose_until = None;
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
            Message::Vote(vote) => self.input(Input::Vote(vote)),
            Message::Proposal(proposal) => {
                if proposal.message.height == self.state.height() {
                    self.heard_of_proposer(proposal.message.round.as_u32().unwrap_or_default());
                }
                self.input(Input::Proposal(proposal))
            }
            Message::Polka(polka) => self.input(Input::PolkaCertificate(polka)),
            Message::RoundCertificate(certificate) => self.input(Input::RoundCertificate(certificate)),
            Message::Working(working) => {
                if working.height == self.height() {
                    self.heard_of_proposer(working.round);
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

    /// A proposer that was heard of gets all the time there is.
    fn heard_of_proposer(&mut self, round: u32) {
        let Some((of, until)) = self.shell.propose_until else { return };
        if let Some(at) = self.shell.timers.get_mut(&Timeout::propose(Round::new(round)))
            && of == round
        {
            *at = until;
        }
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

/// What the library may ask for at any time.
struct Shell {
    digests: Digests,
    signer: PrivateKeySigner,
    set: ValidatorSet,
    timeouts: Timeouts,
    timers: HashMap<Timeout, Instant>,
    /// Until when a round waits for a proposer that showed a sign of life.
    propose_until: Option<(u32, Instant)>,
    actions: Vec<Action>,
    log: Vec<wire::LogEntry>,
    /// While the log is gone through again: what it has already.
    written: HashSet<Vec<u8>>,
}

impl Shell {
    fn handle(&mut self, effect: Effect<ChainContext>) -> Result<Resume<ChainContext>, alloy::signers::Error> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                self.timers.remove(&timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.schedule(timeout);
                r.resume_with(())
            }
            Effect::StartRound(_, round, proposer, role, r) => {
                self.begin_round(round.as_u32().unwrap_or_default(), proposer, role);
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                let message = match message {
                    SignedConsensusMsg::Vote(vote) => Message::Vote(vote),
                    SignedConsensusMsg::Proposal(proposal) => Message::Proposal(proposal),
                };
                self.actions.push(Action::Publish(message));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                let message = match message {
                    LivenessMsg::Vote(vote) => Message::Vote(vote),
                    LivenessMsg::PolkaCertificate(polka) => Message::Polka(polka),
                    LivenessMsg::SkipRoundCertificate(certificate) => Message::RoundCertificate(certificate),
                };
                self.actions.push(Action::Publish(message));
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.actions.push(Action::Publish(Message::Vote(vote)));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                self.actions.push(Action::Publish(Message::RoundCertificate(certificate)));
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                let round = round.as_u32().unwrap_or_default();
                self.actions.push(Action::MakeBlock { round });
                r.resume_with(())
            }
            Effect::RestreamProposal(_, _, _, _, hash, r) => {
                self.actions.push(Action::SendBlock(hash.0));
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                self.actions.push(Action::Decided(own_certificate(&certificate)));
                r.resume_with(())
            }
            Effect::Finalize(_, _, evidence, r) => {
                self.note_contradictions(&evidence);
                r.resume_with(())
            }
            Effect::WalAppend(_, input, r) => {
                self.write_down(&input);
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let digest = self.digests.vote(&vote).ok_or_else(no_round)?;
                r.resume_with(SignedMessage::new(vote, sign(&self.signer, digest)?))
            }
            Effect::SignProposal(proposal, r) => {
                let digest = self.digests.proposal(&proposal).ok_or_else(no_round)?;
                r.resume_with(SignedMessage::new(proposal, sign(&self.signer, digest)?))
            }
            Effect::VerifySignature(signed, name, r) => {
                let digest = match &signed.message {
                    ConsensusMsg::Vote(vote) => self.digests.vote(vote),
                    ConsensusMsg::Proposal(proposal) => self.digests.proposal(proposal),
                };
                r.resume_with(digest.is_some_and(|digest| is_signed_by(digest, &signed.signature, name)))
            }
            Effect::VerifyCommitCertificate(certificate, _, _, r) => {
                let verdict = own_certificate(&certificate).check(&self.digests.domain, &self.set);
                r.resume_with(verdict.map_err(refused))
            }
            Effect::VerifyPolkaCertificate(polka, _, _, r) => r.resume_with(self.check_polka(&polka)),
            Effect::VerifyRoundCertificate(certificate, _, _, r) => r.resume_with(self.check_round_certificate(&certificate)),
            // Decided blocks of peers go past the library, straight to the application; and votes carry nothing else.
            Effect::CertVerifiedSyncValue(_, _, r) | Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            Effect::VerifyExtendedCommitCertificate(_, _, _, _, r) => r.resume_with(Err(CertificateError::VerificationError(None))),
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Err(VoteExtensionError::InvalidVoteExtension)),
        })
    }

    fn schedule(&mut self, timeout: Timeout) {
        let now = Instant::now();
        let mut at = now + self.timeouts.duration_of(timeout);
        if let (TimeoutKind::Propose, Some(round)) = (timeout.kind, timeout.round.as_u32()) {
            self.propose_until = Some((round, at));
            at = now + self.timeouts.silence_in(round);
        }
        self.timers.insert(timeout, at);
    }

    fn begin_round(&mut self, round: u32, proposer: Name, role: Role) {
        tracing::debug!(round, %proposer, ?role, "a round begins");
        self.actions.push(Action::RoundBegan {
            round,
            proposer: proposer.0,
        });
    }

    fn write_down(&mut self, input: &Input<ChainContext>) {
        let Some(entry) = write_entry(input) else { return };
        if self.written.is_empty() || !self.written.contains(&entry.encode_to_vec()) {
            self.log.push(entry);
        }
    }

    fn note_contradictions(&mut self, evidence: &MisbehaviorEvidence<ChainContext>) {
        let votes = evidence.votes.iter().map(|(name, _)| name.0);
        let proposals = evidence.proposals.iter().map(|(name, _)| name.0);
        let liars: BTreeSet<Address> = votes.chain(proposals).collect();
        if !liars.is_empty() {
            self.actions.push(Action::Contradicted(liars));
        }
    }

    fn check_polka(&self, polka: &PolkaCertificate<ChainContext>) -> Result<(), CertificateError<ChainContext>> {
        let votes = polka.polka_signatures.iter().map(|signed| {
            let vote = ChainContext.new_prevote(polka.height, polka.round, NilOrVal::Val(polka.value_id), signed.address);
            SignedMessage::new(vote, signed.signature)
        });
        let power = self.check_votes(votes)?;
        self.enough(power, self.set.has_quorum(power))
    }

    fn check_round_certificate(&self, certificate: &RoundCertificate<ChainContext>) -> Result<(), CertificateError<ChainContext>> {
        let precommits_only = certificate.cert_type == RoundCertificateType::Precommit;
        if let Some(prevote) = certificate
            .round_signatures
            .iter()
            .find(|vote| precommits_only && vote.vote_type == VoteType::Prevote)
        {
            return Err(CertificateError::InvalidVoteType(prevote.address));
        }
        let power = self.check_votes(certificate.votes(&ChainContext))?;
        let enough = if precommits_only {
            self.set.has_quorum(power)
        } else {
            u128::from(power) * 3 > u128::from(self.set.total_power())
        };
        self.enough(power, enough)
    }

    /// Checks votes of distinct members, and returns their power. What costs little comes first.
    fn check_votes(
        &self,
        votes: impl Iterator<Item = SignedMessage<ChainContext, crate::context::Vote>>,
    ) -> Result<u64, CertificateError<ChainContext>> {
        let votes: Vec<_> = votes.collect();
        let mut voters = BTreeSet::new();
        let mut power = 0u64;
        for vote in &votes {
            let name = vote.message.validator;
            if !voters.insert(name) {
                return Err(CertificateError::DuplicateVote(name));
            }
            power = power.saturating_add(self.set.power_of(&name.0).ok_or(CertificateError::UnknownValidator(name))?);
        }
        let forged = |vote: &SignedMessage<ChainContext, crate::context::Vote>| {
            !self
                .digests
                .vote(&vote.message)
                .is_some_and(|digest| is_signed_by(digest, &vote.signature, vote.message.validator))
        };
        match votes.iter().any(forged) {
            true => Err(refused("a signature is not its validator's")),
            false => Ok(power),
        }
    }

    fn enough(&self, signed: u64, enough: bool) -> Result<(), CertificateError<ChainContext>> {
        if enough {
            return Ok(());
        }
        let total = self.set.total_power();
        Err(CertificateError::NotEnoughVotingPower {
            signed,
            total,
            expected: total / 3 * 2 + 1,
        })
    }
}

fn refused(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CertificateError<ChainContext> {
    CertificateError::VerificationError(Some(reason.into().into()))
}

fn no_round() -> alloy::signers::Error {
    alloy::signers::Error::other("there is no vote and no proposal without a round")
}

fn own_certificate(certificate: &LibraryCertificate<ChainContext>) -> CommitCertificate {
    let signatures = certificate.commit_signatures.iter().map(|signed| CommitSignature {
        validator: signed.address.0,
        signature: signed.signature.0,
    });
    let mut signatures: Vec<_> = signatures.collect();
    signatures.sort_by_key(|signed| signed.validator);
    CommitCertificate {
        height: certificate.height.0,
        round: certificate.round.as_u32().unwrap_or_default(),
        block_hash: certificate.value_id.0,
        signatures,
    }
}

/// Inputs that voting depends on; the library asks for no others to be written down.
fn write_entry(input: &Input<ChainContext>) -> Option<wire::LogEntry> {
    use wire::log_entry::Content;
    let content = match input {
        Input::Vote(vote) => Content::Vote(codec::write_vote(vote)),
        Input::Proposal(proposal) => Content::Proposal(codec::write_proposal(proposal)),
        Input::PolkaCertificate(polka) => Content::Polka(codec::write_polka(polka)),
        Input::TimeoutElapsed(timeout) => {
            let kind = match timeout.kind {
                TimeoutKind::Propose => wire::TimeoutKind::Propose,
                TimeoutKind::Prevote => wire::TimeoutKind::Prevote,
                TimeoutKind::Precommit => wire::TimeoutKind::Precommit,
                TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
            };
            Content::Timeout(wire::LoggedTimeout {
                kind: kind.into(),
                round: timeout.round.as_u32()?,
            })
        }
        Input::ProposedValue(value, _) => Content::Verdict(wire::LoggedVerdict {
            height: value.height.0,
            round: value.round.as_u32()?,
            proposer: codec::write_name(value.proposer),
            hash: codec::write_hash(value.value.0),
            valid: value.validity.is_valid(),
        }),
        Input::StartHeight(..) | Input::RoundCertificate(_) | Input::Propose(_) | Input::SyncValueResponse(_) => return None,
    };
    Some(wire::LogEntry { content: Some(content) })
}

/// None for blocks, which are not the library's.
fn read_entry(entry: &wire::LogEntry) -> Result<Option<Input<ChainContext>>, Malformed> {
    use wire::log_entry::Content;
    let content = entry.content.as_ref().ok_or(Malformed("empty"))?;
    Ok(Some(match content {
        Content::Vote(vote) => Input::Vote(codec::read_vote(vote)?),
        Content::Proposal(proposal) => Input::Proposal(codec::read_proposal(proposal)?),
        Content::Polka(polka) => Input::PolkaCertificate(codec::read_polka(polka)?),
        Content::Timeout(timeout) => {
            let kind = match timeout.kind() {
                wire::TimeoutKind::Propose => TimeoutKind::Propose,
                wire::TimeoutKind::Prevote => TimeoutKind::Prevote,
                wire::TimeoutKind::Precommit => TimeoutKind::Precommit,
                wire::TimeoutKind::Unspecified => return Err(Malformed("an unknown timeout")),
            };
            Input::TimeoutElapsed(Timeout::new(Round::new(codec::read_round(timeout.round)?), kind))
        }
        Content::Verdict(verdict) => {
            let value = ProposedValue {
                height: Height(codec::read_height(verdict.height)?),
                round: Round::new(codec::read_round(verdict.round)?),
                valid_round: Round::Nil,
                proposer: codec::read_name(&verdict.proposer)?,
                value: BlockHash(codec::read_hash(&verdict.hash)?),
                validity: Validity::from_bool(verdict.valid),
            };
            Input::ProposedValue(value, ValueOrigin::Consensus)
        }
        Content::Block(_) => return Ok(None),
    }))
}
