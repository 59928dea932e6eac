//! Directories of key sets: written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Manifest, generate::Material, manifest, random_bytes};
use crate::error::FheError;

/// Where a key set will be, and the names next to it that its generation uses.
pub(super) struct Place {
    target: PathBuf,
    parent: PathBuf,
    /// What the names of unfinished directories begin with.
    partial: String,
    lock: PathBuf,
}

/// Held while a key set is generated. The operating system lets go of it when the process ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

impl Place {
    pub(super) fn of(target: &Path) -> Result<Self, FheError> {
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| FheError::key("key set", format!("cannot be in a directory called {}", target.display())))?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let lock = parent.join(format!(".{name}.lock"));
        Ok(Self {
            target: target.to_owned(),
            parent,
            partial: format!(".{name}.partial-"),
            lock,
        })
    }

    /// Waits until no other process generates here.
    pub(super) fn lock(&self) -> Result<Lock, FheError> {
        fs::create_dir_all(&self.parent).map_err(at(&self.parent))?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.lock)
            .map_err(at(&self.lock))?;
        file.lock().map_err(at(&self.lock))?;
        Ok(Lock { _file: file })
    }

    /// Removes what killed processes left behind. Needs the lock, without which it could be the work of a living one.
    pub(super) fn remove_stale(&self) -> Result<(), FheError> {
        for entry in fs::read_dir(&self.parent).map_err(at(&self.parent))? {
            let entry = entry.map_err(at(&self.parent))?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&self.partial)) {
                fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// Checks that nothing would be overwritten.
    pub(super) fn check_free(&self) -> Result<(), FheError> {
        match fs::read_dir(&self.target) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(at(&self.target)(source)),
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(FheError::key(
                    "key set",
                    format!("cannot be generated: {} is not empty", self.target.display()),
                )),
            },
        }
    }

    /// Writes all files of a key set.
    pub(super) fn write(&self, manifest: &Manifest, material: &Material) -> Result<(), FheError> {
        let parts = &manifest.parts;
        let public = |name, bytes| NewFile {
            name,
            bytes,
            readable: Readable::Everyone,
        };
        self.write_files(&[
            NewFile {
                name: &parts.secret_key.file,
                bytes: &material.secret_key,
                readable: Readable::Owner,
            },
            public(&parts.public_key.file, &material.public_key),
            public(&parts.crs.file, &material.crs),
            public(&parts.evaluation_key.file, &material.evaluation_key),
            public(manifest::FILE, &manifest.to_json()?),
        ])
    }

    /// Adds files to a directory that is there, and its new manifest after them. Until the manifest is there, nobody looks at the others; what
    /// a killed process left of them is written anew.
    pub(super) fn add_files(&self, files: &[NewFile<'_>], manifest: &[u8]) -> Result<(), FheError> {
        let manifest = NewFile {
            name: manifest::FILE,
            bytes: manifest,
            readable: Readable::Everyone,
        };
        for file in files.iter().chain([&manifest]) {
            let partial = self.target.join(format!(".{}.partial", file.name));
            match fs::remove_file(&partial) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(at(&partial)(source)),
                _ => {}
            }
            // All files are durable before the manifest names them.
            if file.name == manifest::FILE {
                sync_directory(&self.target)?;
            }
            let written = write_file(&partial, file.bytes, file.readable)
                .and_then(|()| fs::rename(&partial, self.target.join(file.name)).map_err(at(&self.target)));
            if written.is_err() {
                // A secret that nobody will use should not stay; if this fails too, the next attempt removes it.
                let _ = fs::remove_file(&partial);
            }
            written?;
        }
        sync_directory(&self.target)
    }

    /// Writes a directory of these files, whole or not at all.
    pub(super) fn write_files(&self, files: &[NewFile<'_>]) -> Result<(), FheError> {
        let unique = u64::from_le_bytes(random_bytes()?);
        let partial = self.parent.join(format!("{}{unique:016x}", self.partial));
        private_directory().create(&partial).map_err(at(&partial))?;
        let written = write_files(&partial, files).and_then(|()| fs::rename(&partial, &self.target).map_err(at(&self.target)));
        if written.is_err() {
            // A secret that nobody will use should not stay; if this fails too, the next generation removes it.
            let _ = fs::remove_dir_all(&partial);
        }
        written.and_then(|()| sync_directory(&self.parent))
    }
}

fn write_files(directory: &Path, files: &[NewFile<'_>]) -> Result<(), FheError> {
    for file in files {
        write_file(&directory.join(file.name), file.bytes, file.readable)?;
    }
    sync_directory(directory)
}

/// A file to write.
pub(super) struct NewFile<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) readable: Readable,
}

/// Who can read a file.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Readable {
    Owner,
    Everyone,
}

fn write_file(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), FheError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readable == Readable::Owner {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = readable;
    let mut file = options.open(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

fn private_directory() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only unix has directory modes"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder
}

/// Makes the directory's entries durable, which on other systems happens without asking.
fn sync_directory(path: &Path) -> Result<(), FheError> {
    #[cfg(unix)]
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Refuses a secret that others than its owner can read.
pub(super) fn check_private(path: &Path) -> Result<(), FheError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let reason = format!("{} has mode {mode:o}: others can use it; run chmod 600 on it", path.display());
            return Err(FheError::key("secret key", reason));
        }
    }
    #[cfg(not(unix))]
    let _ = metadata;
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FheError + '_ {
    |source| FheError::KeyFile {
        path: path.to_owned(),
        source,
    }
}
