//! A node's side of every ceremony.
//!
//! # Roles
//! The *driver* calls the methods of all nodes: a [`Dealer`](crate::Dealer) that makes a new key, or whoever [carries](crate::carry_resharing) a resharing. The node trusts no driver: it
//! agrees to the committee that the chain has registered and to nothing else, believes participants by their evidence, and gives every secret only sealed to one of them.
//!
//! # Flow
//!
//! | step | a dealing | a resharing |
//! |---|---|---|
//! | [`Node::begin`] | proposal and dealer's card → this node's card, with a commitment to entropy | proposal → card |
//! | [`Node::cards`] | all cards → entropy, sealed to the dealer | all cards → first letters |
//! | [`Node::deal`] | what everybody signs, dealer's evidence, sealed share → acceptance | |
//! | [`Node::deliver`], [`Node::close`] | | letters → letters, as long as there are any |
//! | [`Node::accept`] | | acceptance |
//! | [`Node::activate`] | record with all acceptances → the share is used | the same, and the old share is erased |
//!
//! Before it accepts, a node has sealed its new share to disk. Before it activates, it has checked that all members accepted the same and that their shares decrypt known values.
//!
//! # Restart
//! Ceremonies are not resumed: whatever went wrong, [`Node::abort`] or the next [`Node::begin`] wipes what was there, and old shares stay in use. Only activation is resumed: an accepted share survives a
//! restart, and the record can be delivered again.

mod dealing;
mod resharing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256};
use cipherloom_attest::{Attestor, Role, Statement, Verifier, ra_tls::Clock};
use cipherloom_threshold::{EpochId, KeyId};

use self::resharing::Resharing;
use crate::{
    Acceptance, Backup, Card, CeremonyError, Core, Held, Identity, Letter, Proposal, Record, RecoveryKey, Registration, Store,
    card::{self, CardSecrets, Places},
};

/// What came of letters.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// Letters to others.
    pub letters: Vec<Letter>,
    /// Why letters were ignored.
    pub problems: Vec<String>,
    /// Whether this node has nothing more to say and can accept.
    pub finished: bool,
}

/// A node's word that it has its new share.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What it signed; the same for all.
    pub core: Core,
    /// Its signature.
    pub acceptance: Acceptance,
}

/// One node.
pub struct Node {
    attestor: Arc<dyn Attestor>,
    verifier: Verifier,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    store: Store,
    session: Option<Box<Session>>,
}

/// A ceremony that this node takes part in.
struct Session {
    id: B256,
    proposal: Proposal,
    dealer: Option<Card>,
    card: Card,
    secrets: CardSecrets,
    /// Those of all participants, once they are known, by address.
    cards: Vec<Card>,
    resharing: Option<Resharing>,
    /// What this node signed. It signs one outcome of a ceremony, and no other.
    accepted: Option<B256>,
}

impl Node {
    /// Makes a node of its store. `verifier` says whose evidence it believes, `clock` tells the time in seconds since 1970.
    #[must_use]
    pub fn new(store: Store, attestor: Arc<dyn Attestor>, verifier: Verifier, clock: Clock) -> Self {
        Self {
            attestor,
            verifier,
            clock,
            state: Mutex::new(State { store, session: None }),
        }
    }

    /// Returns who this node is.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(self.lock().store.identity())
    }

    /// Returns the keys of which shares are in use, with their epochs.
    #[must_use]
    pub fn held(&self) -> Vec<(KeyId, EpochId)> {
        self.lock().store.held()
    }

    /// Reads the share of a key: see [`Store::share`].
    ///
    /// # Errors
    /// As there.
    pub fn share(&self, key: KeyId, floor: EpochId) -> Result<Option<Held>, CeremonyError> {
        self.lock().store.share(key, floor)
    }

    /// Begins a ceremony, and wipes what another one left. `registration` is what this node itself read from the chain about the proposal's target.
    ///
    /// # Errors
    /// [`CeremonyError::NotRegistered`], [`CeremonyError::OldEpoch`], [`CeremonyError::Evidence`], and others if the proposal is not for this node.
    pub async fn begin(&self, proposal: Proposal, dealer: Option<Card>, registration: &Registration) -> Result<Card, CeremonyError> {
        registration.check(&proposal)?;
        let identity = self.identity();
        let places = Places::of(&proposal, identity.address());
        if places == Places::DEALER {
            return Err(CeremonyError::Refused("this node has no place in the proposal"));
        }
        let id = proposal.session()?;
        match (&dealer, &proposal.previous) {
            (Some(dealer), None) => self.check_dealer(&proposal, id, dealer)?,
            (None, Some(previous)) => self.check_previous(previous, &proposal, places)?,
            _ => return Err(CeremonyError::Refused("a dealer makes new keys, and nothing else")),
        }
        let (card, secrets) = card::make(&proposal, places, identity.signing_key(), &*self.attestor).await?;
        let mut state = self.lock();
        state.store.drop_pending()?;
        state.session = Some(Box::new(Session {
            id,
            proposal,
            dealer,
            card: card.clone(),
            secrets,
            cards: Vec::new(),
            resharing: None,
            accepted: None,
        }));
        Ok(card)
    }

    /// Takes the cards of all participants. In a dealing the answer is this node's entropy, sealed to the dealer; in a resharing the first letters.
    ///
    /// # Errors
    /// [`CeremonyError::Missing`], [`CeremonyError::Evidence`] and others if not every card is there and believed.
    pub fn cards(&self, session: B256, mut cards: Vec<Card>) -> Result<Delivered, CeremonyError> {
        let mut state = self.lock();
        let State { store, session: current } = &mut *state;
        let current = running(current, session)?;
        if !current.cards.is_empty() {
            return Err(CeremonyError::OutOfOrder("the cards are there already"));
        }
        card::check_all(&current.proposal, session, &cards, &self.verifier, (self.clock)())?;
        if !cards.contains(&current.card) {
            return Err(CeremonyError::Missing {
                what: "the card that was made here",
                signer: current.card.signer,
            });
        }
        cards.sort_by_key(|card| card.signer);
        current.cards = cards;
        let identity = Arc::clone(store.identity());
        match current.dealer {
            Some(_) => dealing::reveal(current, &identity),
            None => {
                let (resharing, delivered) = Resharing::start(current, store)?;
                current.resharing = Some(resharing);
                Ok(delivered)
            }
        }
    }

    /// Takes what a dealer dealt: what everybody is to sign, the dealer's evidence for it, and this node's sealed share. Everything is checked and the share sealed to disk before this node signs.
    ///
    /// # Errors
    /// [`CeremonyError::Evidence`], [`CeremonyError::Threshold`] if the share is not what the manifest commits to, [`CeremonyError::Refused`] and others.
    pub fn deal(&self, core: &Core, dealer_evidence: &cipherloom_attest::Evidence, letter: &Letter) -> Result<Acceptance, CeremonyError> {
        let mut state = self.lock();
        let State { store, session: current } = &mut *state;
        let current = running(current, letter.session)?;
        dealing::accept(current, store, core, dealer_evidence, letter, &self.verifier, (self.clock)())
    }

    /// Takes letters of a resharing.
    ///
    /// # Errors
    /// [`CeremonyError::NoSession`]; [`CeremonyError::Equivocation`] and [`CeremonyError::Threshold`] if the resharing has failed. A letter that is merely wrong is ignored, with a word in the answer.
    pub fn deliver(&self, session: B256, letters: &[Letter]) -> Result<Delivered, CeremonyError> {
        self.resharing(session, |resharing, current| resharing.deliver(current, letters))
    }

    /// Ends a stage of a resharing with what has arrived.
    ///
    /// # Errors
    /// As [`Self::deliver`].
    pub fn close(&self, session: B256) -> Result<Delivered, CeremonyError> {
        self.resharing(session, Resharing::close)
    }

    /// Accepts the outcome of a resharing: seals the new share to disk and signs.
    ///
    /// # Errors
    /// [`CeremonyError::OutOfOrder`] unless this node has finished.
    pub fn accept(&self, session: B256) -> Result<Accepted, CeremonyError> {
        let mut state = self.lock();
        let State { store, session: current } = &mut *state;
        let current = running(current, session)?;
        let resharing = current
            .resharing
            .take()
            .ok_or(CeremonyError::OutOfOrder("this is not a resharing, or it has no cards yet"))?;
        let accepted = resharing.accept(current, store);
        current.resharing = Some(resharing);
        accepted
    }

    /// Follows a complete record: puts the new share into use, or gives the old one up to others, and erases what is replaced. Can be repeated.
    ///
    /// # Errors
    /// [`CeremonyError::NoSession`] if this node did not take part, and what [`Record::check`] says.
    pub fn activate(&self, record: &Record) -> Result<(), CeremonyError> {
        record.check()?;
        record.check_evidence(&self.verifier, (self.clock)())?;
        let mut state = self.lock();
        let member = state.store.identity().address();
        match record.core.seats.party_of(member) {
            Some(_) => state.store.activate(record)?,
            None => state.store.retire(record)?,
        }
        state.session = None;
        Ok(())
    }

    /// Ends a ceremony and wipes what came of it, unless it was activated.
    ///
    /// # Errors
    /// [`CeremonyError::NoSession`] if there is no such ceremony.
    pub fn abort(&self, session: B256) -> Result<(), CeremonyError> {
        let mut state = self.lock();
        running(&mut state.session, session)?;
        state.session = None;
        state.store.drop_pending()
    }

    /// Seals identity and share to the recovery key of this node's own configuration. `floor` is the chain's epoch.
    ///
    /// # Errors
    /// [`CeremonyError::NoShare`], and those of [`Store::share`].
    pub fn backup(&self, key: KeyId, floor: EpochId, recovery_key: &RecoveryKey) -> Result<Backup, CeremonyError> {
        let (held, identity) = {
            let state = self.lock();
            (state.store.share(key, floor)?, Arc::clone(state.store.identity()))
        };
        let held = held.ok_or(CeremonyError::NoShare(B256::from(key.0)))?;
        Backup::make(&identity, &held.share, &held.record, recovery_key)
    }

    fn believes(&self, card: &Card, statement: &Statement) -> Result<(), CeremonyError> {
        card.check_evidence(statement, &self.verifier, (self.clock)()).map(|_| ())
    }

    fn check_dealer(&self, proposal: &Proposal, session: B256, dealer: &Card) -> Result<(), CeremonyError> {
        dealer.check(proposal, session)?;
        let statement = card::statement(proposal, dealer.places(), dealer.signer);
        if statement.role != Role::Dealer {
            return Err(CeremonyError::Refused("the dealer is a member of the committee"));
        }
        self.believes(dealer, &statement)
    }

    fn check_previous(&self, previous: &Record, proposal: &Proposal, places: Places) -> Result<(), CeremonyError> {
        let state = self.lock();
        let key = KeyId(previous.core.key_id.0);
        if let Some(highest) = state.store.highest(key)
            && proposal.target.epoch.0 <= highest.0
        {
            return Err(CeremonyError::OldEpoch {
                found: proposal.target.epoch,
                newest: B256::from(highest.0),
            });
        }
        if places.old == 0 {
            return Ok(());
        }
        let held = state.store.share(key, EpochId(previous.core.seats.epoch.0))?;
        let held = held.ok_or(CeremonyError::NoShare(previous.core.key_id))?;
        if held.record.digest()? != previous.digest()? {
            return Err(CeremonyError::Refused("this node holds a share of another record"));
        }
        Ok(())
    }

    fn resharing(
        &self,
        session: B256,
        step: impl FnOnce(&mut Resharing, &Session) -> Result<Delivered, CeremonyError>,
    ) -> Result<Delivered, CeremonyError> {
        let mut state = self.lock();
        let State { store, session: current } = &mut *state;
        let current = running(current, session)?;
        let mut resharing = current
            .resharing
            .take()
            .ok_or(CeremonyError::OutOfOrder("this is not a resharing, or it has no cards yet"))?;
        let delivered = step(&mut resharing, current);
        let gave_up = resharing.has_published();
        current.resharing = Some(resharing);
        if gave_up {
            store.agree(session)?;
        }
        delivered
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic could leave half done is in memory only, and begins anew; files are replaced whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn running(current: &mut Option<Box<Session>>, session: B256) -> Result<&mut Session, CeremonyError> {
    match current {
        Some(current) if current.id == session => Ok(current),
        _ => Err(CeremonyError::NoSession),
    }
}

impl Session {
    fn card_of(&self, signer: Address) -> Option<&Card> {
        self.cards.iter().find(|card| card.signer == signer)
    }

    /// Checks that what is to be signed is about this ceremony and its participants, and that nothing else was signed.
    fn check_core(&mut self, core: &Core) -> Result<(), CeremonyError> {
        core.check()?;
        if core.session()? != self.id {
            return Err(CeremonyError::Refused("what is to be signed is of another ceremony"));
        }
        if core.cards != self.cards || core.dealer != self.dealer {
            return Err(CeremonyError::Refused("what is to be signed names other participants"));
        }
        let digest = core.digest()?;
        if *self.accepted.get_or_insert(digest) != digest {
            return Err(CeremonyError::Refused("another outcome of this ceremony was signed here"));
        }
        Ok(())
    }
}
