//! A node's side of a resharing: the state machines of `threshold`, with letters in place of channels.
//!
//! The first two bytes of a letter's content say in which of its places the sender writes, and to which of the reader's: a node can be in both committees. What is said to all is remembered, so that
//! saying two things is noticed here; a digest of it is in what all sign, so that it is noticed across nodes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes};
use cipherloom_threshold::{
    EpochId, KeyId, KeyShare, PartyId, ThresholdError,
    reshare::{Message, NewMember, OldMember, Outgoing, Plan, Recipient, Reshared, Sender},
};
use zeroize::Zeroizing;

use super::{Accepted, Delivered, Session};
use crate::{CeremonyError, Core, Identity, Letter, Proposal, Store, digest::digest_parts, letter::Envelope, proposal::VERSION};

/// The most letters that a node takes of one sender: a handful of rounds, and one letter to each party in some.
const MAX_LETTERS: u32 = 256;

const OLD: u8 = 0;
const NEW: u8 = 1;

pub(super) struct Resharing {
    identity: Arc<Identity>,
    plan: Arc<Plan>,
    old: Option<OldMember<Arc<Plan>, Arc<KeyShare>>>,
    new: Option<NewMember<Arc<Plan>>>,
    next_number: u32,
    /// What was said to all, own words included: sender and number, place of the sender, digest.
    heard: BTreeMap<(Address, u32), (u8, B256)>,
    published: bool,
    finished: Option<Reshared>,
    failed: bool,
}

/// What is being worked off: from which own place, what.
type Queue = VecDeque<(Sender, Outgoing)>;

impl Resharing {
    pub(super) fn start(session: &Session, store: &Store) -> Result<(Self, Delivered), CeremonyError> {
        let plan = Arc::new(plan_of(&session.proposal)?);
        let identity = Arc::clone(store.identity());
        let old = match session.card.old_party {
            0 => None,
            _ => {
                let scope = plan.from();
                let held = store.share(scope.key, scope.epoch)?;
                let share = held.ok_or(CeremonyError::NoShare(B256::from(scope.key.0)))?.share;
                Some(OldMember::new(Arc::clone(&plan), share)?)
            }
        };
        let mut resharing = Self {
            identity,
            plan: Arc::clone(&plan),
            old,
            new: None,
            next_number: 0,
            heard: BTreeMap::new(),
            published: false,
            finished: None,
            failed: false,
        };
        let mut delivered = Delivered::default();
        if session.card.new_party != 0 {
            let party = plan.to().committee.size().party(session.card.new_party.into())?;
            let (member, out) = NewMember::new(plan, party, &mut getrandom::SysRng)?;
            resharing.new = Some(member);
            let queue = out.into_iter().map(|outgoing| (Sender::New(party), outgoing)).collect();
            resharing.work_off(session, queue, &mut delivered)?;
        }
        resharing.look_for_outcome(&mut delivered);
        Ok((resharing, delivered))
    }

    pub(super) fn deliver(&mut self, session: &Session, letters: &[Letter]) -> Result<Delivered, CeremonyError> {
        let mut delivered = Delivered::default();
        for letter in letters {
            match self.take(session, letter, &mut delivered) {
                Ok(()) => {}
                Err(error @ CeremonyError::Equivocation { .. }) => return self.fail(error),
                Err(error) if self.failed => return Err(error),
                Err(error) => delivered
                    .problems
                    .push(format!("letter {} of {}: {error}", letter.number, letter.from)),
            }
        }
        self.look_for_outcome(&mut delivered);
        Ok(delivered)
    }

    pub(super) fn close(&mut self, session: &Session) -> Result<Delivered, CeremonyError> {
        let mut delivered = Delivered::default();
        let places = session.card.places();
        let mut gave_up = false;
        if let Some(old) = self.old.as_mut().filter(|_| !self.published) {
            match old.close() {
                Ok(out) => {
                    let from = Sender::Old(self.plan.from().committee.size().party(places.old.into())?);
                    self.work_off(session, out.into_iter().map(|outgoing| (from, outgoing)).collect(), &mut delivered)?;
                }
                // More masks may come; in its other place this node goes on.
                Err(error) => {
                    delivered.problems.push(error.to_string());
                    gave_up = true;
                }
            }
        }
        if (gave_up || delivered.letters.is_empty())
            && let Some(new) = self.new.as_mut().filter(|_| self.finished.is_none())
        {
            let from = Sender::New(self.plan.to().committee.size().party(places.new.into())?);
            match new.close_stage() {
                Ok(out) => self.work_off(session, out.into_iter().map(|outgoing| (from, outgoing)).collect(), &mut delivered)?,
                Err(error) => return self.fail(error.into()),
            }
        }
        self.look_for_outcome(&mut delivered);
        Ok(delivered)
    }

    /// Says whether this node has published its masked shares, from when on others may come to hold its key.
    pub(super) const fn has_published(&self) -> bool {
        self.published
    }

    pub(super) fn accept(&self, session: &mut Session, store: &mut Store) -> Result<Accepted, CeremonyError> {
        let finished = self
            .finished
            .as_ref()
            .filter(|_| !self.failed)
            .ok_or(CeremonyError::OutOfOrder("the resharing has not finished"))?;
        let previous = session
            .proposal
            .previous
            .as_ref()
            .ok_or(CeremonyError::OutOfOrder("this is not a resharing"))?;
        let core = Core {
            version: VERSION,
            nonce: session.proposal.nonce,
            chain_id: session.proposal.chain_id,
            parameters: session.proposal.parameters.clone(),
            seats: session.proposal.target.clone(),
            previous: Some(previous.digest()?),
            dealer: None,
            cards: session.cards.clone(),
            key_id: previous.core.key_id,
            manifest: Bytes::from(finished.manifest.to_bytes()),
            material: previous.core.material.clone(),
            known: previous.core.known.clone(),
            broadcasts: self.broadcasts(),
        };
        session.check_core(&core)?;
        core.manifest()?.check(&finished.share)?;
        let acceptance = core.accept(&finished.share, self.identity.signing_key(), self.identity.address())?;
        store.put_pending(session.id, &finished.share)?;
        Ok(Accepted { core, acceptance })
    }

    /// Digest of what members of the new committee said to all.
    fn broadcasts(&self) -> B256 {
        let mut all = Vec::new();
        for ((from, number), (place, digest)) in &self.heard {
            if *place == NEW {
                all.extend_from_slice(from.as_slice());
                all.extend_from_slice(&number.to_be_bytes());
                all.extend_from_slice(digest.as_slice());
            }
        }
        digest_parts("broadcasts", &[&all])
    }

    fn take(&mut self, session: &Session, letter: &Letter, delivered: &mut Delivered) -> Result<(), CeremonyError> {
        letter.check(session.id)?;
        let card = session
            .card_of(letter.from)
            .filter(|card| card.signer != session.card.signer)
            .ok_or(CeremonyError::Refused("its sender takes no part"))?;
        if letter.number >= MAX_LETTERS {
            return Err(CeremonyError::Refused("its sender has written too often"));
        }
        let content = if letter.to == Address::ZERO {
            Zeroizing::new(letter.body.clone())
        } else if letter.to == session.card.signer {
            letter.open(&session.secrets.box_key, card.box_key)?
        } else {
            return Err(CeremonyError::Letter(letter.from));
        };
        let ([from, to], message) = content
            .split_first_chunk::<2>()
            .ok_or_else(|| CeremonyError::malformed("letter", "it is cut short"))?;
        if letter.to == Address::ZERO {
            self.hear(letter, *from)?;
        }
        let sender = match *from {
            OLD => Sender::Old(self.plan.from().committee.size().party(card.old_party.into())?),
            NEW => Sender::New(self.plan.to().committee.size().party(card.new_party.into())?),
            _ => return Err(CeremonyError::malformed("letter", "there is no such place")),
        };
        let out = self.receive(sender, *to, message)?;
        self.work_off(session, out, delivered)
    }

    /// Remembers what was said to all.
    fn hear(&mut self, letter: &Letter, place: u8) -> Result<(), CeremonyError> {
        let digest = letter.digest();
        match self.heard.insert((letter.from, letter.number), (place, digest)) {
            Some((_, first)) if first != digest => Err(CeremonyError::Equivocation {
                sender: letter.from,
                number: letter.number,
                first,
                second: digest,
            }),
            _ => Ok(()),
        }
    }

    /// Hands a message to one of this node's places.
    fn receive(&mut self, sender: Sender, to: u8, message: &[u8]) -> Result<Queue, CeremonyError> {
        let message = Message::from_bytes(&self.plan, message)?;
        let ignored = |reason| Err(CeremonyError::Threshold(ThresholdError::UnexpectedMessage(reason)));
        let (own, result) = match (to, sender, self.old.as_mut(), self.new.as_mut()) {
            (OLD, Sender::New(from), Some(old), _) => (Place::Old, old.receive(from, message)),
            (NEW, _, _, Some(new)) => (Place::New, new.receive(sender, message)),
            _ => return ignored("this node has no such place"),
        };
        match result {
            Ok(out) => {
                let own = self.sender(own)?;
                Ok(out.into_iter().map(|outgoing| (own, outgoing)).collect())
            }
            Err(error @ ThresholdError::UnexpectedMessage(_)) => Err(error.into()),
            Err(error) => {
                // An old member's failure is its own; a new member's is that of the resharing.
                self.failed |= own == Place::New;
                Err(error.into())
            }
        }
    }

    fn sender(&self, place: Place) -> Result<Sender, CeremonyError> {
        let identity = crate::identity_of(self.identity.address());
        let found = |party: Option<PartyId>| party.ok_or(CeremonyError::Refused("this node has no such place"));
        match place {
            Place::Old => Ok(Sender::Old(found(self.plan.from().committee.find(&identity))?)),
            Place::New => Ok(Sender::New(found(self.plan.to().committee.find(&identity))?)),
        }
    }

    /// Writes letters, and hands to this node's other place what is for it.
    fn work_off(&mut self, session: &Session, mut queue: Queue, delivered: &mut Delivered) -> Result<(), CeremonyError> {
        while let Some((from, outgoing)) = queue.pop_front() {
            let bytes = outgoing.message.to_bytes(&self.plan);
            let from_place = match from {
                Sender::Old(_) => OLD,
                Sender::New(_) => NEW,
            };
            self.published |= from_place == OLD;
            let (to_place, reader) = match outgoing.to {
                Recipient::Old(party) => (OLD, member(self.previous(session)?, party)),
                Recipient::New(party) => (NEW, member(&session.proposal.target.members, party)),
                Recipient::AllNew => (NEW, None),
            };
            let is_to_all = outgoing.to == Recipient::AllNew;
            let for_own_place = reader == Some(session.card.signer) || (is_to_all && from_place == OLD && self.new.is_some());
            if for_own_place {
                match self.receive(from, to_place, &bytes) {
                    Ok(out) => queue.extend(out),
                    Err(error) if self.failed => return Err(error),
                    Err(error) => delivered.problems.push(error.to_string()),
                }
            }
            if reader == Some(session.card.signer) {
                continue;
            }
            let mut content = Zeroizing::new(Vec::with_capacity(2 + bytes.len()));
            content.extend_from_slice(&[from_place, to_place]);
            content.extend_from_slice(&bytes);
            if is_to_all {
                let number = self.number();
                let letter = Letter::open_to_all(self.identity.signing_key(), session.id, number, &content)?;
                self.hear(&letter, from_place)?;
                delivered.letters.push(letter);
            } else if let Some(card) = reader.and_then(|reader| session.card_of(reader)) {
                let envelope = Envelope {
                    session: session.id,
                    from: self.identity.address(),
                    to: card.signer,
                    number: self.number(),
                };
                let own = &session.secrets.box_key;
                delivered
                    .letters
                    .push(Letter::sealed(self.identity.signing_key(), own, envelope, card.box_key, &content)?);
            }
            // An old member without a card is gone: nobody could open a letter to it.
        }
        Ok(())
    }

    fn previous<'a>(&self, session: &'a Session) -> Result<&'a [Address], CeremonyError> {
        let previous = session.proposal.previous.as_ref();
        previous
            .map(|record| record.core.seats.members.as_slice())
            .ok_or(CeremonyError::OutOfOrder("this is not a resharing"))
    }

    const fn number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn look_for_outcome(&mut self, delivered: &mut Delivered) {
        if let Some(finished) = self.new.as_mut().and_then(NewMember::take_finished) {
            self.finished = Some(finished);
        }
        delivered.finished = match self.new {
            Some(_) => self.finished.is_some(),
            None => self.published,
        };
    }

    fn fail<T>(&mut self, error: CeremonyError) -> Result<T, CeremonyError> {
        self.failed = true;
        Err(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Old,
    New,
}

fn member(members: &[Address], party: PartyId) -> Option<Address> {
    members.get(usize::from(party.number()) - 1).copied()
}

/// What everybody agrees on: it follows from the proposal.
fn plan_of(proposal: &Proposal) -> Result<Plan, CeremonyError> {
    let previous = proposal
        .previous
        .as_ref()
        .ok_or(CeremonyError::OutOfOrder("this is not a resharing"))?;
    let from = previous.core.scope()?;
    let to = proposal.target.scope(previous.core.key_id)?;
    debug_assert_eq!(
        (from.key, from.epoch),
        (KeyId(previous.core.key_id.0), EpochId(previous.core.seats.epoch.0))
    );
    Ok(Plan::new(from, to, previous.core.manifest()?.dimensions(), previous.core.known()?)?)
}
