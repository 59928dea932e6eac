//! A block's computations as executors are asked for them, and their answers.
//!
//! An executor belongs to the validator that asks it. What it answers is looked at nevertheless: an answer that is no answer to the question would
//! become a block that other validators refuse, and it is found out sooner here.

use std::collections::HashMap;

use alloy::primitives::U256;
use bytes::Bytes;
use cipherloom_fhe::form_of;
use cipherloom_node::native::{BlockWork, ProvenInput};
use cipherloom_primitives::{CiphertextForm, Computation, Handle, Operand, TypedOperation};
use cipherloom_rpc::{
    cipherloom::{
        executor::v1::{self as wire, ComputeRequest, ComputeResult, compute_result::Outcome},
        input::v1::InputContext,
    },
    fhevm::executor::{CompressedCiphertext, SyncComputation, SyncComputeError, SyncComputeRequest, SyncInput, sync_input::Input},
};

/// What became of the outputs of a block: packed bytes, or why every executor has none.
pub type Computed = Vec<(Handle, Result<alloy::primitives::Bytes, String>)>;

/// Writes a block's computations.
pub(super) fn request(work: &BlockWork) -> ComputeRequest {
    let ciphertext = |(handle, bytes): &(Handle, alloy::primitives::Bytes)| CompressedCiphertext {
        handle: name(handle),
        serialization: bytes.0.clone(),
    };
    ComputeRequest {
        block: Some(SyncComputeRequest {
            computations: work.computations.iter().map(computation).collect(),
            compact_ciphertext_lists: work.inputs.iter().map(|input| input.list.0.clone()).collect(),
            compressed_ciphertexts: work.ciphertexts.iter().map(ciphertext).collect(),
            input_contexts: work.inputs.iter().map(context).collect(),
        }),
        outputs: work.outputs.iter().map(name).collect(),
        form: wire::CiphertextForm::Packed as i32,
    }
}

fn context(input: &ProvenInput) -> InputContext {
    let bytes = |address: &alloy::primitives::Address| Bytes::copy_from_slice(address.as_slice());
    InputContext {
        contract_address: bytes(&input.context.contract),
        user_address: bytes(&input.context.user),
        acl_address: bytes(&input.context.acl),
        chain_id: input.context.chain_id,
    }
}

fn name(handle: &Handle) -> Bytes {
    Bytes::copy_from_slice(handle.as_slice())
}

/// Writes a computation with its operands in the order of [`Given`](cipherloom_primitives::Given).
fn computation(computation: &Computation) -> SyncComputation {
    let number = |value: U256| SyncInput {
        input: Some(Input::Scalar(value.to_be_bytes_vec().into())),
    };
    let handles = computation.inputs.iter().map(|handle| SyncInput {
        input: Some(Input::Handle(name(handle))),
    });
    let mut inputs: Vec<SyncInput> = handles.collect();
    match &computation.operation {
        TypedOperation::Binary {
            rhs: Operand::Scalar(value),
            ..
        } => inputs.push(number(*value)),
        TypedOperation::MulDiv { factor, divisor, .. } => {
            if let Operand::Scalar(value) = factor {
                inputs.push(number(*value));
            }
            inputs.push(number(*divisor));
        }
        TypedOperation::Cast { to, .. } => inputs.push(number(U256::from(to.id()))),
        TypedOperation::TrivialEncrypt { value, ty } => inputs.extend([number(*value), number(U256::from(ty.id()))]),
        TypedOperation::Rand { ty, seed, random_bits } => {
            inputs.push(number(U256::from_be_slice(seed)));
            if *random_bits != ty.bits() {
                inputs.push(number(U256::ONE << (*random_bits as usize)));
            }
            inputs.push(number(U256::from(ty.id())));
        }
        TypedOperation::Binary { .. }
        | TypedOperation::Neg { .. }
        | TypedOperation::Not { .. }
        | TypedOperation::IfThenElse { .. }
        | TypedOperation::Sum { .. }
        | TypedOperation::IsIn { .. } => {}
    }
    SyncComputation {
        operation: i32::from(computation.operation.operation().id()),
        inputs,
        result_handles: vec![name(&computation.result)],
    }
}

/// The results of a block as they come in.
pub(super) struct Answers<'a> {
    wanted: &'a [Handle],
    results: HashMap<Handle, Result<alloy::primitives::Bytes, String>>,
}

impl<'a> Answers<'a> {
    /// Waits for these outputs.
    pub(super) fn to(work: &'a BlockWork) -> Self {
        Self {
            wanted: &work.outputs,
            results: HashMap::with_capacity(work.outputs.len()),
        }
    }

    /// Takes one result.
    ///
    /// # Errors
    /// Why the executor is none that this chain can use: it gives what is no answer, or takes inputs for wrong that the chain has accepted.
    pub(super) fn take(&mut self, result: ComputeResult) -> Result<(), String> {
        let ComputeResult { handle, outcome } = result;
        let outcome = outcome.ok_or("a result is neither a ciphertext nor a failure")?;
        if handle.is_empty() {
            // Ciphertexts of the state that cannot be read fail the results that need them, which say so themselves.
            return match outcome {
                Outcome::Failure(failure) if failure.error == SyncComputeError::BadInputList as i32 => {
                    Err(format!("an input whose proof holds is refused: {}", failure.reason))
                }
                _ => Ok(()),
            };
        }
        let handle = Handle::try_from(handle.as_ref()).map_err(|error| format!("a result's handle: {error}"))?;
        let result = match outcome {
            Outcome::Serialization(bytes) if form_of(&bytes) == Some(CiphertextForm::Packed) => Ok(alloy::primitives::Bytes(bytes)),
            Outcome::Serialization(_) => return Err(format!("the result for {handle} is no packed ciphertext")),
            Outcome::Failure(failure) => Err(failure.reason),
        };
        if !self.wanted.contains(&handle) {
            return Err(format!("nobody asked for {handle}"));
        }
        match self.results.insert(handle, result) {
            None => Ok(()),
            Some(_) => Err(format!("two results for {handle}")),
        }
    }

    /// Returns the results in the order in which they were asked for.
    ///
    /// # Errors
    /// If one is missing.
    pub(super) fn finish(mut self) -> Result<Computed, String> {
        let result = |handle: &Handle| {
            let result = self.results.remove(handle);
            result
                .map(|result| (*handle, result))
                .ok_or_else(|| format!("no result for {handle}"))
        };
        self.wanted.iter().map(result).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use cipherloom_primitives::{FheType, Given, Operation, RawOperands, input::InputMetadata};
    use cipherloom_rpc::cipherloom::executor::v1::Failure;

    use super::*;

    const U8: FheType = FheType::Uint8;

    fn handle(number: u8, ty: FheType) -> Handle {
        Handle::computed(B256::repeat_byte(number), 31338, ty)
    }

    fn every_shape() -> Vec<TypedOperation> {
        let (a, b, bool) = (handle(1, U8), handle(2, U8), handle(3, FheType::Bool));
        let word = |handle: Handle| U256::from_be_bytes(handle.as_b256().0);
        let list = [a, b];
        let binary = |rhs, scalar_byte| RawOperands::Binary { lhs: a, rhs, scalar_byte };
        let product = |rhs, scalar_byte| RawOperands::MulDiv {
            lhs: a,
            rhs,
            divisor: U256::from(3),
            scalar_byte,
        };
        let asked = [
            (Operation::Add, binary(word(b), 0)),
            (Operation::Sub, binary(U256::from(7), 1)),
            (Operation::Neg, RawOperands::Unary(a)),
            (Operation::Not, RawOperands::Unary(bool)),
            (Operation::Cast, RawOperands::Cast(a, FheType::Uint64)),
            (Operation::TrivialEncrypt, RawOperands::Trivial(U256::from(9), U8)),
            (Operation::IfThenElse, RawOperands::Select(bool, a, b)),
            (Operation::Rand, RawOperands::Random([0xa5; 16], U8, None)),
            (Operation::Rand, RawOperands::Random([0xa5; 16], FheType::Bool, None)),
            (Operation::RandBounded, RawOperands::Random([0x5a; 16], U8, Some(U256::from(16)))),
            (Operation::Sum, RawOperands::List(&list, U8)),
            (Operation::Sum, RawOperands::List(&[], U8)),
            (Operation::IsIn, RawOperands::Membership(a, &list)),
            (Operation::MulDiv, product(word(b), 1)),
            (Operation::MulDiv, product(U256::from(5), 3)),
        ];
        asked
            .map(|(operation, raw)| TypedOperation::check(operation, &raw).unwrap().0)
            .to_vec()
    }

    #[test]
    fn an_executor_reads_the_computation_that_was_written() {
        for operation in every_shape() {
            let inputs: Vec<Handle> = operation
                .input_types()
                .into_iter()
                .zip(1..)
                .map(|(ty, number)| handle(number, ty))
                .collect();
            let written = computation(&Computation {
                result: handle(99, operation.result_type()),
                operation: operation.clone(),
                inputs: inputs.clone(),
            });
            let given: Vec<Given> = written
                .inputs
                .iter()
                .map(|input| match input.input.as_ref().unwrap() {
                    Input::Handle(bytes) => Given::Handle(Handle::try_from(bytes.as_ref()).unwrap()),
                    Input::Scalar(bytes) => Given::scalar(bytes),
                })
                .collect();
            let asked = Operation::try_from(u8::try_from(written.operation).unwrap()).unwrap();
            let read = TypedOperation::check_given(asked, &given, Some(operation.result_type())).unwrap();
            assert_eq!(read, (operation, inputs));
        }
    }

    fn work(outputs: &[Handle]) -> BlockWork {
        BlockWork {
            number: 1,
            computations: Vec::new(),
            inputs: vec![ProvenInput {
                list: vec![1, 2, 3].into(),
                context: InputMetadata {
                    contract: Address::repeat_byte(1),
                    user: Address::repeat_byte(2),
                    acl: Address::repeat_byte(3),
                    chain_id: 31338,
                },
            }],
            ciphertexts: Vec::new(),
            outputs: outputs.to_vec(),
        }
    }

    #[test]
    fn each_list_comes_with_whom_it_was_made_for() {
        let [context] = request(&work(&[])).block.unwrap().input_contexts.try_into().unwrap();
        assert_eq!(context.user_address, Bytes::from_static(&[2; 20]));
        assert_eq!(context.chain_id, 31338);
    }

    fn packed() -> Outcome {
        let mut bytes = b"CLCT\x01\x01\x02\x01".to_vec();
        bytes.extend([0; 24]);
        Outcome::Serialization(bytes.into())
    }

    fn failure(error: SyncComputeError) -> Outcome {
        Outcome::Failure(Failure {
            error: error as i32,
            reason: "because".to_owned(),
        })
    }

    fn outcome(work: &BlockWork, results: &[(Bytes, Outcome)]) -> Result<Computed, String> {
        let mut answers = Answers::to(work);
        for (handle, outcome) in results {
            answers.take(ComputeResult {
                handle: handle.clone(),
                outcome: Some(outcome.clone()),
            })?;
        }
        answers.finish()
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_refused() {
        let (a, b) = (handle(1, U8), handle(2, U8));
        let work = work(&[a, b]);
        let (failed, unread) = (
            failure(SyncComputeError::ComputationFailed),
            failure(SyncComputeError::BadInputCiphertext),
        );
        let good = outcome(&work, &[(name(&b), failed), (Bytes::new(), unread), (name(&a), packed())]).unwrap();
        assert_eq!(good.iter().map(|(handle, _)| *handle).collect::<Vec<_>>(), [a, b]);
        assert!(good[0].1.is_ok());
        assert_eq!(good[1].1, Err("because".to_owned()));

        let raw = Outcome::Serialization(Bytes::from_static(b"CLCT\x01\x01\x02\x00........"));
        let proof = failure(SyncComputeError::BadInputList);
        for (results, why) in [
            (vec![(name(&a), packed())], "no result for"),
            (vec![(name(&a), packed()), (name(&a), packed())], "two results"),
            (vec![(name(&handle(3, U8)), packed())], "nobody asked"),
            (vec![(Bytes::from_static(b"short"), packed())], "handle"),
            (vec![(name(&a), raw)], "no packed ciphertext"),
            (vec![(Bytes::new(), proof)], "proof holds"),
        ] {
            let refused = outcome(&work, &results).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
