//! Real encrypted computation: tfhe-rs on the CPU.
//!
//! Results are reproducible: a result's bytes depend on the key set, the operation and the bytes of its inputs, and on nothing else. Three
//! things would break that, and each has its place here. The FFT algorithm is fixed before keys are read (`fft_plan`). The number of threads that
//! tfhe sees, from which it chooses algorithms, is the same on every machine (`cpu/pools.rs`). And no operation draws fresh
//! randomness: random values are a pseudo-random function of the seed, evaluated under encryption (`cpu/random.rs`).
//!
//! Every result is clean: carries are empty and noise is that of a fresh bootstrap, or none. So any result can be the input of any
//! operation, in any order.

mod booleans;
#[cfg(all(test, feature = "insecure-toy-parameters"))]
mod boundary_tests;
mod clean;
mod direct;
mod evaluate;
mod expansion;
mod integers;
mod lists;
mod lookups;
pub(crate) mod packing;
mod pools;
mod random;
mod randomise;
mod select;
mod shifts;
mod trivial;

use std::sync::Arc;

use cipherloom_primitives::{B256, FheType, TypedOperation, input::InputMetadata};

pub use self::direct::{DirectTfhe, DirectVariant};
pub(crate) use self::pools::{Pools, THREADS as POOL_THREADS};
#[cfg(feature = "gpu")]
pub(crate) use self::trivial::{known as known_value, to_tfhe as tfhe_scalar};
use crate::{
    backend::{BackendKind, FheBackend, VerifiedInput},
    blocks::{BlockBackend, CpuBlocks},
    ciphertext::Ciphertext,
    error::FheError,
    fft_plan,
    keys::EvaluationKeys,
    operands,
};

/// Computes with tfhe-rs on the CPU under one key set.
///
/// Calls from several threads run side by side, each in a pool of its own as long as there are processors.
pub struct CpuBackend {
    keys: Arc<EvaluationKeys>,
    pools: pools::Pools,
    blocks: CpuBlocks,
}

impl CpuBackend {
    /// Makes the backend for a key set. The keys may be shared with other backends.
    ///
    /// # Panics
    /// If the operating system refuses to start the computing threads.
    #[must_use]
    pub fn new(keys: Arc<EvaluationKeys>) -> Self {
        // The keys were read after this was done once; a call that does nothing is cheaper than a wrong plan.
        fft_plan::fix();
        Self {
            blocks: CpuBlocks::new(Arc::clone(&keys)),
            keys,
            pools: pools::Pools::for_this_machine(),
        }
    }
}

#[cfg(feature = "gpu")]
impl CpuBackend {
    /// Makes a ciphertext of a result that was computed elsewhere: free of carries, with the noise of a bootstrap.
    pub(crate) fn clean(&self, ty: FheType, value: crate::ciphertext::Value) -> Ciphertext {
        let value = self.pools.run(|| evaluate::cleaned(&self.keys.integer, value));
        Ciphertext { ty, value }
    }
}

impl FheBackend for CpuBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Cpu
    }

    fn evaluation_keys(&self) -> Option<&Arc<EvaluationKeys>> {
        Some(&self.keys)
    }

    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        operands::check(operation, inputs)?;
        self.pools
            .run(|| evaluate::evaluate(&self.keys.integer, &self.keys.oprf, operation, inputs))
    }

    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
        self.pools.run(|| crate::input::cpu_verify(&self.keys.input, list, metadata))
    }

    fn list_types(&self, list: &[u8]) -> Result<Vec<FheType>, FheError> {
        self.keys.input.read_list(list).map(|(_, types)| types)
    }

    fn expand_values(&self, list: &[u8], positions: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.pools.run(|| expansion::expand(&self.keys, list, Some(positions)))
    }

    fn expand_input(&self, list: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.pools.run(|| expansion::expand(&self.keys, list, None))
    }

    fn serialize(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.keys.stored.write(ciphertext)
    }

    fn deserialize(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.keys.stored.read(ty, bytes)
    }

    fn pack(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.pools.run(|| packing::pack(&self.keys, ciphertext))
    }

    fn unpack(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.pools.run(|| packing::unpack(&self.keys, ty, bytes))
    }

    fn rerandomise(&self, ciphertext: &mut Ciphertext, seed: &B256) -> Result<(), FheError> {
        randomise::rerandomise(&self.keys, ciphertext, seed)
    }

    fn blocks(&self) -> Option<&dyn BlockBackend> {
        Some(&self.blocks)
    }
}
