//! Generation of the parts of a key set.

use tfhe::{ClientKey, CompactPublicKey, CompressedServerKey, named::Named, safe_serialization::safe_serialize};
use zeroize::Zeroizing;

use super::{ClearKey, evaluation::MAX_EVALUATION_KEY_BYTES};
use crate::{
    decrypt::MAX_SECRET_KEY_BYTES,
    error::FheError,
    fft_plan,
    input::{write_crs_0_6, write_public_key, write_public_key_0_6},
    parameters::{CpuParameters, ParameterSet},
};

/// Is told how far a generation is.
pub trait GenerationProgress {
    /// A stage begins: stage `index` (from 0) of `total`, which takes about this share of the whole time, between 0 and 1. The
    /// longest stage is one library call that cannot say how far it is. A clear key set is made at once, without stages.
    fn stage(&self, name: &str, index: usize, total: usize, estimated_share: f32);

    /// Everything is generated and written.
    fn finished(&self) {}
}

/// Tells nobody.
impl GenerationProgress for () {
    fn stage(&self, _: &str, _: usize, _: usize, _: f32) {}
}

/// The serialized parts of a key set.
pub(super) struct Material {
    pub(super) public_key: Vec<u8>,
    pub(super) crs: Vec<u8>,
    pub(super) evaluation_key: Vec<u8>,
    pub(super) secret_key: Zeroizing<Vec<u8>>,
}

/// Returns random bytes of the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], FheError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| FheError::key("randomness", e))?;
    Ok(bytes)
}

/// Name and estimated share of the time of each stage; the shares are those measured with production parameters.
const STAGES: [(&str, f32); 4] = [
    ("secret and evaluation key", 0.285),
    ("public key", 0.005),
    ("reference string for input proofs", 0.68),
    ("writing", 0.03),
];

/// Generates all parts.
pub(super) fn generate(parameters: ParameterSet, progress: &dyn GenerationProgress) -> Result<Material, FheError> {
    let begin = |index: usize| {
        if let Some((name, share)) = STAGES.get(index) {
            progress.stage(name, index, STAGES.len(), *share);
        }
    };
    match parameters.cpu() {
        Some(parameters) => generate_cpu(&parameters, begin),
        None => ClearKey::generate(),
    }
}

/// Generates all parts from a seed: the same bytes every time. For known-answer tests; whoever knows the seed knows the secrets.
#[cfg(feature = "insecure-toy-parameters")]
pub(super) fn insecure_generate_from_seed(parameters: ParameterSet, seed: u128) -> Result<Material, FheError> {
    use tfhe::{
        core_crypto::{commons::generators::DeterministicSeeder, prelude::DefaultRandomGenerator},
        shortint::engine::ShortintEngine,
    };

    if parameters.cpu().is_none() {
        return ClearKey::insecure_from_seed(seed);
    }
    // tfhe draws from generators of the thread, so a thread of its own gets its own, and one thread draws in one order.
    let generate_here = move || {
        let mut seeder = DeterministicSeeder::<DefaultRandomGenerator>::new(tfhe::Seed(seed));
        let engine = ShortintEngine::new_from_seeder(&mut seeder);
        ShortintEngine::with_thread_local_mut(|thread| *thread = engine);
        generate(parameters, &())
    };
    std::thread::spawn(generate_here)
        .join()
        .map_err(|_| FheError::key("key set", "could not be generated from its seed"))?
}

fn generate_cpu(parameters: &CpuParameters, begin: impl Fn(usize)) -> Result<Material, FheError> {
    begin(0);
    fft_plan::fix();
    let client_key = ClientKey::generate(parameters.evaluation_config());
    let evaluation_key = write("evaluation key", &CompressedServerKey::new(&client_key), MAX_EVALUATION_KEY_BYTES)?;

    begin(1);
    let public_key = CompactPublicKey::try_new(&client_key).map_err(|e| FheError::key("public key", e))?;
    let public_key = if parameters.is_for_generation_0_6() {
        write_public_key_0_6(&public_key)?
    } else {
        write_public_key(&public_key)?
    };
    let secret_key = Zeroizing::new(write("secret key", &client_key, MAX_SECRET_KEY_BYTES)?);
    crate::decrypt::wipe(client_key);

    begin(2);
    let crs = parameters.generate_crs()?;
    let crs = if parameters.is_for_generation_0_6() {
        write_crs_0_6(&crs)?
    } else {
        write("CRS", &crs, parameters.max_crs_bytes())?
    };

    begin(3);
    Ok(Material {
        public_key,
        crs,
        evaluation_key,
        secret_key,
    })
}

fn write<T: serde::Serialize + tfhe::Versionize + Named>(what: &str, object: &T, limit: u64) -> Result<Vec<u8>, FheError> {
    let mut bytes = Vec::new();
    safe_serialize(object, &mut bytes, limit).map_err(|e| FheError::key(what, e))?;
    Ok(bytes)
}
