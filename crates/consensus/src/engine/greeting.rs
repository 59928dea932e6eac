//! What a validator that connects is told: everything of this height that it missed and that nobody repeats to it at once.
//!
//! Votes are sent again only after a while without progress, and a proposal never. So a validator that comes late, or back, would wait for the one and be of
//! no use for the other, just when it is needed for a quorum.

use std::collections::HashSet;

use alloy::primitives::Address;
use arc_malachitebft_core_types::VoteType;

use super::Engine;
use crate::{
    codec::Message,
    network::{Channel, PeerId},
};

/// The newest of each kind that this validator said at one height.
#[derive(Debug, Default)]
pub(super) struct Said {
    proposal: Option<Message>,
    prevote: Option<Message>,
    precommit: Option<Message>,
    certificate: Option<Message>,
    /// Who was sent the proposal's block. Who loses it, or connects again and again, asks for it.
    has_block: HashSet<PeerId>,
}

impl Said {
    /// Takes note of what is said.
    pub(super) fn note(&mut self, message: &Message, own: Address) {
        let place = match message {
            // Votes of others go out again as part of certificates, and not in one's own name.
            Message::Vote(vote) if vote.message.validator.0 != own => return,
            Message::Vote(vote) if vote.message.kind == VoteType::Prevote => &mut self.prevote,
            Message::Vote(_) => &mut self.precommit,
            Message::Proposal(_) => &mut self.proposal,
            Message::RoundCertificate(_) => &mut self.certificate,
            Message::Polka(_) | Message::Working(_) => return,
        };
        if matches!(message, Message::Proposal(_)) && place.as_ref() != Some(message) {
            self.has_block.clear();
        }
        *place = Some(message.clone());
    }

    fn messages(&self) -> impl Iterator<Item = &Message> {
        // What lets the other join the round comes first.
        [&self.certificate, &self.proposal, &self.prevote, &self.precommit]
            .into_iter()
            .flatten()
    }
}

impl Engine {
    /// Tells a validator that connected what it missed.
    pub(super) fn greet(&mut self, peer: PeerId) {
        let is_validator = self.core.as_ref().is_some_and(|core| core.validators().contains(&peer));
        if !is_validator {
            return;
        }
        for message in self.said.messages() {
            self.repetition = self.repetition.wrapping_add(1);
            self.network.send(peer, Channel::Consensus, message.encode(self.repetition));
        }
        if let Some(Message::Proposal(proposal)) = &self.said.proposal
            && let Some(block) = self.blocks.valid(proposal.message.value.0)
            && self.said.has_block.insert(peer)
        {
            self.network.send(peer, Channel::Blocks, block.encode());
        }
    }

    /// Takes note of who is connected now.
    pub(super) fn note_peers(&mut self) {
        let peers = self.network.peers();
        self.peers = peers.len();
        if let Some(core) = &mut self.core {
            core.connected(peers);
        }
    }
}
