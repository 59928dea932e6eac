//! Real encrypted computation with operations on NVIDIA GPUs. **Compiled, and never run:** nobody has measured or tested it on a GPU yet.
//!
//! Operations on integers go to the GPU, one at a time, whole. Everything else is the CPU backend's: inputs, stored forms, random values, bits, and
//! operations that cost nothing. There are no kernels for blocks on the GPU, so the engine rewrites a transaction's graph as always and has its
//! operations evaluated one by one ([`FheBackend::evaluates_whole_operations`]).
//!
//! Other algorithms and another Fourier transform give other bytes. A key set is therefore made for one backend: the parameter set
//! [`ParameterSet::ProductionGpu`](crate::ParameterSet) has the parameters of the CPU's and a name of its own, which is part of the key set's id.

mod operations;

use std::sync::{Arc, Mutex, PoisonError};

use cipherloom_primitives::{B256, FheType, TypedOperation, input::InputMetadata};
use tfhe::{
    CompressedServerKey,
    core_crypto::gpu::{CudaStreams, get_number_of_gpus},
    integer::gpu::CudaServerKey,
    safe_serialization::safe_deserialize_conformant,
};

use crate::{
    backend::{BackendKind, FheBackend, VerifiedInput},
    blocks::BlockBackend,
    ciphertext::Ciphertext,
    cpu::CpuBackend,
    error::FheError,
    keys::{EvaluationKeys, MAX_EVALUATION_KEY_BYTES},
    parameters::CpuParameters,
};

/// Computes with tfhe-rs on all GPUs of the machine, under one key set.
pub struct GpuBackend {
    /// What is not done on a GPU.
    cpu: CpuBackend,
    gpu: Mutex<Gpu>,
}

/// Keys in the memory of the GPUs, and the queues of their work.
struct Gpu {
    key: CudaServerKey,
    streams: CudaStreams,
}

impl GpuBackend {
    /// Copies the evaluation key, in its compressed form, to every GPU. The CPU backend must be of the same key set.
    ///
    /// # Errors
    /// [`FheError::Gpu`] if the machine has none, [`FheError::KeyMaterial`] if the key cannot be used.
    pub(crate) fn new(cpu: CpuBackend, parameters: &CpuParameters, compressed: &[u8]) -> Result<Self, FheError> {
        if get_number_of_gpus() == 0 {
            return Err(FheError::Gpu("this machine has no NVIDIA GPU that the driver knows"));
        }
        let conformance = parameters.evaluation_config().into();
        let key: CompressedServerKey = safe_deserialize_conformant(compressed, MAX_EVALUATION_KEY_BYTES, &conformance)
            .map_err(|reason| FheError::key("evaluation key", reason))?;
        let (integer, ..) = key.into_raw_parts();
        let streams = CudaStreams::new_multi_gpu();
        let key = CudaServerKey::decompress_from_cpu(&integer, &streams);
        Ok(Self {
            cpu,
            gpu: Mutex::new(Gpu { key, streams }),
        })
    }
}

impl FheBackend for GpuBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Gpu
    }

    fn evaluation_keys(&self) -> Option<&Arc<EvaluationKeys>> {
        self.cpu.evaluation_keys()
    }

    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        crate::operands::check(operation, inputs)?;
        // One operation at a time: each spreads over the GPUs by itself.
        let gpu = self.gpu.lock().unwrap_or_else(PoisonError::into_inner);
        let value = operations::evaluate(&gpu, operation, inputs);
        drop(gpu);
        match value {
            Some(value) => Ok(self.cpu.clean(operation.result_type(), value)),
            None => self.cpu.evaluate(operation, inputs),
        }
    }

    fn evaluates_whole_operations(&self) -> bool {
        true
    }

    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
        self.cpu.verify_input(list, metadata)
    }

    fn list_types(&self, list: &[u8]) -> Result<Vec<FheType>, FheError> {
        self.cpu.list_types(list)
    }

    fn expand_values(&self, list: &[u8], positions: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.cpu.expand_values(list, positions)
    }

    fn expand_input(&self, list: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.cpu.expand_input(list)
    }

    fn serialize(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.cpu.serialize(ciphertext)
    }

    fn deserialize(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.cpu.deserialize(ty, bytes)
    }

    fn pack(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.cpu.pack(ciphertext)
    }

    fn unpack(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.cpu.unpack(ty, bytes)
    }

    fn rerandomise(&self, ciphertext: &mut Ciphertext, seed: &B256) -> Result<(), FheError> {
        self.cpu.rerandomise(ciphertext, seed)
    }

    /// The CPU's: the engine takes results apart where an operation only moves blocks.
    fn blocks(&self) -> Option<&dyn BlockBackend> {
        self.cpu.blocks()
    }
}
