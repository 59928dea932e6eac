//! Files that are written whole or not at all, and erased rather than only removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::CeremonyError;

/// A directory that one process has at a time.
pub(super) struct Directory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, CeremonyError> {
        let failed = |what| move |source| error(what, path, source);
        fs::create_dir_all(path).map_err(failed("cannot make"))?;
        restrict(path, 0o700).map_err(failed("cannot restrict"))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|source| error("cannot open", &lock_path, source))?;
        lock.try_lock()
            .map_err(|source| error("another process has", &lock_path, source.into()))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Lists files whose names begin so, those that were being written included.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<PathBuf>, CeremonyError> {
        let failed = |source| error("cannot list", &self.path, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, CeremonyError> {
    read_if_there(path, max)?.ok_or_else(|| error("there is no", path, io::ErrorKind::NotFound.into()))
}

pub(super) fn read_if_there(path: &Path, max: u64) -> Result<Option<Vec<u8>>, CeremonyError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error("cannot open", path, source)),
    };
    let mut bytes = Vec::new();
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| error("cannot read", path, source))?;
    if bytes.len() as u64 > max {
        return Err(error("cannot read", path, io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// Writes a file beside its place, and moves it there once it is on the disk.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), CeremonyError> {
    let beside = path.with_extension("new");
    let attempt = || {
        let mut file = File::create(&beside)?;
        restrict(&beside, 0o600)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_parent(path)
    };
    attempt().map_err(|source| error("cannot write", path, source))
}

/// Overwrites a file, then removes it. On disks that keep copies this is no more than an attempt; what then protects is the seal and the epoch.
pub(super) fn erase(path: &Path) -> Result<(), CeremonyError> {
    let attempt = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut left = file.metadata()?.len();
        let noise = crate::digest::random::<4096>().map_err(io::Error::other)?;
        while left > 0 {
            let length = left.min(noise.len() as u64);
            let chunk = usize::try_from(length)
                .ok()
                .and_then(|length| noise.get(..length))
                .unwrap_or_default();
            file.write_all(chunk)?;
            left -= length;
        }
        file.sync_all()?;
        fs::remove_file(path)?;
        sync_parent(path)
    };
    attempt().map_err(|source| error("cannot erase", path, source))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

fn error(what: &'static str, path: &Path, source: io::Error) -> CeremonyError {
    CeremonyError::File {
        what,
        path: path.display().to_string(),
        source,
    }
}
