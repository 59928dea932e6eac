//! A node's directory.
//!
//! ```text
//! DIR/genesis.json     what the chain begins with; the same for all nodes
//! DIR/node.key         the key that peers know the node by, and that a validator signs with
//! DIR/keys/            the key set, without its secret key
//! DIR/validator.toml   options
//! DIR/data/            blocks, state and the log of consensus; made by the node
//! ```
//!
//! The key is the one thing that cannot be made again. Two processes that sign with one key are what consensus punishes, so that a copy of it belongs into
//! a safe and not onto a second machine; a node locks its data directory.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result, bail};
use cipherloom_service::key_file::{self, KeyFile};
use zeroize::Zeroizing;

/// What a node's key is, for messages.
pub(crate) const KEY: KeyFile = KeyFile {
    what: "the node's key",
    option: "--node-key",
};

/// Where the files of a node are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDirectory {
    /// The genesis file.
    pub genesis: PathBuf,
    /// The node's key.
    pub key: PathBuf,
    /// The directory of the key set.
    pub keys: PathBuf,
    /// Blocks, state and the log of consensus.
    pub data: PathBuf,
    /// The config file.
    pub config: PathBuf,
}

impl NodeDirectory {
    /// Says where everything is in a directory as `cipherloom node init` makes it.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self {
            genesis: directory.join("genesis.json"),
            key: directory.join("node.key"),
            keys: directory.join("keys"),
            data: directory.join("data"),
            config: directory.join("validator.toml"),
        }
    }

    /// Reads the node's key.
    ///
    /// # Errors
    /// If there is none, or the file holds something else.
    pub fn read_key(&self) -> Result<PrivateKeySigner> {
        key_file::read(&self.key, KEY)
    }

    /// Reads the node's key, or makes one if there is none.
    ///
    /// # Errors
    /// If the file holds something else, or cannot be written.
    pub fn read_or_make_key(&self) -> Result<PrivateKeySigner> {
        match self.key.try_exists() {
            Ok(true) => self.read_key(),
            _ => make_key(&self.key),
        }
    }
}

/// Makes a key and writes it into a new file, with access for the owner alone.
///
/// # Errors
/// If there is a file already, which is never overwritten, or it cannot be written.
pub(crate) fn make_key(path: &Path) -> Result<PrivateKeySigner> {
    let key = PrivateKeySigner::random();
    let bytes = Zeroizing::new(key.to_bytes().0);
    let digits = Zeroizing::new(hex::encode(bytes.as_slice()));
    let text = Zeroizing::new(format!("0x{}\n", digits.as_str()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let cannot_write = || format!("cannot write {}", path.display());
    let mut file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists, and a key is never overwritten", path.display())
        }
        opened => opened.with_context(cannot_write)?,
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(cannot_write)?;
    Ok(key)
}

/// Writes a file that must not be there yet, and the directories above it.
///
/// # Errors
/// If it is there, or cannot be written.
pub(crate) fn write_new(path: &Path, text: &[u8]) -> Result<()> {
    let cannot_write = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(cannot_write)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(cannot_write)?;
    file.write_all(text).and_then(|()| file.sync_all()).with_context(cannot_write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_afterwards() {
        let place = tempfile::tempdir().unwrap();
        let directory = NodeDirectory::at(place.path());
        assert!(directory.read_key().is_err());
        let made = directory.read_or_make_key().unwrap();
        assert_eq!(directory.read_or_make_key().unwrap().address(), made.address());
        assert!(make_key(&directory.key).unwrap_err().to_string().contains("never overwritten"));
        assert_eq!(directory.read_key().unwrap().address(), made.address());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&directory.key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("inner").join("genesis.json");
        write_new(&file, b"first").unwrap();
        write_new(&file, b"second").unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), b"first");
    }
}
