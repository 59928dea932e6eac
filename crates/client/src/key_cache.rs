//! Downloaded keys on disk: megabytes that change about never.
//!
//! One file per gateway and kind: a line of JSON that says what it is, then the bytes. A file that was cut off or changed is like none; what is in the
//! directory is trusted no more than what the gateway sends. The cache never fails an operation: what it cannot do is logged.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use alloy::primitives::keccak256;
use cipherloom_primitives::B256;
use serde::{Deserialize, Serialize};

/// The form of files; others are downloaded again.
const FORMAT: u32 = 1;

/// The longest first line.
const MAX_HEAD_BYTES: usize = 4096;

/// Where one file is kept.
pub(crate) struct KeyCache {
    path: PathBuf,
}

/// A file with what the gateway said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptFile {
    /// The gateway's id of the file.
    pub(crate) id: String,
    /// What stands for the bytes in HTTP.
    pub(crate) tag: Option<String>,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    id: String,
    tag: Option<String>,
    digest: B256,
}

impl KeyCache {
    /// Names the place for a gateway's file of a kind.
    pub(crate) fn new(directory: &Path, gateway: &str, kind: &str) -> Self {
        let name = keccak256(format!("{gateway}\n{kind}"));
        let name = name.get(..16).unwrap_or_default();
        Self {
            path: directory.join(format!("{}-{}", kind.replace(' ', "-"), hex::encode(name))),
        }
    }

    /// Returns the kept file, if there is a whole one of at most so many bytes.
    pub(crate) async fn read(&self, limit: usize) -> Option<KeptFile> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path, limit)).await.ok()?;
        match read {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a kept key cannot be read; it is downloaded again");
                None
            }
        }
    }

    /// Keeps a file for the next time, and returns its bytes.
    pub(crate) async fn write(&self, kept: KeptFile) -> Vec<u8> {
        let path = self.path.clone();
        let bytes = kept.bytes.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &kept)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(path = %self.path.display(), %error, "a downloaded key cannot be kept");
        }
        bytes
    }
}

fn read(path: &Path, limit: usize) -> io::Result<Option<KeptFile>> {
    let size = usize::try_from(std::fs::metadata(path)?.len()).unwrap_or(usize::MAX);
    if size > limit.saturating_add(MAX_HEAD_BYTES) {
        return Ok(None);
    }
    let mut content = std::fs::read(path)?;
    let end = content.iter().take(MAX_HEAD_BYTES).position(|byte| *byte == b'\n');
    let Some((end, head)) = end.and_then(|end| Some((end, serde_json::from_slice::<Head>(content.get(..end)?).ok()?))) else {
        return Ok(None);
    };
    let bytes = content.split_off(end + 1);
    let is_whole = head.format == FORMAT && bytes.len() <= limit && keccak256(&bytes) == head.digest;
    Ok(is_whole.then_some(KeptFile {
        id: head.id,
        tag: head.tag,
        bytes,
    }))
}

fn write(path: &Path, kept: &KeptFile) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let head = Head {
        format: FORMAT,
        id: kept.id.clone(),
        tag: kept.tag.clone(),
        digest: keccak256(&kept.bytes),
    };
    let mut content = serde_json::to_vec(&head)?;
    content.push(b'\n');
    content.extend_from_slice(&kept.bytes);
    // Readers see the old file or the new one, and clients that write at the same time do not mix.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
    let replaced = std::fs::write(&part, content).and_then(|()| std::fs::rename(&part, path));
    if replaced.is_err() {
        // Nothing is lost if this fails, too.
        let _ = std::fs::remove_file(&part);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_read_again_unless_it_was_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let cache = KeyCache::new(&directory.path().join("keys"), "http://gateway/", "public key");
        assert_eq!(cache.read(100).await, None);
        let kept = KeptFile {
            id: "key-1".into(),
            tag: Some("\"tag\"".into()),
            bytes: b"line\nline".to_vec(),
        };
        assert_eq!(cache.write(kept.clone()).await, kept.bytes);
        assert_eq!(cache.read(100).await, Some(kept));
        assert_eq!(cache.read(8).await, None, "larger than accepted");
        let other = KeyCache::new(&directory.path().join("keys"), "http://other/", "public key");
        assert_eq!(other.read(100).await, None);

        let whole = std::fs::read(&cache.path).unwrap();
        for damaged in [
            whole[..whole.len() - 1].to_vec(),
            [whole.as_slice(), b"x"].concat(),
            b"no head".to_vec(),
            vec![],
        ] {
            std::fs::write(&cache.path, damaged).unwrap();
            assert_eq!(cache.read(100).await, None);
        }
        let left: Vec<_> = std::fs::read_dir(directory.path().join("keys")).unwrap().collect();
        assert_eq!(left.len(), 1, "no parts are left behind");
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_only_costs_downloads() {
        let directory = tempfile::tempdir().unwrap();
        let occupied = directory.path().join("file");
        std::fs::write(&occupied, b"").unwrap();
        let cache = KeyCache::new(&occupied, "http://gateway/", "public key");
        let kept = KeptFile {
            id: "key-1".into(),
            tag: None,
            bytes: vec![1],
        };
        assert_eq!(cache.write(kept).await, [1]);
        assert_eq!(cache.read(100).await, None);
    }
}
