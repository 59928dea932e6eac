//! The record of a ceremony: what came out, who vouches for it, and how anybody checks it. It has no secrets and is published.
//!
//! **What it proves.** Every member signed the same core: committee, epoch, commitments to all shares, digests of the public key material, the participants' cards with their evidence. And every member
//! added its partial decryptions of known values under its share, so that anybody can see that the shares belong together and to the key. For a new key the dealer's hardware vouches for the core.
//!
//! **What it is for.** A record with the signatures of all members is what activates shares, and what makes the holders of earlier ones erase them. So it can be delivered again by anybody, as often as needed.

use alloy_primitives::{Address, B256, Bytes};
use cipherloom_attest::{Evidence, Occasion, Role, Statement, Verifier};
use cipherloom_signcryption::SigningKey;
use cipherloom_threshold::{
    CommitteeSize, Contribution, Expected, KeyShare, Manifest, PartialDecryption, Scope, SquashedCiphertext, reconstruct,
    reshare::KnownValue,
};
use serde::{Deserialize, Serialize};

use crate::{
    Card, CeremonyError,
    card::Places,
    digest::{check_signature, digest_document, digest_parts, from_json, sign, to_json},
    proposal::{MAX_PARAMETERS_BYTES, Seats, VERSION, session_of},
};

/// The longest record, in bytes of JSON. Known values under production parameters have about 0.4 MB.
pub const MAX_RECORD_BYTES: usize = 8 << 20;
/// The most known values, as for resharings.
const MAX_KNOWN_VALUES: usize = 8;
/// The most pieces of public key material.
const MAX_MATERIAL: usize = 32;
const MAX_NAME_BYTES: usize = 128;

/// A piece of public key material that belongs to the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Material {
    /// What it is: the file's name in the key set's directory.
    pub name: String,
    /// Its SHA-256 digest.
    pub digest: B256,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// A ciphertext and what it decrypts to, known to everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Known {
    /// The noise-squashed ciphertext, encoded.
    pub ciphertext: Bytes,
    /// The value, little-endian.
    pub little_endian: B256,
}

/// What all members sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Core {
    /// [`VERSION`].
    pub version: u32,
    /// The proposal's random number.
    pub nonce: B256,
    /// The host chain.
    pub chain_id: u64,
    /// The name of the key set's parameters.
    pub parameters: String,
    /// Who holds the shares, in which context and epoch.
    #[serde(flatten)]
    pub seats: Seats,
    /// The digest of the record whose shares these replace; nothing for a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<B256>,
    /// The dealer of a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dealer: Option<Card>,
    /// The cards of the participants.
    pub cards: Vec<Card>,
    /// The key set's id.
    pub key_id: B256,
    /// Commitments to all shares, encoded.
    pub manifest: Bytes,
    /// Digests of the public key material.
    pub material: Vec<Material>,
    /// Values whose decryption shows that the shares are right.
    pub known: Vec<Known>,
    /// The digest of everything that members said to all; zero for a new key.
    pub broadcasts: B256,
}

/// What one member signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Acceptance {
    /// Its number.
    pub party: u8,
    /// Its address.
    pub signer: Address,
    /// Its partial decryptions of the known values.
    pub partials: Vec<Bytes>,
    /// Its signature over core and partial decryptions.
    pub signature: Bytes,
}

/// What came out of a ceremony, signed by all members of the committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Record {
    /// What is signed.
    pub core: Core,
    /// The dealer's evidence over the core's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dealer_evidence: Option<Evidence>,
    /// The members' signatures, party 1 first.
    pub acceptances: Vec<Acceptance>,
}

impl Core {
    /// Returns the digest that members sign.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no core that was read shows.
    pub fn digest(&self) -> Result<B256, CeremonyError> {
        digest_document("record", self)
    }

    /// Returns the ceremony's identifier.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub fn session(&self) -> Result<B256, CeremonyError> {
        session_of(self.nonce, self.chain_id, &self.parameters, &self.seats, self.previous)
    }

    /// Returns what the shares are bound to.
    ///
    /// # Errors
    /// [`CeremonyError::Threshold`] if there can be no such committee.
    pub fn scope(&self) -> Result<Scope, CeremonyError> {
        self.seats.scope(self.key_id)
    }

    /// Reads the commitments.
    ///
    /// # Errors
    /// [`CeremonyError::Threshold`] if they are malformed, [`CeremonyError::Refused`] if they are of something else.
    pub fn manifest(&self) -> Result<Manifest, CeremonyError> {
        let manifest = Manifest::from_bytes(&self.manifest)?;
        if *manifest.scope() != self.scope()? {
            return Err(CeremonyError::Refused(
                "the manifest is of another key, context, epoch or committee",
            ));
        }
        Ok(manifest)
    }

    /// Reads the known values.
    ///
    /// # Errors
    /// [`CeremonyError::Threshold`] if one is malformed, [`CeremonyError::Malformed`] if there are none or too many.
    pub fn known(&self) -> Result<Vec<KnownValue>, CeremonyError> {
        if self.known.is_empty() || self.known.len() > MAX_KNOWN_VALUES {
            return Err(CeremonyError::malformed("record", "it has one to eight known values"));
        }
        let read = |known: &Known| {
            Ok(KnownValue {
                ciphertext: SquashedCiphertext::from_bytes(&known.ciphertext)?,
                little_endian: known.little_endian.0,
            })
        };
        self.known.iter().map(read).collect()
    }

    /// Returns what the hardware of a member vouches for.
    #[must_use]
    pub fn member_statement(&self, card: &Card) -> Statement {
        self.statement(Role::KmsNode, card.new_party.into(), card.signer)
    }

    fn statement(&self, role: Role, party: u32, signer: Address) -> Statement {
        Statement {
            role,
            chain_id: self.chain_id,
            context: self.seats.context,
            party,
            signer,
        }
    }

    /// Checks everything but signatures over it: form, commitments, cards.
    pub(crate) fn check(&self) -> Result<(), CeremonyError> {
        let refuse = |reason: &str| Err(CeremonyError::malformed("record", reason));
        if self.version != VERSION {
            return refuse("its version is unknown");
        }
        if self.parameters.len() > MAX_PARAMETERS_BYTES || self.material.len() > MAX_MATERIAL {
            return refuse("it is longer than any record");
        }
        if self.material.iter().any(|material| material.name.len() > MAX_NAME_BYTES) {
            return refuse("a name is too long");
        }
        self.manifest()?;
        self.known()?;
        let session = self.session()?;
        for (index, member) in self.seats.members.iter().enumerate() {
            let mut cards = self.cards.iter().filter(|card| card.signer == *member);
            let is_seated = |card: &Card| usize::from(card.new_party) == index + 1;
            match (cards.next(), cards.next()) {
                (Some(card), None) if is_seated(card) => {}
                _ => {
                    return Err(CeremonyError::Missing {
                        what: "the card",
                        signer: *member,
                    });
                }
            }
        }
        match (&self.dealer, self.previous) {
            (Some(dealer), None) if dealer.places() == Places::DEALER => {}
            (None, Some(_)) => {}
            _ => return refuse("a new key has a dealer, a resharing a previous record"),
        }
        for card in self.cards.iter().chain(&self.dealer) {
            if card.session != session {
                return Err(CeremonyError::Refused("a card is of another ceremony"));
            }
            check_signature("card", &card.signature, card.digest()?, card.signer)?;
        }
        Ok(())
    }

    /// Makes a member's acceptance: its signature, with the partial decryptions of the known values under its share.
    pub(crate) fn accept(&self, share: &KeyShare, key: &SigningKey, signer: Address) -> Result<Acceptance, CeremonyError> {
        let partials = self
            .known()?
            .iter()
            .map(|known| Ok(Bytes::copy_from_slice(&share.decrypt(&known.ciphertext)?.to_bytes())))
            .collect::<Result<Vec<_>, CeremonyError>>()?;
        let party = share.party().number();
        let signature = sign(key, acceptance_digest(self.digest()?, party, &partials))?;
        Ok(Acceptance {
            party,
            signer,
            partials,
            signature,
        })
    }

    /// Checks one member's acceptance: its place and its signature.
    pub(crate) fn check_acceptance(&self, digest: B256, acceptance: &Acceptance) -> Result<(), CeremonyError> {
        let place = usize::from(acceptance.party)
            .checked_sub(1)
            .and_then(|index| self.seats.members.get(index));
        if place != Some(&acceptance.signer) {
            return Err(CeremonyError::Refused("an acceptance names another place than its signer has"));
        }
        let signed = acceptance_digest(digest, acceptance.party, &acceptance.partials);
        check_signature("record", &acceptance.signature, signed, acceptance.signer)
    }
}

fn acceptance_digest(core: B256, party: u8, partials: &[Bytes]) -> B256 {
    let mut parts: Vec<&[u8]> = vec![core.as_slice(), std::slice::from_ref(&party)];
    parts.extend(partials.iter().map(|partial| partial.as_ref()));
    digest_parts("acceptance", &parts)
}

impl Record {
    /// Reads a record. [`Self::check`] says whether it holds.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        from_json("record", bytes, MAX_RECORD_BYTES)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no record that was made shows.
    pub fn to_json(&self) -> Result<Vec<u8>, CeremonyError> {
        to_json("record", self)
    }

    /// Returns the digest that identifies the record: that of its core, which all members signed.
    ///
    /// # Errors
    /// As [`Self::to_json`].
    pub fn digest(&self) -> Result<B256, CeremonyError> {
        self.core.digest()
    }

    /// Checks everything that needs no policy: the signatures of all members and participants, the commitments, and that the shares decrypt the known values.
    ///
    /// # Errors
    /// [`CeremonyError`] saying what does not hold.
    pub fn check(&self) -> Result<(), CeremonyError> {
        self.core.check()?;
        let digest = self.core.digest()?;
        if self.dealer_evidence.is_some() != self.core.dealer.is_some() {
            return Err(CeremonyError::Refused("a dealer and its evidence belong together"));
        }
        for (index, member) in self.core.seats.members.iter().enumerate() {
            let missing = || CeremonyError::Missing {
                what: "the signature",
                signer: *member,
            };
            let acceptance = self.acceptances.get(index).ok_or_else(missing)?;
            if acceptance.signer != *member {
                return Err(missing());
            }
            self.core.check_acceptance(digest, acceptance)?;
        }
        if self.acceptances.len() != self.core.seats.members.len() {
            return Err(CeremonyError::malformed("record", "it has signatures of others than members"));
        }
        self.check_confirmation()
    }

    /// Checks the hardware's word for the dealer and all members.
    ///
    /// # Errors
    /// [`CeremonyError::Evidence`] says whose evidence is not believed and why.
    pub fn check_evidence(&self, verifier: &Verifier, now: u64) -> Result<(), CeremonyError> {
        for card in &self.core.cards {
            // Who only gave up shares has no part in what came out.
            if card.new_party != 0 {
                card.check_evidence(&self.core.member_statement(card), verifier, now)?;
            }
        }
        match (&self.core.dealer, &self.dealer_evidence) {
            (Some(dealer), Some(evidence)) => {
                dealer.check_evidence(&self.core.statement(Role::Dealer, 0, dealer.signer), verifier, now)?;
                check_dealer_evidence(&self.core, dealer, evidence, verifier, now)
            }
            (None, None) => Ok(()),
            _ => Err(CeremonyError::Refused("a dealer and its evidence belong together")),
        }
    }

    /// Decrypts the known values with what all members signed. Nobody may be wrong: a committee begins complete.
    fn check_confirmation(&self) -> Result<(), CeremonyError> {
        let scope = self.core.scope()?;
        let size = scope.committee.size();
        let known = self.core.known()?;
        let expected: Vec<Expected> = known
            .iter()
            .map(|known| Expected {
                tag: known.ciphertext.tag(&scope),
                shape: known.ciphertext.shape(),
            })
            .collect();
        let shapes: Vec<_> = expected.iter().map(|expected| expected.shape).collect();
        let contributions = self
            .acceptances
            .iter()
            .map(|acceptance| contribution(size, acceptance, &expected))
            .collect::<Result<Vec<_>, CeremonyError>>()?;
        let read = reconstruct(size, &shapes, &contributions)?;
        if let Some(wrong) = read.wrong.union(read.missing).iter().next() {
            let index = usize::from(wrong.number()) - 1;
            return Err(CeremonyError::Missing {
                what: "the right partial decryption",
                signer: self.core.seats.members.get(index).copied().unwrap_or_default(),
            });
        }
        let mut values = read.values.iter().zip(&known);
        if !values.all(|(value, known)| *value.little_endian() == known.little_endian) {
            return Err(CeremonyError::Refused("the shares do not decrypt a known value"));
        }
        Ok(())
    }
}

/// Checks that the dealer's hardware vouches for what members are to sign.
pub(crate) fn check_dealer_evidence(
    core: &Core,
    dealer: &Card,
    evidence: &Evidence,
    verifier: &Verifier,
    now: u64,
) -> Result<(), CeremonyError> {
    let statement = core.statement(Role::Dealer, 0, dealer.signer);
    verifier
        .verify(
            evidence,
            &statement,
            dealer.box_key.as_slice(),
            &Occasion::Ceremony(core.digest()?),
            now,
        )
        .map(|_| ())
        .map_err(|source| CeremonyError::Evidence {
            who: dealer.signer,
            source,
        })
}

fn contribution(size: CommitteeSize, acceptance: &Acceptance, expected: &[Expected]) -> Result<Contribution, CeremonyError> {
    let party = size.party(acceptance.party.into())?;
    let partials: Result<Vec<_>, _> = acceptance
        .partials
        .iter()
        .take(MAX_KNOWN_VALUES)
        .map(|bytes| PartialDecryption::from_bytes(size, bytes))
        .collect();
    Ok(match partials {
        Ok(partials) if partials.len() == acceptance.partials.len() => Contribution::of_partials(party, expected, &partials),
        _ => Contribution::unusable(party),
    })
}
