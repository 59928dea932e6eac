//! A node's side of a dealing.

use alloy_primitives::B256;
use cipherloom_attest::{Evidence, Verifier};
use cipherloom_threshold::{KeyId, KeyShare};

use super::{Delivered, Session};
use crate::{Acceptance, CeremonyError, Core, Identity, Letter, Store, letter::Envelope, record::check_dealer_evidence};

/// Seals this node's entropy to the dealer, now that all have committed to theirs.
pub(super) fn reveal(session: &Session, identity: &Identity) -> Result<Delivered, CeremonyError> {
    let dealer = session.dealer.as_ref().ok_or(CeremonyError::OutOfOrder("there is no dealer"))?;
    let envelope = Envelope {
        session: session.id,
        from: identity.address(),
        to: dealer.signer,
        number: 0,
    };
    let letter = Letter::sealed(
        identity.signing_key(),
        &session.secrets.box_key,
        envelope,
        dealer.box_key,
        session.secrets.entropy.as_slice(),
    )?;
    Ok(Delivered {
        letters: vec![letter],
        problems: Vec::new(),
        finished: true,
    })
}

pub(super) fn accept(
    session: &mut Session,
    store: &mut Store,
    core: &Core,
    dealer_evidence: &Evidence,
    letter: &Letter,
    verifier: &Verifier,
    now: u64,
) -> Result<Acceptance, CeremonyError> {
    let dealer = session
        .dealer
        .clone()
        .filter(|_| !session.cards.is_empty())
        .ok_or(CeremonyError::OutOfOrder("nothing is dealt before all cards are there"))?;
    check_dealer_evidence(core, &dealer, dealer_evidence, verifier, now)?;
    session.check_core(core)?;
    if let Some(highest) = store.highest(KeyId(core.key_id.0))
        && core.seats.epoch.0 <= highest.0
    {
        return Err(CeremonyError::OldEpoch {
            found: core.seats.epoch,
            newest: B256::from(highest.0),
        });
    }
    let identity = std::sync::Arc::clone(store.identity());
    if letter.from != dealer.signer || letter.to != identity.address() {
        return Err(CeremonyError::Letter(letter.from));
    }
    letter.check(session.id)?;
    let share = KeyShare::from_bytes(&letter.open(&session.secrets.box_key, dealer.box_key)?)?;
    core.manifest()?.check(&share)?;
    if share.party().number() != session.card.new_party {
        return Err(CeremonyError::Refused("the share is of another party"));
    }
    let acceptance = core.accept(&share, identity.signing_key(), identity.address())?;
    store.put_pending(session.id, &share)?;
    Ok(acceptance)
}
