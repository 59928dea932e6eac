//! What transactions compute to.

use cipherloom_chain::GrantEvent;
use cipherloom_coprocessor::{CoprocessorError, HandleStatus, Progress};
use cipherloom_primitives::{B256, Computation, FheType, Handle, Operand, Operation, TypedOperation, U256};

use crate::fixture::{Bench, CHAIN, add, block, bootstraps_of, handle, mint_and_transfer, transaction, trivial, typed_handle};

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_moves_the_encrypted_amount() {
    let bench = Bench::new().await;
    let amount = bench.admit(&[(FheType::Bool, 1), (FheType::Uint64, 250)]).await[1];
    let [mint, transfer] = mint_and_transfer(amount);
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![mint]), block(2, vec![transfer])])
        .await
        .unwrap();
    assert_eq!(bench.status(handle(7)).await, HandleStatus::Pending);
    bench.compute_all().await;
    assert_eq!(bench.value(handle(7)).await, U256::from(750));
    assert_eq!(bench.value(handle(8)).await, U256::from(250));
    // Intermediate values were never published.
    assert_eq!(bench.status(handle(6)).await, HandleStatus::Unknown);
    let error = bench.coprocessor.signed_ciphertext(handle(6)).await.unwrap_err();
    assert!(
        matches!(error, CoprocessorError::UnknownHandle(unknown) if unknown == handle(6)),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn computations_that_feed_nothing_that_leaves_are_not_evaluated() {
    let bench = Bench::new().await;
    let mut progress = bench.coprocessor.progress();
    let given = bench.admit(&[(FheType::Uint64, 1), (FheType::Uint64, 2)]).await;
    let needed = add(given[0], given[1], handle(3));
    let computations = vec![
        trivial(2, handle(2)),
        needed.clone(),
        add(handle(2), given[0], handle(4)),
        add(handle(4), given[1], handle(5)),
    ];
    let hash = transaction(0, Vec::new(), &[]).hash;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, computations, &[handle(3)])])])
        .await
        .unwrap();
    bench.compute_all().await;
    let expected = bootstraps_of(&[needed]);
    assert!(expected > 0);
    assert_eq!(bench.backend.bootstraps(), expected);
    let messages: Vec<Progress> = std::iter::from_fn(|| progress.try_recv().ok()).collect();
    let [Progress::Input { .. }, started, .., finished] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    assert_eq!(
        *started,
        Progress::Started {
            transaction: hash,
            operations: vec![(Operation::Add, FheType::Uint64)],
            bootstraps: expected
        }
    );
    let Progress::Transaction {
        transaction,
        outputs: 1,
        failures: 0,
        bootstraps,
        ..
    } = finished
    else {
        panic!("{finished:?}");
    };
    assert_eq!((*transaction, *bootstraps), (hash, expected as u64));
    assert_eq!(bench.coprocessor.engine_statistics().bootstraps, expected as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_grants_nothing_is_never_computed() {
    let bench = Bench::new().await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[])])])
        .await
        .unwrap();
    bench.compute_all().await;
    assert_eq!(bench.status(handle(1)).await, HandleStatus::Unknown);
    assert_eq!(bench.store.pending_transactions(CHAIN).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_decryption_alone_makes_a_value_leave() {
    let bench = Bench::new().await;
    let mut public = transaction(0, vec![trivial(5, handle(1))], &[]);
    public.grants.push(GrantEvent::PublicDecryption { handle: handle(1) });
    bench.coprocessor.record_blocks(&[block(1, vec![public])]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(handle(1)).await, U256::from(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_no_list_covers_fails_what_needs_it_and_nothing_else() {
    let bench = Bench::new().await;
    let unknown_input = Handle::input(B256::repeat_byte(0x55), 0, crate::fixture::CHAIN, FheType::Uint64).unwrap();
    let computations = vec![
        trivial(1, handle(1)),
        add(handle(1), unknown_input, handle(2)),
        add(handle(2), handle(1), handle(3)),
        add(handle(1), handle(1), handle(4)),
    ];
    bench
        .coprocessor
        .record_blocks(&[
            block(1, vec![transaction(0, computations, &[handle(3), handle(4)])]),
            block(2, vec![transaction(0, vec![add(handle(3), handle(4), handle(5))], &[handle(5)])]),
            block(3, vec![transaction(0, vec![add(handle(4), handle(4), handle(6))], &[handle(6)])]),
        ])
        .await
        .unwrap();
    bench.compute_all().await;
    let reason = format!("input {unknown_input} is not in any list this coprocessor admitted");
    assert_eq!(bench.status(handle(3)).await, HandleStatus::Failed(reason.clone()));
    assert_eq!(bench.value(handle(4)).await, U256::from(2));
    // Later transactions that need the failed value fail with the first cause; others do not.
    assert_eq!(bench.status(handle(5)).await, HandleStatus::Failed(reason.clone()));
    assert_eq!(bench.value(handle(6)).await, U256::from(4));
    let error = bench.coprocessor.signed_ciphertext(handle(5)).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::Failed { reason: said, .. } if said == reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operand_nobody_published_fails_instead_of_waiting_for_ever() {
    let bench = Bench::new().await;
    let computation = add(handle(50), handle(50), handle(1));
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![computation], &[handle(1)])])])
        .await
        .unwrap();
    bench.compute_all().await;
    assert!(matches!(bench.status(handle(1)).await, HandleStatus::Failed(reason) if reason.contains("unknown")));
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_another_chain_are_refused() {
    let bench = Bench::new().await;
    let foreign = Handle::computed(B256::repeat_byte(1), 1, FheType::Uint64);
    let computations = vec![trivial(1, foreign), add(foreign, foreign, handle(2))];
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, computations, &[handle(2)])])])
        .await
        .unwrap();
    bench.compute_all().await;
    assert!(matches!(bench.status(handle(2)).await, HandleStatus::Failed(reason) if reason.contains("chain 1")));
    assert_eq!(bench.status(foreign).await, HandleStatus::Unknown);
    let error = bench.coprocessor.signed_ciphertext(foreign).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::WrongChain { found: 1, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_handle_from_two_transactions_of_a_block_is_kept_once() {
    let bench = Bench::new().await;
    let given = bench.admit(&[(FheType::Uint64, 1), (FheType::Uint64, 2)]).await;
    let same = || vec![add(given[0], given[1], handle(1))];
    let user = transaction(2, vec![add(handle(1), handle(1), handle(2))], &[handle(2)]);
    let block = block(
        1,
        vec![transaction(0, same(), &[handle(1)]), transaction(1, same(), &[handle(1)]), user],
    );
    bench.coprocessor.record_blocks(&[block]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(handle(1)).await, U256::from(3));
    assert_eq!(bench.value(handle(2)).await, U256::from(6));
    let sum = bootstraps_of(&same());
    assert_eq!(bench.backend.bootstraps(), 2 * sum, "the second time it was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_of_another_key_set_are_refused() {
    let bench = Bench::new().await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(3, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    let foreign = cipherloom_store::StoredCiphertext::raw(handle(1), B256::repeat_byte(0x66), B256::ZERO, vec![1, 2, 3]);
    bench.store.add_ciphertexts(std::slice::from_ref(&foreign)).await.unwrap();
    let next = transaction(0, vec![add(handle(1), handle(1), handle(2))], &[handle(2)]);
    bench.coprocessor.record_blocks(&[block(2, vec![next])]).await.unwrap();
    bench.compute_all().await;
    assert!(matches!(bench.status(handle(2)).await, HandleStatus::Failed(reason) if reason.contains("key set")));
}

#[tokio::test(flavor = "multi_thread")]
async fn computations_whose_operands_have_wrong_types_fail_without_a_panic() {
    let bench = Bench::new().await;
    // Not what the decoder lets through, but the database may hold anything.
    let sum = TypedOperation::Sum {
        ty: FheType::Uint8,
        count: 9,
    };
    let wrong = Computation {
        operation: sum,
        inputs: vec![handle(1)],
        result: typed_handle(2, FheType::Uint8),
    };
    let result = wrong.result;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1)), wrong], &[result])])])
        .await
        .unwrap();
    bench.compute_all().await;
    assert!(matches!(bench.status(result).await, HandleStatus::Failed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_operation_fails_alone_with_its_reason() {
    let bench = Bench::new().await;
    let given = bench.admit(&[(FheType::Uint64, 41), (FheType::Uint64, 2)]).await;
    let unknown_input = Handle::input(B256::repeat_byte(0x55), 0, CHAIN, FheType::Uint64).unwrap();
    // Not what the decoder lets through, but the database may hold anything.
    let by_zero = Computation {
        operation: TypedOperation::Binary {
            operation: Operation::Div,
            ty: FheType::Uint64,
            rhs: Operand::Scalar(U256::ZERO),
        },
        inputs: vec![given[0]],
        result: handle(1),
    };
    let wrong_type = Computation {
        operation: TypedOperation::Neg { ty: FheType::Uint8 },
        inputs: vec![given[0]],
        result: typed_handle(2, FheType::Uint8),
    };
    let computations = vec![
        by_zero,
        wrong_type,
        add(given[0], unknown_input, handle(3)),
        add(handle(1), given[1], handle(4)),
        add(given[0], given[1], handle(5)),
    ];
    let outputs = [handle(1), typed_handle(2, FheType::Uint8), handle(3), handle(4), handle(5)];
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, computations, &outputs)])])
        .await
        .unwrap();
    bench.compute_all().await;
    let failed = |status| match status {
        HandleStatus::Failed(reason) => reason,
        other => panic!("{other:?}"),
    };
    let division = failed(bench.status(outputs[0]).await);
    assert!(division.contains("division by zero"), "{division}");
    let types = failed(bench.status(outputs[1]).await);
    assert!(types.contains("euint8") && types.contains("euint64"), "{types}");
    let missing = failed(bench.status(outputs[2]).await);
    assert!(missing.contains("not in any list"), "{missing}");
    assert_eq!(
        failed(bench.status(outputs[3]).await),
        division,
        "what depends on it names the first cause"
    );
    assert_eq!(bench.value(outputs[4]).await, U256::from(43));
}
