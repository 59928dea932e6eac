//! Backup and recovery: what an operator does about a machine that is lost for good.
//!
//! # Roles
//! The *operator's custodians* hold pieces of a recovery key, of which some number is needed. The *node* seals its identity and share to that key, whose public half stands in its measured configuration: nobody who
//! merely talks to a node can have it sealed to another. A *new machine* of the same software takes the node's place.
//!
//! # Flow
//!
//! ```text
//!  once          RecoveryKey::generate → public document for the configuration, one secret piece per custodian
//!  each epoch    node: Node::backup → Backup, which may lie anywhere
//!  after a loss  new machine: Store::begin_recovery(backup) → RecoveryCard with evidence
//!                each custodian: Piece::seal_to(card), after verifying the evidence → SealedPiece
//!                new machine: Store::finish_recovery(backup, sealed pieces) → it is the node that was lost
//! ```
//!
//! The recovery key is put together only inside the new machine's trust domain, and wiped at once. Pieces are useless to whoever carries them.
//!
//! # When not to
//! Up to `t` lost nodes need no backup: resharing past them gives a complete committee and makes the lost shares worthless, which restoring does not. Backups are for more than that.
//!
//! # What is refused
//! Backups of an epoch that the chain has left behind; machines that have held shares; pieces of another key, and any that were changed: each is committed to in the public document.

use alloy_primitives::{Address, B256, Bytes};
use cipherloom_attest::{Attestor, Evidence, Occasion, Role, Statement, Verifier};
use cipherloom_threshold::KeyShare;
use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    CeremonyError, Identity, Record,
    digest::{check_signature, digest_document, digest_parts, from_json, random, sign, to_json},
    proposal::VERSION,
    record::MAX_RECORD_BYTES,
    shamir,
};

const MAX_DOCUMENT_BYTES: usize = 256 << 10;
/// The longest backup, in bytes of JSON.
pub const MAX_BACKUP_BYTES: usize = MAX_RECORD_BYTES + (6 << 20);

/// The public half of a recovery key, for the configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecoveryKey {
    /// The version of the form.
    pub version: u32,
    /// The X25519 key.
    pub public_key: B256,
    /// How many pieces are needed.
    pub needed: u8,
    /// A digest of each piece, piece 1 first, so that a wrong one is recognised.
    pub pieces: Vec<B256>,
}

/// A custodian's secret piece of a recovery key. Wiped when dropped; neither printable nor copyable.
pub struct Piece {
    recovery_key: B256,
    number: u8,
    value: Zeroizing<[u8; 32]>,
}

/// A piece as it is written to a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PieceFile {
    version: u32,
    recovery_key: B256,
    number: u8,
    secret: String,
}

impl RecoveryKey {
    /// Makes a recovery key in `pieces` pieces of which `needed` open it.
    ///
    /// # Errors
    /// [`CeremonyError::Pieces`] unless `needed` is from 1 to `pieces`; [`CeremonyError::Randomness`].
    pub fn generate(needed: u8, pieces: u8) -> Result<(Self, Vec<Piece>), CeremonyError> {
        let secret = Zeroizing::new(random()?);
        let public_key = B256::from(*SecretKey::from_bytes(*secret).public_key().as_bytes());
        let pieces: Vec<Piece> = shamir::split(&secret, needed, pieces)?
            .into_iter()
            .map(|(number, value)| Piece {
                recovery_key: public_key,
                number,
                value,
            })
            .collect();
        let key = Self {
            version: VERSION,
            public_key,
            needed,
            pieces: pieces.iter().map(Piece::digest).collect(),
        };
        Ok((key, pieces))
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        let key: Self = from_json("recovery key", bytes, MAX_DOCUMENT_BYTES)?;
        let is_possible = key.version == VERSION && (1..=key.pieces.len()).contains(&usize::from(key.needed)) && key.pieces.len() <= 255;
        match is_possible {
            true => Ok(key),
            false => Err(CeremonyError::malformed("recovery key", "there is no such key")),
        }
    }

    /// Writes the document.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no key shows.
    pub fn to_json(&self) -> Result<Vec<u8>, CeremonyError> {
        to_json("recovery key", self)
    }

    /// Puts the key together from pieces that were checked one by one.
    fn combine(&self, pieces: &[(u8, Zeroizing<[u8; 32]>)]) -> Result<SecretKey, CeremonyError> {
        let mut taken: Vec<(u8, Zeroizing<[u8; 32]>)> = Vec::new();
        for (number, value) in pieces {
            let digest = digest_of_piece(self.public_key, *number, value);
            if usize::from(*number).checked_sub(1).and_then(|index| self.pieces.get(index)) != Some(&digest) {
                return Err(CeremonyError::Pieces(format!("piece {number} is not one of this key")));
            }
            if taken.iter().all(|(other, _)| other != number) {
                taken.push((*number, value.clone()));
            }
        }
        if taken.len() < usize::from(self.needed) {
            return Err(CeremonyError::Pieces(format!(
                "{} different pieces are there, {} are needed",
                taken.len(),
                self.needed
            )));
        }
        taken.truncate(self.needed.into());
        let secret = SecretKey::from_bytes(*shamir::combine(&taken)?);
        match *secret.public_key().as_bytes() == self.public_key.0 {
            true => Ok(secret),
            false => Err(CeremonyError::Pieces("the pieces give another key".into())),
        }
    }
}

fn digest_of_piece(recovery_key: B256, number: u8, value: &[u8; 32]) -> B256 {
    digest_parts("piece", &[recovery_key.as_slice(), &[number], value])
}

impl Piece {
    /// Reads a custodian's file.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        let mut file: PieceFile = from_json("piece", bytes, MAX_DOCUMENT_BYTES)?;
        let mut value = Zeroizing::new([0; 32]);
        let decoded = hex::decode_to_slice(&file.secret, value.as_mut_slice());
        file.secret.zeroize();
        decoded.map_err(|_| CeremonyError::malformed("piece", "its secret is not 32 bytes of hexadecimal"))?;
        if file.version != VERSION {
            return Err(CeremonyError::malformed("piece", "its version is unknown"));
        }
        Ok(Self {
            recovery_key: file.recovery_key,
            number: file.number,
            value,
        })
    }

    /// Writes the custodian's file, which is secret.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no piece shows.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, CeremonyError> {
        let mut file = PieceFile {
            version: VERSION,
            recovery_key: self.recovery_key,
            number: self.number,
            secret: hex::encode(self.value.as_slice()),
        };
        let json = to_json("piece", &file).map(Zeroizing::new);
        file.secret.zeroize();
        json
    }

    /// Returns the number of the piece, counted from 1.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    fn digest(&self) -> B256 {
        digest_of_piece(self.recovery_key, self.number, &self.value)
    }

    /// Seals the piece to a machine that is to be recovered, after verifying that its trust domain runs what the policy accepts.
    ///
    /// # Errors
    /// [`CeremonyError::Evidence`] if it is not believed, [`CeremonyError::Pieces`] if it asks for pieces of another key.
    pub fn seal_to(&self, card: &RecoveryCard, verifier: &Verifier, now: u64) -> Result<SealedPiece, CeremonyError> {
        card.check(verifier, now)?;
        if card.recovery_key != self.recovery_key {
            return Err(CeremonyError::Pieces("the backup is sealed to another recovery key".into()));
        }
        let (one_time_key, body) = seal(
            card.box_key,
            card.session,
            "piece",
            &[&[self.number], self.value.as_slice()].concat(),
        )?;
        Ok(SealedPiece {
            session: card.session,
            one_time_key,
            body,
        })
    }
}

/// A piece on its way to the machine that is recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SealedPiece {
    /// The recovery it is for.
    pub session: B256,
    /// The X25519 key it was sealed with.
    pub one_time_key: B256,
    /// The sealed content.
    pub body: Bytes,
}

impl SealedPiece {
    /// Reads the document.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        from_json("sealed piece", bytes, MAX_DOCUMENT_BYTES)
    }

    /// Writes the document.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no piece shows.
    pub fn to_json(&self) -> Result<Vec<u8>, CeremonyError> {
        to_json("sealed piece", self)
    }
}

/// A node's identity and share, sealed to a recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Backup {
    /// The version of the form.
    pub version: u32,
    /// The key it is sealed to.
    pub recovery_key: RecoveryKey,
    /// Whose it is.
    pub signer: Address,
    /// The record of the share.
    pub record: Record,
    /// The X25519 key it was sealed with.
    pub one_time_key: B256,
    /// The sealed content.
    pub body: Bytes,
    /// The node's signature.
    pub signature: Bytes,
}

/// What a backup is about: everything but what is sealed in it.
fn backup_scope(recovery_key: &RecoveryKey, signer: Address, record: &Record) -> Result<B256, CeremonyError> {
    let key = digest_document("recovery key", recovery_key)?;
    Ok(digest_parts(
        "backup",
        &[key.as_slice(), signer.as_slice(), record.digest()?.as_slice()],
    ))
}

impl Backup {
    pub(crate) fn make(identity: &Identity, share: &KeyShare, record: &Record, recovery_key: &RecoveryKey) -> Result<Self, CeremonyError> {
        let scope = backup_scope(recovery_key, identity.address(), record)?;
        let share = share.to_bytes();
        let mut content = Zeroizing::new(Vec::with_capacity(32 + share.len()));
        content.extend_from_slice(&identity.to_bytes());
        content.extend_from_slice(&share);
        let (one_time_key, body) = seal(recovery_key.public_key, scope, "backup", &content)?;
        let mut backup = Self {
            version: VERSION,
            recovery_key: recovery_key.clone(),
            signer: identity.address(),
            record: record.clone(),
            one_time_key,
            body,
            signature: Bytes::new(),
        };
        backup.signature = sign(identity.signing_key(), backup.digest()?)?;
        Ok(backup)
    }

    /// Reads a backup.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        from_json("backup", bytes, MAX_BACKUP_BYTES)
    }

    /// Writes the backup.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no backup shows.
    pub fn to_json(&self) -> Result<Vec<u8>, CeremonyError> {
        to_json("backup", self)
    }

    /// Checks that the node signed it, that its record holds and names the node, and that it is not of an epoch before `floor`, which the chain says.
    ///
    /// # Errors
    /// [`CeremonyError`] saying what does not hold.
    pub fn check(&self, floor: B256) -> Result<(), CeremonyError> {
        if self.version != VERSION {
            return Err(CeremonyError::malformed("backup", "its version is unknown"));
        }
        check_signature("backup", &self.signature, self.digest()?, self.signer)?;
        self.record.check()?;
        let seats = &self.record.core.seats;
        if seats.party_of(self.signer).is_none() {
            return Err(CeremonyError::Refused("the backup is of no member of its record"));
        }
        if seats.epoch < floor {
            return Err(CeremonyError::OldEpoch {
                found: seats.epoch,
                newest: floor,
            });
        }
        Ok(())
    }

    fn digest(&self) -> Result<B256, CeremonyError> {
        let scope = backup_scope(&self.recovery_key, self.signer, &self.record)?;
        Ok(digest_parts(
            "signed backup",
            &[scope.as_slice(), self.one_time_key.as_slice(), &self.body],
        ))
    }

    pub(crate) fn open(&self, pieces: &[SealedPiece], opening: &Opening) -> Result<(Identity, KeyShare), CeremonyError> {
        let mut opened = Vec::with_capacity(pieces.len());
        for piece in pieces {
            if piece.session != opening.session {
                return Err(CeremonyError::Pieces("a piece was sealed for another recovery".into()));
            }
            let content = unseal(&opening.box_key, piece.one_time_key, opening.session, "piece", &piece.body)
                .ok_or_else(|| CeremonyError::Pieces("a piece cannot be opened".into()))?;
            let (number, value) = content
                .split_first()
                .ok_or_else(|| CeremonyError::Pieces("a piece is empty".into()))?;
            let value = <[u8; 32]>::try_from(value).map_err(|_| CeremonyError::Pieces("a piece has another length".into()))?;
            opened.push((*number, Zeroizing::new(value)));
        }
        let secret = self.recovery_key.combine(&opened)?;
        let scope = backup_scope(&self.recovery_key, self.signer, &self.record)?;
        let content = unseal(&secret, self.one_time_key, scope, "backup", &self.body)
            .ok_or(CeremonyError::Refused("the backup cannot be opened with its recovery key"))?;
        let (identity, share) = content
            .split_first_chunk::<32>()
            .ok_or_else(|| CeremonyError::malformed("backup", "it is cut short"))?;
        let identity = Identity::from_bytes(identity)?;
        if identity.address() != self.signer {
            return Err(CeremonyError::Refused("the backup has another node's signing key"));
        }
        let share = KeyShare::from_bytes(share)?;
        self.record.core.manifest()?.check(&share)?;
        Ok((identity, share))
    }
}

/// What custodians verify before they give their pieces: where they will be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecoveryCard {
    /// The version of the form.
    pub version: u32,
    /// Identifies the recovery: a digest of all that follows but the evidence, and of the backup.
    pub session: B256,
    /// The chain.
    pub chain_id: u64,
    /// The committee's context.
    pub context: B256,
    /// The party that is to be recovered.
    pub party: u8,
    /// The address of the node that was lost.
    pub signer: Address,
    /// The recovery key whose pieces are asked for.
    pub recovery_key: B256,
    /// The X25519 key that pieces are sealed to.
    pub box_key: B256,
    /// The hardware's word for session and box key.
    pub evidence: Evidence,
}

/// What a machine that is being recovered keeps secret.
pub(crate) struct Opening {
    pub(crate) session: B256,
    pub(crate) box_key: SecretKey,
}

impl RecoveryCard {
    /// Makes a card for a backup that was checked.
    pub(crate) async fn make(backup: &Backup, attestor: &dyn Attestor) -> Result<(Self, Opening), CeremonyError> {
        let box_key = SecretKey::from_bytes(random()?);
        let public = B256::from(*box_key.public_key().as_bytes());
        let core = &backup.record.core;
        let party = core
            .seats
            .party_of(backup.signer)
            .ok_or(CeremonyError::Refused("the backup is of no member of its record"))?;
        let session = digest_parts("recovery", &[backup.digest()?.as_slice(), public.as_slice()]);
        let mut card = Self {
            version: VERSION,
            session,
            chain_id: core.chain_id,
            context: core.seats.context,
            party,
            signer: backup.signer,
            recovery_key: backup.recovery_key.public_key,
            box_key: public,
            evidence: Evidence {
                kind: attestor.kind(),
                quote: Bytes::new(),
                events: Vec::new(),
            },
        };
        card.evidence = attestor.evidence(card.report()).await?;
        Ok((card, Opening { session, box_key }))
    }

    /// Reads a card.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        from_json("recovery card", bytes, MAX_DOCUMENT_BYTES)
    }

    /// Writes the card.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no card shows.
    pub fn to_json(&self) -> Result<Vec<u8>, CeremonyError> {
        to_json("recovery card", self)
    }

    fn statement(&self) -> Statement {
        Statement {
            role: Role::KmsNode,
            chain_id: self.chain_id,
            context: self.context,
            party: self.party.into(),
            signer: self.signer,
        }
    }

    fn occasion(&self) -> Occasion {
        Occasion::Ceremony(digest_parts(
            "recovery card",
            &[self.session.as_slice(), self.recovery_key.as_slice()],
        ))
    }

    fn report(&self) -> [u8; 64] {
        self.statement().report_data(self.box_key.as_slice(), &self.occasion())
    }

    /// Verifies the hardware's word for the card.
    ///
    /// # Errors
    /// [`CeremonyError::Evidence`].
    pub fn check(&self, verifier: &Verifier, now: u64) -> Result<(), CeremonyError> {
        if self.version != VERSION {
            return Err(CeremonyError::malformed("recovery card", "its version is unknown"));
        }
        verifier
            .verify(&self.evidence, &self.statement(), self.box_key.as_slice(), &self.occasion(), now)
            .map(|_| ())
            .map_err(|source| CeremonyError::Evidence { who: self.signer, source })
    }
}

const NONCE_BYTES: usize = 24;

/// Seals content to a key with a key made for it alone; returns that and the sealed content.
fn seal(to: B256, scope: B256, purpose: &str, content: &[u8]) -> Result<(B256, Bytes), CeremonyError> {
    let one_time = SecretKey::from_bytes(random()?);
    let nonce: [u8; NONCE_BYTES] = random()?;
    let mut bound = Zeroizing::new(Vec::with_capacity(32 + content.len()));
    bound.extend_from_slice(digest_parts(purpose, &[scope.as_slice(), to.as_slice()]).as_slice());
    bound.extend_from_slice(content);
    let boxed = SalsaBox::new(&PublicKey::from_bytes(to.0), &one_time)
        .encrypt(&nonce.into(), bound.as_slice())
        .map_err(|_| CeremonyError::Refused("it cannot be sealed"))?;
    let public = B256::from(*one_time.public_key().as_bytes());
    Ok((public, Bytes::from([nonce.as_slice(), &boxed].concat())))
}

fn unseal(own: &SecretKey, one_time_key: B256, scope: B256, purpose: &str, body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, boxed) = body.split_first_chunk::<NONCE_BYTES>()?;
    let opened = SalsaBox::new(&PublicKey::from_bytes(one_time_key.0), own)
        .decrypt(&(*nonce).into(), boxed)
        .map(Zeroizing::new)
        .ok()?;
    let to = *own.public_key().as_bytes();
    let (bound, content) = opened.split_first_chunk::<32>()?;
    (*bound == digest_parts(purpose, &[scope.as_slice(), &to]).0).then(|| Zeroizing::new(content.to_vec()))
}
