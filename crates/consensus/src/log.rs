//! The log: what a validator writes down before it speaks.
//!
//! A validator that forgets a vote may vote differently next time, and two votes of one validator in one round are what agreement breaks on.
//! So everything that led to a vote is on disk before the vote goes out, and a restart goes through it again and comes to the same votes.
//!
//! # The file
//!
//! `consensus.log` holds one height: a magic number, the height, and records. A record is what was learned between two messages: its length, the
//! first eight bytes of its Keccak hash, and a `LogRecord`. It is written in one piece and synced before anything that came of it leaves the
//! node. So only the last record can be torn by a crash, and nothing came of it: it is cut off. Any other damage stops the node, since votes
//! might be missing. A new height begins a new file, which replaces the old one atomically.
//!
//! `consensus.lock` is held while a node runs, so that two processes never sign with one log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use alloy::primitives::keccak256;
use cipherloom_rpc::cipherloom::consensus::v1::{LogEntry, LogRecord};
use prost::Message as _;

const MAGIC: &[u8; 8] = b"CLMCLOG1";
const HEAD_BYTES: usize = 16;
const FRAME_BYTES: usize = 16;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process signs with this log.
    #[error("{0} is held by another process: two nodes with one key and one log would contradict each other")]
    Held(PathBuf),
    /// The log is damaged before its end. Votes may be missing, so that voting on would risk contradicting them.
    #[error("{path} is damaged at byte {at}: remove it only when the chain has passed height {height}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: usize,
        /// The height it is for; 0 if that cannot be read.
        height: u64,
    },
}

/// The log, open for writing.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    file: File,
    height: u64,
    empty: bool,
    _lock: File,
}

impl Log {
    /// Opens the log in a directory, which is created if there is none, and returns what it holds.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Vec<LogEntry>), LogError> {
        fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
        let lock = lock(directory)?;
        let path = directory.join("consensus.log");
        if !path.try_exists().map_err(|source| failed(&path, source))? {
            create(directory, 0)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(|source| failed(&path, source))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|source| failed(&path, source))?;
        let Read { height, entries, end } = read(&path, &content)?;
        if end < content.len() {
            tracing::warn!(
                at = end,
                "the consensus log ends in a torn record, of which nothing came; it is cut off"
            );
            file.set_len(end as u64)
                .and_then(|()| file.sync_all())
                .map_err(|source| failed(&path, source))?;
        }
        let log = Self {
            directory: directory.to_owned(),
            file,
            height,
            empty: entries.is_empty(),
            _lock: lock,
        };
        Ok((log, entries))
    }

    /// The height it is for; 0 before the first.
    pub(crate) const fn height(&self) -> u64 {
        self.height
    }

    /// Begins a height. What was written for another one is gone.
    pub(crate) fn begin(&mut self, height: u64) -> Result<(), LogError> {
        if self.height == height && self.empty {
            return Ok(());
        }
        self.file = create(&self.directory, height)?;
        (self.height, self.empty) = (height, true);
        Ok(())
    }

    /// Writes a record and syncs it.
    pub(crate) fn append(&mut self, entries: Vec<LogEntry>) -> Result<(), LogError> {
        let record = LogRecord { entries }.encode_to_vec();
        let mut frame = Vec::with_capacity(FRAME_BYTES + record.len());
        frame.extend_from_slice(&(record.len() as u64).to_be_bytes());
        frame.extend_from_slice(&checksum(&record));
        frame.extend_from_slice(&record);
        self.empty = false;
        let written = self.file.write_all(&frame).and_then(|()| self.file.sync_data());
        written.map_err(|source| failed(&self.directory.join("consensus.log"), source))
    }
}

struct Read {
    height: u64,
    entries: Vec<LogEntry>,
    /// Where the last whole record ends.
    end: usize,
}

fn read(path: &Path, content: &[u8]) -> Result<Read, LogError> {
    let damaged = |at, height| LogError::Damaged {
        path: path.to_owned(),
        at,
        height,
    };
    let (head, mut rest) = content.split_first_chunk::<HEAD_BYTES>().ok_or_else(|| damaged(0, 0))?;
    let [magic @ .., a, b, c, d, e, f, g, h] = *head;
    if magic != *MAGIC {
        return Err(damaged(0, 0));
    }
    let height = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let mut entries = Vec::new();
    let mut end = HEAD_BYTES;
    while !rest.is_empty() {
        let Some((frame, after)) = rest.split_first_chunk::<FRAME_BYTES>() else {
            break;
        };
        let [a, b, c, d, e, f, g, h, sum @ ..] = *frame;
        let length = usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).unwrap_or(usize::MAX);
        let Some((record, after)) = after.split_at_checked(length) else {
            break;
        };
        let read = if checksum(record) == sum {
            LogRecord::decode(record).ok()
        } else {
            None
        };
        match read {
            Some(record) => entries.extend(record.entries),
            // The last record may be torn within; one that others follow was synced.
            None if after.is_empty() => break,
            None => return Err(damaged(end, height)),
        }
        end += FRAME_BYTES + length;
        rest = after;
    }
    Ok(Read { height, entries, end })
}

fn checksum(record: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = keccak256(record).0;
    [a, b, c, d, e, f, g, h]
}

/// Makes an empty log for a height in place of what was there, and opens it.
fn create(directory: &Path, height: u64) -> Result<File, LogError> {
    let (path, new) = (directory.join("consensus.log"), directory.join("consensus.log.new"));
    let make = || {
        let mut file = File::create(&new)?;
        file.write_all(MAGIC)?;
        file.write_all(&height.to_be_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()?;
        Ok(file)
    };
    make().map_err(|source| failed(&path, source))
}

fn lock(directory: &Path) -> Result<File, LogError> {
    let path = directory.join("consensus.lock");
    let file = File::create(&path).map_err(|source| failed(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LogError::Held(path)),
        Err(fs::TryLockError::Error(source)) => Err(failed(&path, source)),
    }
}

fn failed(path: &Path, source: io::Error) -> LogError {
    LogError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_rpc::cipherloom::consensus::v1::{LoggedTimeout, log_entry::Content};

    use super::*;

    fn entry(round: u32) -> LogEntry {
        let timeout = LoggedTimeout { kind: 1, round };
        LogEntry {
            content: Some(Content::Timeout(timeout)),
        }
    }

    fn written(directory: &Path) -> Vec<u8> {
        let (mut log, _) = Log::open(directory).expect("a new log");
        log.begin(7).expect("a height");
        log.append(vec![entry(0), entry(1)]).expect("a record");
        log.append(vec![entry(2)]).expect("a record");
        fs::read(directory.join("consensus.log")).expect("the file")
    }

    #[test]
    fn a_torn_end_is_cut_off_and_nothing_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let whole = written(directory.path());
        let path = directory.path().join("consensus.log");
        let first = whole.len() - FRAME_BYTES - LogRecord { entries: vec![entry(2)] }.encoded_len();
        for length in first..=whole.len() {
            fs::write(&path, &whole[..length]).expect("written");
            let (mut log, entries) = Log::open(directory.path()).expect("a torn end is no damage");
            let expected: Vec<LogEntry> = (0..if length == whole.len() { 3 } else { 2 }).map(entry).collect();
            assert_eq!((log.height(), entries), (7, expected), "cut to {length} bytes");
            log.append(vec![entry(9)]).expect("a record");
            drop(log);
            let (_, entries) = Log::open(directory.path()).expect("whole");
            assert_eq!(entries.last(), Some(&entry(9)));
        }
    }

    #[test]
    fn damage_before_the_end_stops_the_node() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut content = written(directory.path());
        content[HEAD_BYTES + FRAME_BYTES] ^= 1;
        fs::write(directory.path().join("consensus.log"), &content).expect("written");
        assert!(matches!(
            Log::open(directory.path()),
            Err(LogError::Damaged {
                height: 7,
                at: HEAD_BYTES,
                ..
            })
        ));
    }

    #[test]
    fn a_log_has_one_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, _) = Log::open(directory.path()).expect("a new log");
        assert!(matches!(Log::open(directory.path()), Err(LogError::Held(_))));
        drop(log);
        assert!(Log::open(directory.path()).is_ok());
    }
}
