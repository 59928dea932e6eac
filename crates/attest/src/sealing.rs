//! Files that only this software on this hardware can open, and that cannot be replaced by older ones.
//!
//! AES-256-GCM under the hardware's [`SealingKey`]; what the file is about (which key, committee, party and epoch) is authenticated with it. The
//! epoch is checked against the newest that the caller knows of, from the chain or a peer, so a restored old file is refused.
//!
//! Layout: magic (8 bytes), version (1), length of the label (2, big-endian), label, epoch (8, big-endian), nonce (12), ciphertext with tag.

use aes_gcm::{
    Aes256Gcm, Key, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use zeroize::Zeroizing;

use crate::{AttestError, SealingKey};

const MAGIC: &[u8; 8] = b"CLSEALED";
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 1024;

/// The longest content, in bytes: shares of one key set have less than a megabyte.
pub const MAX_CONTENT_BYTES: usize = 64 << 20;

/// Seals content under a label (which key, committee and party it is for) and an epoch.
///
/// # Errors
/// [`AttestError::Sealed`] if label or content are too long; [`AttestError::Randomness`].
pub fn seal(key: &SealingKey, label: &str, epoch: u64, content: &[u8]) -> Result<Vec<u8>, AttestError> {
    if content.len() > MAX_CONTENT_BYTES {
        return Err(AttestError::Sealed(format!("the content has {} bytes", content.len())));
    }
    let mut sealed = header(label, epoch)?;
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| AttestError::Randomness(error.to_string()))?;
    let ciphertext = cipher(key)
        .encrypt(
            &Nonce::from(nonce),
            Payload {
                msg: content,
                aad: &sealed,
            },
        )
        .map_err(|_| AttestError::Sealed("it cannot be encrypted".into()))?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens a sealed file if it has this label and is of this epoch or a later one; returns its epoch and content.
///
/// # Errors
/// [`AttestError::Sealed`] if it is not a sealed file, of something else, damaged, or sealed by other software or hardware;
/// [`AttestError::OldEpoch`] if it is older than `newest`.
pub fn open(key: &SealingKey, label: &str, newest: u64, sealed: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), AttestError> {
    let refuse = |problem: &str| AttestError::Sealed(problem.to_owned());
    if sealed.len() > MAX_CONTENT_BYTES + MAX_LABEL_BYTES + 64 {
        return Err(refuse("it is too long"));
    }
    let label_end = MAGIC.len() + 3 + label.len();
    let epoch = sealed
        .get(label_end..label_end + 8)
        .and_then(|bytes| bytes.first_chunk::<8>())
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| refuse("it is cut short"))?;
    let expected = header(label, epoch)?;
    if sealed.get(..expected.len()) != Some(expected.as_slice()) {
        return Err(refuse("it is not a sealed file of this version, or one about something else"));
    }
    let rest = sealed.get(expected.len()..).unwrap_or_default();
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| refuse("it is cut short"))?;
    let content = cipher(key)
        .decrypt(
            &Nonce::from(*nonce),
            Payload {
                msg: ciphertext,
                aad: &expected,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| refuse("it is damaged, or was sealed by other software or hardware"))?;
    // Only after decryption: until then the epoch is just a number in a file.
    if epoch < newest {
        return Err(AttestError::OldEpoch { found: epoch, newest });
    }
    Ok((epoch, content))
}

fn header(label: &str, epoch: u64) -> Result<Vec<u8>, AttestError> {
    let length = u16::try_from(label.len())
        .ok()
        .filter(|_| label.len() <= MAX_LABEL_BYTES)
        .ok_or_else(|| AttestError::Sealed(format!("the label has {} bytes", label.len())))?;
    let mut header = MAGIC.to_vec();
    header.push(VERSION);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(label.as_bytes());
    header.extend_from_slice(&epoch.to_be_bytes());
    Ok(header)
}

fn cipher(key: &SealingKey) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(**key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "key 07 party 3";

    fn key(byte: u8) -> SealingKey {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn what_was_sealed_opens_again_and_differs_each_time() {
        let sealed = seal(&key(1), LABEL, 5, b"share").unwrap();
        let (epoch, content) = open(&key(1), LABEL, 5, &sealed).unwrap();
        assert_eq!((epoch, content.as_slice()), (5, &b"share"[..]));
        assert_eq!(open(&key(1), LABEL, 0, &sealed).unwrap().0, 5);
        assert_ne!(seal(&key(1), LABEL, 5, b"share").unwrap(), sealed);
    }

    #[test]
    fn older_epochs_stay_closed() {
        let sealed = seal(&key(1), LABEL, 5, b"share").unwrap();
        assert!(matches!(
            open(&key(1), LABEL, 6, &sealed),
            Err(AttestError::OldEpoch { found: 5, newest: 6 })
        ));
    }

    #[test]
    fn another_key_label_or_byte_stays_closed() {
        let sealed = seal(&key(1), LABEL, 5, b"share").unwrap();
        let is_refused = |result: Result<_, AttestError>| matches!(result, Err(AttestError::Sealed(_)));
        assert!(is_refused(open(&key(2), LABEL, 0, &sealed)));
        assert!(is_refused(open(&key(1), "key 07 party 4", 0, &sealed)));
        assert!(is_refused(open(&key(1), "key", 0, &sealed)));
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert!(is_refused(open(&key(1), LABEL, 0, &damaged)), "byte {index}");
            assert!(is_refused(open(&key(1), LABEL, 0, &sealed[..index])), "length {index}");
        }
    }

    #[test]
    fn a_raised_epoch_does_not_pass() {
        let mut sealed = seal(&key(1), LABEL, 5, b"share").unwrap();
        sealed[MAGIC.len() + 3 + LABEL.len() + 7] = 9;
        assert!(matches!(open(&key(1), LABEL, 9, &sealed), Err(AttestError::Sealed(_))));
    }
}
