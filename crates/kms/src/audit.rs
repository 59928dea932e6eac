//! The audit log: what was decrypted for whom, in a file that cannot be edited unnoticed.
//!
//! One JSON object per line. Each carries the hash of the line before it (`previous`), so changing, removing or inserting a line breaks every
//! later link. Cutting lines off the end is visible only to who remembers the last hash: operators record [`AuditLog::head`]
//! elsewhere. Plaintexts are never written.
//!
//! A record is on disk before its answer leaves. A line without its end is what a crash left of a record
//! whose answer never left; opening the log removes it.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use alloy_primitives::keccak256;
use cipherloom_primitives::{Address, B256, Handle};
use serde::{Deserialize, Serialize};

/// The longest line read: far above a record of the largest request.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// What kind of decryption a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecryptionKind {
    /// The plaintext was published.
    Public,
    /// The plaintext was encrypted to its owner.
    User,
    /// The plaintext was encrypted to a delegate of its owner.
    Delegated,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When, in seconds since 1970.
    pub time: u64,
    /// What kind of decryption.
    pub kind: DecryptionKind,
    /// Who asked; nobody in particular for public decryptions.
    pub requester: Option<Address>,
    /// Whose values besides the requester's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Address>,
    /// Which handles.
    pub handles: Vec<Handle>,
    /// The Keccak hash of the request as JSON.
    pub request: B256,
    /// With which share of the key, by a party of a committee; nothing where one node has the whole key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareUsed>,
}

/// The share that a party of a committee used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareUsed {
    /// The KMS context.
    pub context: B256,
    /// The epoch of the share.
    pub epoch: B256,
    /// The number of the party.
    pub party: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    index: u64,
    previous: B256,
    #[serde(flatten)]
    entry: AuditEntry,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// How many records there are.
    pub records: u64,
    /// The hash of the last line; zero if there is none.
    pub hash: B256,
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Another process writes the log.
    #[error("another process has it open")]
    Locked,
    /// A line is not what it should be: the log was changed.
    #[error("line {line} is broken: {reason}")]
    Broken {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// An earlier write failed, so the end of the file is not known.
    #[error("an earlier write failed; restart the node after making room")]
    Poisoned,
}

/// An open log.
#[derive(Debug)]
pub struct AuditLog(Mutex<Writer>);

#[derive(Debug)]
struct Writer {
    file: File,
    head: AuditHead,
    failed: bool,
}

impl AuditLog {
    /// Opens a log for appending, or starts one, after checking every line of it.
    ///
    /// # Errors
    /// [`AuditError::Broken`] if the log was changed, [`AuditError::Locked`] if another process has it.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => AuditError::Locked,
            std::fs::TryLockError::Error(error) => error.into(),
        })?;
        let (head, complete_bytes) = check(&file)?;
        if complete_bytes < file.metadata()?.len() {
            tracing::warn!(path = %path.display(), "removing an incomplete last record; its answer was never sent");
            file.set_len(complete_bytes)?;
        }
        (&file).seek(SeekFrom::End(0))?;
        Ok(Self(Mutex::new(Writer { file, head, failed: false })))
    }

    /// Appends a record; when this returns it is on disk. Blocks on the disk.
    ///
    /// # Errors
    /// [`AuditError::Io`] if writing failed, and [`AuditError::Poisoned`] ever after.
    pub fn append(&self, entry: AuditEntry) -> Result<AuditHead, AuditError> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.failed {
            return Err(AuditError::Poisoned);
        }
        let line = Line {
            index: writer.head.records,
            previous: writer.head.hash,
            entry,
        };
        let mut text = serde_json::to_string(&line).map_err(std::io::Error::from)?;
        let hash = keccak256(text.as_bytes());
        text.push('\n');
        let written = writer.file.write_all(text.as_bytes()).and_then(|()| writer.file.sync_data());
        if let Err(error) = written {
            writer.failed = true;
            return Err(error.into());
        }
        writer.head = AuditHead {
            records: line.index + 1,
            hash,
        };
        Ok(writer.head)
    }

    /// Returns where the log ends. Recorded elsewhere, it makes cutting off the end visible.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).head
    }
}

/// Checks every line of a log and returns where it ends. An incomplete last line is left out of account.
///
/// # Errors
/// [`AuditError::Broken`] with the first line that is not what it should be.
pub fn verify(path: &Path) -> Result<AuditHead, AuditError> {
    check(&File::open(path)?).map(|(head, _)| head)
}

/// Checks every line of a log as it is read, shows each record with the head that the log had after it, and returns where the log ends.
///
/// What was shown before an error is right as far as it goes: each record follows those before it.
///
/// # Errors
/// As [`verify`].
pub fn inspect(reader: impl BufRead, show: impl FnMut(&AuditEntry, AuditHead)) -> Result<AuditHead, AuditError> {
    read(reader, show).map(|(head, _)| head)
}

fn check(mut file: &File) -> Result<(AuditHead, u64), AuditError> {
    file.seek(SeekFrom::Start(0))?;
    read(BufReader::new(file), |_, _| {})
}

fn read(mut reader: impl BufRead, mut show: impl FnMut(&AuditEntry, AuditHead)) -> Result<(AuditHead, u64), AuditError> {
    let mut head = AuditHead {
        records: 0,
        hash: B256::ZERO,
    };
    let mut complete_bytes = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? as u64;
        let Some((b'\n', text)) = bytes.split_last() else {
            if read == MAX_LINE_BYTES {
                return Err(AuditError::Broken {
                    line: head.records + 1,
                    reason: "it is too long".into(),
                });
            }
            return Ok((head, complete_bytes));
        };
        let broken = |reason: String| AuditError::Broken {
            line: head.records + 1,
            reason,
        };
        let line: Line = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
        if line.index != head.records {
            return Err(broken(format!("it has number {}, expected {}", line.index, head.records)));
        }
        if line.previous != head.hash {
            return Err(broken("it does not follow the line before it".into()));
        }
        head = AuditHead {
            records: head.records + 1,
            hash: keccak256(text),
        };
        complete_bytes += read;
        show(&line.entry, head);
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::FheType;

    use super::*;

    fn entry(time: u64) -> AuditEntry {
        AuditEntry {
            time,
            kind: DecryptionKind::User,
            requester: Some(Address::repeat_byte(1)),
            owners: Vec::new(),
            handles: vec![Handle::computed(B256::repeat_byte(2), 31337, FheType::Uint64)],
            request: B256::repeat_byte(3),
            share: None,
        }
    }

    fn log_of_three(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        (0..3).for_each(|time| {
            log.append(entry(time)).unwrap();
        });
        path
    }

    #[test]
    fn records_are_chained_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_of_three(directory.path());
        let log = AuditLog::open(&path).unwrap();
        let head = log.append(entry(3)).unwrap();
        assert_eq!(head.records, 4);
        assert_eq!(log.head(), head);
        assert_eq!(verify(&path).unwrap(), head);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[1].contains(&format!("\"previous\":\"{}\"", keccak256(lines[0].as_bytes()))),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn each_record_is_shown_with_the_head_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_of_three(directory.path());
        let mut shown = Vec::new();
        let bytes = std::fs::read(&path).unwrap();
        let head = inspect(bytes.as_slice(), |entry, head| shown.push((entry.time, head.records))).unwrap();
        assert_eq!(shown, [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(head, verify(&path).unwrap());
    }

    #[test]
    fn every_change_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_of_three(directory.path());
        let original = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = original.lines().collect();
        let cases = [
            ("edited", original.replacen("\"time\":0", "\"time\":9", 1), 2),
            ("removed", format!("{}\n{}\n", lines[0], lines[2]), 2),
            ("swapped", format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]), 1),
            ("repeated", format!("{original}{}\n", lines[2]), 4),
            ("first removed", format!("{}\n{}\n", lines[1], lines[2]), 1),
            ("not JSON", format!("{original}nonsense\n"), 4),
            ("empty line", format!("\n{original}"), 1),
        ];
        for (what, text, at) in cases {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(verify(&path), Err(AuditError::Broken { line, .. }) if line == at),
                "{what}: {:?}",
                verify(&path)
            );
            assert!(matches!(AuditLog::open(&path), Err(AuditError::Broken { .. })), "{what}");
        }
    }

    #[test]
    fn the_rest_of_an_interrupted_write_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_of_three(directory.path());
        let original = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{original}{{\"index\":3,\"prev")).unwrap();
        let log = AuditLog::open(&path).unwrap();
        assert_eq!(log.head().records, 3);
        assert_eq!(log.append(entry(3)).unwrap().records, 4);
        assert_eq!(verify(&path).unwrap().records, 4);
    }

    #[test]
    fn two_processes_cannot_write_one_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let _first = AuditLog::open(&path).unwrap();
        assert!(matches!(AuditLog::open(&path), Err(AuditError::Locked)));
    }
}
