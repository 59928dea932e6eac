//! `AsyncCompute`.

use cipherloom_primitives::{B256, FheType, Handle, U256};
use cipherloom_rpc::fhevm::common::FheOperation;
use cipherloom_store::{BlockRef, RecordedBlock, TenantLimits};
use tonic::Code;

use crate::fixture::{
    Bench, CHAIN, Kind, add, add_tenant, chain_handle, clear_keys, computation, handle_operand, on_both_databases, scalar, trivial,
    type_scalar,
};

on_both_databases!(
    a_request_is_computed_and_served_under_the_names_it_had,
    every_operation_is_taken_from_the_wire,
    sending_again_changes_nothing,
    a_part_that_is_known_is_left_out,
    later_requests_use_results_before_they_are_computed,
    what_is_refused_leaves_nothing,
    a_request_above_the_limit_is_refused_before_its_key_is_looked_at,
    a_tenants_backlog_is_limited,
    a_tenant_that_follows_its_chain_takes_no_computations,
    the_same_request_many_times_at_once_is_recorded_once,
    two_tenants_do_not_see_each_others_names,
);

async fn a_request_is_computed_and_served_under_the_names_it_had(kind: Kind) {
    let bench = Bench::new(kind).await;
    let [a, b, c] = [1, 2, 3].map(|number| chain_handle(number, FheType::Uint64));
    let own = Handle::computed(B256::repeat_byte(5), CHAIN, FheType::Uint64);
    let request = [
        add(&c, &a, &b),
        trivial(&a, 40, FheType::Uint64),
        trivial(&b, 2, FheType::Uint64),
        trivial(b"short", 7, FheType::Uint8),
        add(own.as_slice(), &a, &a),
    ];
    assert_eq!(bench.schedule(&request).await.unwrap().response_code, 0);
    assert_eq!(bench.pending().await, 2);
    bench.compute_all().await;
    assert_eq!(bench.value(&c).await, Some(U256::from(42)));
    assert_eq!(bench.value(b"short").await, Some(U256::from(7)));
    assert_eq!(bench.value(own.as_slice()).await, Some(U256::from(80)));
}

async fn every_operation_is_taken_from_the_wire(kind: Kind) {
    use FheOperation as Op;
    let bench = Bench::new(kind).await;
    let (a, b, t) = (handle_operand(b"a"), handle_operand(b"b"), handle_operand(b"t"));
    let ty = FheType::Uint8;
    let mut request = vec![trivial(b"a", 200, ty), trivial(b"b", 100, ty), trivial(b"t", 2, FheType::Bool)];
    let mut expected = vec![(b"t".to_vec(), 1)];
    for (operation, with_handle, with_scalar) in [
        (Op::FheAdd, Some(44), 203),
        (Op::FheSub, Some(100), 197),
        (Op::FheMul, Some(32), 88),
        (Op::FheDiv, None, 66),
        (Op::FheRem, None, 2),
        (Op::FheBitAnd, Some(64), 0),
        (Op::FheBitOr, Some(236), 203),
        (Op::FheBitXor, Some(172), 203),
        (Op::FheShl, Some(128), 64),
        (Op::FheShr, Some(12), 25),
        (Op::FheRotl, Some(140), 70),
        (Op::FheRotr, Some(140), 25),
        (Op::FheEq, Some(0), 0),
        (Op::FheNe, Some(1), 1),
        (Op::FheGe, Some(1), 1),
        (Op::FheGt, Some(1), 1),
        (Op::FheLe, Some(0), 0),
        (Op::FheLt, Some(0), 0),
        (Op::FheMin, Some(100), 3),
        (Op::FheMax, Some(200), 200),
    ] {
        let name = |form: &str| format!("{operation:?} {form}").into_bytes();
        if let Some(value) = with_handle {
            request.push(computation(operation, &name("handle"), vec![a.clone(), b.clone()]));
            expected.push((name("handle"), value));
        }
        request.push(computation(operation, &name("scalar"), vec![a.clone(), scalar(3)]));
        expected.push((name("scalar"), with_scalar));
    }
    for (operation, name, inputs, value) in [
        (Op::FheNeg, "neg", vec![a.clone()], 56),
        (Op::FheNot, "not", vec![a.clone()], 55),
        (Op::FheCast, "cast", vec![a.clone(), type_scalar(FheType::Uint32)], 200),
        (Op::FheIfThenElse, "select", vec![t.clone(), b.clone(), a.clone()], 100),
    ] {
        request.push(computation(operation, name.as_bytes(), inputs));
        expected.push((name.as_bytes().to_vec(), value));
    }
    request.push(computation(Op::FheRand, b"rand", vec![scalar(99), type_scalar(FheType::Uint64)]));
    request.push(computation(
        Op::FheRandBounded,
        b"bounded",
        vec![scalar(99), scalar(16), type_scalar(FheType::Uint64)],
    ));
    bench.schedule(&request).await.unwrap();
    bench.compute_all().await;
    for (name, value) in expected {
        let text = String::from_utf8_lossy(&name).into_owned();
        assert_eq!(bench.value(&name).await, Some(U256::from(value)), "{text}");
    }
    assert!(
        bench.value(b"rand").await.unwrap() > U256::from(16),
        "a 64-bit number is seldom this small"
    );
    assert!(bench.value(b"bounded").await.unwrap() < U256::from(16));
}

async fn sending_again_changes_nothing(kind: Kind) {
    let bench = Bench::new(kind).await;
    let request = [trivial(b"a", 1, FheType::Uint8), add(b"b", b"a", b"a")];
    for _ in 0..2 {
        bench.schedule(&request).await.unwrap();
        assert_eq!(bench.pending().await, 1);
    }
    bench.compute_all().await;
    bench.schedule(&request).await.unwrap();
    assert_eq!(bench.pending().await, 0);
    assert_eq!(bench.value(b"b").await, Some(U256::from(2)));
}

async fn a_part_that_is_known_is_left_out(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.schedule(&[trivial(b"a", 1, FheType::Uint8)]).await.unwrap();
    bench
        .schedule(&[trivial(b"a", 1, FheType::Uint8), add(b"b", b"a", b"a"), add(b"c", b"b", b"a")])
        .await
        .unwrap();
    assert_eq!(bench.pending().await, 2);
    bench.compute_all().await;
    assert_eq!(bench.value(b"c").await, Some(U256::from(3)));
}

async fn later_requests_use_results_before_they_are_computed(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.schedule(&[trivial(b"0", 1, FheType::Uint32)]).await.unwrap();
    for number in 0..8u8 {
        let (from, to) = ([b'0' + number], [b'1' + number]);
        bench.schedule(&[add(&to, &from, &from)]).await.unwrap();
    }
    assert_eq!(bench.pending().await, 9);
    bench.compute_all().await;
    assert_eq!(bench.value(b"8").await, Some(U256::from(256)));
}

async fn what_is_refused_leaves_nothing(kind: Kind) {
    let bench = Bench::new(kind).await;
    let good = trivial(b"good", 1, FheType::Uint8);
    let foreign = Handle::computed(B256::repeat_byte(5), CHAIN, FheType::Uint8);
    let input = Handle::input(B256::repeat_byte(5), 0, CHAIN, FheType::Uint8).unwrap();
    for (bad, code, text) in [
        (
            vec![add(b"x", b"x", b"good")],
            Code::InvalidArgument,
            "Output handle is also on of the input handles: 0x78",
        ),
        (
            vec![add(b"x", b"y", b"good"), add(b"y", b"x", b"good")],
            Code::InvalidArgument,
            "has circular dependency and is uncomputable",
        ),
        (
            vec![good.clone()],
            Code::InvalidArgument,
            "Duplicate output handle in ciphertext batch: 0x676f6f64",
        ),
        (
            vec![add(b"x", b"nobody", b"good")],
            Code::NotFound,
            "Ciphertexts not found: [0x6e6f626f6479]",
        ),
        (
            vec![add(b"x", foreign.as_slice(), b"good")],
            Code::NotFound,
            "Ciphertexts not found: [0x0505",
        ),
        (
            vec![add(b"x", input.as_slice(), b"good")],
            Code::NotFound,
            "Ciphertexts not found: [0x0505",
        ),
        (
            vec![add(input.as_slice(), b"good", b"good")],
            Code::InvalidArgument,
            "is that of an encrypted input",
        ),
        (
            vec![trivial(foreign.as_slice(), 1, FheType::Uint16)],
            Code::InvalidArgument,
            "gives euint16, but that handle stands for euint8",
        ),
        (
            vec![computation(FheOperation::FheAdd, b"x", vec![])],
            Code::InvalidArgument,
            "does not take operands of this shape",
        ),
        (
            vec![computation(FheOperation::FheDiv, b"x", vec![handle_operand(b"good"), scalar(0)])],
            Code::InvalidArgument,
            "division by zero",
        ),
        (
            vec![computation(FheOperation::FheRand, b"x", vec![scalar(1), scalar(1)])],
            Code::InvalidArgument,
            "euint4 (type 1) is not supported",
        ),
        (
            vec![trivial(b"", 1, FheType::Uint8)],
            Code::InvalidArgument,
            "Found ciphertext handle is empty",
        ),
        (
            vec![trivial(&[1; 257], 1, FheType::Uint8)],
            Code::InvalidArgument,
            "Found ciphertext handle longer than 256 bytes",
        ),
    ] {
        let request: Vec<_> = [good.clone()].into_iter().chain(bad).collect();
        let status = bench.schedule(&request).await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
        assert!(status.message().contains(text), "{}", status.message());
        assert_eq!(bench.pending().await, 0);
    }
    // Neither is the name: it can still get another type.
    bench.schedule(&[trivial(b"good", 1, FheType::Uint16)]).await.unwrap();
    assert_eq!(bench.pending().await, 1);
}

async fn a_request_above_the_limit_is_refused_before_its_key_is_looked_at(kind: Kind) {
    let bench = Bench::with(kind, clear_keys(), |config| config.limits.ciphertexts_to_schedule = 3).await;
    let request: Vec<_> = (0..4u8).map(|number| trivial(&[number], 1, FheType::Uint8)).collect();
    bench.schedule(&request[..3]).await.unwrap();
    let status = bench.schedule(&request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "maximum ciphertexts exceeded in batch, maximum: 3, got: 4");
    let without_key = cipherloom_rpc::fhevm::coprocessor::AsyncComputeRequest { computations: request };
    let status = bench.client().async_compute(without_key).await.unwrap_err();
    assert_eq!(status.message(), "maximum ciphertexts exceeded in batch, maximum: 3, got: 4");
}

async fn a_tenants_backlog_is_limited(kind: Kind) {
    let bench = Bench::new(kind).await;
    let limits = TenantLimits {
        max_pending_transactions: Some(2),
        max_concurrent_transactions: None,
    };
    bench.database.set_tenant_limits(bench.tenant.id, limits).await.unwrap();
    let one = |number: u8| trivial(&[number], 1, FheType::Uint8);
    bench.schedule(&[one(1), one(2)]).await.unwrap();
    let status = bench.schedule(&[one(3)]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("2 transactions of this tenant are waiting"),
        "{}",
        status.message()
    );
    bench.compute_all().await;
    bench.schedule(&[one(3)]).await.unwrap();
}

async fn a_tenant_that_follows_its_chain_takes_no_computations(kind: Kind) {
    let bench = Bench::new(kind).await;
    let block = RecordedBlock {
        block: BlockRef {
            number: 1,
            hash: B256::repeat_byte(1),
            parent_hash: B256::ZERO,
            timestamp: 1,
        },
        transactions: Vec::new(),
    };
    bench.database.store(&bench.tenant).record_blocks(CHAIN, &[block]).await.unwrap();
    let status = bench.schedule(&[trivial(b"a", 1, FheType::Uint8)]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("follows its chain"), "{}", status.message());
}

async fn the_same_request_many_times_at_once_is_recorded_once(kind: Kind) {
    let bench = Bench::new(kind).await;
    // Overlapping requests, each with the results of the one before and one more.
    let chain: Vec<_> = (1..=10u8)
        .map(|number| match number {
            1 => trivial(&[1], 1, FheType::Uint64),
            _ => add(&[number], &[number - 1], &[number - 1]),
        })
        .collect();
    let requests = (0..30).map(|number| bench.schedule(&chain[..1 + number % 10]));
    for answer in futures_util::future::join_all(requests).await {
        answer.unwrap();
    }
    bench.compute_all().await;
    assert_eq!(bench.value(&[10]).await, Some(U256::from(512)));
}

async fn two_tenants_do_not_see_each_others_names(kind: Kind) {
    let mut bench = Bench::new(kind).await;
    bench.schedule(&[trivial(b"a", 5, FheType::Uint8)]).await.unwrap();
    bench.compute_all().await;
    let (tenant, key) = add_tenant(&*bench.database, "other", CHAIN + 1).await;
    (bench.tenant, bench.key) = (tenant, key);
    assert_eq!(bench.value(b"a").await, None);
    assert_eq!(bench.schedule(&[add(b"b", b"a", b"a")]).await.unwrap_err().code(), Code::NotFound);
    bench.schedule(&[trivial(b"a", 6, FheType::Uint16)]).await.unwrap();
}
