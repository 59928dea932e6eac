//! What a node has on the disk: the log of decided blocks, the index of what is where in it, and states to begin with.
//!
//! * [`log`]: the truth. A block is in it before anybody sees it.
//! * [`index`] and [`archive`]: blocks that have left memory, found and read.
//! * [`state_file`] and [`states`]: the state after a block now and then, so that a start does not execute the whole chain.
//!
//! Whatever is lost or damaged beside the log is made again from it.

pub(crate) mod archive;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod log;
mod record;
pub(crate) mod state_file;
pub(crate) mod states;

use std::fs::File;
use std::sync::Arc;

use alloy::primitives::Bytes;
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};

use self::archive::DiskArchive;
use self::entry::Entry;
use self::log::BlockLog;
use super::codec::decode_exactly;
use crate::chain::block::Block;
use crate::error::{NodeError, Result};

/// A block that was decided, as peers pass it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedBlock {
    /// The RLP of the block.
    pub block: Bytes,
    /// What more than two thirds of the voting power signed.
    pub certificate: CommitCertificate,
    /// The ciphertexts that the block put into state.
    pub sidecar: Bytes,
}

impl DecidedBlock {
    fn encode(&self) -> Vec<u8> {
        alloy::rlp::encode(vec![self.block.clone(), self.certificate.encode().into(), self.sidecar.clone()])
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let parts = decode_exactly::<Vec<Bytes>>(bytes)?;
        let [block, certificate, sidecar] = <[Bytes; 3]>::try_from(parts).map_err(|_| "it does not have three parts".to_owned())?;
        Ok(Self {
            block,
            certificate: CommitCertificate::decode(&certificate).map_err(|error| error.to_string())?,
            sidecar,
        })
    }
}

/// The decided blocks of a chain, from block 1 on.
pub(crate) enum Store {
    /// Forgets everything at its end.
    Memory(Vec<DecidedBlock>),
    /// A data directory.
    Disk(Disk),
    /// Given up at shutdown.
    Closed,
}

/// An open data directory.
pub(crate) struct Disk {
    archive: Arc<DiskArchive>,
    log: BlockLog,
    /// Holds the lock on the data directory for as long as the store is open. What comes before it is closed first.
    _lock: File,
}

impl Disk {
    pub(crate) fn new(archive: Arc<DiskArchive>, log: BlockLog, lock: File) -> Self {
        Self { archive, log, _lock: lock }
    }
}

impl Store {
    /// Adds the next block; it is on the disk when this returns. `next` is who signs the block after it, if that changes with it.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], [`NodeError::IndexDamaged`], [`NodeError::ShutDown`], or [`NodeError::LimitExceeded`] for more than 4 GiB. The block is not
    /// part of the chain then.
    pub(crate) fn append(&mut self, decided: DecidedBlock, block: &Block, next: Option<&ValidatorSet>) -> Result<()> {
        match self {
            Self::Memory(blocks) => blocks.push(decided),
            Self::Disk(disk) => {
                let place = disk.log.append(&decided)?;
                let entry = Entry {
                    place,
                    hash: block.hash,
                    header: block.header.clone(),
                    certificate: decided.certificate,
                };
                if let Err(error) = disk.archive.index.insert(&entry, block, next) {
                    disk.log.take_back(place);
                    return Err(error);
                }
            }
            Self::Closed => return Err(NodeError::ShutDown),
        }
        Ok(())
    }

    /// Finds where the block `number` is read from.
    ///
    /// # Errors
    ///
    /// [`NodeError::ShutDown`].
    pub(crate) fn find(&self, number: u64) -> Result<Found> {
        match self {
            Self::Memory(blocks) => {
                let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
                Ok(Found::Here(index.and_then(|index| blocks.get(index).cloned())))
            }
            Self::Disk(disk) => Ok(Found::There(Arc::clone(&disk.archive))),
            Self::Closed => Err(NodeError::ShutDown),
        }
    }

    /// The data directory, if there is one.
    pub(crate) fn archive(&self) -> Option<Arc<DiskArchive>> {
        match self {
            Self::Disk(disk) => Some(Arc::clone(&disk.archive)),
            Self::Memory(_) | Self::Closed => None,
        }
    }

    /// Gives up the files and the data directory's lock.
    pub(crate) fn close(&mut self) {
        if let Self::Disk(disk) = self {
            disk.archive.index.close();
            *self = Self::Closed;
        }
    }
}

/// Where a decided block is.
pub(crate) enum Found {
    /// In memory, if it is there.
    Here(Option<DecidedBlock>),
    /// On the disk, which is read without holding anybody up.
    There(Arc<DiskArchive>),
}

#[cfg(test)]
mod tests;
