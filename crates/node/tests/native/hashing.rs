//! An executor and proofs without cryptography: a ciphertext is the hash of how it came about, so that a wrong operand shows in the bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy::primitives::{Bytes, keccak256};
use cipherloom_node::native::{BlockWork, CheckInputs, InputRefused, Results};
use cipherloom_primitives::input::{InputMetadata, input_handles};
use cipherloom_primitives::native::native_input_handles;
use cipherloom_primitives::{Computation, FheType, Handle};

/// Computes by hashing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashingExecutor;

impl HashingExecutor {
    /// Computes a block. Work that is not complete, or out of order, is a failure of the node.
    pub(crate) fn results(self, work: &BlockWork) -> Results {
        let mut values: HashMap<Handle, Bytes> = work.ciphertexts.iter().cloned().collect();
        for input in &work.inputs {
            let types = ToyInputs::read(&input.list).unwrap();
            let both = input_handles(&input.list, &types, input.context.acl, input.context.chain_id).into_iter();
            for handle in both.chain(native_input_handles(&input.list, &types)).flatten() {
                values.insert(handle, input_bytes(&input.list, handle));
            }
        }
        for computation in &work.computations {
            let operands = computation.inputs.iter().map(|input| values[input].clone());
            let bytes = computed_bytes(computation, &operands.collect::<Vec<_>>());
            assert!(values.insert(computation.result, bytes).is_none(), "{} twice", computation.result);
        }
        let outputs = work.outputs.iter();
        outputs.map(|handle| (*handle, Ok(values[handle].clone()))).collect()
    }
}

/// What the hashing executor makes of an operation.
pub(crate) fn computed_bytes(computation: &Computation, operands: &[Bytes]) -> Bytes {
    let name = format!("{:?} {}", computation.operation, computation.result);
    lengthen(keccak256([name.as_bytes(), &operands.concat()].concat()), computation.result)
}

/// What the hashing executor makes of an input.
pub(crate) fn input_bytes(list: &[u8], handle: Handle) -> Bytes {
    lengthen(keccak256([list, handle.as_slice()].concat()), handle)
}

/// As many bytes as the type has bits, so that lengths are of all kinds.
fn lengthen(hash: alloy::primitives::B256, handle: Handle) -> Bytes {
    let length = usize::try_from(handle.fhe_type().bits()).unwrap();
    hash.iter().copied().cycle().take(length).collect::<Vec<u8>>().into()
}

/// Input lists that begin with how many values they have and with their types, and end in the hash of what they are bound to.
#[derive(Debug, Default)]
pub(crate) struct ToyInputs {
    /// How many proofs were checked.
    pub(crate) checked: AtomicUsize,
}

impl ToyInputs {
    /// Makes a list.
    pub(crate) fn list(types: &[FheType], seed: u8, context: &InputMetadata) -> Bytes {
        let mut list = vec![u8::try_from(types.len()).unwrap()];
        list.extend(types.iter().map(|ty| ty.id()));
        list.push(seed);
        let proof = keccak256([list.as_slice(), &context.to_bytes()].concat());
        list.extend_from_slice(proof.as_slice());
        list.into()
    }

    fn read(list: &[u8]) -> Option<Vec<FheType>> {
        let (count, rest) = list.split_first()?;
        let (types, rest) = rest.split_at_checked(usize::from(*count))?;
        (rest.len() == 33).then_some(())?;
        types.iter().map(|ty| FheType::try_from(*ty).ok()).collect()
    }
}

impl CheckInputs for ToyInputs {
    fn check(&self, list: &[u8], context: &InputMetadata) -> Result<Vec<FheType>, InputRefused> {
        self.checked.fetch_add(1, Ordering::Relaxed);
        let types = self.types(list)?;
        let (bound, proof) = list.split_at(list.len() - 32);
        if keccak256([bound, &context.to_bytes()].concat()) == *proof {
            Ok(types)
        } else {
            Err(InputRefused::new("the proof does not hold"))
        }
    }

    fn types(&self, list: &[u8]) -> Result<Vec<FheType>, InputRefused> {
        Self::read(list).ok_or_else(|| InputRefused::new("not a list"))
    }
}
