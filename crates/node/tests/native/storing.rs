//! What reaches storage is computed and becomes state; nothing else does.

use std::sync::Mutex;

use alloy::primitives::{B256, Bytes, U256};
use cipherloom_node::native::{BlockWork, ComputeBlock, ComputeUnavailable, Results, ResultsRefused, compute_checked};
use cipherloom_primitives::ciphertext_state::STORAGE_ACCOUNT;
use cipherloom_primitives::{FheType, Handle, Operation};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use revm::DatabaseRef;

use crate::client::{Client, Done, STORE};
use crate::hashing::{HashingExecutor, computed_bytes};
use crate::program::{Arg, Program, byte};

/// The results that a transaction asked for, in order.
fn results(done: &Done) -> Vec<Handle> {
    done.work.computations().map(|computation| computation.result).collect()
}

/// `(a + b)` stored at slot 1, with `a * b` computed for nothing.
fn sum_stored() -> Program {
    let mut program = Program::new();
    let (a, b) = (program.value(5, FheType::Uint64), program.value(6, FheType::Uint64));
    let sum = program.operation(Operation::Add, &[a, b, byte(0)]);
    program.operation(Operation::Mul, &[a, b, byte(0)]);
    program.store(1, sum);
    program
}

#[test]
fn only_stored_results_are_computed_and_kept() {
    let mut client = Client::new();
    let (done, plan) = client.block_with(
        |block| block.run(&sum_stored().calls).unwrap(),
        |plan| HashingExecutor.results(plan.work()),
    );
    let [a, b, sum, product] = results(&done)[..] else { panic!() };
    assert_eq!(plan.work().outputs, [sum]);
    let asked: Vec<Handle> = plan.work().computations.iter().map(|computation| computation.result).collect();
    assert_eq!(asked, [a, b, sum]);
    assert_eq!(plan.without(), []);
    for intermediate in [a, b, product] {
        assert_eq!(client.ciphertext(intermediate), None);
    }
    let computations: Vec<_> = done.work.computations().cloned().collect();
    let operands = [computed_bytes(&computations[0], &[]), computed_bytes(&computations[1], &[])];
    assert_eq!(client.ciphertext(sum), Some(computed_bytes(&computations[2], &operands)));
    assert_eq!(client.database.basic_ref(STORAGE_ACCOUNT).unwrap().unwrap().nonce, 1);
}

#[test]
fn a_block_without_stores_asks_for_nothing() {
    let mut client = Client::new();
    let mut program = sum_stored();
    program.calls.pop();
    let (_, plan) = client.block_with(|block| block.run(&program.calls).unwrap(), |_| Vec::new());
    assert_eq!(
        *plan.work(),
        BlockWork {
            number: client.number,
            ..BlockWork::default()
        }
    );
    assert!(client.database.basic_ref(STORAGE_ACCOUNT).unwrap().is_none());
}

#[test]
fn stores_that_are_reverted_or_overwritten_in_their_transaction_do_not_count() {
    let mut client = Client::new();
    client.block(|block| {
        let mut failing = sum_stored();
        let value = failing.value(1, FheType::Uint8);
        failing.operation(Operation::Div, &[value, 0.into(), byte(1)]);
        assert!(!block.run(&failing.calls).unwrap().result.is_success());
    });
    assert!(client.database.basic_ref(STORAGE_ACCOUNT).unwrap().is_none());

    let mut twice = Program::new();
    let (first, second) = (twice.value(1, FheType::Uint8), twice.value(2, FheType::Uint8));
    twice.store(1, first);
    twice.store(1, second);
    let done = client.block(|block| block.run(&twice.calls).unwrap());
    let [first, second] = results(&done)[..] else { panic!() };
    assert_eq!(client.ciphertext(first), None);
    assert!(client.ciphertext(second).is_some());
}

#[test]
fn each_transaction_of_a_block_leaves_its_own() {
    let mut client = Client::new();
    let (first, second) = client.block(|block| {
        let mut store_at_1 = |value: u64| {
            let mut program = Program::new();
            let value = program.value(value, FheType::Uint16);
            program.store(1, value);
            results(&block.run(&program.calls).unwrap())[0]
        };
        (store_at_1(1), store_at_1(2))
    });
    assert!(client.ciphertext(first).is_some());
    assert!(client.ciphertext(second).is_some());
    assert_eq!(
        client.database.storage_ref(STORE, U256::from(1)).unwrap(),
        U256::from_be_bytes(second.as_b256().0)
    );
}

#[test]
fn a_handle_may_be_made_by_one_transaction_and_stored_by_another() {
    let mut client = Client::new();
    let made = client.block(|block| {
        let mut program = Program::new();
        program.value(3, FheType::Uint32);
        let made = results(&block.run(&program.calls).unwrap())[0];
        let mut program = Program::new();
        program.store(4, made.into());
        block.run(&program.calls).unwrap();
        made
    });
    assert!(client.ciphertext(made).is_some());
}

#[test]
fn state_gives_the_operands_of_earlier_blocks() {
    let mut client = Client::new();
    let mut program = sum_stored();
    program.keep(Arg::Result(2));
    let done = client.block(|block| block.run(&program.calls).unwrap());
    let sum = results(&done)[2];
    let in_state = client.ciphertext(sum).unwrap();

    let mut program = Program::new();
    let negated = program.operation(Operation::Neg, &[sum.into()]);
    program.store(2, negated);
    // State has it already: it is not asked for again.
    program.store(3, sum.into());
    let (done, plan) = client.block_with(
        |block| block.run(&program.calls).unwrap(),
        |plan| HashingExecutor.results(plan.work()),
    );
    assert_eq!(plan.work().ciphertexts, [(sum, in_state.clone())]);
    assert_eq!(plan.work().outputs, results(&done));
    let computation = done.work.computations().next().unwrap();
    assert_eq!(client.ciphertext(results(&done)[0]), Some(computed_bytes(computation, &[in_state])));
}

#[test]
fn what_depends_on_a_value_that_was_not_kept_has_no_ciphertext() {
    let mut client = Client::new();
    let mut program = Program::new();
    let lost = program.value(7, FheType::Uint8);
    program.keep(lost);
    let done = client.block(|block| block.run(&program.calls).unwrap());
    let lost = results(&done)[0];

    let mut program = Program::new();
    let other = program.value(1, FheType::Uint8);
    let poisoned = program.operation(Operation::Add, &[lost.into(), other, byte(0)]);
    let deeper = program.operation(Operation::Not, &[poisoned]);
    let sound = program.operation(Operation::Not, &[other]);
    program.store(1, lost.into());
    program.store(2, deeper);
    program.store(3, sound);
    let (done, plan) = client.block_with(
        |block| block.run(&program.calls).unwrap(),
        |plan| HashingExecutor.results(plan.work()),
    );
    let [_, poisoned, deeper, sound] = results(&done)[..] else {
        panic!()
    };
    assert_eq!(plan.without(), [deeper]);
    assert_eq!(plan.work().outputs, [sound]);
    assert_eq!(plan.work().computations.len(), 2);
    for handle in [lost, poisoned, deeper] {
        assert_eq!(client.ciphertext(handle), None);
    }
    assert!(client.ciphertext(sound).is_some());
}

#[test]
fn what_an_executor_cannot_compute_has_no_ciphertext_and_the_block_goes_on() {
    let mut client = Client::new();
    let mut program = Program::new();
    for slot in 1..3 {
        let value = program.value(slot, FheType::Uint8);
        program.store(slot, value);
    }
    let mut refused = None;
    let (done, _) = client.block_with(
        |block| block.run(&program.calls).unwrap(),
        |plan| {
            let mut results = HashingExecutor.results(plan.work());
            refused = Some(results[0].0);
            results[0].1 = Err("the backend refuses".to_owned());
            results
        },
    );
    for handle in results(&done) {
        assert_eq!(client.ciphertext(handle).is_none(), Some(handle) == refused);
    }
}

#[test]
fn results_that_nobody_asked_for_are_refused() {
    let mut client = Client::new();
    let (done, plan) = client.block_with(
        |block| block.run(&sum_stored().calls).unwrap(),
        |plan| HashingExecutor.results(plan.work()),
    );
    let (product, sum) = (results(&done)[3], results(&done)[2]);
    let bytes = || Ok(Bytes::from_static(b"bytes"));
    assert_eq!(plan.settle(vec![(product, bytes())]), Err(ResultsRefused::NotAsked(product)));
    assert_eq!(plan.settle(vec![(sum, bytes()), (sum, bytes())]), Err(ResultsRefused::Twice(sum)));
    let empty = Err(ResultsRefused::Size {
        handle: sum,
        size_bytes: 0,
    });
    assert_eq!(plan.settle(vec![(sum, Ok(Bytes::new()))]), empty);
    let long = vec![0; (4 << 20) + 1];
    let size_bytes = long.len();
    assert_eq!(
        plan.settle(vec![(sum, Ok(long.into()))]),
        Err(ResultsRefused::Size { handle: sum, size_bytes })
    );
    assert_eq!(plan.settle(Vec::new()), Ok(Vec::new()));
}

/// Gives answers made beforehand, once each.
struct Prepared(Mutex<Vec<Result<Results, ComputeUnavailable>>>);

impl ComputeBlock for Prepared {
    fn compute(&self, _work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        let answer = self.0.lock().unwrap().pop().expect("one answer per question");
        async { answer }.boxed()
    }
}

#[tokio::test]
async fn an_answer_that_leaves_an_output_out_or_empty_is_none() {
    let handles: Vec<Handle> = (1..3u8)
        .map(|seed| Handle::computed(B256::repeat_byte(seed), 31338, FheType::Bool))
        .collect();
    let work = BlockWork {
        outputs: handles.clone(),
        ..BlockWork::default()
    };
    let result = |index: usize| (handles[index], Ok(Bytes::from_static(b"bytes")));
    let failed = (handles[1], Err("refused".to_owned()));
    let ask = async |answer: Results| compute_checked(&Prepared(Mutex::new(vec![Ok(answer)])), work.clone()).await;
    assert!(ask(vec![result(0)]).await.is_err());
    assert!(ask(vec![result(0), result(0)]).await.is_err());
    assert!(ask(vec![result(0), result(1), result(1)]).await.is_err());
    assert!(ask(vec![result(0), (handles[1], Ok(Bytes::new()))]).await.is_err());
    assert_eq!(ask(vec![failed.clone(), result(0)]).await, Ok(vec![result(0), failed]));
    // Without outputs nobody is asked.
    let nobody = Prepared(Mutex::default());
    assert_eq!(compute_checked(&nobody, BlockWork::default()).await, Ok(Vec::new()));
}
