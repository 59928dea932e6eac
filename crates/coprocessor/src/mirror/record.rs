//! A signer's word for the ciphertext of a handle, as a document of a mirror.

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use cipherloom_primitives::{
    Address, B256, Bytes, CiphertextForm, Handle,
    eip712::{ciphertext_attestation_digest, recover_signer},
};
use cipherloom_store::{object_digest, object_name};
use serde::{Deserialize, Serialize};

use super::{LAYOUT_VERSION, MirrorError};

/// What documents of this kind are called in errors.
const DOCUMENT: &str = "the record";

/// Which bytes the ciphertext of a handle has, signed.
///
/// The signature covers handle, key set and digest ([`ciphertext_attestation_digest`]). The other fields follow from the bytes or from those, and
/// are checked against them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CiphertextRecord {
    /// [`LAYOUT_VERSION`].
    pub layout: u32,
    /// What the ciphertext is the value of.
    pub handle: Handle,
    /// The key set it is encrypted under.
    pub key_set_id: B256,
    /// The form of the bytes.
    pub form: CiphertextForm,
    /// The Keccak hash of the bytes.
    pub digest: B256,
    /// How many bytes there are.
    pub size_bytes: u64,
    /// Where they are, from the root of the mirror.
    pub object: String,
    /// Who signed.
    pub signer: Address,
    /// 65 bytes: r, s, and 27 or 28.
    pub signature: Bytes,
    /// The version of the software that published it.
    pub engine_version: String,
}

impl CiphertextRecord {
    /// Signs for the packed form of a ciphertext.
    ///
    /// # Errors
    /// [`MirrorError::Signing`].
    pub fn sign(handle: Handle, key_set_id: B256, bytes: &[u8], signer: &PrivateKeySigner) -> Result<Self, MirrorError> {
        let digest = object_digest(bytes);
        let signature = signer.sign_hash_sync(&ciphertext_attestation_digest(handle, key_set_id, digest))?;
        Ok(Self {
            layout: LAYOUT_VERSION,
            handle,
            key_set_id,
            form: CiphertextForm::Packed,
            digest,
            size_bytes: length(bytes),
            object: object_name(digest),
            signer: signer.address(),
            signature: Bytes::copy_from_slice(&signature.as_bytes()),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Returns the name of a signer's record of a handle.
    #[must_use]
    pub fn document_name(handle: Handle, signer: Address) -> String {
        let digits = format!("{:x}", handle.as_b256());
        format!("handles/{}/{digits}/{signer:x}.json", digits.get(..2).unwrap_or_default())
    }

    /// Reads a record. It is not checked yet.
    ///
    /// # Errors
    /// [`MirrorError::Malformed`], [`MirrorError::Layout`].
    pub fn parse(document: &[u8]) -> Result<Self, MirrorError> {
        check_layout(DOCUMENT, document)?;
        serde_json::from_slice(document).map_err(|error| malformed(DOCUMENT, error))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`MirrorError::Malformed`] if JSON cannot hold it, which does not happen.
    pub fn to_document(&self) -> Result<Vec<u8>, MirrorError> {
        serde_json::to_vec_pretty(self).map_err(|error| malformed(DOCUMENT, error))
    }

    /// Makes sure that the signature is one of the signer it names, and that this one is expected.
    ///
    /// # Errors
    /// [`MirrorError::Signature`], [`MirrorError::UnexpectedSigner`].
    pub fn check_signature(&self, expected: &[Address]) -> Result<(), MirrorError> {
        let attested = ciphertext_attestation_digest(self.handle, self.key_set_id, self.digest);
        if recover_signer(attested, &self.signature) != Some(self.signer) {
            return Err(MirrorError::Signature(self.signer));
        }
        if !expected.contains(&self.signer) {
            return Err(MirrorError::UnexpectedSigner(self.signer));
        }
        Ok(())
    }

    /// Makes sure that bytes are the ones that are vouched for.
    ///
    /// # Errors
    /// [`MirrorError::OtherBytes`].
    pub fn check_bytes(&self, bytes: &[u8]) -> Result<(), MirrorError> {
        let found = object_digest(bytes);
        if found == self.digest && length(bytes) == self.size_bytes {
            return Ok(());
        }
        Err(MirrorError::OtherBytes {
            expected: self.digest,
            expected_bytes: self.size_bytes,
            found,
            size_bytes: length(bytes),
        })
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

pub(super) fn malformed(document: &'static str, error: impl ToString) -> MirrorError {
    MirrorError::Malformed {
        document,
        reason: error.to_string(),
    }
}

/// Looks at the layout first, so that a newer document is named as such and not by the first field that is unknown.
pub(super) fn check_layout(document: &'static str, bytes: &[u8]) -> Result<(), MirrorError> {
    #[derive(Deserialize)]
    struct Layout {
        layout: u32,
    }
    let found: Layout = serde_json::from_slice(bytes).map_err(|error| malformed(document, error))?;
    if found.layout == LAYOUT_VERSION {
        Ok(())
    } else {
        Err(MirrorError::Layout {
            document,
            found: found.layout,
        })
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::FheType;

    use super::*;

    fn handle(tag: u8) -> Handle {
        Handle::computed(B256::repeat_byte(tag), 31337, FheType::Uint64)
    }

    fn signer(tag: u8) -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(tag)).unwrap()
    }

    fn record() -> CiphertextRecord {
        CiphertextRecord::sign(handle(1), B256::repeat_byte(7), b"packed", &signer(1)).unwrap()
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_verifies() {
        let record = record();
        let read = CiphertextRecord::parse(&record.to_document().unwrap()).unwrap();
        assert_eq!(read, record);
        read.check_signature(&[signer(2).address(), signer(1).address()]).unwrap();
        read.check_bytes(b"packed").unwrap();
    }

    #[test]
    fn nothing_that_is_signed_can_be_changed() {
        let expected = [signer(1).address(), signer(2).address()];
        let changes: [fn(&mut CiphertextRecord); 5] = [
            |record| record.handle = handle(2),
            |record| record.key_set_id = B256::repeat_byte(8),
            |record| record.digest = object_digest(b"other"),
            |record| record.signer = signer(2).address(),
            |record| record.signature = Bytes::from(vec![1; 64]),
        ];
        for change in changes {
            let mut changed = record();
            change(&mut changed);
            assert!(
                matches!(changed.check_signature(&expected), Err(MirrorError::Signature(_))),
                "{changed:?}"
            );
        }
    }

    #[test]
    fn a_signer_nobody_expects_and_other_bytes_are_refused() {
        let record = record();
        assert!(matches!(
            record.check_signature(&[signer(2).address()]),
            Err(MirrorError::UnexpectedSigner(_))
        ));
        assert!(matches!(record.check_signature(&[]), Err(MirrorError::UnexpectedSigner(_))));
        assert!(matches!(record.check_bytes(b"packer"), Err(MirrorError::OtherBytes { .. })));
        let longer = CiphertextRecord { size_bytes: 7, ..record };
        assert!(matches!(longer.check_bytes(b"packed"), Err(MirrorError::OtherBytes { .. })));
    }

    #[test]
    fn what_is_no_record_says_so() {
        for document in [&b""[..], b"{}", b"[]", br#"{"layout":1}"#, br#"{"layout":1,"handle":"0x00"}"#] {
            assert!(matches!(CiphertextRecord::parse(document), Err(MirrorError::Malformed { .. })));
        }
        assert!(matches!(
            CiphertextRecord::parse(br#"{"layout":2,"new":[]}"#),
            Err(MirrorError::Layout { found: 2, .. })
        ));
    }

    #[test]
    fn the_known_answer_of_the_documentation_is_right() {
        let document = include_str!("../../../../docs/mirror.md");
        let record = record();
        let attested = ciphertext_attestation_digest(record.handle, record.key_set_id, record.digest);
        let words = [B256::repeat_byte(1), record.key_set_id, record.digest, attested];
        let mut values: Vec<String> = words.iter().map(|word| format!("{word:#x}")).collect();
        values.extend([record.signer.to_string(), record.handle.to_string(), record.signature.to_string()]);
        for value in values {
            assert!(document.contains(&format!("`{value}`")), "docs/mirror.md lacks {value}");
        }
    }

    #[test]
    fn names_are_those_of_the_layout() {
        let name = CiphertextRecord::document_name(handle(0xab), Address::repeat_byte(0xcd));
        let digits = handle(0xab).to_string();
        assert_eq!(name, format!("handles/ab/{}/{}.json", &digits[2..], "cd".repeat(20)));
    }
}
