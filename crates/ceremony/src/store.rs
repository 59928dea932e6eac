//! What a node keeps: its identity, its shares, and the ledger of epochs. Everything secret is sealed under keys that the hardware derives for this software.
//!
//! ```text
//! identity.sealed                 the signing key
//! ledger.sealed                   for each key: the highest epoch, and which file has its share
//! share-SESSION.sealed            a share; pending until the ledger says that it is in use
//! record-SESSION.json             the public record of a share that was activated
//! recovery.sealed                 while another node's backup is being restored: the key that pieces are sealed to
//! ```
//!
//! **Activation** is one atomic write of the ledger: before it the old share counts, after it the new one. Files that the ledger does not name are erased afterwards, and at the next start if that was
//! interrupted. A pending share survives restarts: others may have activated theirs already, and the record can be delivered again. **Erasing** overwrites a file before it is removed.
//!
//! **Old files.** Every share file has key, context, party and epoch in what is authenticated, and an epoch below the ledger's is refused. Whoever puts back *all* files, ledger included, is stopped by
//! the epoch that the chain names: [`Store::share`] takes it as an argument.

mod files;
mod ledger;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::B256;
use cipherloom_attest::{Attestor, SealingKey, sealing};
use cipherloom_threshold::{EpochId, KeyId, KeyShare};
use crypto_box::SecretKey;
use zeroize::Zeroizing;

use self::{
    files::{Directory, erase, read, read_if_there, write},
    ledger::{Active, Ledger},
};
use crate::{Backup, CeremonyError, Identity, Record, RecoveryCard, SealedPiece, record::MAX_RECORD_BYTES, recovery::Opening};

/// The longest sealed file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A share that is in use, and its record.
#[derive(Clone)]
pub struct Held {
    /// The share.
    pub share: Arc<KeyShare>,
    /// What everybody may know about it.
    pub record: Arc<Record>,
}

/// The directory of one node. Only one process opens it at a time.
pub struct Store {
    directory: Directory,
    identity: Arc<Identity>,
    keys: Keys,
    ledger: Ledger,
}

struct Keys {
    identity: SealingKey,
    ledger: SealingKey,
    share: SealingKey,
}

impl Store {
    /// Opens the directory; makes it, and an identity, if there is none. What an interrupted activation left is erased.
    ///
    /// # Errors
    /// [`CeremonyError::File`], also if another process has it open; [`CeremonyError::Attest`] if files were sealed by other software or hardware.
    pub async fn open(directory: impl AsRef<Path>, attestor: &dyn Attestor) -> Result<Self, CeremonyError> {
        let keys = Keys {
            identity: attestor.sealing_key("cipherloom/kms/identity").await?,
            ledger: attestor.sealing_key("cipherloom/kms/ledger").await?,
            share: attestor.sealing_key("cipherloom/kms/share").await?,
        };
        let directory = Directory::open(directory.as_ref())?;
        let identity = match read_if_there(&directory.path("identity.sealed"), MAX_FILE_BYTES)? {
            Some(sealed) => Identity::from_bytes(&sealing::open(&keys.identity, "identity", 0, &sealed)?.1)?,
            None => {
                // A directory that has shares but no identity was tampered with; a new one would hide that.
                if !directory.list("share-")?.is_empty() {
                    return Err(CeremonyError::Refused("there are shares but no identity in the directory"));
                }
                let identity = Identity::generate()?;
                let sealed = sealing::seal(&keys.identity, "identity", 0, &identity.to_bytes())?;
                write(&directory.path("identity.sealed"), &sealed)?;
                identity
            }
        };
        let ledger = Ledger::read(&directory.path("ledger.sealed"), &keys.ledger, &identity)?;
        let store = Self {
            directory,
            identity: Arc::new(identity),
            keys,
            ledger,
        };
        store.erase_unnamed()?;
        Ok(store)
    }

    /// Returns who this node is.
    #[must_use]
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Returns the keys of which shares are in use, with their epochs.
    #[must_use]
    pub fn held(&self) -> Vec<(KeyId, EpochId)> {
        let active = self.ledger.entries.iter().filter(|entry| entry.active.is_some());
        active.map(|entry| (KeyId(entry.key.0), EpochId(entry.highest.0))).collect()
    }

    /// Returns the highest epoch that was ever active for a key.
    #[must_use]
    pub fn highest(&self, key: KeyId) -> Option<EpochId> {
        self.ledger.entry(B256::from(key.0)).map(|entry| EpochId(entry.highest.0))
    }

    /// Reads the share of a key, if one is in use. `floor` is the lowest epoch that the chain still accepts.
    ///
    /// # Errors
    /// [`CeremonyError::OldEpoch`] if the share is of an earlier epoch: an old directory was put back, or the node missed a resharing. Others if files are damaged.
    pub fn share(&self, key: KeyId, floor: EpochId) -> Result<Option<Held>, CeremonyError> {
        let Some(entry) = self.ledger.entry(B256::from(key.0)) else {
            return Ok(None);
        };
        let newest = entry.highest.max(B256::from(floor.0));
        let Some(active) = &entry.active else {
            return Ok(None);
        };
        let record = Record::from_json(&read(&self.record_path(active.session), MAX_RECORD_BYTES as u64)?)?;
        if record.digest()? != active.record {
            return Err(CeremonyError::Refused("the record beside the share is another one"));
        }
        if record.core.seats.epoch < newest {
            return Err(CeremonyError::OldEpoch {
                found: record.core.seats.epoch,
                newest,
            });
        }
        let share = self.open_share(active.session, &record)?;
        share.check_not_older(key, EpochId(newest.0))?;
        Ok(Some(Held {
            share: Arc::new(share),
            record: Arc::new(record),
        }))
    }

    /// Seals a share that waits for its record. It is not used before [`Self::activate`].
    pub(crate) fn put_pending(&mut self, session: B256, share: &KeyShare) -> Result<(), CeremonyError> {
        let label = label_of(share);
        let sealed = sealing::seal(&self.keys.share, &label, low_bits(share.scope().epoch), &share.to_bytes())?;
        write(&self.share_path(session), &sealed)?;
        self.agree(session)
    }

    /// Notes that this node takes part in a ceremony to its end: only its record is followed.
    pub(crate) fn agree(&mut self, session: B256) -> Result<(), CeremonyError> {
        if self.ledger.pending == Some(session) {
            return Ok(());
        }
        self.save(|ledger| ledger.pending = Some(session))
    }

    /// Wipes everything that waits.
    pub(crate) fn drop_pending(&mut self) -> Result<(), CeremonyError> {
        if self.ledger.pending.is_none() {
            return self.erase_unnamed();
        }
        self.save(|ledger| ledger.pending = None)
    }

    /// Puts the share that a checked record describes into use, and erases the one before it. Does nothing if it is in use already.
    pub(crate) fn activate(&mut self, record: &Record) -> Result<(), CeremonyError> {
        let (session, digest) = (record.core.session()?, record.digest()?);
        if let Some(Active { record, .. }) = self.ledger.entry(record.core.key_id).and_then(|entry| entry.active.as_ref())
            && *record == digest
        {
            return Ok(());
        }
        self.check_agreed(session)?;
        self.check_later(record)?;
        // Opened before it replaces anything: what cannot be read must not.
        let share = self.open_share(session, record)?;
        record.core.manifest()?.check(&share)?;
        write(&self.record_path(session), &record.to_json()?)?;
        self.commit(record, Some(Active { session, record: digest }))
    }

    /// Gives up the share of a key because a checked record says that others hold it now.
    pub(crate) fn retire(&mut self, record: &Record) -> Result<(), CeremonyError> {
        let entry = self.ledger.entry(record.core.key_id);
        if entry.is_some_and(|entry| entry.highest == record.core.seats.epoch && entry.active.is_none()) {
            return Ok(());
        }
        self.check_agreed(record.core.session()?)?;
        self.check_later(record)?;
        self.commit(record, None)
    }

    /// Begins to take the place of a node that was lost: makes the card that its custodians seal their pieces to. `floor` is the chain's epoch.
    ///
    /// # Errors
    /// [`CeremonyError::OldEpoch`] and others if the backup is not fit, [`CeremonyError::Refused`] if this directory has held shares.
    pub async fn begin_recovery(&mut self, backup: &Backup, floor: B256, attestor: &dyn Attestor) -> Result<RecoveryCard, CeremonyError> {
        backup.check(floor)?;
        self.check_empty()?;
        let (card, opening) = RecoveryCard::make(backup, attestor).await?;
        let content = Zeroizing::new([opening.session.0, opening.box_key.to_bytes()].concat());
        let sealed = sealing::seal(&self.keys.identity, "recovery", 0, &content)?;
        write(&self.directory.path("recovery.sealed"), &sealed)?;
        Ok(card)
    }

    /// Takes the place of a node that was lost, with the pieces that its custodians sealed.
    ///
    /// # Errors
    /// [`CeremonyError::NoSession`] if no recovery was begun, [`CeremonyError::Pieces`] if the pieces do not open the backup, and those of [`Self::begin_recovery`].
    pub fn finish_recovery(&mut self, backup: &Backup, floor: B256, pieces: &[SealedPiece]) -> Result<(), CeremonyError> {
        backup.check(floor)?;
        self.check_empty()?;
        let path = self.directory.path("recovery.sealed");
        let sealed = read_if_there(&path, MAX_FILE_BYTES)?.ok_or(CeremonyError::NoSession)?;
        let (_, content) = sealing::open(&self.keys.identity, "recovery", 0, &sealed)?;
        let (Some(session), Some(box_key)) = (content.first_chunk::<32>(), content.last_chunk::<32>()) else {
            return Err(CeremonyError::NoSession);
        };
        let opening = Opening {
            session: B256::from(*session),
            box_key: SecretKey::from_bytes(*box_key),
        };
        let (identity, share) = backup.open(pieces, &opening)?;
        // The identity comes first: what is interrupted after it is done again with the same pieces.
        let sealed = sealing::seal(&self.keys.identity, "identity", 0, &identity.to_bytes())?;
        write(&self.directory.path("identity.sealed"), &sealed)?;
        self.identity = Arc::new(identity);
        self.put_pending(backup.record.core.session()?, &share)?;
        self.activate(&backup.record)?;
        erase(&path)
    }

    fn check_empty(&self) -> Result<(), CeremonyError> {
        match self.ledger.entries.is_empty() {
            true => Ok(()),
            false => Err(CeremonyError::Refused(
                "this directory has held shares; only an empty one takes another node's place",
            )),
        }
    }

    fn check_later(&self, record: &Record) -> Result<(), CeremonyError> {
        match self.ledger.entry(record.core.key_id) {
            Some(entry) if record.core.seats.epoch <= entry.highest => Err(CeremonyError::OldEpoch {
                found: record.core.seats.epoch,
                newest: entry.highest,
            }),
            _ => Ok(()),
        }
    }

    /// The one write that counts, and the erasing of what it made worthless.
    fn commit(&mut self, record: &Record, active: Option<Active>) -> Result<(), CeremonyError> {
        self.save(|ledger| {
            ledger.set(record.core.key_id, record.core.seats.epoch, active);
            ledger.pending = None;
        })
    }

    fn save(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), CeremonyError> {
        let mut ledger = self.ledger.clone();
        change(&mut ledger);
        ledger.write(&self.directory.path("ledger.sealed"), &self.keys.ledger, &self.identity)?;
        self.ledger = ledger;
        self.erase_unnamed()
    }

    /// Nobody but the ceremony that this node took part in replaces what it holds.
    fn check_agreed(&self, session: B256) -> Result<(), CeremonyError> {
        match self.ledger.pending == Some(session) {
            true => Ok(()),
            false => Err(CeremonyError::NoSession),
        }
    }

    fn open_share(&self, session: B256, record: &Record) -> Result<KeyShare, CeremonyError> {
        let scope = record.core.scope()?;
        let path = self.share_path(session);
        let sealed = read_if_there(&path, MAX_FILE_BYTES)?.ok_or(CeremonyError::NoSession)?;
        let party = record
            .core
            .seats
            .party_of(self.identity.address())
            .ok_or(CeremonyError::Refused("this node is not in the record's committee"))?;
        let label = label(&record.core.key_id.0, &scope.context.0, &scope.epoch.0, party);
        let (_, content) = sealing::open(&self.keys.share, &label, low_bits(scope.epoch), &sealed)?;
        let share = KeyShare::from_bytes(&content)?;
        if *share.scope() != scope || share.party().number() != party {
            return Err(CeremonyError::Refused("the sealed share is of another key, epoch or party"));
        }
        record.core.manifest()?.check(&share)?;
        Ok(share)
    }

    fn erase_unnamed(&self) -> Result<(), CeremonyError> {
        let named: Vec<PathBuf> = self
            .ledger
            .entries
            .iter()
            .filter_map(|entry| entry.active.as_ref())
            .map(|active| active.session)
            .chain(self.ledger.pending)
            .flat_map(|session| [self.share_path(session), self.record_path(session)])
            .collect();
        for prefix in ["share-", "record-"] {
            for path in self.directory.list(prefix)? {
                if !named.contains(&path) {
                    erase(&path)?;
                }
            }
        }
        Ok(())
    }

    fn share_path(&self, session: B256) -> PathBuf {
        self.directory.path(&format!("share-{}.sealed", hex::encode(session)))
    }

    fn record_path(&self, session: B256) -> PathBuf {
        self.directory.path(&format!("record-{}.json", hex::encode(session)))
    }
}

fn label_of(share: &KeyShare) -> String {
    let scope = share.scope();
    label(&scope.key.0, &scope.context.0, &scope.epoch.0, share.party().number())
}

fn label(key: &[u8; 32], context: &[u8; 32], epoch: &[u8; 32], party: u8) -> String {
    let [key, context, epoch] = [key, context, epoch].map(hex::encode);
    format!("key {key} context {context} epoch {epoch} party {party}")
}

/// The counting part of an epoch's number. The whole of it stands in the label.
fn low_bits(epoch: EpochId) -> u64 {
    epoch.0.last_chunk::<8>().map_or(0, |low| u64::from_be_bytes(*low))
}
