//! Planning without a store: the names that a test says are known are.

use cipherloom_primitives::Operand as Kind;
use cipherloom_rpc::fhevm::common::FheOperation;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

const CHAIN: u64 = 12345;

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn handle(text: &str, ty: FheType) -> Handle {
    Handle::named(text.as_bytes(), CHAIN, ty)
}

fn input(input: Input) -> AsyncComputationInput {
    AsyncComputationInput { input: Some(input) }
}

/// A computation whose operands are names, or numbers after a `#`.
fn computation(operation: FheOperation, output: &str, operands: &[&str]) -> AsyncComputation {
    let operand = |text: &&str| match text.strip_prefix('#') {
        Some(number) => input(Input::Scalar(vec![number.parse::<u8>().unwrap()].into())),
        None => input(Input::InputHandle(name(text))),
    };
    AsyncComputation {
        operation: operation.into(),
        output_handle: name(output),
        inputs: operands.iter().map(operand).collect(),
    }
}

fn add(output: &str, lhs: &str, rhs: &str) -> AsyncComputation {
    computation(FheOperation::FheAdd, output, &[lhs, rhs])
}

fn trivial(output: &str, ty: FheType) -> AsyncComputation {
    computation(FheOperation::FheTrivialEncrypt, output, &["#7", &format!("#{}", ty.id())])
}

fn plan(computations: &[AsyncComputation], known: &[(&str, FheType)]) -> Result<Plan, RequestError> {
    let requested = Requested::read(computations)?;
    let stands_for = |wanted: &Bytes| {
        let found = known.iter().find(|(text, _)| name(text) == *wanted);
        found.map(|(text, ty)| handle(text, *ty))
    };
    let known: Vec<Option<Handle>> = requested.names.iter().map(stands_for).collect();
    requested.plan(CHAIN, &known)
}

fn transactions(computations: &[AsyncComputation], known: &[(&str, FheType)]) -> Vec<RecordedTransaction> {
    plan(computations, known).unwrap().transactions(&HashSet::new()).0
}

fn refusal(computations: &[AsyncComputation], known: &[(&str, FheType)]) -> String {
    plan(computations, known).unwrap_err().to_string()
}

#[test]
fn computations_are_sorted_and_what_hangs_together_is_a_transaction() {
    let computations = [
        add("c", "b", "x"),
        add("z", "y", "x"),
        add("b", "a", "a"),
        trivial("a", FheType::Uint8),
        trivial("y", FheType::Uint8),
    ];
    let found = transactions(&computations, &[("x", FheType::Uint8)]);
    let outputs: Vec<Vec<Handle>> = found.iter().map(|transaction| transaction.outputs.clone()).collect();
    let of = |names: &[&str]| names.iter().map(|text| handle(text, FheType::Uint8)).collect::<Vec<_>>();
    assert_eq!(outputs, [of(&["a", "b", "c"]), of(&["y", "z"])]);
    for transaction in &found {
        assert_eq!(transaction.boundary, of(&["x"]));
        assert_eq!(transaction.computations.len(), transaction.outputs.len());
    }
    assert_eq!(found.iter().map(|transaction| transaction.index).collect::<Vec<_>>(), [0, 1]);
    assert_ne!(found[0].hash, found[1].hash);
}

#[test]
fn types_follow_from_operands_through_the_request() {
    let computations = [
        computation(FheOperation::FheIfThenElse, "e", &["c", "a", "d"]),
        computation(FheOperation::FheCast, "d", &["b", "#5"]),
        computation(FheOperation::FheEq, "c", &["a", "#1"]),
    ];
    let found = transactions(&computations, &[("a", FheType::Uint64), ("b", FheType::Uint8)]);
    let types: Vec<FheType> = found[0].outputs.iter().map(Handle::fhe_type).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(types.iter().filter(|ty| **ty == FheType::Bool).count(), 1);
    assert_eq!(types.iter().filter(|ty| **ty == FheType::Uint64).count(), 2);
}

#[test]
fn handles_of_the_chain_stand_for_themselves() {
    let (a, b) = (
        handle("a", FheType::Uint8),
        Handle::computed(B256::repeat_byte(9), CHAIN, FheType::Uint8),
    );
    let mut computation = add("", "", "#1");
    computation.output_handle = Bytes::copy_from_slice(b.as_slice());
    computation.inputs[0] = input(Input::InputHandle(Bytes::copy_from_slice(a.as_slice())));
    let requested = Requested::read(&[computation]).unwrap();
    let known: Vec<Option<Handle>> = requested.names.iter().map(|name| names::own_handle(name, CHAIN)).collect();
    let (found, names) = requested.plan(CHAIN, &known).unwrap().transactions(&HashSet::new());
    assert_eq!(
        (found[0].outputs.as_slice(), found[0].boundary.as_slice()),
        ([b].as_slice(), [a].as_slice())
    );
    assert!(names.is_empty());
}

#[test]
fn scalars_are_big_endian_numbers_of_any_length() {
    let mut computation = add("b", "a", "#1");
    for (bytes, expected) in [(vec![], 0), (vec![0, 0, 1, 2], 0x102), (vec![0xff; 40], 0xffff)] {
        computation.inputs[1] = input(Input::Scalar(bytes.into()));
        let found = transactions(std::slice::from_ref(&computation), &[("a", FheType::Uint16)]);
        let TypedOperation::Binary { rhs, .. } = &found[0].computations[0].operation else {
            panic!("an addition has two operands");
        };
        assert_eq!(*rhs, Kind::Scalar(U256::from(expected)));
    }
    computation.inputs[1] = input(Input::Scalar(vec![0; 257].into()));
    assert!(refusal(&[computation], &[("a", FheType::Uint16)]).contains("257 bytes"));
}

#[test]
fn what_is_known_is_left_out_and_becomes_boundary() {
    let computations = [trivial("a", FheType::Uint8), add("b", "a", "#1"), add("c", "a", "#2")];
    let plan = plan(&computations, &[]).unwrap();
    let (all, names) = plan.transactions(&HashSet::new());
    assert_eq!((all.len(), names.len()), (1, 3));
    let a = handle("a", FheType::Uint8);
    let (rest, names) = plan.transactions(&HashSet::from([a]));
    assert_eq!(rest.len(), 2);
    assert!(rest.iter().all(|transaction| transaction.boundary == [a]));
    assert_eq!(names.iter().map(|named| named.name.as_slice()).collect::<Vec<_>>(), [b"b", b"c"]);
    let every = ["a", "b", "c"].map(|text| handle(text, FheType::Uint8));
    assert!(plan.transactions(&HashSet::from(every)).0.is_empty());
}

#[test]
fn a_transactions_hash_is_over_its_content() {
    let hash = |computations: &[AsyncComputation]| transactions(computations, &[("x", FheType::Uint8)])[0].hash;
    let one = hash(&[add("a", "x", "#1")]);
    assert_eq!(one, hash(&[add("a", "x", "#1")]));
    for other in [
        [add("b", "x", "#1")],
        [add("a", "x", "#2")],
        [add("a", "x", "x")],
        [computation(FheOperation::FheSub, "a", &["x", "#1"])],
    ] {
        assert_ne!(one, hash(&other));
    }
    // What else is in the request makes no difference.
    assert_eq!(one, hash(&[add("a", "x", "#1"), add("z", "x", "#1")]));
}

#[test]
fn circles_duplicates_and_self_references_are_refused() {
    let circle = [
        trivial("x", FheType::Uint8),
        add("a", "b", "x"),
        add("b", "c", "x"),
        add("c", "a", "x"),
    ];
    assert!(refusal(&circle, &[]).ends_with("has circular dependency and is uncomputable"));
    assert!(refusal(&[add("a", "a", "#1")], &[]).starts_with("Output handle is also on of the input handles: 0x61"));
    assert!(refusal(&[trivial("a", FheType::Uint8), trivial("a", FheType::Uint8)], &[]).starts_with("Duplicate output handle"));
}

#[test]
fn a_handle_under_two_names_is_a_duplicate() {
    let mut twice = trivial("b", FheType::Uint8);
    let own = handle("a", FheType::Uint8);
    twice.output_handle = Bytes::copy_from_slice(own.as_slice());
    let requested = Requested::read(&[trivial("a", FheType::Uint8), twice]).unwrap();
    let known: Vec<Option<Handle>> = requested.names.iter().map(|name| names::own_handle(name, CHAIN)).collect();
    assert!(matches!(requested.plan(CHAIN, &known), Err(RequestError::Duplicate(_))));
}

#[test]
fn unknown_operands_are_listed() {
    let text = refusal(&[add("c", "a", "b"), add("d", "x", "c")], &[("x", FheType::Uint8)]);
    assert_eq!(text, "Ciphertexts not found: [0x61, 0x62]");
}

#[test]
fn what_the_operation_table_does_not_allow_is_refused() {
    let known = [
        ("a", FheType::Uint8),
        ("b", FheType::Uint16),
        ("t", FheType::Bool),
        ("w", FheType::Address),
    ];
    for (computation, expected) in [
        (add("r", "a", "b"), "fheAdd needs operands of one type"),
        (add("r", "t", "t"), "fheAdd does not support ebool"),
        (add("r", "w", "w"), "fheAdd does not support eaddress"),
        (
            computation(FheOperation::FheDiv, "r", &["a", "a"]),
            "fheDiv needs a scalar right operand",
        ),
        (computation(FheOperation::FheRem, "r", &["a", "#0"]), "fheRem: division by zero"),
        (
            computation(FheOperation::FheAdd, "r", &["#1", "a"]),
            "fheAdd does not take operands of this shape",
        ),
        (
            computation(FheOperation::FheIfThenElse, "r", &["a", "a", "a"]),
            "does not support euint8",
        ),
        (
            computation(FheOperation::FheCast, "r", &["a", "#2"]),
            "cannot cast euint8 to euint8",
        ),
        (
            computation(FheOperation::FheTrivialEncrypt, "r", &["#1", "#1"]),
            "euint4 (type 1) is not supported",
        ),
        (
            computation(FheOperation::FheTrivialEncrypt, "r", &["#1", "#11"]),
            "ebytes256 (type 11) is not supported",
        ),
        (
            computation(FheOperation::FheGetCiphertext, "r", &["a"]),
            "there is no operation number 32",
        ),
    ] {
        let text = refusal(&[computation], &known);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn undefined_operands_and_bad_names_are_refused() {
    let mut undefined = add("b", "a", "#1");
    undefined.inputs[0] = AsyncComputationInput { input: None };
    let text = refusal(&[undefined], &[]);
    assert_eq!(text, "computation has undefined input, output handle: 0x62, input index: 0");
    let mut nameless = add("b", "a", "#1");
    nameless.output_handle = Bytes::new();
    assert!(refusal(&[nameless.clone()], &[]).starts_with("Found ciphertext handle is empty"));
    nameless.output_handle = vec![1; 257].into();
    assert!(refusal(&[nameless], &[]).starts_with("Found ciphertext handle longer than 256 bytes"));
}

#[test]
fn a_name_keeps_its_type_and_inputs_are_not_computed() {
    let text = refusal(&[trivial("a", FheType::Uint8)], &[("a", FheType::Uint16)]);
    assert!(text.contains("gives euint8, but that handle stands for euint16"), "{text}");
    let input = Handle::input(B256::repeat_byte(1), 0, CHAIN, FheType::Uint8).unwrap();
    let requested = Requested::read(&[trivial("a", FheType::Uint8)]).unwrap();
    assert!(matches!(requested.plan(CHAIN, &[Some(input)]), Err(RequestError::ComputedInput(_))));
}

/// Few names and small numbers, so that computations meet.
fn arbitrary_name() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        20 => (0u8..12).prop_map(|number| Bytes::from(vec![b'a' + number])),
        2 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from),
        1 => (0u8..4).prop_map(|number| Bytes::copy_from_slice(handle(&String::from(char::from(b'a' + number)), FheType::Uint8).as_slice())),
    ]
}

fn arbitrary_input() -> impl Strategy<Value = AsyncComputationInput> {
    prop_oneof![
        6 => arbitrary_name().prop_map(|name| input(Input::InputHandle(name))),
        4 => (0u8..9).prop_map(|number| input(Input::Scalar(vec![number].into()))),
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| input(Input::Scalar(bytes.into()))),
        1 => Just(AsyncComputationInput { input: None }),
    ]
}

fn arbitrary_computation() -> impl Strategy<Value = AsyncComputation> {
    let operation = prop_oneof![20 => 0i32..31, 1 => any::<i32>()];
    (operation, arbitrary_name(), proptest::collection::vec(arbitrary_input(), 0..4)).prop_map(|(operation, output_handle, inputs)| {
        AsyncComputation {
            operation,
            output_handle,
            inputs,
        }
    })
}

proptest! {
    #[test]
    fn any_message_is_planned_or_refused(
        computations in proptest::collection::vec(arbitrary_computation(), 0..12),
        known in proptest::collection::vec(proptest::option::of(0usize..8), 12),
    ) {
        let Ok(requested) = Requested::read(&computations) else { return Ok(()) };
        let stands_for = |name: &Bytes| {
            let number = usize::from(name.first()?.checked_sub(b'a')?);
            let ty = FheType::ALL.get((*known.get(number)?)?)?;
            names::own_handle(name, CHAIN).or_else(|| Some(Handle::named(name, CHAIN, *ty)))
        };
        let known: Vec<Option<Handle>> = requested.names.iter().map(stands_for).collect();
        let Ok(plan) = requested.plan(CHAIN, &known) else { return Ok(()) };
        let (transactions, _) = plan.transactions(&HashSet::new());
        // Every computation is in one transaction, after those it needs, which are in the same.
        let all: Vec<Handle> = transactions.iter().flat_map(|transaction| transaction.outputs.clone()).collect();
        prop_assert_eq!(all.len(), computations.len());
        prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for transaction in &transactions {
            let mut before = HashSet::new();
            for computation in &transaction.computations {
                prop_assert_eq!(computation.operation.result_type(), computation.result.fhe_type());
                prop_assert_eq!(computation.operation.input_types().len(), computation.inputs.len());
                for input in &computation.inputs {
                    prop_assert!(before.contains(input) || transaction.boundary.contains(input));
                }
                before.insert(computation.result);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(request) = cipherloom_rpc::fhevm::coprocessor::AsyncComputeRequest::decode(bytes.as_slice()) {
            let _ = Requested::read(&request.computations);
        }
    }

    #[test]
    fn the_order_of_a_request_makes_no_difference_to_what_is_accepted(
        computations in proptest::collection::vec(arbitrary_computation(), 0..8),
    ) {
        let known = [("a", FheType::Uint8), ("b", FheType::Uint8), ("c", FheType::Bool), ("d", FheType::Uint64)];
        let outputs = |computations: &[AsyncComputation]| {
            let found = plan(computations, &known).ok()?.transactions(&HashSet::new()).0;
            let mut outputs: Vec<Vec<Handle>> = found.into_iter().map(|mut transaction| {
                transaction.outputs.sort_unstable();
                transaction.outputs
            }).collect();
            outputs.sort_unstable();
            Some(outputs)
        };
        let reversed: Vec<AsyncComputation> = computations.iter().rev().cloned().collect();
        prop_assert_eq!(outputs(&computations), outputs(&reversed));
    }
}
