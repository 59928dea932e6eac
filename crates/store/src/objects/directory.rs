//! A directory as a place: each object is a file.
//!
//! Written here rather than taken from `object_store`, whose directories do not sync: a database that refers to bytes must find them after
//! a loss of power. `docs/decisions/0009-places-of-ciphertexts.md` has the reasons.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use cipherloom_primitives::B256;

use super::{CiphertextObjects, MAX_DOCUMENT_BYTES, MAX_OBJECT_BYTES, PublicPlace, failed, object_name};
use crate::{StoreError, StoreFuture};

/// How long ago an object must have been put for it to be removed. Between putting and referring are seconds.
const REMOVABLE_AFTER: Duration = Duration::from_secs(600);

/// Objects as files of a directory: `ab/ab12…` for the digest `ab12…`.
#[derive(Clone, Debug)]
pub struct CiphertextDirectory {
    root: PathBuf,
}

impl CiphertextDirectory {
    /// Opens a directory, making it if it is missing.
    ///
    /// # Errors
    /// [`StoreError::File`] if it cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(|source| StoreError::File {
            path: root.to_path_buf(),
            source,
        })?;
        Ok(Self { root: root.to_path_buf() })
    }

    fn path(&self, digest: B256) -> PathBuf {
        self.root.join(object_name(digest))
    }

    /// Returns the file of a document, if the name stays inside of the directory.
    fn document_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let plain = Path::new(name)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if plain && !name.is_empty() {
            Ok(self.root.join(name))
        } else {
            Err(failed("name", name, "it leads out of the directory"))
        }
    }
}

impl CiphertextObjects for CiphertextDirectory {
    fn put<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        let (path, bytes) = (self.path(digest), bytes.to_vec());
        Box::pin(blocking(move || put(&path, &bytes)))
    }

    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>> {
        let path = self.path(digest);
        Box::pin(blocking(move || read(&path, MAX_OBJECT_BYTES)))
    }

    fn remove(&self, digest: B256) -> StoreFuture<'_, ()> {
        let path = self.path(digest);
        Box::pin(blocking(move || remove(&path)))
    }
}

impl PublicPlace for CiphertextDirectory {
    fn put_document<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        let (path, bytes) = (self.document_path(name), bytes.to_vec());
        Box::pin(blocking(move || write(&path?, &bytes)))
    }

    fn document<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Vec<u8>>> {
        let path = self.document_path(name);
        Box::pin(blocking(move || read(&path?, MAX_DOCUMENT_BYTES)))
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // An object that is there is put again by renewing its time, so that it is not removed as an old one. One of another length was damaged
    // by somebody, and is written anew.
    match File::options().write(true).open(path) {
        Ok(file) => {
            let length = file.metadata().map_err(cannot("look at", path))?.len();
            if usize::try_from(length) == Ok(bytes.len()) {
                return file.set_modified(SystemTime::now()).map_err(cannot("renew", path));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(cannot("open", path)(error)),
    }
    write(path, bytes)
}

/// Writes a file so that under its name there is never a part of it, and so that it is there after a loss of power: it is written beside,
/// and renamed.
fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(cannot("make a directory for", path))?;
    let beside = beside(path);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let named = written
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| File::open(directory)?.sync_all());
    named.map_err(|error| {
        // The error is what matters; a file left beside harms nothing.
        let _ = fs::remove_file(&beside);
        cannot("write", path)(error)
    })
}

fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("open", path)(error)),
    };
    let mut bytes = Vec::new();
    // One byte more than the limit tells a file that is too long.
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(cannot("read", path))?;
    if bytes.len() > limit {
        return Err(failed(
            "read",
            path.display().to_string(),
            format!("it has more than {limit} bytes"),
        ));
    }
    Ok(Some(bytes))
}

/// Moves the object aside before it looks at its age: whoever puts it from then on writes a new one, and whoever put it before has renewed
/// its time.
fn remove(path: &Path) -> Result<(), StoreError> {
    let beside = beside(path);
    match fs::rename(path, &beside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot("remove", path)(error)),
    }
    let modified = fs::metadata(&beside)
        .and_then(|metadata| metadata.modified())
        .map_err(cannot("remove", path))?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    if age < REMOVABLE_AFTER && !path.exists() {
        return fs::rename(&beside, path).map_err(cannot("restore", path));
    }
    fs::remove_file(&beside).map_err(cannot("remove", path))
}

/// A name in the same directory that no other call uses, in this process or another.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.part", std::process::id()))
}

fn cannot(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
    let object = path.display().to_string();
    move |source| failed(action, object, source)
}

/// Runs file operations where they may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(StoreError::corrupt("ciphertext object", "the thread that handled it panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_kept_until_it_is_old_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let objects = CiphertextDirectory::open(&directory.path().join("new")).unwrap();
        let digest = B256::repeat_byte(0xab);
        assert_eq!(objects.read(digest).await.unwrap(), None);
        objects.put(digest, b"bytes").await.unwrap();
        objects.put(digest, b"bytes").await.unwrap();
        let path = objects.path(digest);
        assert_eq!(path.parent().unwrap().file_name().unwrap(), "ab");
        // It was put just now, so somebody may be about to refer to it.
        objects.remove(digest).await.unwrap();
        assert_eq!(objects.read(digest).await.unwrap().as_deref(), Some(b"bytes".as_slice()));
        let old = SystemTime::now() - REMOVABLE_AFTER * 2;
        let age = |path: &Path| File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        age(&path);
        objects.put(digest, b"bytes").await.unwrap();
        objects.remove(digest).await.unwrap();
        assert!(path.exists(), "it was put again");
        age(&path);
        objects.remove(digest).await.unwrap();
        objects.remove(digest).await.unwrap();
        assert_eq!(objects.read(digest).await.unwrap(), None);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "something is left beside");
    }

    #[tokio::test]
    async fn a_truncated_file_is_written_anew_when_it_is_put_again() {
        let directory = tempfile::tempdir().unwrap();
        let objects = CiphertextDirectory::open(directory.path()).unwrap();
        let digest = super::super::object_digest(b"bytes");
        objects.put(digest, b"bytes").await.unwrap();
        fs::write(objects.path(digest), b"byt").unwrap();
        let error = super::super::read_checked(&objects, digest).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{digest:x}")), "{error}");
        objects.put(digest, b"bytes").await.unwrap();
        assert_eq!(super::super::read_checked(&objects, digest).await.unwrap(), b"bytes");
    }

    #[tokio::test]
    async fn documents_are_replaced_and_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let objects = CiphertextDirectory::open(directory.path()).unwrap();
        assert_eq!(objects.document("handles/ab/one.json").await.unwrap(), None);
        objects.put_document("handles/ab/one.json", b"first").await.unwrap();
        objects.put_document("handles/ab/one.json", b"second").await.unwrap();
        assert_eq!(
            objects.document("handles/ab/one.json").await.unwrap().as_deref(),
            Some(b"second".as_slice())
        );
        for outside in ["", "../one", "/etc/passwd", "handles/../../one"] {
            assert!(objects.document(outside).await.is_err(), "{outside}");
            assert!(objects.put_document(outside, b"").await.is_err(), "{outside}");
        }
        fs::write(directory.path().join("large"), vec![0; MAX_DOCUMENT_BYTES + 1]).unwrap();
        assert!(objects.document("large").await.unwrap_err().to_string().contains("more than"));
    }
}
