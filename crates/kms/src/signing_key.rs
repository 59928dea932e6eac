//! The node's signing key: made at the first start, kept in a file only its owner can read.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use cipherloom_primitives::Address;
use cipherloom_signcryption::{SigningKey, node_address};
use zeroize::Zeroizing;

use crate::error::KmsError;

/// The file's length: 64 hexadecimal digits and a line end.
const FILE_BYTES: usize = 65;

/// A node's signing key on the curve secp256k1. It is wiped from memory when dropped, and is neither printable nor copyable.
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// Makes a key from its 32 bytes.
    ///
    /// Returns `None` if they are not a scalar of the curve.
    #[must_use]
    pub fn from_bytes(bytes: &Zeroizing<[u8; 32]>) -> Option<Self> {
        SigningKey::from_slice(bytes.as_slice()).ok().map(Self)
    }

    /// Reads the key from a file, or makes one and writes it with access for the owner only.
    ///
    /// # Errors
    /// [`KmsError::SigningKey`] if the file cannot be read or written, is readable by others, or holds no key. An unreadable file is
    /// never replaced: the node's address is registered on chain.
    pub fn open_or_generate(path: &Path) -> Result<Self, KmsError> {
        let failed = |reason: String| KmsError::SigningKey {
            path: path.to_path_buf(),
            reason,
        };
        match File::open(path) {
            Ok(file) => Self::read(file).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::generate(path).map_err(failed),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Returns the address that answers recover to.
    #[must_use]
    pub fn address(&self) -> Address {
        node_address(&self.0)
    }

    /// Returns the key's 32 bytes, for signers of other kinds. They are wiped when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    pub(crate) const fn signing_key(&self) -> &SigningKey {
        &self.0
    }

    fn read(file: File) -> Result<Self, String> {
        check_private(&file)?;
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES + 1));
        file.take(FILE_BYTES as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        let mut bytes = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(text.trim_end(), bytes.as_mut_slice()).map_err(|_| "it is not 64 hexadecimal digits".to_owned())?;
        Self::from_bytes(&bytes).ok_or_else(|| "it is not a key of the curve secp256k1".to_owned())
    }

    fn generate(path: &Path) -> Result<Self, String> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        let key = loop {
            getrandom::fill(bytes.as_mut_slice()).map_err(|error| error.to_string())?;
            // Fails with probability 2^-128: for zero and for numbers above the order of the curve.
            if let Some(key) = Self::from_bytes(&bytes) {
                break key;
            }
        };
        let mut text = Zeroizing::new([b'\n'; FILE_BYTES]);
        let (digits, _) = text.split_at_mut(FILE_BYTES - 1);
        hex::encode_to_slice(bytes.as_slice(), digits).map_err(|error| error.to_string())?;
        write_private(path, text.as_slice()).map_err(|error| error.to_string())?;
        Ok(key)
    }
}

/// Writes a file that only its owner can read and that is complete as soon as it has its name.
fn write_private(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(directory)?;
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(contents)?;
    file.sync_all()?;
    // A link, unlike a rename, fails if another process has made the key meanwhile.
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    linked?;
    File::open(directory)?.sync_all()
}

#[cfg(unix)]
fn check_private(file: &File) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(format!("others can access it (mode {:o}); run chmod 600", mode & 0o777))
    }
}

#[cfg(not(unix))]
const fn check_private(_: &File) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_read_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kms/signing-key");
        let made = NodeKey::open_or_generate(&path).unwrap().address();
        assert_eq!(NodeKey::open_or_generate(&path).unwrap().address(), made);
        assert_eq!(std::fs::read_dir(directory.path().join("kms")).unwrap().count(), 1);
        assert_ne!(NodeKey::open_or_generate(&directory.path().join("other")).unwrap().address(), made);
    }

    #[cfg(unix)]
    #[test]
    fn others_cannot_read_the_file_and_an_open_file_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-key");
        NodeKey::open_or_generate(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let Err(KmsError::SigningKey { reason, .. }) = NodeKey::open_or_generate(&path) else {
            panic!("read a shared key file")
        };
        assert!(reason.contains("chmod 600"), "{reason}");
    }

    #[test]
    fn a_damaged_file_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-key");
        for damaged in ["", "12", &"0".repeat(64), &"g".repeat(64), &"1".repeat(66)] {
            let _ = std::fs::remove_file(&path);
            write_private(&path, damaged.as_bytes()).unwrap();
            assert!(
                matches!(NodeKey::open_or_generate(&path), Err(KmsError::SigningKey { .. })),
                "{damaged:?}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
