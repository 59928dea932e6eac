//! Ciphertext bytes outside of the database, by digest.
//!
//! [`CiphertextObjects`] is the seam: a place that keeps bytes under the Keccak hash they have. Whoever reads checks the hash, so the
//! place needs no trust, and anyone may mirror it. [`CiphertextDirectory`] is one: a directory, on a network file system if several machines
//! share a database, that any web server can publish as it is.
//!
//! Bytes are put there before the database refers to them. A crash between the two leaves an object that nothing refers to, which does
//! no harm.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use cipherloom_primitives::B256;
use sha3::{Digest, Keccak256};

use crate::{StoreError, StoreFuture};

/// How long ago an object must have been put for it to be removed. Between putting and referring are seconds.
const REMOVABLE_AFTER: Duration = Duration::from_secs(600);

/// A place for the bytes of ciphertexts.
///
/// Every method fails with [`StoreError::File`] or the like if the place does.
pub trait CiphertextObjects: Send + Sync + 'static {
    /// Keeps bytes under their Keccak hash, durably. Repeating it changes nothing.
    fn put<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()>;

    /// Returns the bytes, unchecked.
    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Removes bytes that nothing refers to, unless they were put again just now.
    fn remove(&self, digest: B256) -> StoreFuture<'_, ()>;
}

/// Fails unless bytes have this Keccak hash.
pub(crate) fn check(digest: B256, bytes: &[u8]) -> Result<(), StoreError> {
    if Keccak256::digest(bytes)[..] == digest[..] {
        Ok(())
    } else {
        Err(StoreError::corrupt(
            "ciphertext object",
            format!("its bytes do not have the digest {digest}"),
        ))
    }
}

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
        fs::create_dir_all(root).map_err(failed(root))?;
        Ok(Self { root: root.to_path_buf() })
    }

    fn path(&self, digest: B256) -> PathBuf {
        let name = format!("{digest:x}");
        self.root.join(name.get(..2).unwrap_or_default()).join(name)
    }
}

impl CiphertextObjects for CiphertextDirectory {
    fn put<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        let (path, bytes) = (self.path(digest), bytes.to_vec());
        Box::pin(blocking(move || put(&path, &bytes)))
    }

    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>> {
        let path = self.path(digest);
        Box::pin(blocking(move || match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path)(error)),
        }))
    }

    fn remove(&self, digest: B256) -> StoreFuture<'_, ()> {
        let path = self.path(digest);
        Box::pin(blocking(move || remove(&path)))
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // An object that is there is put again by renewing its time, so that it is not removed as an old one.
    match File::options().write(true).open(path) {
        Ok(file) => return file.set_modified(SystemTime::now()).map_err(failed(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(path)(error)),
    }
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(failed(directory))?;
    // Under its name there is never a part of an object: it is written beside and renamed.
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
        failed(path)(error)
    })
}

/// Moves the object aside before it looks at its age: whoever puts it from then on writes a new one, and whoever put it before has renewed
/// its time.
fn remove(path: &Path) -> Result<(), StoreError> {
    let beside = beside(path);
    match fs::rename(path, &beside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path)(error)),
    }
    let modified = fs::metadata(&beside)
        .and_then(|metadata| metadata.modified())
        .map_err(failed(&beside))?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    if age < REMOVABLE_AFTER && !path.exists() {
        return fs::rename(&beside, path).map_err(failed(path));
    }
    fs::remove_file(&beside).map_err(failed(&beside))
}

/// A name in the same directory that no other call uses, in this process or another.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.part", std::process::id()))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> StoreError + use<> {
    let path = path.to_path_buf();
    move |source| StoreError::File {
        path: path.clone(),
        source,
    }
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
}
