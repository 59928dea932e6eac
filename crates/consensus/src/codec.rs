//! What goes over the wire and into the log, and back.
//!
//! Whatever a peer sends is malformed until it was read here: parts are counted before they are allocated, and hashes, addresses, signatures and
//! rounds have the form that the rest of the crate relies on. Whether what was signed is signed by whom it names is checked elsewhere.

#[cfg(test)]
mod tests;

use alloy::primitives::{Address, B256, Bytes};
use arc_malachitebft_core_types::{
    NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage,
    SignedProposal, SignedVote, VoteType,
};
use cipherloom_primitives::quorum::{CommitCertificate, MAX_VALIDATORS};
use cipherloom_rpc::{
    cipherloom::consensus::v1 as wire,
    wire::{Parts, check_parts},
};
use prost::Message as _;

use crate::{
    application::{DecidedBlock, MAX_BLOCK_BYTES},
    context::{BlockHash, ChainContext, Height, Name, Proposal, Signature, Vote},
};

/// Most blocks in one answer.
pub(crate) const MAX_RANGE: u32 = 32;

/// Rounds and heights above cannot be reached; refusing them keeps sums from overflowing.
const MAX_ROUND: u32 = 1 << 30;
const MAX_HEIGHT: u64 = 1 << 62;

/// A vote and a signature each in a certificate; a validator's prevote and precommit may both be in one.
const MESSAGE: Parts = Parts {
    fields: 3,
    inside: &[
        (
            4,
            Parts {
                fields: MAX_VALIDATORS + 3,
                inside: &[(4, Parts::flat(2))],
            },
        ),
        (
            5,
            Parts {
                fields: 2 * MAX_VALIDATORS + 3,
                inside: &[(4, Parts::flat(4))],
            },
        ),
    ],
};

/// A message that cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// What validators say to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Vote(SignedVote<ChainContext>),
    Proposal(SignedProposal<ChainContext>),
    Polka(PolkaCertificate<ChainContext>),
    RoundCertificate(RoundCertificate<ChainContext>),
    Working(Working),
}

/// A proposer's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Working {
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) signature: Signature,
}

/// A block as its maker sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedBlock {
    pub(crate) height: u64,
    /// The round it was made in.
    pub(crate) round: u32,
    pub(crate) hash: B256,
    pub(crate) block: Bytes,
    pub(crate) signature: Signature,
}

/// A question to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Decided { from: u64, count: u32 },
    Undecided { height: u64, hash: B256 },
}

/// The answer to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) decided: Vec<DecidedBlock>,
    pub(crate) undecided: Option<SignedBlock>,
}

impl Message {
    pub(crate) fn encode(&self, repetition: u64) -> Bytes {
        use wire::message::Content;
        let content = match self {
            Self::Vote(vote) => Content::Vote(write_vote(vote)),
            Self::Proposal(proposal) => Content::Proposal(write_proposal(proposal)),
            Self::Polka(polka) => Content::Polka(write_polka(polka)),
            Self::RoundCertificate(certificate) => Content::RoundCertificate(write_round_certificate(certificate)),
            Self::Working(working) => Content::Working(wire::Working {
                height: working.height,
                round: working.round,
                signature: write_signature(&working.signature),
            }),
        };
        let message = wire::Message {
            repetition,
            content: Some(content),
        };
        message.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        use wire::message::Content;
        check_parts(bytes, &MESSAGE).map_err(|_| Malformed("too many parts"))?;
        let message = wire::Message::decode(bytes).map_err(|_| Malformed("no message"))?;
        Ok(match message.content.ok_or(Malformed("an empty message"))? {
            Content::Vote(vote) => Self::Vote(read_vote(&vote)?),
            Content::Proposal(proposal) => Self::Proposal(read_proposal(&proposal)?),
            Content::Polka(polka) => Self::Polka(read_polka(&polka)?),
            Content::RoundCertificate(certificate) => Self::RoundCertificate(read_round_certificate(&certificate)?),
            Content::Working(working) => Self::Working(Working {
                height: read_height(working.height)?,
                round: read_round(working.round)?,
                signature: read_signature(&working.signature)?,
            }),
        })
    }
}

impl SignedBlock {
    pub(crate) fn encode(&self) -> Bytes {
        write_block(self).encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self> {
        read_block(wire::ProposedBlock::decode(bytes.0).map_err(|_| Malformed("no block"))?)
    }
}

impl Question {
    pub(crate) fn encode(&self) -> Bytes {
        use wire::sync_request::Question;
        let question = match *self {
            Self::Decided { from, count } => Question::Decided(wire::DecidedRange { from, count }),
            Self::Undecided { height, hash } => Question::Undecided(wire::Undecided {
                height,
                hash: write_hash(hash),
            }),
        };
        wire::SyncRequest { question: Some(question) }.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        use wire::sync_request::Question;
        let request = wire::SyncRequest::decode(bytes).map_err(|_| Malformed("no request"))?;
        Ok(match request.question.ok_or(Malformed("an empty request"))? {
            Question::Decided(range) if range.count == 0 || range.count > MAX_RANGE => {
                return Err(Malformed("a range of no blocks, or of too many"));
            }
            Question::Decided(range) => Self::Decided {
                from: read_height(range.from)?,
                count: range.count,
            },
            Question::Undecided(named) => Self::Undecided {
                height: read_height(named.height)?,
                hash: read_hash(&named.hash)?,
            },
        })
    }
}

impl Answer {
    pub(crate) fn encode(self) -> Bytes {
        let decided = self.decided.into_iter().map(|decided| wire::DecidedBlock {
            block: decided.block.0,
            certificate: decided.certificate.encode().into(),
            sidecar: decided.sidecar.0,
        });
        let response = wire::SyncResponse {
            decided: decided.collect(),
            undecided: self.undecided.as_ref().map(write_block),
        };
        response.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self> {
        const ANSWER: Parts = Parts {
            fields: MAX_RANGE as usize + 1,
            inside: &[(1, Parts::flat(3))],
        };
        check_parts(&bytes, &ANSWER).map_err(|_| Malformed("too many parts"))?;
        let response = wire::SyncResponse::decode(bytes.0).map_err(|_| Malformed("no answer"))?;
        let decided = response.decided.into_iter().map(|decided| {
            if decided.block.len().max(decided.sidecar.len()) > MAX_BLOCK_BYTES {
                return Err(Malformed("a block above the limit"));
            }
            Ok(DecidedBlock {
                block: decided.block.into(),
                certificate: CommitCertificate::decode(&decided.certificate).map_err(|_| Malformed("a certificate"))?,
                sidecar: decided.sidecar.into(),
            })
        });
        Ok(Self {
            decided: decided.collect::<Result<_>>()?,
            undecided: response.undecided.map(read_block).transpose()?,
        })
    }
}

/// Writes how far a node is.
pub(crate) fn encode_status(height: u64, hash: B256) -> Bytes {
    let status = wire::Status {
        height,
        hash: write_hash(hash),
    };
    status.encode_to_vec().into()
}

/// Reads how far a node says it is.
pub(crate) fn decode_status(bytes: &[u8]) -> Result<(u64, B256)> {
    let status = wire::Status::decode(bytes).map_err(|_| Malformed("no status"))?;
    Ok((read_height(status.height)?, read_hash(&status.hash)?))
}

pub(crate) fn write_block(block: &SignedBlock) -> wire::ProposedBlock {
    wire::ProposedBlock {
        height: block.height,
        round: block.round,
        hash: write_hash(block.hash),
        block: block.block.0.clone(),
        signature: write_signature(&block.signature),
    }
}

pub(crate) fn read_block(block: wire::ProposedBlock) -> Result<SignedBlock> {
    if block.block.len() > MAX_BLOCK_BYTES {
        return Err(Malformed("a block above the limit"));
    }
    Ok(SignedBlock {
        height: read_height(block.height)?,
        round: read_round(block.round)?,
        hash: read_hash(&block.hash)?,
        block: block.block.into(),
        signature: read_signature(&block.signature)?,
    })
}

pub(crate) fn write_vote(vote: &SignedVote<ChainContext>) -> wire::Vote {
    wire::Vote {
        kind: write_kind(vote.message.kind),
        height: vote.message.height.0,
        round: vote.message.round.as_u32().unwrap_or_default(),
        block: write_value(vote.message.value),
        validator: write_name(vote.message.validator),
        signature: write_signature(&vote.signature),
    }
}

pub(crate) fn read_vote(vote: &wire::Vote) -> Result<SignedVote<ChainContext>> {
    let message = Vote {
        kind: read_kind(vote.kind)?,
        height: Height(read_height(vote.height)?),
        round: Round::new(read_round(vote.round)?),
        value: read_value(vote.block.as_deref())?,
        validator: read_name(&vote.validator)?,
    };
    Ok(SignedMessage::new(message, read_signature(&vote.signature)?))
}

pub(crate) fn write_proposal(proposal: &SignedProposal<ChainContext>) -> wire::Proposal {
    wire::Proposal {
        height: proposal.message.height.0,
        round: proposal.message.round.as_u32().unwrap_or_default(),
        valid_round: proposal.message.valid_round.as_u32(),
        block: write_hash(proposal.message.value.0),
        validator: write_name(proposal.message.validator),
        signature: write_signature(&proposal.signature),
    }
}

pub(crate) fn read_proposal(proposal: &wire::Proposal) -> Result<SignedProposal<ChainContext>> {
    let valid_round = match proposal.valid_round {
        None => Round::Nil,
        Some(round) => Round::new(read_round(round)?),
    };
    let message = Proposal {
        height: Height(read_height(proposal.height)?),
        round: Round::new(read_round(proposal.round)?),
        valid_round,
        value: BlockHash(read_hash(&proposal.block)?),
        validator: read_name(&proposal.validator)?,
    };
    Ok(SignedMessage::new(message, read_signature(&proposal.signature)?))
}

pub(crate) fn write_polka(polka: &PolkaCertificate<ChainContext>) -> wire::Polka {
    let prevotes = polka.polka_signatures.iter().map(|signed| wire::Signed {
        validator: write_name(signed.address),
        signature: write_signature(&signed.signature),
    });
    wire::Polka {
        height: polka.height.0,
        round: polka.round.as_u32().unwrap_or_default(),
        block: write_hash(polka.value_id.0),
        prevotes: prevotes.collect(),
    }
}

pub(crate) fn read_polka(polka: &wire::Polka) -> Result<PolkaCertificate<ChainContext>> {
    let prevotes = polka.prevotes.iter().map(|signed| {
        Ok(PolkaSignature::new(
            read_name(&signed.validator)?,
            read_signature(&signed.signature)?,
        ))
    });
    Ok(PolkaCertificate {
        height: Height(read_height(polka.height)?),
        round: Round::new(read_round(polka.round)?),
        value_id: BlockHash(read_hash(&polka.block)?),
        polka_signatures: prevotes.collect::<Result<_>>()?,
    })
}

fn write_round_certificate(certificate: &RoundCertificate<ChainContext>) -> wire::RoundCertificate {
    let votes = certificate.round_signatures.iter().map(|signed| wire::RoundVote {
        kind: write_kind(signed.vote_type),
        block: write_value(signed.value_id),
        validator: write_name(signed.address),
        signature: write_signature(&signed.signature),
    });
    wire::RoundCertificate {
        height: certificate.height.0,
        round: certificate.round.as_u32().unwrap_or_default(),
        skip: certificate.cert_type == RoundCertificateType::Skip,
        votes: votes.collect(),
    }
}

fn read_round_certificate(certificate: &wire::RoundCertificate) -> Result<RoundCertificate<ChainContext>> {
    let votes = certificate.votes.iter().map(|vote| {
        Ok(RoundSignature::new(
            read_kind(vote.kind)?,
            read_value(vote.block.as_deref())?,
            read_name(&vote.validator)?,
            read_signature(&vote.signature)?,
        ))
    });
    Ok(RoundCertificate {
        height: Height(read_height(certificate.height)?),
        round: Round::new(read_round(certificate.round)?),
        cert_type: if certificate.skip {
            RoundCertificateType::Skip
        } else {
            RoundCertificateType::Precommit
        },
        round_signatures: votes.collect::<Result<_>>()?,
    })
}

fn write_kind(kind: VoteType) -> i32 {
    let kind = match kind {
        VoteType::Prevote => wire::VoteKind::Prevote,
        VoteType::Precommit => wire::VoteKind::Precommit,
    };
    kind.into()
}

fn read_kind(kind: i32) -> Result<VoteType> {
    match wire::VoteKind::try_from(kind) {
        Ok(wire::VoteKind::Prevote) => Ok(VoteType::Prevote),
        Ok(wire::VoteKind::Precommit) => Ok(VoteType::Precommit),
        _ => Err(Malformed("an unknown kind of vote")),
    }
}

fn write_value(value: NilOrVal<BlockHash>) -> Option<prost::bytes::Bytes> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(hash) => Some(write_hash(hash.0)),
    }
}

fn read_value(value: Option<&[u8]>) -> Result<NilOrVal<BlockHash>> {
    value.map_or(Ok(NilOrVal::Nil), |hash| read_hash(hash).map(|hash| NilOrVal::Val(BlockHash(hash))))
}

pub(crate) fn write_hash(hash: B256) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(hash.as_slice())
}

/// The hash of zeros means no block in what is signed, so that it can name none.
pub(crate) fn read_hash(bytes: &[u8]) -> Result<B256> {
    match B256::try_from(bytes) {
        Ok(hash) if !hash.is_zero() => Ok(hash),
        _ => Err(Malformed("a hash")),
    }
}

pub(crate) fn write_name(name: Name) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(name.0.as_slice())
}

pub(crate) fn read_name(bytes: &[u8]) -> Result<Name> {
    Address::try_from(bytes).map(Name).map_err(|_| Malformed("an address"))
}

fn write_signature(signature: &Signature) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(&signature.0)
}

fn read_signature(bytes: &[u8]) -> Result<Signature> {
    bytes.try_into().map(Signature).map_err(|_| Malformed("a signature"))
}

pub(crate) fn read_round(round: u32) -> Result<u32> {
    if round > MAX_ROUND { Err(Malformed("a round")) } else { Ok(round) }
}

pub(crate) fn read_height(height: u64) -> Result<u64> {
    if height > MAX_HEIGHT {
        Err(Malformed("a height"))
    } else {
        Ok(height)
    }
}
