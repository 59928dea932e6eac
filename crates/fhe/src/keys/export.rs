//! Copies of a key set for others: without the secret key, without what their use does not need, or in the plain files that other
//! programs on tfhe-rs read.
//!
//! A copy appears whole or not at all, as a generated set does. Nothing here reads the secret key.

use std::path::Path;

use tfhe::{
    CompressedServerKey, ServerKey,
    safe_serialization::{safe_deserialize_conformant, safe_serialize},
};
use zeroize::Zeroizing;

use super::{
    KeySet, Part,
    directory::{NewFile, Place, Readable},
    evaluation::MAX_EVALUATION_KEY_BYTES,
    manifest,
};
use crate::{error::FheError, fft_plan};

/// The most bytes of an object that programs of the 0.6 generation accept, and so the most that is written for them.
const MAX_TFHE_FILE_BYTES: u64 = 512 << 20;

/// What a copy of a key set holds. None has the secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySetCopy {
    /// What coprocessors need: everything but the secret key.
    Evaluation,
    /// What clients need, and anybody may have: manifest, public key and reference string.
    Public,
    /// Three files that tfhe-rs' `safe_deserialize` reads by itself: `pks` (`CompactPublicKey`), `pp` (`CompactPkeCrs`) and `sks`
    /// (`ServerKey`, decompressed). The names are those of the 0.6 generation.
    TfheFiles,
}

/// A part of a key set and whether its file is there.
#[derive(Clone, Debug)]
pub struct PartInDirectory<'a> {
    /// What the part is called in manifests.
    pub role: &'static str,
    /// What the manifest says about it.
    pub part: &'a Part,
    /// Whether the directory has the file.
    pub is_here: bool,
}

impl KeySet {
    /// Opens what a directory has of a key set, if only public key and reference string. Everything that is asked of an absent part later
    /// is an error then.
    ///
    /// # Errors
    /// As [`Self::open`], but for an absent evaluation key.
    pub fn open_public(directory: &Path) -> Result<Self, FheError> {
        Self::open_published_parts(directory)
    }

    /// Lists the parts and whether they are here, in the order of [`Parts::all`](super::Parts::all).
    #[must_use]
    pub fn parts(&self) -> Vec<PartInDirectory<'_>> {
        let all = self.manifest.parts.all();
        all.map(|(role, part)| PartInDirectory {
            role,
            is_here: part.path(&self.directory).exists(),
            part,
        })
        .collect()
    }

    /// Reads a part whole and checks it against the manifest's size and digest.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if it cannot be read, [`FheError::KeyMaterial`] if it is not what the manifest says.
    pub fn check_digest(&self, part: &PartInDirectory<'_>) -> Result<(), FheError> {
        part.part.read(&self.directory).map(|_| ())
    }

    /// Writes a copy of this key set into a directory, which must not exist or be empty.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if files cannot be read or written, [`FheError::KeyMaterial`] if a part is not what the manifest says, the
    /// directory is taken, or files for tfhe-rs are asked for that the clear backend does not have.
    pub fn copy_to(&self, target: &Path, copy: KeySetCopy) -> Result<(), FheError> {
        let place = Place::of(target)?;
        let _lock = place.lock()?;
        place.remove_stale()?;
        place.check_free()?;
        let files = match copy {
            KeySetCopy::Evaluation => self.own_files(true)?,
            KeySetCopy::Public => self.own_files(false)?,
            KeySetCopy::TfheFiles => self.tfhe_files()?,
        };
        let files: Vec<NewFile<'_>> = files
            .iter()
            .map(|(name, bytes)| NewFile {
                name,
                bytes,
                readable: Readable::Everyone,
            })
            .collect();
        place.write_files(&files)
    }

    /// The files of this format, as they are.
    fn own_files(&self, with_evaluation: bool) -> Result<Vec<(String, Vec<u8>)>, FheError> {
        let mut files = Vec::new();
        for (role, part) in self.manifest.parts.not_secret() {
            let bytes = match role {
                "public_key" => self.public_key.to_vec(),
                "crs" => self.crs.to_vec(),
                _ if with_evaluation => {
                    let mut bytes: Zeroizing<Vec<u8>> = part.read(&self.directory)?;
                    std::mem::take(&mut *bytes)
                }
                _ => continue,
            };
            files.push((part.file.clone(), bytes));
        }
        files.push((manifest::FILE.to_owned(), self.manifest.to_json()?));
        Ok(files)
    }

    /// The files that programs on tfhe-rs read without us. Public key and reference string are such files already.
    fn tfhe_files(&self) -> Result<Vec<(String, Vec<u8>)>, FheError> {
        let parameters = self
            .parameters
            .cpu()
            .ok_or_else(|| FheError::key("key set", "is one of the clear backend, which has no keys that tfhe-rs could read"))?;
        let compressed = self.manifest.parts.evaluation_key.read(&self.directory)?;
        // What is written below is in the Fourier domain, in which the plan decides the order of coefficients.
        fft_plan::fix();
        let conformance = parameters.evaluation_config().into();
        let compressed: CompressedServerKey = safe_deserialize_conformant(compressed.as_slice(), MAX_EVALUATION_KEY_BYTES, &conformance)
            .map_err(|reason| FheError::key("evaluation key", reason))?;
        let server_key: ServerKey = compressed.decompress();
        let mut written = Vec::new();
        safe_serialize(&server_key, &mut written, MAX_TFHE_FILE_BYTES).map_err(|reason| FheError::key("server key", reason))?;
        Ok(vec![
            ("pks".to_owned(), self.public_key.to_vec()),
            ("pp".to_owned(), self.crs.to_vec()),
            ("sks".to_owned(), written),
        ])
    }
}

#[cfg(all(test, feature = "insecure-toy-parameters"))]
mod tests {
    use std::fs;

    use tfhe::{CompactPublicKey, safe_serialization::safe_deserialize, zk::CompactPkeCrs};

    use super::*;
    use crate::{ParameterSet, insecure_test_keys};

    #[test]
    fn a_copy_for_coprocessors_computes_and_has_no_secret() {
        let (directory, keys) = (tempfile::tempdir().unwrap(), insecure_test_keys().unwrap());
        let target = directory.path().join("copy");
        keys.copy_to(&target, KeySetCopy::Evaluation).unwrap();
        let copy = KeySet::open(&target).unwrap();
        assert_eq!(copy.manifest(), keys.manifest());
        assert!(!copy.has_secret_key());
        assert!(copy.evaluation().is_ok());
        for part in copy.parts().iter().filter(|part| part.is_here) {
            copy.check_digest(part).unwrap();
        }
        // Nothing is overwritten, and a copy of a copy is the same.
        assert!(keys.copy_to(&target, KeySetCopy::Evaluation).is_err());
        copy.copy_to(&directory.path().join("again"), KeySetCopy::Evaluation).unwrap();
    }

    #[test]
    fn a_public_copy_has_what_clients_need_and_nothing_more() {
        let (directory, keys) = (tempfile::tempdir().unwrap(), insecure_test_keys().unwrap());
        let target = directory.path().join("public");
        keys.copy_to(&target, KeySetCopy::Public).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3);
        assert!(KeySet::open(&target).is_err(), "it cannot compute");
        let public = KeySet::open_public(&target).unwrap();
        assert!(public.encryptor().is_ok());
        assert!(public.evaluation().is_err());
        let here: Vec<_> = public.parts().iter().map(|part| (part.role, part.is_here)).collect();
        assert_eq!(
            here,
            [
                ("public_key", true),
                ("crs", true),
                ("evaluation_key", false),
                ("secret_key", false)
            ]
        );
    }

    #[test]
    fn plain_files_hold_the_same_keys_for_programs_on_tfhe() {
        let (directory, keys) = (tempfile::tempdir().unwrap(), insecure_test_keys().unwrap());
        let target = directory.path().join("plain");
        keys.copy_to(&target, KeySetCopy::TfheFiles).unwrap();
        let read = |name: &str| fs::read(target.join(name)).unwrap();
        let server_key: ServerKey = safe_deserialize(read("sks").as_slice(), MAX_TFHE_FILE_BYTES).unwrap();
        let plain = |key: &tfhe::integer::ServerKey| bincode::serialize(key).unwrap();
        assert!(plain(&server_key.into_raw_parts().0) == plain(&keys.evaluation_keys().unwrap().integer));
        let public_key: CompactPublicKey = safe_deserialize(read("pks").as_slice(), MAX_TFHE_FILE_BYTES).unwrap();
        assert!(ParameterSet::for_public_key(public_key.parameters()).is_some_and(|(set, _)| set == ParameterSet::InsecureToy));
        let crs: CompactPkeCrs = safe_deserialize(read("pp").as_slice(), MAX_TFHE_FILE_BYTES).unwrap();
        assert_eq!(crs.max_num_messages(), ParameterSet::InsecureToy.cpu().unwrap().crs_messages());
    }

    #[test]
    fn a_clear_key_set_has_no_files_for_tfhe() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let target = directory.path().join("plain");
        assert!(keys.copy_to(&target, KeySetCopy::TfheFiles).is_err());
        assert!(!target.exists());
        keys.copy_to(&target, KeySetCopy::Evaluation).unwrap();
    }

    #[test]
    fn damage_is_not_copied() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let path = directory.path().join("keys/evaluation_key.bin");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let target = directory.path().join("copy");
        assert!(keys.copy_to(&target, KeySetCopy::Evaluation).is_err());
        assert!(!target.exists());
        assert!(keys.check_digest(&keys.parts()[2]).is_err());
    }
}
