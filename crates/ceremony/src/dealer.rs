//! The dealer's side of a dealing: it makes a new key in a trust domain, shares it, and forgets it.
//!
//! The dealer knows the key for a moment; that it runs known code in a trust domain is what members check, twice: before they contribute, and over the very document that they sign. Nothing that it
//! knows is written anywhere. Its randomness is its own hardware's *and* that of all members, who commit to theirs before anybody reveals: as long as one of these sources is good, the shares are.
//!
//! Generating keys is the caller's: it gets a [`Seed`] and gives back [`GeneratedKeys`]. So this crate needs no cryptography of ciphertexts.

use alloy_primitives::{Address, B256, Bytes};
use cipherloom_attest::{Attestor, Evidence, Occasion, Verifier};
use cipherloom_signcryption::SigningKey;
use cipherloom_threshold::{SecretKeys, deal, reshare::KnownValue};
use zeroize::Zeroizing;

use crate::{
    Acceptance, Card, CeremonyError, Core, Identity, Letter, Material, Proposal, Record,
    card::{self, CardSecrets, Places},
    digest::{SeededRng, digest_parts, random},
    letter::Envelope,
    proposal::VERSION,
    record::Known,
};

/// Randomness that everybody contributed to. Wiped when dropped.
pub type Seed = Zeroizing<[u8; 32]>;

/// What key generation gives to a dealer.
pub struct GeneratedKeys {
    /// The key set's id.
    pub key_id: B256,
    /// The bits of the secret of squashed ciphertexts.
    pub squashed: Zeroizing<Vec<u128>>,
    /// The bits of the secret of squashed ciphertexts taken out of a list.
    pub compressed: Zeroizing<Vec<u128>>,
    /// Digests of all public material.
    pub material: Vec<Material>,
    /// Values that are decrypted as a test; one under each secret is enough.
    pub known: Vec<KnownValue>,
}

/// What a dealer hands out.
pub struct Dealt {
    /// What everybody signs.
    pub core: Core,
    /// The dealer's evidence over it.
    pub evidence: Evidence,
    /// To each member its sealed share, party 1 first.
    pub letters: Vec<Letter>,
}

/// A dealer, for one ceremony.
pub struct Dealer {
    proposal: Proposal,
    session: B256,
    key: SigningKey,
    card: Card,
    secrets: CardSecrets,
    cards: Vec<Card>,
}

impl Dealer {
    /// Makes a dealer with keys of its own for this ceremony.
    ///
    /// # Errors
    /// [`CeremonyError::Attest`] if the hardware gives no evidence, [`CeremonyError::Randomness`].
    pub async fn new(proposal: Proposal, attestor: &dyn Attestor) -> Result<Self, CeremonyError> {
        if proposal.previous.is_some() {
            return Err(CeremonyError::Refused("a resharing has no dealer"));
        }
        let identity = Identity::generate()?;
        let key = identity.signing_key().clone();
        let (card, secrets) = card::make(&proposal, Places::DEALER, &key, attestor).await?;
        Ok(Self {
            session: proposal.session()?,
            proposal,
            key,
            card,
            secrets,
            cards: Vec::new(),
        })
    }

    /// Returns what is proposed.
    #[must_use]
    pub const fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// Returns the ceremony's identifier.
    #[must_use]
    pub const fn session(&self) -> B256 {
        self.session
    }

    /// Returns the dealer's card.
    #[must_use]
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// Takes the members' cards, which commit to their entropy, and gives them back in the order in which everybody must get them.
    ///
    /// # Errors
    /// [`CeremonyError::Missing`] and [`CeremonyError::Evidence`] if not all are there and believed.
    pub fn take_cards(&mut self, mut cards: Vec<Card>, verifier: &Verifier, now: u64) -> Result<&[Card], CeremonyError> {
        card::check_all(&self.proposal, self.session, &cards, verifier, now)?;
        cards.sort_by_key(|card| card.signer);
        self.cards = cards;
        Ok(&self.cards)
    }

    /// Takes the members' entropy and mixes it with the dealer's own.
    ///
    /// # Errors
    /// [`CeremonyError::Commitment`] names a member whose entropy is not what it committed to, [`CeremonyError::Missing`] one whose entropy is not there.
    pub fn take_entropy(&self, letters: &[Letter]) -> Result<Seed, CeremonyError> {
        let own = Zeroizing::new(random::<32>()?);
        let mut all = Zeroizing::new(Vec::with_capacity(32 * (self.cards.len() + 3)));
        all.extend_from_slice(own.as_slice());
        all.extend_from_slice(self.secrets.entropy.as_slice());
        if self.cards.is_empty() {
            return Err(CeremonyError::OutOfOrder("entropy follows cards"));
        }
        for card in &self.cards {
            let mut from = letters.iter().filter(|letter| letter.from == card.signer);
            let (Some(letter), None) = (from.next(), from.next()) else {
                return Err(CeremonyError::Missing {
                    what: "the entropy",
                    signer: card.signer,
                });
            };
            if letter.to != self.card.signer {
                return Err(CeremonyError::Letter(letter.from));
            }
            letter.check(self.session)?;
            let content = letter.open(&self.secrets.box_key, card.box_key)?;
            let entropy = <&[u8; 32]>::try_from(content.as_slice()).map_err(|_| CeremonyError::Commitment(card.signer))?;
            if card::commitment(self.session, card.signer, entropy) != card.commitment {
                return Err(CeremonyError::Commitment(card.signer));
            }
            all.extend_from_slice(entropy);
        }
        Ok(Zeroizing::new(digest_parts("seed", &[self.session.as_slice(), &all]).0))
    }

    /// Shares the key, and has the hardware vouch for everything that members are to sign.
    ///
    /// # Errors
    /// [`CeremonyError::Threshold`] if the secrets cannot be shared, [`CeremonyError::Attest`] if the hardware gives no evidence, and others if the keys are not fit for a record.
    pub async fn deal(&self, seed: &Seed, keys: GeneratedKeys, attestor: &dyn Attestor) -> Result<Dealt, CeremonyError> {
        let (core, letters) = self.share(seed, keys)?;
        let statement = card::statement(&self.proposal, Places::DEALER, self.card.signer);
        let report = statement.report_data(self.card.box_key.as_slice(), &Occasion::Ceremony(core.digest()?));
        let evidence = attestor.evidence(report).await?;
        Ok(Dealt { core, evidence, letters })
    }

    fn share(&self, seed: &Seed, keys: GeneratedKeys) -> Result<(Core, Vec<Letter>), CeremonyError> {
        let scope = self.proposal.target.scope(keys.key_id)?;
        let secrets = SecretKeys {
            squashed: &keys.squashed,
            compressed: &keys.compressed,
        };
        let dealing = deal(&scope, secrets, &mut SeededRng::new(seed, "dealing"))?;
        let core = Core {
            version: VERSION,
            nonce: self.proposal.nonce,
            chain_id: self.proposal.chain_id,
            parameters: self.proposal.parameters.clone(),
            seats: self.proposal.target.clone(),
            previous: None,
            dealer: Some(self.card.clone()),
            cards: self.cards.clone(),
            key_id: keys.key_id,
            manifest: Bytes::from(dealing.manifest.to_bytes()),
            material: keys.material,
            known: keys
                .known
                .iter()
                .map(|known| Known {
                    ciphertext: Bytes::from(known.ciphertext.to_bytes()),
                    little_endian: B256::from(known.little_endian),
                })
                .collect(),
            broadcasts: B256::ZERO,
        };
        core.check()?;
        let letters = self
            .proposal
            .target
            .members
            .iter()
            .zip(&dealing.shares)
            .map(|(member, share)| self.letter(*member, &share.to_bytes()))
            .collect::<Result<_, CeremonyError>>()?;
        Ok((core, letters))
    }

    fn letter(&self, member: Address, content: &[u8]) -> Result<Letter, CeremonyError> {
        let card = self.cards.iter().find(|card| card.signer == member).ok_or(CeremonyError::Missing {
            what: "the card",
            signer: member,
        })?;
        let envelope = Envelope {
            session: self.session,
            from: self.card.signer,
            to: member,
            number: 0,
        };
        Letter::sealed(&self.key, &self.secrets.box_key, envelope, card.box_key, content)
    }
}

impl Dealt {
    /// Puts the record together once all members have accepted, and checks it.
    ///
    /// # Errors
    /// What [`Record::check`] says: somebody is missing, or its share does not decrypt the known values.
    pub fn record(&self, acceptances: Vec<Acceptance>) -> Result<Record, CeremonyError> {
        complete(self.core.clone(), Some(self.evidence.clone()), acceptances)
    }
}

pub(crate) fn complete(core: Core, dealer_evidence: Option<Evidence>, mut acceptances: Vec<Acceptance>) -> Result<Record, CeremonyError> {
    acceptances.sort_by_key(|acceptance| acceptance.party);
    let record = Record {
        core,
        dealer_evidence,
        acceptances,
    };
    record.check()?;
    Ok(record)
}
