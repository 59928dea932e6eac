//! What the library asks for while it works: signatures, checks, timers; and what it wants to be done or written down afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect, Input, LivenessMsg, MisbehaviorEvidence, Resumable as _, Resume, Role, SignedConsensusMsg, VoteExtensionError,
};
use arc_malachitebft_core_types::{
    CertificateError, CommitCertificate as LibraryCertificate, Context as _, NilOrVal, PolkaCertificate, Round, RoundCertificate,
    RoundCertificateType, SignedMessage, SignedVote, Timeout, TimeoutKind, VoteType,
};
use cipherloom_primitives::quorum::{CommitCertificate, CommitSignature, ValidatorSet};
use cipherloom_rpc::cipherloom::consensus::v1 as wire;
use prost::Message as _;
use tokio::time::Instant;

use super::{Action, entries::write_entry, presence::Presence};
use crate::{
    codec::Message,
    config::Timeouts,
    context::{ChainContext, Name},
    signing::{Digests, is_signed_by, sign},
};

/// The wait of a round for its block.
struct Proposing {
    round: u32,
    proposer: Option<Address>,
    began: Instant,
    /// How long the block may take of a proposer that showed a sign of life.
    until: Instant,
    sign: Sign,
}

/// What the proposer of a round has shown of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Nothing,
    /// It said that it is at work.
    Working,
    /// It has proposed, and is not needed any more.
    Proposed,
}

/// What the library may ask for at any time.
pub(super) struct Shell {
    pub(super) digests: Digests,
    pub(super) signer: PrivateKeySigner,
    pub(super) set: ValidatorSet,
    pub(super) timeouts: Timeouts,
    pub(super) timers: HashMap<Timeout, Instant>,
    pub(super) presence: Presence,
    /// Since when those who are there are a quorum, if they are.
    quorum_since: Option<Instant>,
    /// The round that began last, and who proposes in it.
    proposer: Option<(u32, Address)>,
    /// What a round waits for.
    proposing: Option<Proposing>,
    pub(super) actions: Vec<Action>,
    pub(super) log: Vec<wire::LogEntry>,
    /// While the log is gone through again: what it has already.
    pub(super) written: HashSet<Vec<u8>>,
}

impl Shell {
    pub(super) fn new(digests: Digests, signer: PrivateKeySigner, set: ValidatorSet, timeouts: Timeouts) -> Self {
        Self {
            digests,
            signer,
            set,
            timeouts,
            timers: HashMap::new(),
            presence: Presence::default(),
            quorum_since: None,
            proposer: None,
            proposing: None,
            actions: Vec::new(),
            log: Vec::new(),
            written: HashSet::new(),
        }
    }

    /// Answers the library.
    pub(super) fn handle(&mut self, effect: Effect<ChainContext>) -> Result<Resume<ChainContext>, alloy::signers::Error> {
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
        let at = now + self.timeouts.duration_of(timeout);
        self.timers.insert(timeout, at);
        if let (TimeoutKind::Propose, Some(round)) = (timeout.kind, timeout.round.as_u32()) {
            self.proposing = Some(Proposing {
                round,
                proposer: self.proposer.filter(|(of, _)| *of == round).map(|(_, proposer)| proposer),
                began: now,
                until: at,
                sign: Sign::Nothing,
            });
            self.renew_propose();
        }
    }

    /// Decides anew till when the round waits for a sign of life, or for the block.
    pub(super) fn renew_propose(&mut self) {
        let own = self.signer.address();
        if self.presence.is_quorum(&self.set, &own) {
            self.quorum_since.get_or_insert_with(Instant::now);
        } else {
            self.quorum_since = None;
        }
        let Some(proposing) = &self.proposing else { return };
        let is_away = proposing
            .proposer
            .is_some_and(|proposer| proposer != own && !self.presence.is_there(&proposer));
        let patience = match proposing.sign {
            // Who was at work and is gone will not come to an end.
            Sign::Nothing | Sign::Working if is_away => Some(self.timeouts.absence_in(proposing.round)),
            Sign::Nothing => Some(self.timeouts.silence_in(proposing.round)),
            Sign::Working | Sign::Proposed => None,
        };
        let at = match (self.quorum_since, patience) {
            // Who completes the quorum may be the proposer.
            (Some(since), Some(patience)) => proposing.until.min(proposing.began.max(since) + patience),
            // Without a quorum, a vote for no block leads nowhere, and is in the way of the block that comes with the quorum.
            _ => proposing.until,
        };
        // Once it elapsed, or there was a proposal, it is not to come again.
        if let Some(timer) = self.timers.get_mut(&Timeout::propose(Round::new(proposing.round))) {
            *timer = at;
        }
    }

    /// A proposer that said that it is at work gets all the time there is, as long as it is there.
    pub(super) fn proposer_works(&mut self, round: u32) {
        self.shown(round, Sign::Working);
    }

    /// What a proposer has proposed gets all the time there is.
    pub(super) fn proposer_proposed(&mut self, round: u32) {
        self.shown(round, Sign::Proposed);
    }

    fn shown(&mut self, round: u32, sign: Sign) {
        if let Some(proposing) = self.proposing.as_mut().filter(|proposing| proposing.round == round) {
            // Messages may come in another order than they were sent in.
            if proposing.sign != Sign::Proposed {
                proposing.sign = sign;
            }
            self.renew_propose();
        }
    }

    /// When a round stops waiting for verdicts.
    pub(super) fn propose_until(&self, round: u32) -> Option<Instant> {
        self.proposing
            .as_ref()
            .filter(|proposing| proposing.round == round)
            .map(|proposing| proposing.until)
    }

    /// Begins a height: nothing is waited for any more.
    pub(super) fn next_height(&mut self, set: ValidatorSet) {
        self.set = set;
        self.written.clear();
        self.proposing = None;
        self.proposer = None;
        self.presence.next_height();
    }

    fn begin_round(&mut self, round: u32, proposer: Name, role: Role) {
        tracing::debug!(round, %proposer, ?role, "a round begins");
        self.proposer = Some((round, proposer.0));
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
    fn check_votes(&self, votes: impl Iterator<Item = SignedVote<ChainContext>>) -> Result<u64, CertificateError<ChainContext>> {
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
        let forged = |vote: &SignedVote<ChainContext>| {
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
