//! Computing under a key set whose parts are in memory: those that a coprocessor gets from a database, not from a directory.

use std::sync::Arc;

use super::{ClearKey, EvaluationKeys, KeySetId, Manifest, Part};
use crate::{
    backend::{BackendKind, FheBackend},
    clear::ClearBackend,
    cpu::CpuBackend,
    error::FheError,
    input::InputKeys,
    parameters::{CpuParameters, ParameterSet},
};

/// The bytes of the parts that computing needs. There is no place for a secret key.
#[derive(Clone, Copy)]
pub struct KeySetBytes<'a> {
    /// What clients encrypt inputs to.
    pub public_key: &'a [u8],
    /// The reference string of the input proofs.
    pub crs: &'a [u8],
    /// What computations need, compressed.
    pub evaluation_key: &'a [u8],
}

impl Manifest {
    /// Finds the parameter set that the manifest names.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if this build does not know it.
    pub fn parameters(&self) -> Result<ParameterSet, FheError> {
        self.parameter_set()
    }

    /// Makes the backend that computes on this key set. Every part is checked against its digest here and against the parameters, and the
    /// key set's id against its parts. Decompresses the evaluation key, which takes seconds with production parameters; the bytes are not needed afterwards.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if a part is not what the manifest says, [`FheError::Gpu`] if this build cannot compute on the key set.
    pub fn backend(&self, bytes: KeySetBytes<'_>) -> Result<Arc<dyn FheBackend>, FheError> {
        let parameters = self.parameter_set()?;
        let parts = &self.parts;
        let given = [
            (&parts.public_key, bytes.public_key),
            (&parts.crs, bytes.crs),
            (&parts.evaluation_key, bytes.evaluation_key),
        ];
        given.into_iter().try_for_each(|(part, bytes)| part.check_bytes(bytes))?;
        check_id(self.id, parameters, bytes.public_key, bytes.crs)?;
        backend(parameters, self.id, bytes)
    }
}

/// Fails if a key set's id does not belong to its public parts.
pub(super) fn check_id(id: KeySetId, parameters: ParameterSet, public_key: &[u8], crs: &[u8]) -> Result<(), FheError> {
    if id == KeySetId::of(parameters, public_key, crs) {
        return Ok(());
    }
    Err(FheError::key(
        "manifest",
        "has an id that does not belong to its public key and reference string",
    ))
}

/// Makes the backend of parts that were checked.
pub(super) fn backend(parameters: ParameterSet, id: KeySetId, bytes: KeySetBytes<'_>) -> Result<Arc<dyn FheBackend>, FheError> {
    let Some(cpu) = parameters.cpu() else {
        let key = ClearKey::from_evaluation(bytes.evaluation_key, id)?;
        return Ok(Arc::new(ClearBackend::insecure_new(key)));
    };
    if parameters.backend() == BackendKind::Gpu {
        return gpu(&cpu, id, bytes);
    }
    Ok(Arc::new(CpuBackend::new(evaluation_keys(&cpu, id, bytes)?)))
}

/// Decompresses the evaluation keys of parts that were checked.
pub(super) fn evaluation_keys(parameters: &CpuParameters, id: KeySetId, bytes: KeySetBytes<'_>) -> Result<Arc<EvaluationKeys>, FheError> {
    let input = InputKeys::read_authentic(bytes.public_key, bytes.crs)?;
    let stored = parameters.stored_format(id);
    Ok(Arc::new(EvaluationKeys::read(parameters, bytes.evaluation_key, input, stored)?))
}

#[cfg(feature = "gpu")]
fn gpu(parameters: &CpuParameters, id: KeySetId, bytes: KeySetBytes<'_>) -> Result<Arc<dyn FheBackend>, FheError> {
    let cpu = CpuBackend::new(evaluation_keys(parameters, id, bytes)?);
    Ok(Arc::new(crate::gpu::GpuBackend::new(cpu, parameters, bytes.evaluation_key)?))
}

#[cfg(not(feature = "gpu"))]
fn gpu(_: &CpuParameters, _: KeySetId, _: KeySetBytes<'_>) -> Result<Arc<dyn FheBackend>, FheError> {
    Err(FheError::Gpu("this build has none: it was compiled without the feature `gpu`"))
}

impl Part {
    /// Checks bytes that are said to be this part.
    pub(super) fn check_bytes(&self, bytes: &[u8]) -> Result<(), FheError> {
        if bytes.len() as u64 != self.size_bytes {
            return Err(FheError::key(
                &self.file,
                format!("has {} bytes instead of {}", bytes.len(), self.size_bytes),
            ));
        }
        self.check_digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeySet;

    /// A key set of the clear backend, and its evaluation key.
    fn key_set() -> (tempfile::TempDir, KeySet, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let set = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let evaluation_key = std::fs::read(set.directory().join(&set.manifest().parts.evaluation_key.file)).unwrap();
        (directory, set, evaluation_key)
    }

    #[test]
    fn bytes_of_a_key_set_compute_as_its_directory_does() {
        let (_directory, set, evaluation_key) = key_set();
        let (public_key, crs) = (set.public_key(), set.crs());
        let bytes = KeySetBytes {
            public_key: &public_key,
            crs: &crs,
            evaluation_key: &evaluation_key,
        };
        let made = set.manifest().backend(bytes).unwrap();
        let operation = cipherloom_primitives::TypedOperation::TrivialEncrypt {
            value: cipherloom_primitives::U256::from(7),
            ty: cipherloom_primitives::FheType::Uint8,
        };
        let written = |backend: &dyn FheBackend| backend.serialize(&backend.evaluate(&operation, &[]).unwrap()).unwrap();
        assert_eq!(written(made.as_ref()), written(set.evaluation().unwrap().as_ref()));
    }

    #[test]
    fn bytes_that_are_not_the_manifests_are_refused() {
        let (_directory, set, evaluation_key) = key_set();
        let (public_key, crs) = (set.public_key(), set.crs());
        let changed = |bytes: &[u8]| {
            let mut changed = bytes.to_vec();
            changed[0] ^= 1;
            changed
        };
        let [other_key, other_crs, other_evaluation] = [&public_key[..], &crs[..], &evaluation_key[..]].map(changed);
        for (public_key, crs, evaluation_key) in [
            (&other_key[..], &crs[..], &evaluation_key[..]),
            (&public_key[..], &other_crs[..], &evaluation_key[..]),
            (&public_key[..], &crs[..], &other_evaluation[..]),
            (&public_key[..], &crs[..], &evaluation_key[1..]),
        ] {
            let bytes = KeySetBytes {
                public_key,
                crs,
                evaluation_key,
            };
            let Err(error) = set.manifest().backend(bytes) else {
                panic!("accepted")
            };
            assert!(matches!(error, FheError::KeyMaterial { .. }), "{error}");
        }
    }

    #[test]
    fn an_id_of_another_key_set_is_refused() {
        let ((_one, set, evaluation_key), (_other, other, _)) = (key_set(), key_set());
        let mut manifest = set.manifest().clone();
        manifest.id = other.manifest().id;
        let (public_key, crs) = (set.public_key(), set.crs());
        let bytes = KeySetBytes {
            public_key: &public_key,
            crs: &crs,
            evaluation_key: &evaluation_key,
        };
        let Err(error) = manifest.backend(bytes) else { panic!("accepted") };
        assert!(error.to_string().contains("id"), "{error}");
    }
}
