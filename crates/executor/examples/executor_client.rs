//! What a node does with an executor: sends a block with encrypted inputs, keeps the results, and sends them along with the next block.
//!
//! Start an executor, then run this with its address and its key directory:
//!
//! ```text
//! cargo run --release -p cipherloom -- executor --fhe-keys-directory ./keys
//! cargo run --release -p cipherloom-executor -p cipherloom --example executor_client -- http://127.0.0.1:50051 ./keys
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use cipherloom_fhe::KeySet;
use cipherloom_primitives::{Address, FheType, Handle, U256, input::InputMetadata, native::native_input_handles};
use cipherloom_rpc::{
    cipherloom::input::v1::InputContext,
    fhevm::{
        common::FheOperation,
        executor::{
            CompressedCiphertext, SyncComputation, SyncComputeError, SyncComputeRequest, SyncInput,
            fhevm_executor_client::FhevmExecutorClient, sync_compute_response::Resp, sync_input::Input,
        },
    },
};
use tonic::transport::{Channel, Endpoint};

type Failure = Box<dyn std::error::Error>;

const AMOUNT: FheType = FheType::Uint64;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(keys)) = (arguments.next(), arguments.next()) else {
        return Err("usage: executor_client http://ADDRESS:PORT KEY_DIRECTORY".into());
    };
    let keys = KeySet::open(Path::new(&keys))?;
    let channel = Endpoint::from_shared(address)?.connect().await?;
    let mut executor = FhevmExecutorClient::new(channel).max_decoding_message_size(1 << 30);

    println!("encrypting 1000 and 250 with a proof of knowledge");
    let (list, context, inputs) = encrypted_inputs(&keys, &[1000, 250])?;
    let [balance, amount] = inputs.as_slice() else {
        return Err("a list of two values has two handles".into());
    };
    // A chain derives result handles from operation and operands; here any distinct ones will do.
    let (enough, rest) = (result(1, FheType::Bool)?, result(2, AMOUNT)?);
    let block = SyncComputeRequest {
        computations: vec![
            computation(FheOperation::FheLe, &[*amount, *balance], enough),
            computation(FheOperation::FheSub, &[*balance, *amount], rest),
        ],
        compact_ciphertext_lists: vec![list.into()],
        input_contexts: vec![context],
        ..SyncComputeRequest::default()
    };
    let results = compute(&mut executor, block).await?;
    show(&keys, &results)?;

    println!("a second block, which starts from the first one's results");
    let doubled = result(3, AMOUNT)?;
    let block = SyncComputeRequest {
        computations: vec![computation(FheOperation::FheAdd, &[rest, rest], doubled)],
        compressed_ciphertexts: results.into_iter().filter(|result| result.handle == rest.as_slice()).collect(),
        ..SyncComputeRequest::default()
    };
    let results = compute(&mut executor, block).await?;
    show(&keys, &results)
}

/// Encrypts values for one contract and user, and returns the list, what its proof is bound to, and the handles of native mode.
fn encrypted_inputs(keys: &KeySet, values: &[u64]) -> Result<(Vec<u8>, InputContext, Vec<Handle>), Failure> {
    let metadata = InputMetadata {
        contract: Address::repeat_byte(0xc0),
        user: Address::repeat_byte(0xa1),
        acl: Address::repeat_byte(0xac),
        chain_id: 8009,
    };
    let values: Vec<(FheType, U256)> = values.iter().map(|value| (AMOUNT, U256::from(*value))).collect();
    let types: Vec<FheType> = values.iter().map(|(ty, _)| *ty).collect();
    let list = keys.encryptor()?.encrypt(&values, &metadata)?;
    let handles = native_input_handles(&list, &types).ok_or("a list has at most 255 values")?;
    let context = InputContext {
        contract_address: metadata.contract.to_vec().into(),
        user_address: metadata.user.to_vec().into(),
        acl_address: metadata.acl.to_vec().into(),
        chain_id: metadata.chain_id,
    };
    Ok((list, context, handles))
}

fn result(number: u8, ty: FheType) -> Result<Handle, Failure> {
    let mut bytes = [0; 32];
    bytes[0] = number;
    bytes[30] = ty.id();
    Ok(Handle::try_from(bytes.as_slice())?)
}

fn computation(operation: FheOperation, operands: &[Handle], result: Handle) -> SyncComputation {
    let input = |handle: &Handle| SyncInput {
        input: Some(Input::Handle(handle.as_slice().to_vec().into())),
    };
    SyncComputation {
        operation: operation as i32,
        inputs: operands.iter().map(input).collect(),
        result_handles: vec![result.as_slice().to_vec().into()],
    }
}

async fn compute(executor: &mut FhevmExecutorClient<Channel>, block: SyncComputeRequest) -> Result<Vec<CompressedCiphertext>, Failure> {
    let answer = executor.sync_compute(block).await?;
    let reason = answer.metadata().get("cipherloom-reason").cloned();
    match answer.into_inner().resp {
        Some(Resp::ResultCiphertexts(results)) => Ok(results.ciphertexts),
        Some(Resp::Error(error)) => {
            let error = SyncComputeError::try_from(error)?;
            Err(format!("{}: {reason:?}", error.as_str_name()).into())
        }
        None => Err("the answer is empty".into()),
    }
}

/// Prints results, decrypted if the key directory is one of a KMS.
fn show(keys: &KeySet, results: &[CompressedCiphertext]) -> Result<(), Failure> {
    for result in results {
        let handle = Handle::try_from(&*result.handle)?;
        let size = result.serialization.len();
        if keys.has_secret_key() {
            let value = keys.decryptor()?.decrypt(handle.fhe_type(), &result.serialization)?;
            println!("  {handle}: {size} bytes, a {} of {value}", handle.fhe_type());
        } else {
            println!("  {handle}: {size} bytes, a {}", handle.fhe_type());
        }
    }
    Ok(())
}
