//! Several executors that share the computations of a block: the bytes are those of a single one.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use alloy::primitives::{Address, U256, keccak256};
use cipherloom_executor::{Executor, ExecutorConfig, ExecutorHandle};
use cipherloom_node::native::{BlockWork, ComputeBlock, ProvenInput, Results};
use cipherloom_primitives::{
    Computation, FheType, Handle, Operation, RawOperands, TypedOperation,
    input::{InputMetadata, input_handles},
};
use cipherloom_validator::{RemoteExecutors, RemoteOptions};

use crate::ground::{WORKSHOP, key_set_id};

const U8: FheType = FheType::Uint8;

fn handle(number: u8) -> Handle {
    Handle::computed(keccak256([number]), 31_338, U8)
}

fn computation(result: u8, operation: Operation, raw: &RawOperands<'_>) -> Computation {
    let (operation, inputs) = TypedOperation::check(operation, raw).unwrap();
    Computation {
        operation,
        inputs,
        result: handle(result),
    }
}

/// Sums that do not depend on each other, two of them of inputs, and an input that is stored as it is.
fn work() -> BlockWork {
    let context = InputMetadata {
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        acl: Address::repeat_byte(3),
        chain_id: 31_338,
    };
    let list = |values: [u64; 2]| {
        let values = values.map(|value| (U8, U256::from(value)));
        let list = WORKSHOP.encryptor.encrypt(&values, &context).unwrap();
        let handles = input_handles(&list, &[U8, U8], context.acl, context.chain_id).unwrap();
        let list = list.into();
        (ProvenInput { list, context }, handles)
    };
    let ((first, inputs), (second, others)) = (list([5, 6]), list([7, 8]));
    let value = |number: u8| computation(number, Operation::TrivialEncrypt, &RawOperands::Trivial(U256::from(number), U8));
    let sum = |result: u8, lhs: Handle, plain: u64| {
        let operands = RawOperands::Binary {
            lhs,
            rhs: U256::from(plain),
            scalar_byte: 1,
        };
        computation(result, Operation::Add, &operands)
    };
    let mut outputs = vec![handle(11), handle(12), handle(13), inputs[1]];
    outputs.sort_unstable();
    BlockWork {
        number: 1,
        computations: vec![value(1), sum(11, handle(1), 3), sum(12, inputs[0], 4), sum(13, others[0], 7)],
        inputs: vec![first, second],
        ciphertexts: Vec::new(),
        outputs,
    }
}

async fn start() -> ExecutorHandle {
    let config = ExecutorConfig::new(([127, 0, 0, 1], 0).into(), key_set_id(&WORKSHOP.keys).0);
    Executor::start(config, Arc::clone(&WORKSHOP.backend)).await.unwrap()
}

fn url(executor: &ExecutorHandle) -> String {
    format!("http://{}", executor.address())
}

async fn computed(urls: Vec<String>, requests: Option<usize>, work: &BlockWork) -> Results {
    let options = RemoteOptions {
        urls,
        ca: None,
        timeout: Duration::from_secs(30),
        requests: requests.and_then(NonZeroUsize::new),
    };
    let executors = RemoteExecutors::new(&options, key_set_id(&WORKSHOP.keys)).unwrap();
    let mut results = executors.compute(work.clone()).await.unwrap();
    results.sort_unstable_by_key(|(handle, _)| *handle);
    results
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_share_a_block_and_give_the_bytes_that_one_gives() {
    let work = work();
    let mut expected = WORKSHOP.executor.compute(work.clone()).await.unwrap();
    expected.sort_unstable_by_key(|(handle, _)| *handle);
    assert!(expected.iter().all(|(_, result)| result.is_ok()), "{expected:?}");
    let handles: Vec<Handle> = expected.iter().map(|(handle, _)| *handle).collect();
    assert_eq!(handles, work.outputs);

    let (one, two) = (start().await, start().await);
    assert_eq!(computed(vec![url(&one)], None, &work).await, expected);
    let alone = one.statistics().batches;
    assert!(alone > 0 && two.statistics().batches == 0);
    assert_eq!(computed(vec![url(&one), url(&two)], None, &work).await, expected);
    let shared = (one.statistics().batches - alone, two.statistics().batches);
    assert!(shared.0 > 0 && shared.1 > 0, "{shared:?}");
    // One address with several behind it: more requests than URLs.
    assert_eq!(computed(vec![url(&one)], Some(3), &work).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_stand_in_for_an_executor_that_is_gone() {
    let work = work();
    let (one, gone) = (start().await, start().await);
    let urls = vec![url(&gone), url(&one)];
    drop(gone);
    let expected = computed(vec![url(&one)], None, &work).await;
    assert_eq!(computed(urls, None, &work).await, expected);
}
