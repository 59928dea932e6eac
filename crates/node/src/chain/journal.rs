//! The journal: every input of the chain, written ahead, one line each.
//!
//! Execution is deterministic, so the inputs are enough: reading the journal and executing it
//! again gives the same chain, and each block record carries the hash that must come out.
//!
//! A line is a checksum (8 hex digits of keccak-256), a space, a JSON record and a newline. A
//! process killed in the middle of a write leaves an incomplete last line, which is dropped with
//! a warning; nobody had seen its block. Damage anywhere else is an error.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, Bytes, U256, hex, keccak256};
use serde::{Deserialize, Serialize};

use super::core::settings::BlockSettings;
use crate::error::{NodeError, Result};
use crate::state::AccountDump;

/// Version of the record format.
pub(crate) const VERSION: u32 = 1;

/// One input of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Record {
    /// The first record: what the chain was created with.
    Genesis {
        version: u32,
        chain_id: u64,
        timestamp: u64,
        hash: B256,
    },
    /// A mined block.
    Block {
        number: u64,
        timestamp: u64,
        base_fee: u64,
        /// [`Record::TimeOffset`] from this block on.
        time_offset: i64,
        transactions: Vec<RecordedTransaction>,
        hash: B256,
        /// What was set for this block and the following ones.
        #[serde(default, skip_serializing_if = "BlockSettings::is_default")]
        settings: BlockSettings,
        /// What was set for this block only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prevrandao: Option<B256>,
    },
    /// A change of state outside any transaction.
    Edit(StateEdit),
    /// A snapshot was taken.
    Snapshot { id: u64 },
    /// The chain went back to a snapshot.
    Revert { id: u64 },
    /// The blocks above `height` were removed.
    Rollback { height: u64 },
    /// The chain went back to its first block.
    Reset,
    /// Offset of block timestamps from the clock, in seconds.
    TimeOffset { seconds: i64 },
}

/// A transaction of a block record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedTransaction {
    pub(crate) raw: Bytes,
    pub(crate) sender: Address,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) impersonated: bool,
}

/// A change of state outside any transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum StateEdit {
    Balance { address: Address, balance: U256 },
    Nonce { address: Address, nonce: u64 },
    Code { address: Address, code: Bytes },
    Storage { address: Address, slot: U256, value: U256 },
    Load { accounts: BTreeMap<Address, AccountDump> },
}

/// An open journal file, at its end.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Length of the good part; a failed write is cut back to it.
    length_bytes: u64,
    /// A write failed and the file may end in a part of it.
    torn: bool,
    /// Holds the lock on the data directory for as long as the journal is open.
    _lock: File,
}

impl Journal {
    /// Opens the journal of `data_dir`, creating both, and returns what it holds.
    ///
    /// # Errors
    ///
    /// [`NodeError::DataDirLocked`], [`NodeError::JournalCorrupt`] or [`NodeError::Io`].
    pub(crate) fn open(data_dir: &Path) -> Result<(Self, Vec<Record>)> {
        let lock = lock_directory(data_dir)?;
        let path = data_dir.join("chain.journal");
        let mut file = open_file(&path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|source| io_error(&path, source))?;
        let (records, length) = decode(&content, &path)?;
        if length < content.len() {
            tracing::warn!(path = %path.display(), dropped_bytes = content.len() - length, "the journal ends in an incomplete record, which is dropped");
        }
        let mut journal = Self {
            file,
            path,
            length_bytes: u64::try_from(length).unwrap_or(u64::MAX),
            torn: true,
            _lock: lock,
        };
        journal.cut_to_length()?;
        Ok((journal, records))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`]; what was written in part is cut off before the next record.
    pub(crate) fn append(&mut self, record: &Record) -> Result<()> {
        let line = encode(record)?;
        if self.torn {
            self.cut_to_length()?;
        }
        if let Err(source) = self.file.write_all(&line) {
            self.torn = true;
            return Err(io_error(&self.path, source));
        }
        self.length_bytes = self.length_bytes.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Asks the system to put everything on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| io_error(&self.path, source))
    }

    fn cut_to_length(&mut self) -> Result<()> {
        self.file
            .set_len(self.length_bytes)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length_bytes)))
            .map_err(|source| io_error(&self.path, source))?;
        self.torn = false;
        Ok(())
    }
}

/// Creates a data directory and keeps other processes out of it for as long as the file is open.
///
/// # Errors
///
/// [`NodeError::DataDirLocked`] or [`NodeError::Io`].
pub(crate) fn lock_directory(data_dir: &Path) -> Result<File> {
    std::fs::create_dir_all(data_dir).map_err(|source| io_error(data_dir, source))?;
    let lock_path = data_dir.join("LOCK");
    let lock = open_file(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(NodeError::DataDirLocked(data_dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(io_error(&lock_path, source)),
    }
}

/// Opens a file to read and write, creating it if it is not there.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|source| io_error(path, source))
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> NodeError {
    NodeError::Io {
        path: path.to_owned(),
        source,
    }
}

fn checksum(json: &[u8]) -> String {
    hex::encode(keccak256(json).get(..4).unwrap_or_default())
}

fn encode(record: &Record) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(record).map_err(|error| NodeError::Internal(error.to_string()))?;
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// Returns the records and the length of the part that holds them.
fn decode(content: &[u8], path: &Path) -> Result<(Vec<Record>, usize)> {
    let mut records = Vec::new();
    let mut length = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let at_end = length + line.len() == content.len();
        match decode_line(line) {
            Ok(record) => records.push(record),
            Err(_) if at_end => break,
            Err(reason) => {
                return Err(NodeError::JournalCorrupt {
                    path: path.to_owned(),
                    record: records.len() + 1,
                    reason,
                });
            }
        }
        length += line.len();
    }
    Ok((records, length))
}

fn decode_line(line: &[u8]) -> Result<Record, String> {
    let line = line.strip_suffix(b"\n").ok_or("no newline")?;
    let (sum, json) = line.split_at_checked(9).ok_or("too short")?;
    if sum.strip_suffix(b" ") != Some(checksum(json).as_bytes()) {
        return Err("wrong checksum".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::Genesis {
                version: VERSION,
                chain_id: 31337,
                timestamp: 5,
                hash: B256::repeat_byte(1),
            },
            Record::Block {
                number: 1,
                timestamp: 6,
                base_fee: 7,
                time_offset: -3,
                transactions: vec![RecordedTransaction {
                    raw: vec![1, 2].into(),
                    sender: Address::ZERO,
                    impersonated: true,
                }],
                hash: B256::repeat_byte(2),
                settings: BlockSettings::default(),
                prevrandao: Some(B256::repeat_byte(3)),
            },
            Record::Edit(StateEdit::Load {
                accounts: BTreeMap::from([(Address::repeat_byte(4), AccountDump::default())]),
            }),
            Record::Edit(StateEdit::Storage {
                address: Address::ZERO,
                slot: U256::MAX,
                value: U256::from(1),
            }),
            Record::Snapshot { id: 1 },
            Record::Revert { id: 1 },
            Record::Rollback { height: 3 },
            Record::Reset,
            Record::TimeOffset { seconds: 9 },
        ]
    }

    #[test]
    fn records_come_back_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, empty) = Journal::open(dir.path()).unwrap();
        assert!(empty.is_empty());
        for record in records() {
            journal.append(&record).unwrap();
        }
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().1, records());
    }

    #[test]
    fn records_without_settings_have_none() {
        let json = r#"{"record":"block","number":1,"timestamp":6,"base_fee":7,"time_offset":0,"transactions":[],"hash":"0x0202020202020202020202020202020202020202020202020202020202020202"}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert!(matches!(&record, Record::Block { settings, prevrandao: None, .. } if settings.is_default()));
        assert_eq!(serde_json::to_string(&record).unwrap(), json);
    }

    #[test]
    fn a_cut_at_any_byte_loses_only_the_torn_record() {
        let lines = records().iter().map(|record| encode(record).unwrap()).collect::<Vec<_>>();
        let content = lines.concat();
        for cut in 0..content.len() {
            let (decoded, length) = decode(&content[..cut], Path::new("x")).unwrap();
            let mut whole = 0;
            let mut sum = 0;
            for line in &lines {
                if sum + line.len() > cut {
                    break;
                }
                sum += line.len();
                whole += 1;
            }
            assert_eq!((decoded.len(), length), (whole, sum), "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let mut content = records().iter().flat_map(|record| encode(record).unwrap()).collect::<Vec<_>>();
        content[20] ^= 1;
        assert!(matches!(
            decode(&content, Path::new("x")),
            Err(NodeError::JournalCorrupt { record: 1, .. })
        ));
    }

    #[test]
    fn a_second_opener_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path()).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(NodeError::DataDirLocked(_))));
        drop(first);
        assert!(Journal::open(dir.path()).is_ok());
    }
}
