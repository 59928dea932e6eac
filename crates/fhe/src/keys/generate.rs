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
    (WRITING, 0.03),
];

/// The same for a key set with noise squashing.
const STAGES_WITH_SQUASHING: [(&str, f32); 5] = [
    ("secret and evaluation key", 0.11),
    ("public key", 0.002),
    ("reference string for input proofs", 0.27),
    (SQUASHING, 0.59),
    (WRITING, 0.028),
];

/// The same for noise squashing that is added to a key set.
const STAGES_OF_SQUASHING: [(&str, f32); 2] = [(SQUASHING, 0.97), (WRITING, 0.03)];

const SQUASHING: &str = "keys of noise squashing";
const WRITING: &str = "writing";

/// The stages of a generation, and who is told when one begins.
pub(super) struct Stages<'a> {
    stages: &'static [(&'static str, f32)],
    progress: &'a dyn GenerationProgress,
}

impl<'a> Stages<'a> {
    /// The stages of a key set.
    pub(super) fn of_key_set(with_squashing: bool, progress: &'a dyn GenerationProgress) -> Self {
        let stages: &[_] = if with_squashing { &STAGES_WITH_SQUASHING } else { &STAGES };
        Self { stages, progress }
    }

    /// The stages of noise squashing alone.
    pub(super) fn of_squashing(progress: &'a dyn GenerationProgress) -> Self {
        Self {
            stages: &STAGES_OF_SQUASHING,
            progress,
        }
    }

    fn begin(&self, wanted: &str) {
        let found = self.stages.iter().enumerate().find(|(_, (name, _))| *name == wanted);
        if let Some((index, (name, share))) = found {
            self.progress.stage(name, index, self.stages.len(), *share);
        }
    }

    pub(super) fn squashing(&self) {
        self.begin(SQUASHING);
    }

    pub(super) fn writing(&self) {
        self.begin(WRITING);
    }

    pub(super) fn finished(&self) {
        self.progress.finished();
    }
}

/// Generates all parts but those of noise squashing.
pub(super) fn generate(parameters: ParameterSet, stages: &Stages<'_>) -> Result<Material, FheError> {
    match parameters.cpu() {
        Some(parameters) => generate_cpu(&parameters, |index| {
            if let Some((name, _)) = STAGES.get(index) {
                stages.begin(name);
            }
        }),
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
        generate(parameters, &Stages::of_key_set(false, &()))
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
