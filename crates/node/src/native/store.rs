//! Decided blocks on the disk, one after the other in one file.
//!
//! The file begins with a mark and the hash of the chain's first block. Each record is a header of 16 bytes (length of the content as a big-endian
//! number of 4 bytes, the first 4 bytes of the length's keccak-256, the first 8 bytes of the content's), then the content: the RLP of a block, its
//! certificate and its sidecar. A record is on the disk before anybody sees its block.
//!
//! A process killed in the middle of a write leaves a part of a record at the end, and a machine that loses power perhaps zeros in place of it. Both
//! are cut off: nobody had been told of that block. Damage anywhere else is an error.

mod record;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy::primitives::{B256, Bytes};
use cipherloom_primitives::quorum::CommitCertificate;

use self::record::{HEADER_BYTES, header_of, length_of, read_record, zeros_follow};
use super::codec::decode_exactly;
use crate::chain::journal::{io_error, lock_directory, open_file};
use crate::error::{NodeError, Result};

/// The first bytes of the file; the last of them is the version of the format.
const MARK: &[u8; 8] = b"CLNATIV\x01";

/// Length of the mark and the genesis hash.
const PREAMBLE_BYTES: usize = 40;

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
pub(crate) struct Store {
    place: Place,
}

enum Place {
    Memory(Vec<DecidedBlock>),
    Disk(Disk),
    /// Given up at shutdown.
    Closed,
}

struct Disk {
    file: File,
    path: PathBuf,
    /// Where the content of each record is, and how long it is.
    records: Vec<(u64, u32)>,
    /// Length of the good part; a failed write is cut back to it.
    length_bytes: u64,
    /// A write failed and the file may end in a part of it.
    torn: bool,
    /// Holds the lock on the data directory for as long as the store is open.
    _lock: File,
}

impl Store {
    /// A store that forgets everything at its end.
    pub(crate) fn in_memory() -> Self {
        Self {
            place: Place::Memory(Vec::new()),
        }
    }

    /// Opens the store of a data directory, creating both, and shows `visit` each record in order.
    ///
    /// # Errors
    ///
    /// [`NodeError::DataDirLocked`], [`NodeError::JournalOfOtherChain`], [`NodeError::JournalCorrupt`], [`NodeError::Io`], and those of `visit`.
    pub(crate) fn open(data_dir: &Path, genesis: B256, visit: &mut dyn FnMut(DecidedBlock) -> Result<()>) -> Result<Self> {
        let lock = lock_directory(data_dir)?;
        let path = data_dir.join("blocks");
        let mut file = open_file(&path)?;
        let io = |source| io_error(&path, source);
        let end = file.metadata().map_err(io)?.len();
        let mut disk = if end < PREAMBLE_BYTES as u64 {
            // A process that died while it made the file.
            file.set_len(0).map_err(io)?;
            file.write_all(&[MARK.as_slice(), genesis.as_slice()].concat()).map_err(io)?;
            file.sync_all().map_err(io)?;
            File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(io)?;
            Disk::new(file, path, PREAMBLE_BYTES as u64, lock)
        } else {
            check_preamble(&mut file, &path, genesis)?;
            let mut disk = Disk::new(file, path, end, lock);
            disk.read_all(end, visit)?;
            disk
        };
        disk.cut_to_length()?;
        Ok(Self { place: Place::Disk(disk) })
    }

    /// Adds the next block; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], [`NodeError::ShutDown`], or [`NodeError::LimitExceeded`] for more than 4 GiB.
    pub(crate) fn append(&mut self, decided: DecidedBlock) -> Result<()> {
        match &mut self.place {
            Place::Memory(blocks) => {
                blocks.push(decided);
                Ok(())
            }
            Place::Disk(disk) => disk.append(&decided.encode()),
            Place::Closed => Err(NodeError::ShutDown),
        }
    }

    /// Reads the block `number`; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], [`NodeError::ShutDown`], or [`NodeError::JournalCorrupt`] if the file was damaged meanwhile.
    pub(crate) fn get(&mut self, number: u64) -> Result<Option<DecidedBlock>> {
        let Some(index) = number.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else {
            return Ok(None);
        };
        match &mut self.place {
            Place::Memory(blocks) => Ok(blocks.get(index).cloned()),
            Place::Disk(disk) => disk.get(index),
            Place::Closed => Err(NodeError::ShutDown),
        }
    }

    /// Gives up the file and the data directory's lock.
    pub(crate) fn close(&mut self) {
        if matches!(self.place, Place::Disk(_)) {
            self.place = Place::Closed;
        }
    }
}

impl Disk {
    fn new(file: File, path: PathBuf, length_bytes: u64, lock: File) -> Self {
        Self {
            file,
            path,
            records: Vec::new(),
            length_bytes,
            torn: true,
            _lock: lock,
        }
    }

    fn read_all(&mut self, end: u64, visit: &mut dyn FnMut(DecidedBlock) -> Result<()>) -> Result<()> {
        let file = self.file.try_clone().map_err(|source| io_error(&self.path, source))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        self.length_bytes = PREAMBLE_BYTES as u64;
        while self.length_bytes < end {
            let left = end - self.length_bytes;
            let Some(content) = read_record(&mut reader, left).map_err(|source| io_error(&self.path, source))? else {
                self.check_torn(end)?;
                tracing::warn!(path = %self.path.display(), dropped_bytes = left, "the file ends in an incomplete block, which is dropped");
                return Ok(());
            };
            let decided = DecidedBlock::decode(&content).map_err(|reason| self.corrupt(self.records.len(), reason))?;
            visit(decided)?;
            self.note(content.len())?;
        }
        Ok(())
    }

    /// Tells apart a write that did not end from damage: after the former, no complete record can follow.
    fn check_torn(&self, end: u64) -> Result<()> {
        let io = |source| io_error(&self.path, source);
        let left = end - self.length_bytes;
        if left < HEADER_BYTES as u64 {
            return Ok(());
        }
        let mut file = self.file.try_clone().map_err(io)?;
        file.seek(SeekFrom::Start(self.length_bytes)).map_err(io)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(io)?;
        let torn = match length_of(&header) {
            Some(length) => u64::from(length) >= left - HEADER_BYTES as u64,
            None => zeros_follow(&header, &mut file).map_err(io)?,
        };
        if torn {
            return Ok(());
        }
        Err(self.corrupt(self.records.len(), "wrong checksum, and no write that did not end".to_owned()))
    }

    fn append(&mut self, content: &[u8]) -> Result<()> {
        if self.torn {
            self.cut_to_length()?;
        }
        let header = header_of(content).ok_or_else(|| NodeError::LimitExceeded("a block of more than 4 GiB".to_owned()))?;
        let written = self
            .file
            .write_all(&header)
            .and_then(|()| self.file.write_all(content))
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.torn = true;
            return Err(io_error(&self.path, source));
        }
        self.note(content.len())
    }

    fn get(&mut self, index: usize) -> Result<Option<DecidedBlock>> {
        let Some((start, length)) = self.records.get(index).copied() else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|error| NodeError::Internal(error.to_string()))?;
        let mut content = vec![0; length];
        let read = self
            .file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.read_exact(&mut content))
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length_bytes)));
        if let Err(source) = read {
            // Where the file is now, nobody knows; the next write must find its end again.
            self.torn = true;
            return Err(io_error(&self.path, source));
        }
        let decided = DecidedBlock::decode(&content).map_err(|reason| self.corrupt(index, reason))?;
        Ok(Some(decided))
    }

    /// Notes a record that is complete.
    fn note(&mut self, content_bytes: usize) -> Result<()> {
        let length = u32::try_from(content_bytes).map_err(|error| NodeError::Internal(error.to_string()))?;
        let start = self.length_bytes.saturating_add(HEADER_BYTES as u64);
        self.records.push((start, length));
        self.length_bytes = start.saturating_add(u64::from(length));
        Ok(())
    }

    fn cut_to_length(&mut self) -> Result<()> {
        self.file
            .set_len(self.length_bytes)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length_bytes)))
            .map_err(|source| io_error(&self.path, source))?;
        self.torn = false;
        Ok(())
    }

    fn corrupt(&self, index: usize, reason: String) -> NodeError {
        NodeError::JournalCorrupt {
            path: self.path.clone(),
            record: index + 1,
            reason,
        }
    }
}

fn check_preamble(file: &mut File, path: &Path, genesis: B256) -> Result<()> {
    let mut preamble = [0; PREAMBLE_BYTES];
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut preamble))
        .map_err(|source| io_error(path, source))?;
    let (mark, found) = preamble.split_at(MARK.len());
    let reason = if mark != MARK {
        "it is no file of blocks that this program reads".to_owned()
    } else if found != genesis.as_slice() {
        format!("its first block is {}, the configured one {genesis}", B256::from_slice(found))
    } else {
        return Ok(());
    };
    Err(NodeError::JournalOfOtherChain {
        path: path.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests;
