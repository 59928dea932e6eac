//! `cipherloom keys signing-key`: the file a coprocessor signs with, one line of `0x` and 64 hexadecimal digits, as the 0.6 generation has it.

use std::{fs::OpenOptions, io::Write, path::Path};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail};
use cipherloom_kms::NodeKey;
use zeroize::Zeroizing;

use crate::database;

/// Makes a key and writes it into a new file, with access for the owner alone.
///
/// # Errors
/// If there is a file already, which is never overwritten: whatever it signs for would no longer know its coprocessor.
pub(crate) fn generate(path: &Path) -> Result<Address> {
    let key = loop {
        let bytes = Zeroizing::new(database::random::<32>()?);
        // Fails with probability 2^-128: for zero and for numbers above the order of the curve.
        if let Some(key) = NodeKey::from_bytes(&bytes) {
            break key;
        }
    };
    let mut text = Zeroizing::new([0u8; 67]);
    let bytes = key.to_bytes();
    let (prefix, rest) = text.split_at_mut(2);
    prefix.copy_from_slice(b"0x");
    let (digits, end) = rest.split_at_mut(64);
    hex::encode_to_slice(bytes.as_slice(), digits)?;
    end.copy_from_slice(b"\n");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{} exists, and a signing key is never overwritten; choose another file",
                path.display()
            )
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    };
    file.write_all(text.as_slice())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key.address())
}

#[cfg(test)]
mod tests {
    use alloy::signers::local::PrivateKeySigner;

    use super::*;

    #[test]
    fn a_key_is_for_its_owner_alone_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("coprocessor.key");
        let address = generate(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let signer: PrivateKeySigner = text.trim().parse().unwrap();
        assert_eq!(signer.address(), address);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(generate(&path).unwrap_err().to_string().contains("never overwritten"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_ne!(generate(&directory.path().join("other")).unwrap(), address);
    }
}
