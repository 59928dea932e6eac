//! Files with private keys of accounts: those of signers, deployers and people.

use std::{fs::File, io::Read, path::Path};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result};
use zeroize::Zeroizing;

/// The longest file that is read, in bytes. A key is 66 characters; some editors add lines.
const MAX_BYTES: u64 = 1024;

/// What a key is for, for messages.
#[derive(Clone, Copy, Debug)]
pub struct KeyFile {
    /// What is done with the key, such as "the key that the server signs with".
    pub what: &'static str,
    /// The option that names the file.
    pub option: &'static str,
}

impl KeyFile {
    /// What the server and what publishes in its name sign with.
    pub const COPROCESSOR: Self = Self {
        what: "the key that the server signs with",
        option: "--coprocessor-private-key",
    };

    /// What a node of the KMS signs with.
    pub const KMS: Self = Self {
        what: "the key that the KMS node signs with",
        option: "--signing-key-file",
    };

    /// What the host contracts are deployed with.
    pub const DEPLOYER: Self = Self {
        what: "the key that deploys the host contracts",
        option: "--deployer-key-file",
    };

    /// What pays for callbacks.
    pub const RELAYER: Self = Self {
        what: "the key of the account that pays for callbacks",
        option: "the option for a relayer's key",
    };

    /// Whoever pays for transactions.
    pub const ACCOUNT: Self = Self {
        what: "the key of an account",
        option: "--account-key-file",
    };
}

/// Reads a key from a file: 64 hexadecimal digits, `0x` in front or not, space around it or not.
///
/// # Errors
/// If the file cannot be read or holds no key. What it holds is never repeated.
pub fn read(path: &Path, KeyFile { what, option }: KeyFile) -> Result<PrivateKeySigner> {
    let how = format!(
        "it is 64 hexadecimal digits, with or without 0x, in a file that {option} names; `cipherloom keys signing-key FILE` makes one"
    );
    let unreadable = || format!("cannot read {what}, {}; {how}", path.display());
    let malformed = |reason: &str| anyhow::anyhow!("{} holds no private key: {reason}; {how}", path.display());
    let file = File::open(path).with_context(unreadable)?;
    warn_of_readers(&file, path);
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    file.take(MAX_BYTES + 1).read_to_end(&mut text).with_context(unreadable)?;
    let trimmed = text.trim_ascii();
    let digits = trimmed.strip_prefix(b"0x").unwrap_or(trimmed);
    if digits.is_empty() {
        return Err(malformed("it is empty"));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, bytes.as_mut_slice()).map_err(|error| match error {
        hex::FromHexError::InvalidHexCharacter { .. } => malformed("it has characters that are no hexadecimal digits"),
        _ => malformed("it has another length"),
    })?;
    PrivateKeySigner::from_slice(bytes.as_slice()).map_err(|_| malformed("the number is zero, or not below the order of secp256k1"))
}

#[cfg(unix)]
fn warn_of_readers(file: &File, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(mode) = file.metadata().map(|metadata| metadata.permissions().mode())
        && mode & 0o077 != 0
    {
        tracing::warn!(
            path = %path.display(),
            mode = format!("{:o}", mode & 0o777),
            "others can access the private key; run chmod 600"
        );
    }
}

#[cfg(not(unix))]
const fn warn_of_readers(_: &File, _: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";

    fn read_text(text: &str) -> Result<PrivateKeySigner> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("coprocessor.key");
        std::fs::write(&path, text).unwrap();
        read(&path, KeyFile::COPROCESSOR)
    }

    #[test]
    fn a_key_is_read_however_it_is_written() {
        let expected = read_text(KEY).unwrap().address();
        for text in [
            format!("0x{KEY}"),
            format!("  0x{KEY}\r\n"),
            KEY.to_uppercase(),
            format!("\n{KEY}\n\n"),
        ] {
            assert_eq!(read_text(&text).unwrap().address(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let zero = "0".repeat(64);
        let zeta = format!("{}z", &KEY[..63]);
        let long = "1".repeat(2000);
        let (half, doubled) = (&KEY[..32], format!("{KEY}{KEY}"));
        for text in ["", "0x", half, &doubled, order, &zero, &zeta, &long] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains("keys signing-key"), "{error}");
            assert!(text.len() < 3 || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_says_how_to_make_one() {
        let error = read(Path::new("/nowhere/coprocessor.key"), KeyFile::DEPLOYER)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/nowhere/coprocessor.key") && error.contains("keys signing-key") && error.contains("--deployer-key-file"),
            "{error}"
        );
    }
}
