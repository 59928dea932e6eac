//! The file of decided blocks, one after the other: the truth that everything else in the data directory follows from.
//!
//! The file begins with a mark and the hash of the chain's first block. Each record is a header of 16 bytes (length of the content as a big-endian
//! number of 4 bytes, the first 4 bytes of the length's keccak-256, the first 8 bytes of the content's), then the content: the RLP of a block, its
//! certificate and its sidecar. A record is on the disk before anybody sees its block.
//!
//! A process killed in the middle of a write leaves a part of a record at the end, and a machine that loses power perhaps zeros in place of it. Both
//! are cut off: nobody had been told of that block. Damage anywhere else is an error.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::{B256, Bytes};
use alloy::rlp::Header;

use super::DecidedBlock;
use super::record::{HEADER_BYTES, header_of, length_of, read_record, zeros_follow};
use crate::chain::journal::{io_error, open_file};
use crate::error::{NodeError, Result};

/// The first bytes of the file; the last of them is the version of the format.
const MARK: &[u8; 8] = b"CLNATIV\x01";

/// Length of the mark and the genesis hash.
const PREAMBLE: usize = 40;

/// Where the first record begins.
pub(crate) const PREAMBLE_BYTES: u64 = PREAMBLE as u64;

/// Where the content of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of its block.
    pub(crate) number: u64,
    /// Offset of its first byte.
    pub(crate) start: u64,
    /// How many bytes there are.
    pub(crate) length: u32,
}

impl Place {
    /// Where the next record begins.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.length))
    }
}

/// The file, to add to.
pub(crate) struct BlockLog {
    file: Arc<File>,
    path: PathBuf,
    /// Number of the last block.
    last: u64,
    /// Length of the good part; a failed write is cut back to it.
    length_bytes: u64,
    /// A write failed and the file may end in a part of it.
    torn: bool,
}

/// The file, to read from at any place, by anybody at any time.
#[derive(Clone)]
pub(crate) struct LogReader {
    file: Arc<File>,
    path: PathBuf,
}

impl BlockLog {
    /// Opens the file of a data directory, or makes it. No record is looked at.
    ///
    /// # Errors
    ///
    /// [`NodeError::JournalOfOtherChain`] or [`NodeError::Io`].
    pub(crate) fn open(data_dir: &Path, genesis: B256) -> Result<Self> {
        let path = data_dir.join("blocks");
        let mut file = open_file(&path)?;
        let io = |source| io_error(&path, source);
        let mut end = file.metadata().map_err(io)?.len();
        if end < PREAMBLE_BYTES {
            // A process that died while it made the file.
            file.set_len(0).map_err(io)?;
            file.write_all(&[MARK.as_slice(), genesis.as_slice()].concat()).map_err(io)?;
            file.sync_all().map_err(io)?;
            File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(io)?;
            end = PREAMBLE_BYTES;
        } else {
            check_preamble(&file, &path, genesis)?;
        }
        Ok(Self {
            file: Arc::new(file),
            path,
            last: 0,
            length_bytes: end,
            torn: true,
        })
    }

    /// Length of the file, or of its good part once the records were read.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The same file, to read from.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
        }
    }

    /// Shows `visit` each record after that of the block `after`, which ends at `start`, in order. What is incomplete at the end is cut off.
    ///
    /// # Errors
    ///
    /// [`NodeError::JournalCorrupt`], [`NodeError::Io`], and those of `visit`.
    pub(crate) fn read_on(&mut self, after: u64, start: u64, visit: &mut dyn FnMut(DecidedBlock, Place) -> Result<()>) -> Result<()> {
        let io = |source| io_error(&self.path, source);
        let end = self.length_bytes;
        let mut file = self.file.try_clone().map_err(io)?;
        file.seek(SeekFrom::Start(start)).map_err(io)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        (self.last, self.length_bytes) = (after, start);
        while self.length_bytes < end {
            let left = end - self.length_bytes;
            let Some(content) = read_record(&mut reader, left).map_err(|source| io_error(&self.path, source))? else {
                self.check_torn(end)?;
                tracing::warn!(path = %self.path.display(), dropped_bytes = left, "the file ends in an incomplete block, which is dropped");
                break;
            };
            let place = self.place_of_next(content.len())?;
            let decided = DecidedBlock::decode(&content).map_err(|reason| corrupt(&self.path, place.number, reason))?;
            visit(decided, place)?;
            self.note(place);
        }
        self.cut_to_length()
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
        let reason = "wrong checksum, and no write that did not end".to_owned();
        Err(corrupt(&self.path, self.last.saturating_add(1), reason))
    }

    /// Adds the next block; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], or [`NodeError::LimitExceeded`] for more than 4 GiB.
    pub(crate) fn append(&mut self, decided: &DecidedBlock) -> Result<Place> {
        let content = decided.encode();
        if self.torn {
            self.cut_to_length()?;
        }
        let header = header_of(&content).ok_or_else(|| NodeError::LimitExceeded("a block of more than 4 GiB".to_owned()))?;
        let mut file = &*self.file;
        let written = file
            .write_all(&header)
            .and_then(|()| file.write_all(&content))
            .and_then(|()| file.sync_data());
        if let Err(source) = written {
            self.torn = true;
            return Err(io_error(&self.path, source));
        }
        let place = self.place_of_next(content.len())?;
        self.note(place);
        Ok(place)
    }

    /// Takes the last record back, whose block did not become part of the chain. It is gone with the next write, or when the file is opened again.
    pub(crate) fn take_back(&mut self, place: Place) {
        self.last = place.number.saturating_sub(1);
        self.length_bytes = place.start.saturating_sub(HEADER_BYTES as u64);
        self.torn = true;
        if let Err(error) = self.cut_to_length() {
            tracing::error!(%error, "a block that was not added could not be taken from the file");
        }
    }

    fn place_of_next(&self, content_bytes: usize) -> Result<Place> {
        Ok(Place {
            number: self.last.saturating_add(1),
            start: self.length_bytes.saturating_add(HEADER_BYTES as u64),
            length: u32::try_from(content_bytes).map_err(|error| NodeError::Internal(error.to_string()))?,
        })
    }

    fn note(&mut self, place: Place) {
        self.last = place.number;
        self.length_bytes = place.end();
    }

    fn cut_to_length(&mut self) -> Result<()> {
        self.file
            .set_len(self.length_bytes)
            .and_then(|()| (&*self.file).seek(SeekFrom::Start(self.length_bytes)))
            .map_err(|source| io_error(&self.path, source))?;
        self.torn = false;
        Ok(())
    }
}

impl LogReader {
    /// Reads a whole record and checks it.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], or [`NodeError::JournalCorrupt`] if there is no such record.
    pub(crate) fn decided(&self, place: Place) -> Result<DecidedBlock> {
        let wrong = |reason: &str| corrupt(&self.path, place.number, reason.to_owned());
        let length = usize::try_from(place.length).map_err(|error| NodeError::Internal(error.to_string()))?;
        let before = place.start.checked_sub(HEADER_BYTES as u64);
        // Nothing is allocated for what the file does not have.
        let (Some(before), true) = (before, place.end() <= self.length()?) else {
            return Err(wrong("the file is too short for it"));
        };
        let mut header = [0; HEADER_BYTES];
        let mut content = vec![0; length];
        self.file
            .read_exact_at(&mut header, before)
            .and_then(|()| self.file.read_exact_at(&mut content, place.start))
            .map_err(|source| io_error(&self.path, source))?;
        if header_of(&content) != Some(header) {
            return Err(wrong("wrong checksum"));
        }
        DecidedBlock::decode(&content).map_err(|reason| corrupt(&self.path, place.number, reason))
    }

    /// Reads the block of a record without its sidecar, which may be much longer. The checksum is over both: the caller checks the block by its hash.
    ///
    /// # Errors
    ///
    /// As [`Self::decided`].
    pub(crate) fn block(&self, place: Place) -> Result<Bytes> {
        let malformed = || corrupt(&self.path, place.number, "it does not begin with a block".to_owned());
        if place.end() > self.length()? {
            return Err(corrupt(&self.path, place.number, "the file is too short for it".to_owned()));
        }
        // The list's header and the block's have at most 9 bytes each.
        let mut begin = [0; 18];
        let known = begin.len().min(usize::try_from(place.length).unwrap_or(usize::MAX));
        let begin = begin.get_mut(..known).unwrap_or_default();
        self.read_at(begin, place.start)?;
        let mut rest: &[u8] = begin;
        let list = rlp_header(&mut rest).filter(|header| header.list).ok_or_else(malformed)?;
        let block = rlp_header(&mut rest).filter(|header| !header.list).ok_or_else(malformed)?;
        let skipped = u64::try_from(known.saturating_sub(rest.len())).unwrap_or(u64::MAX);
        let within = u64::from(place.length).saturating_sub(skipped);
        if u64::try_from(block.payload_length).unwrap_or(u64::MAX) > within || list.payload_length < block.payload_length {
            return Err(malformed());
        }
        let mut bytes = vec![0; block.payload_length];
        self.read_at(&mut bytes, place.start.saturating_add(skipped))?;
        Ok(bytes.into())
    }

    /// What to say of a record that is not what it should be.
    pub(crate) fn wrong(&self, place: Place, reason: String) -> NodeError {
        corrupt(&self.path, place.number, reason)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(bytes, offset)
            .map_err(|source| io_error(&self.path, source))
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|source| io_error(&self.path, source))?.len())
    }
}

/// Reads the header of an RLP item whose content may lie beyond `bytes`.
fn rlp_header(bytes: &mut &[u8]) -> Option<Header> {
    let first = *bytes.first()?;
    let (list, short_base, long_base) = match first {
        0xc0..=0xff => (true, 0xc0u8, 0xf7u8),
        0x80..=0xbf => (false, 0x80, 0xb7),
        _ => return None,
    };
    let rest = bytes.get(1..)?;
    let (payload_length, rest) = match first.checked_sub(long_base) {
        None | Some(0) => (usize::from(first - short_base), rest),
        Some(digits) => {
            let (digits, rest) = rest.split_at_checked(usize::from(digits))?;
            let mut value = [0u8; 8];
            let skip = value.len().checked_sub(digits.len())?;
            value.get_mut(skip..)?.copy_from_slice(digits);
            (usize::try_from(u64::from_be_bytes(value)).ok()?, rest)
        }
    };
    *bytes = rest;
    Some(Header { list, payload_length })
}

fn corrupt(path: &Path, number: u64, reason: String) -> NodeError {
    NodeError::JournalCorrupt {
        path: path.to_owned(),
        record: usize::try_from(number).unwrap_or(usize::MAX),
        reason,
    }
}

fn check_preamble(file: &File, path: &Path, genesis: B256) -> Result<()> {
    let mut preamble = [0; PREAMBLE];
    file.read_exact_at(&mut preamble, 0).map_err(|source| io_error(path, source))?;
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
