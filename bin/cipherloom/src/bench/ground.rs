//! What every benchmark stands on: keys, backend, tfhe-rs beside it, and encrypted samples.

use std::{collections::HashMap, num::NonZeroUsize, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use cipherloom_contracts::development;
use cipherloom_fhe::{BlockBackend, Ciphertext, CpuBackend, Decrypt, DirectTfhe, EvaluationKeys, FheBackend, KeySet, ParameterSet};
use cipherloom_primitives::{
    Address, FheType, Handle, U256,
    input::{InputMetadata, MAX_INPUT_BITS},
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{
    options::{CommonOptions, Parameters},
    rate::RateMeter,
    scenario::{Given, sample_values},
};
use crate::{data_dir, keys};

const NO_BLOCKS: &str = "the backend has no machinery of blocks";

/// Keys and what computes with them.
pub(crate) struct Ground {
    /// The key set.
    pub(crate) keys: Arc<KeySet>,
    /// Our backend.
    pub(crate) backend: Arc<dyn FheBackend>,
    /// tfhe-rs called directly.
    pub(crate) direct: DirectTfhe,
    /// The threads tfhe-rs computes on: one pool for everything, as its own global one is.
    pub(crate) direct_threads: ThreadPool,
    /// How many threads each side has.
    pub(crate) threads: NonZeroUsize,
    evaluation: Arc<EvaluationKeys>,
    decryptor: Arc<dyn Decrypt>,
}

impl Ground {
    /// Opens or generates the keys and starts both sides.
    ///
    /// # Errors
    /// If the keys cannot be used, or have no secret part to check results with.
    pub(crate) fn prepare(options: &CommonOptions) -> Result<Self> {
        let set = options.parameters.set();
        if !set.is_secure() {
            eprintln!("INSECURE parameters: counts are those of production parameters, times mean nothing.");
        }
        let keys = keys::open_or_generate(&directory(options)?, set)?;
        ensure!(
            keys.has_secret_key(),
            "the key set in {} has no secret key, with which results are checked",
            keys.directory().display()
        );
        let evaluation = keys.evaluation_keys()?;
        let threads = threads(options)?;
        let direct_threads = ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .thread_name(|thread| format!("tfhe-rs-{thread}"))
            .build()
            .context("cannot start threads")?;
        let backend: Arc<dyn FheBackend> = Arc::new(CpuBackend::new(Arc::clone(&evaluation)));
        // Measured now, not when the clock runs.
        backend.blocks().context(NO_BLOCKS)?.preferred_batch();
        Ok(Self {
            decryptor: keys.decryptor()?,
            backend,
            direct: DirectTfhe::new(Arc::clone(&evaluation)),
            evaluation,
            direct_threads,
            threads,
            keys,
        })
    }

    /// Returns the parameter set's name.
    pub(crate) fn parameters(&self) -> ParameterSet {
        self.keys.parameters()
    }

    /// Encrypts the samples of some types as a client does: lists of as many values as each has room for, with their proofs. Takes seconds with
    /// production parameters.
    ///
    /// # Errors
    /// If encryption fails.
    pub(crate) fn encrypt_samples(&self, types: &[FheType]) -> Result<Vec<SampleList>> {
        let of_type = |ty: &FheType| (0..sample_values(*ty).len()).map(|sample| (*ty, sample)).collect::<Vec<_>>();
        self.encrypt(types.iter().flat_map(of_type))
    }

    /// Encrypts samples, given by type and number, in lists of as many values as each has room for.
    ///
    /// # Errors
    /// If encryption fails.
    pub(crate) fn encrypt(&self, samples: impl IntoIterator<Item = (FheType, usize)>) -> Result<Vec<SampleList>> {
        let mut lists: Vec<Vec<Sample>> = Vec::new();
        let mut room = 0;
        for (ty, sample) in samples {
            let value = *sample_values(ty).get(sample).context("there are fewer samples")?;
            if room < ty.request_bits() {
                lists.push(Vec::new());
                room = MAX_INPUT_BITS;
            }
            room -= ty.request_bits();
            if let Some(list) = lists.last_mut() {
                list.push(Sample { ty, sample, value });
            }
        }
        let encryptor = self.keys.encryptor()?;
        lists
            .into_iter()
            .map(|samples| {
                let values: Vec<(FheType, U256)> = samples.iter().map(|sample| (sample.ty, sample.value)).collect();
                let bytes = encryptor.encrypt(&values, &metadata())?;
                Ok(SampleList { bytes, samples })
            })
            .collect()
    }

    /// Encrypts samples and expands their lists.
    ///
    /// # Errors
    /// If encryption fails.
    pub(crate) fn sample_ciphertexts(&self, types: &[FheType]) -> Result<Samples> {
        let mut samples = HashMap::new();
        for list in self.encrypt_samples(types)? {
            let ciphertexts = self.backend.expand_input(&list.bytes)?;
            samples.extend(list.samples.iter().map(|sample| (sample.ty, sample.sample)).zip(ciphertexts));
        }
        Ok(Samples(samples))
    }

    /// Decrypts a ciphertext in its stored form.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn decrypt(&self, ty: FheType, stored: &[u8]) -> Result<U256> {
        Ok(self.decryptor.decrypt(ty, stored)?)
    }

    /// Decrypts every result and compares it with what it must be. Returns how many there were.
    ///
    /// # Errors
    /// If one is wrong or not expected.
    pub(crate) fn check(&self, results: &HashMap<Handle, Vec<u8>>, expected: &HashMap<Handle, U256>) -> Result<usize> {
        for (handle, stored) in results {
            let found = self.decrypt(handle.fhe_type(), stored)?;
            match expected.get(handle) {
                Some(value) if *value == found => {}
                Some(value) => bail!("{handle} decrypts to {found}; it must be {value}"),
                None => bail!("{handle} was not asked for"),
            }
        }
        Ok(results.len())
    }

    /// Prepares to measure what bootstraps cost.
    ///
    /// # Errors
    /// If there is no sample to do them on.
    pub(crate) fn rate_meter(&self, samples: &Samples) -> Result<RateMeter> {
        let sample = samples.some_number().context("there is no sample")?;
        RateMeter::new(&self.evaluation, sample, self.batch()?, self.threads)
    }

    /// Returns how many bootstraps a thread does at a time.
    ///
    /// # Errors
    /// If the backend has no machinery of blocks.
    pub(crate) fn batch(&self) -> Result<usize> {
        Ok(self.backend.blocks().context(NO_BLOCKS)?.preferred_batch())
    }

    /// Returns how many bootstraps our backend has done.
    pub(crate) fn bootstraps(&self) -> u64 {
        self.backend.blocks().map_or(0, BlockBackend::bootstraps)
    }
}

/// A sample in an input list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Its type.
    pub(crate) ty: FheType,
    /// Which of the samples of its type it is.
    pub(crate) sample: usize,
    value: U256,
}

/// An input list of samples.
pub(crate) struct SampleList {
    /// The list with its proof.
    pub(crate) bytes: Vec<u8>,
    /// What is in it, in order.
    pub(crate) samples: Vec<Sample>,
}

/// Encrypted samples in memory.
pub(crate) struct Samples(HashMap<(FheType, usize), Ciphertext>);

impl Samples {
    /// Returns the ciphertext of a given value.
    ///
    /// # Errors
    /// If it was not encrypted.
    pub(crate) fn of(&self, given: &Given) -> Result<&Ciphertext> {
        let key = (given.handle.fhe_type(), given.sample);
        self.0
            .get(&key)
            .with_context(|| format!("sample {} of {} was not encrypted", key.1, key.0))
    }

    /// Returns some number of 64 bits or, without one, of another type.
    fn some_number(&self) -> Option<&Ciphertext> {
        let wide = self.0.get(&(FheType::Uint64, 0));
        wide.or_else(|| self.0.values().max_by_key(|ciphertext| ciphertext.fhe_type()))
    }
}

/// What inputs of benchmarks are bound to.
pub(crate) fn metadata() -> InputMetadata {
    InputMetadata {
        contract: Address::repeat_byte(0xbe),
        user: Address::repeat_byte(0xac),
        acl: development::addresses().acl,
        chain_id: development::HOST_CHAIN_ID,
    }
}

fn threads(options: &CommonOptions) -> Result<NonZeroUsize> {
    match options.threads {
        Some(threads) => NonZeroUsize::new(threads.into()).context("there must be a thread"),
        None => Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
    }
}

/// Returns the directory of the keys.
///
/// # Errors
/// If the user has no data directory.
pub(crate) fn directory(options: &CommonOptions) -> Result<PathBuf> {
    match (&options.keys, options.parameters) {
        (Some(directory), _) => Ok(directory.clone()),
        (None, Parameters::Production) => data_dir::default_keys(),
        #[cfg(feature = "insecure-development")]
        (None, Parameters::Toy) => Ok(data_dir::default_keys()?.with_file_name("insecure-toy")),
    }
}
