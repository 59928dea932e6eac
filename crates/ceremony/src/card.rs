//! A participant's card: who it is in this ceremony, the key its letters are sealed to, and its hardware's word for both.
//!
//! The box key is made for one ceremony and forgotten with it, so that letters that somebody kept can never be opened later. The signing key certifies it, and evidence binds it:
//! what is sealed to a card is opened in a trust domain that the policy accepts, or nowhere.

use alloy_primitives::{Address, B256, Bytes};
use cipherloom_attest::{Attestor, Claims, Evidence, Occasion, Role, Statement, Verifier};
use cipherloom_signcryption::{SigningKey, node_address};
use crypto_box::SecretKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    CeremonyError, Proposal,
    digest::{check_signature, digest_document, digest_parts, random, sign},
    proposal::Seats,
};

/// A participant of a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Card {
    /// The ceremony.
    pub session: B256,
    /// Who.
    pub signer: Address,
    /// Its number in the committee whose shares are replaced; 0 if it is not in it.
    pub old_party: u8,
    /// Its number in the committee that gets shares; 0 if it is not in it. A dealer has neither number.
    pub new_party: u8,
    /// The X25519 key that letters to it are sealed to.
    pub box_key: B256,
    /// What it will contribute to the randomness, hashed; zero where nothing is contributed.
    pub commitment: B256,
    /// The hardware's word for session, signer and box key.
    pub evidence: Evidence,
    /// The signature over all of it.
    pub signature: Bytes,
}

/// What is secret about a card.
pub(crate) struct CardSecrets {
    pub(crate) box_key: SecretKey,
    pub(crate) entropy: Zeroizing<[u8; 32]>,
}

/// The places of a participant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) old: u8,
    pub(crate) new: u8,
}

impl Places {
    /// Those of a dealer.
    pub(crate) const DEALER: Self = Self { old: 0, new: 0 };

    pub(crate) fn of(proposal: &Proposal, signer: Address) -> Self {
        let old = |seats: &Seats| seats.party_of(signer);
        Self {
            old: proposal
                .previous
                .as_ref()
                .and_then(|record| old(&record.core.seats))
                .unwrap_or_default(),
            new: proposal.target.party_of(signer).unwrap_or_default(),
        }
    }
}

/// Makes the card of a participant. Entropy is contributed to dealings only.
pub(crate) async fn make(
    proposal: &Proposal,
    places: Places,
    key: &SigningKey,
    attestor: &dyn Attestor,
) -> Result<(Card, CardSecrets), CeremonyError> {
    let session = proposal.session()?;
    let signer = node_address(key);
    let box_key = SecretKey::from_bytes(random()?);
    let public = B256::from(*box_key.public_key().as_bytes());
    let entropy = Zeroizing::new(random()?);
    let commitment = match (proposal.previous.is_none(), places == Places::DEALER) {
        (true, false) => commitment(session, signer, &entropy),
        _ => B256::ZERO,
    };
    let statement = statement(proposal, places, signer);
    let report = statement.report_data(public.as_slice(), &Occasion::Ceremony(session));
    let evidence = attestor.evidence(report).await?;
    let mut card = Card {
        session,
        signer,
        old_party: places.old,
        new_party: places.new,
        box_key: public,
        commitment,
        evidence,
        signature: Bytes::new(),
    };
    card.signature = sign(key, card.digest()?)?;
    Ok((card, CardSecrets { box_key, entropy }))
}

/// What a participant commits to before anybody reveals.
pub(crate) fn commitment(session: B256, signer: Address, entropy: &[u8; 32]) -> B256 {
    digest_parts("entropy", &[session.as_slice(), signer.as_slice(), entropy])
}

/// What a participant's hardware vouches for.
pub(crate) fn statement(proposal: &Proposal, places: Places, signer: Address) -> Statement {
    let previous = proposal.previous.as_ref().map(|record| record.core.seats.context);
    let (context, party) = match (places.old, places.new) {
        (old @ 1.., 0) => (previous.unwrap_or(proposal.target.context), old),
        (_, new) => (proposal.target.context, new),
    };
    Statement {
        role: if places == Places::DEALER { Role::Dealer } else { Role::KmsNode },
        chain_id: proposal.chain_id,
        context,
        party: party.into(),
        signer,
    }
}

impl Card {
    /// Returns what is signed.
    pub(crate) fn digest(&self) -> Result<B256, CeremonyError> {
        let unsigned = Self {
            signature: Bytes::new(),
            ..self.clone()
        };
        digest_document("card", &unsigned)
    }

    pub(crate) const fn places(&self) -> Places {
        Places {
            old: self.old_party,
            new: self.new_party,
        }
    }

    /// Checks signature and places. The evidence is another matter: [`Self::check_evidence`].
    pub(crate) fn check(&self, proposal: &Proposal, session: B256) -> Result<(), CeremonyError> {
        if self.session != session {
            return Err(CeremonyError::Refused("a card is of another ceremony"));
        }
        if self.places() != Places::of(proposal, self.signer) {
            return Err(CeremonyError::Refused("a card names another place than its signer has"));
        }
        check_signature("card", &self.signature, self.digest()?, self.signer)
    }

    /// Checks the hardware's word.
    pub(crate) fn check_evidence(&self, statement: &Statement, verifier: &Verifier, now: u64) -> Result<Claims, CeremonyError> {
        let occasion = Occasion::Ceremony(self.session);
        verifier
            .verify(&self.evidence, statement, self.box_key.as_slice(), &occasion, now)
            .map_err(|source| CeremonyError::Evidence { who: self.signer, source })
    }
}

/// Checks that there is one card of each of these signers, all of this ceremony and believed. Cards of old members may be missing.
pub(crate) fn check_all(proposal: &Proposal, session: B256, cards: &[Card], verifier: &Verifier, now: u64) -> Result<(), CeremonyError> {
    for member in &proposal.target.members {
        if cards.iter().filter(|card| card.signer == *member).count() != 1 {
            return Err(CeremonyError::Missing {
                what: "the card",
                signer: *member,
            });
        }
    }
    for (index, card) in cards.iter().enumerate() {
        if card.places() == Places::DEALER {
            return Err(CeremonyError::Refused("a card is of no member"));
        }
        if cards.iter().take(index).any(|other| other.signer == card.signer) {
            return Err(CeremonyError::Missing {
                what: "the card",
                signer: card.signer,
            });
        }
        card.check(proposal, session)?;
        card.check_evidence(&statement(proposal, card.places(), card.signer), verifier, now)?;
    }
    Ok(())
}
