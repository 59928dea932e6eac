//! Decided blocks on the disk, one after the other in one file.
//!
//! The file begins with a mark and the hash of the chain's first block. Each record is a header of 16 bytes (length of the content as a big-endian
//! number of 4 bytes, the first 4 bytes of the length's keccak-256, the first 8 bytes of the content's), then the content: the RLP of a block, its
//! certificate and its sidecar. A record is on the disk before anybody sees its block.
//!
//! A process killed in the middle of a write leaves a part of a record at the end, and a machine that loses power perhaps zeros in place of it. Both
//! are cut off: nobody had been told of that block. Damage anywhere else is an error.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy::primitives::{B256, Bytes, keccak256};
use cipherloom_primitives::quorum::CommitCertificate;

use super::codec::decode_exactly;
use crate::chain::journal::{io_error, lock_directory, open_file};
use crate::error::{NodeError, Result};

/// The first bytes of the file; the last of them is the version of the format.
const MARK: &[u8; 8] = b"CLNATIV\x01";

/// Length of the mark and the genesis hash.
const PREAMBLE_BYTES: usize = 40;

/// Length of the header of a record.
const HEADER_BYTES: usize = 16;

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

/// Reads a record; `None` if what is left is not a whole one.
fn read_record(reader: &mut impl Read, left: u64) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    reader.read_exact(&mut header)?;
    let Some(length) = length_of(&header).filter(|length| u64::from(*length) <= left - HEADER_BYTES as u64) else {
        return Ok(None);
    };
    // Not longer than what the file has left.
    let mut content = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut content)?;
    Ok((header_of(&content) == Some(header)).then_some(content))
}

/// The length that a header tells, if it is one.
fn length_of(header: &[u8; HEADER_BYTES]) -> Option<u32> {
    let (length, rest) = header.split_first_chunk::<4>()?;
    let sum = rest.first_chunk::<4>()?;
    (keccak256(length).first_chunk::<4>() == Some(sum)).then_some(u32::from_be_bytes(*length))
}

fn header_of(content: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    let length = u32::try_from(content.len()).ok()?.to_be_bytes();
    let (length_sum, content_sum) = (keccak256(length), keccak256(content));
    let bytes = length.iter().chain(length_sum.iter().take(4)).chain(content_sum.iter().take(8));
    let mut header = [0; HEADER_BYTES];
    for (to, from) in header.iter_mut().zip(bytes) {
        *to = *from;
    }
    Some(header)
}

fn zeros_follow(header: &[u8; HEADER_BYTES], file: &mut File) -> io::Result<bool> {
    if header.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(true);
        }
        if chunk.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(number: u8) -> DecidedBlock {
        DecidedBlock {
            block: Bytes::from(vec![number; 40]),
            certificate: CommitCertificate {
                height: u64::from(number),
                round: 0,
                block_hash: B256::repeat_byte(number),
                signatures: Vec::new(),
            },
            sidecar: Bytes::from(vec![number; usize::from(number)]),
        }
    }

    fn open(dir: &Path) -> Result<(Store, Vec<DecidedBlock>)> {
        let mut found = Vec::new();
        let store = Store::open(dir, B256::repeat_byte(9), &mut |decided| {
            found.push(decided);
            Ok(())
        })?;
        Ok((store, found))
    }

    /// A directory with three blocks, and where each record ends in its file.
    fn filled() -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path()).unwrap();
        let mut ends = vec![40];
        for number in 1..=3 {
            store.append(decided(number)).unwrap();
            ends.push(std::fs::read(dir.path().join("blocks")).unwrap().len());
        }
        let content = std::fs::read(dir.path().join("blocks")).unwrap();
        (dir, content, ends)
    }

    #[test]
    fn blocks_come_back_and_can_be_read_between_writes() {
        let (dir, _, _) = filled();
        let (mut store, found) = open(dir.path()).unwrap();
        assert_eq!(found, [decided(1), decided(2), decided(3)]);
        assert_eq!(store.get(2).unwrap(), Some(decided(2)));
        store.append(decided(4)).unwrap();
        assert_eq!(store.get(4).unwrap(), Some(decided(4)));
        assert_eq!((store.get(0).unwrap(), store.get(5).unwrap()), (None, None));
        assert!(matches!(open(dir.path()), Err(NodeError::DataDirLocked(_))));
        store.close();
        assert!(matches!(store.append(decided(5)), Err(NodeError::ShutDown)));
        assert_eq!(open(dir.path()).unwrap().1.len(), 4);
    }

    #[test]
    fn a_cut_at_any_byte_loses_only_the_torn_block() {
        let (dir, content, ends) = filled();
        let path = dir.path().join("blocks");
        for cut in 0..content.len() {
            std::fs::write(&path, &content[..cut]).unwrap();
            let (mut store, found) = open(dir.path()).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(found.len(), whole, "cut at {cut}");
            store.append(decided(7)).unwrap();
            drop(store);
            assert_eq!(open(dir.path()).unwrap().1.len(), whole + 1, "cut at {cut}, then another block");
        }
    }

    #[test]
    fn zeros_at_the_end_are_what_a_power_failure_leaves() {
        let (dir, content, _) = filled();
        let path = dir.path().join("blocks");
        std::fs::write(&path, [&content[..], &[0; 100_000]].concat()).unwrap();
        assert_eq!(open(dir.path()).unwrap().1.len(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }

    #[test]
    fn damage_before_the_last_block_is_an_error() {
        let (dir, content, ends) = filled();
        let path = dir.path().join("blocks");
        for at in [ends[0], ends[0] + 3, ends[0] + 5, ends[0] + 30, ends[1] + 11, ends[2] - 1] {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(open(dir.path()), Err(NodeError::JournalCorrupt { .. })), "byte {at}");
        }
    }

    #[test]
    fn the_file_of_another_chain_is_refused() {
        let (dir, _, _) = filled();
        let other = Store::open(dir.path(), B256::repeat_byte(8), &mut |_| Ok(()));
        assert!(matches!(other, Err(NodeError::JournalOfOtherChain { .. })));
    }
}
