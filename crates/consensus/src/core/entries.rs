//! Inputs of the algorithm as entries of the log.

use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types::{Round, Timeout, TimeoutKind, Validity, ValueOrigin};
use cipherloom_rpc::cipherloom::consensus::v1 as wire;

use crate::{
    codec::{self, Malformed},
    context::{BlockHash, ChainContext, Height},
};

/// Writes an entry for inputs that voting depends on; the library asks for no others to be written down.
pub(super) fn write_entry(input: &Input<ChainContext>) -> Option<wire::LogEntry> {
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

/// Reads an entry. None for blocks, which are not the library's.
pub(super) fn read_entry(entry: &wire::LogEntry) -> Result<Option<Input<ChainContext>>, Malformed> {
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
