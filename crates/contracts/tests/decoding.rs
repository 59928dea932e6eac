//! Every event of the host contracts through the decoder, well-formed and malformed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail")]

use alloy_primitives::{Address, B256, Bytes, FixedBytes, LogData, U256};
use alloy_sol_types::SolEvent;
use cipherloom_contracts::{
    DecodeError, HostAddresses, HostEvent,
    bindings::{ACL, FHEVMExecutor as Executor},
    decode_log, development, event_topic,
};
use cipherloom_primitives::{
    Computation, FheType, Handle, Operand, Operation, OperationError, TypedOperation,
    operation::{ResultRule, ScalarRule, Shape, TABLE},
};

const CALLER: Address = Address::repeat_byte(0xca);
const USER: Address = Address::repeat_byte(0x05);

fn addresses() -> HostAddresses {
    development::addresses()
}

fn handle(seed: u8, ty: FheType) -> Handle {
    Handle::computed(B256::repeat_byte(seed), 31337, ty)
}

fn word(handle: Handle) -> FixedBytes<32> {
    handle.as_b256()
}

fn decode(emitter: Address, log: &LogData) -> Result<Option<HostEvent>, DecodeError> {
    decode_log(emitter, log.topics(), &log.data, &addresses())
}

fn computation(log: &LogData) -> Computation {
    match decode(addresses().executor, log).unwrap() {
        Some(HostEvent::Computation(computation)) => computation,
        other => panic!("expected a computation, got {other:?}"),
    }
}

/// The four parameters after the caller, under the topic of any of the 20 binary operations.
fn binary_log(operation: Operation, lhs: Handle, rhs: B256, scalar: u8, result: Handle) -> LogData {
    let template = Executor::FheAdd {
        caller: CALLER,
        lhs: word(lhs),
        rhs,
        scalarByte: FixedBytes([scalar]),
        result: word(result),
    };
    let data = template.encode_log_data();
    LogData::new_unchecked(vec![event_topic(operation), data.topics()[1]], data.data)
}

#[test]
fn every_binary_operation_on_every_type_round_trips() {
    let mut checked = 0;
    for spec in &TABLE {
        let Shape::Binary(rule) = spec.shape else { continue };
        for ty in spec.types.iter() {
            let result = handle(3, if spec.result == ResultRule::Bool { FheType::Bool } else { ty });
            let (lhs, rhs) = (handle(1, ty), handle(2, ty));

            let scalar = U256::from(5) & ty.max_value();
            let scalar = if scalar.is_zero() { U256::ONE } else { scalar };
            let read = computation(&binary_log(spec.operation, lhs, scalar.into(), 1, result));
            let typed = TypedOperation::Binary {
                operation: spec.operation,
                ty,
                rhs: Operand::Scalar(scalar),
            };
            assert_eq!(
                read,
                Computation {
                    operation: typed,
                    inputs: vec![lhs],
                    result
                }
            );

            let encrypted = binary_log(spec.operation, lhs, rhs.as_b256(), 0, result);
            if rule == ScalarRule::Either {
                let typed = TypedOperation::Binary {
                    operation: spec.operation,
                    ty,
                    rhs: Operand::Encrypted,
                };
                assert_eq!(
                    computation(&encrypted),
                    Computation {
                        operation: typed,
                        inputs: vec![lhs, rhs],
                        result
                    }
                );
            } else {
                assert!(matches!(
                    decode(addresses().executor, &encrypted),
                    Err(DecodeError::Operation { .. })
                ));
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 11 * 5 + 3 * 7 + 4 * 6 + 2 * 8, "types of the 20 binary operations");
}

#[test]
fn operations_of_other_shapes_round_trip() {
    let ty = FheType::Uint32;
    let (a, b, c, result) = (handle(1, ty), handle(2, ty), handle(3, ty), handle(9, ty));
    let (condition, answer) = (handle(4, FheType::Bool), handle(9, FheType::Bool));
    let wide = handle(9, FheType::Uint64);
    let seed = FixedBytes([7u8; 16]);
    let caller = CALLER;
    let scalar_factor = Operand::Scalar(U256::from(6));
    let cases = [
        (
            Executor::FheNeg {
                caller,
                ct: word(a),
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Neg { ty },
                inputs: vec![a],
                result,
            },
        ),
        (
            Executor::FheNot {
                caller,
                ct: word(a),
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Not { ty },
                inputs: vec![a],
                result,
            },
        ),
        (
            Executor::Cast {
                caller,
                ct: word(a),
                toType: 5,
                result: word(wide),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Cast {
                    from: ty,
                    to: FheType::Uint64,
                },
                inputs: vec![a],
                result: wide,
            },
        ),
        (
            Executor::TrivialEncrypt {
                caller,
                pt: U256::MAX,
                toType: 4,
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::TrivialEncrypt {
                    value: U256::from(u32::MAX),
                    ty,
                },
                inputs: vec![],
                result,
            },
        ),
        (
            Executor::FheIfThenElse {
                caller,
                control: word(condition),
                ifTrue: word(a),
                ifFalse: word(b),
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::IfThenElse { ty },
                inputs: vec![condition, a, b],
                result,
            },
        ),
        (
            Executor::FheRand {
                caller,
                randType: 4,
                seed,
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Rand {
                    ty,
                    seed: seed.0,
                    random_bits: 32,
                },
                inputs: vec![],
                result,
            },
        ),
        (
            Executor::FheRandBounded {
                caller,
                upperBound: U256::from(16),
                randType: 4,
                seed,
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Rand {
                    ty,
                    seed: seed.0,
                    random_bits: 4,
                },
                inputs: vec![],
                result,
            },
        ),
        (
            Executor::FheSum {
                caller,
                values: vec![word(a), word(b), word(c)],
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Sum { ty, count: 3 },
                inputs: vec![a, b, c],
                result,
            },
        ),
        (
            Executor::FheSum {
                caller,
                values: vec![],
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::Sum { ty, count: 0 },
                inputs: vec![],
                result,
            },
        ),
        (
            Executor::FheIsIn {
                caller,
                value: word(a),
                values: vec![word(b), word(c)],
                result: word(answer),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::IsIn { ty, count: 2 },
                inputs: vec![a, b, c],
                result: answer,
            },
        ),
        (
            Executor::FheMulDiv {
                caller,
                factor1: word(a),
                factor2: word(b),
                divisor: B256::from(U256::from(3)),
                scalarByte: FixedBytes([1]),
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::MulDiv {
                    ty,
                    factor: Operand::Encrypted,
                    divisor: U256::from(3),
                },
                inputs: vec![a, b],
                result,
            },
        ),
        (
            Executor::FheMulDiv {
                caller,
                factor1: word(a),
                factor2: B256::from(U256::from(6)),
                divisor: B256::from(U256::from(3)),
                scalarByte: FixedBytes([3]),
                result: word(result),
            }
            .encode_log_data(),
            Computation {
                operation: TypedOperation::MulDiv {
                    ty,
                    factor: scalar_factor,
                    divisor: U256::from(3),
                },
                inputs: vec![a],
                result,
            },
        ),
    ];
    for (log, expected) in cases {
        assert_eq!(computation(&log), expected);
    }
}

#[test]
fn inputs_round_trip_and_must_keep_their_handle_and_type() {
    let input = Handle::input(B256::repeat_byte(1), 0, 31337, FheType::Uint64).unwrap();
    let event = Executor::VerifyInput {
        caller: CALLER,
        inputHandle: word(input),
        userAddress: USER,
        inputProof: Bytes::from_static(b"proof"),
        inputType: 5,
        result: word(input),
    };
    let expected = HostEvent::InputVerified {
        caller: CALLER,
        user: USER,
        handle: input,
        proof: Bytes::from_static(b"proof"),
    };
    assert_eq!(decode(addresses().executor, &event.encode_log_data()), Ok(Some(expected)));

    let other_type = Executor::VerifyInput {
        inputType: 4,
        ..event.clone()
    };
    assert_eq!(
        decode(addresses().executor, &other_type.encode_log_data()),
        Err(DecodeError::InputMismatch)
    );
    let other_result = Executor::VerifyInput {
        result: word(handle(1, FheType::Uint64)),
        ..event
    };
    assert_eq!(
        decode(addresses().executor, &other_result.encode_log_data()),
        Err(DecodeError::InputMismatch)
    );
}

#[test]
fn acl_events_round_trip() {
    let acl = addresses().acl;
    let (a, b) = (handle(1, FheType::Bool), handle(2, FheType::Address));
    let (delegator, delegate, contract) = (Address::repeat_byte(1), Address::repeat_byte(2), Address::repeat_byte(3));
    let cases = [
        (
            ACL::Allowed {
                caller: CALLER,
                account: USER,
                handle: word(a),
            }
            .encode_log_data(),
            HostEvent::Allowed {
                caller: CALLER,
                account: USER,
                handle: a,
            },
        ),
        (
            ACL::AllowedForDecryption {
                caller: CALLER,
                handlesList: vec![word(a), word(b)],
            }
            .encode_log_data(),
            HostEvent::AllowedForDecryption {
                caller: CALLER,
                handles: vec![a, b],
            },
        ),
        (
            ACL::DelegatedForUserDecryption {
                delegator,
                delegate,
                contractAddress: contract,
                delegationCounter: 3,
                oldExpirationDate: 1,
                newExpirationDate: u64::MAX,
            }
            .encode_log_data(),
            HostEvent::DelegatedForUserDecryption {
                delegator,
                delegate,
                contract,
                counter: 3,
                old_expiration: 1,
                new_expiration: u64::MAX,
            },
        ),
        (
            ACL::RevokedDelegationForUserDecryption {
                delegator,
                delegate,
                contractAddress: contract,
                delegationCounter: 4,
                oldExpirationDate: 2,
            }
            .encode_log_data(),
            HostEvent::RevokedDelegationForUserDecryption {
                delegator,
                delegate,
                contract,
                counter: 4,
                old_expiration: 2,
            },
        ),
        (
            ACL::DecryptionSignaturesInvalidated {
                account: USER,
                timestamp: U256::from(8),
            }
            .encode_log_data(),
            HostEvent::DecryptionSignaturesInvalidated {
                account: USER,
                before: U256::from(8),
            },
        ),
        (
            ACL::BlockedAccount { account: USER }.encode_log_data(),
            HostEvent::BlockedAccount { account: USER },
        ),
        (
            ACL::UnblockedAccount { account: USER }.encode_log_data(),
            HostEvent::UnblockedAccount { account: USER },
        ),
    ];
    for (log, expected) in cases {
        assert_eq!(decode(acl, &log), Ok(Some(expected)));
        assert_eq!(
            decode(addresses().executor, &log),
            Ok(None),
            "an event of the ACL means nothing from the executor"
        );
    }
}

#[test]
fn other_logs_are_passed_over() {
    let log = ACL::Allowed {
        caller: CALLER,
        account: USER,
        handle: word(handle(1, FheType::Bool)),
    }
    .encode_log_data();
    assert_eq!(decode(Address::repeat_byte(0x99), &log), Ok(None));
    assert_eq!(decode_log(addresses().acl, &[], b"", &addresses()), Ok(None));
    assert_eq!(decode(addresses().acl, &ACL::Paused { account: USER }.encode_log_data()), Ok(None));
    let upgraded = Executor::Upgraded { implementation: USER }.encode_log_data();
    assert_eq!(decode(addresses().executor, &upgraded), Ok(None));
}

#[test]
fn malformed_logs_give_typed_errors() {
    let executor = addresses().executor;
    let (a, result) = (handle(1, FheType::Uint8), handle(2, FheType::Uint8));
    let good = Executor::FheNeg {
        caller: CALLER,
        ct: word(a),
        result: word(result),
    }
    .encode_log_data();
    let with = |topics: Vec<B256>, data: &[u8]| decode_log(executor, &topics, data, &addresses());
    let topics = good.topics().to_vec();

    let missing = with(topics[..1].to_vec(), &good.data);
    assert!(matches!(missing, Err(DecodeError::TopicCount { expected: 2, found: 1, .. })));
    let surplus = with([topics.as_slice(), &[B256::ZERO]].concat(), &good.data);
    assert!(matches!(surplus, Err(DecodeError::TopicCount { expected: 2, found: 3, .. })));
    let no_address = with(vec![topics[0], B256::repeat_byte(1)], &good.data);
    assert!(matches!(no_address, Err(DecodeError::TopicNotAddress { index: 1, .. })));
    for length in 0..good.data.len() {
        assert!(
            matches!(with(topics.clone(), &good.data[..length]), Err(DecodeError::Data { .. })),
            "{length} bytes"
        );
    }

    let mut bad_version = good.data.to_vec();
    bad_version[31] = 1;
    assert!(matches!(with(topics.clone(), &bad_version), Err(DecodeError::Handle { .. })));
    let mut bad_type = good.data.to_vec();
    bad_type[30] = 9;
    assert!(matches!(with(topics.clone(), &bad_type), Err(DecodeError::Handle { .. })));
    let mut bad_result_type = good.data.to_vec();
    bad_result_type[62] = FheType::Uint16.id();
    assert!(matches!(
        with(topics, &bad_result_type),
        Err(DecodeError::Operation {
            source: OperationError::ResultTypeMismatch { .. },
            ..
        })
    ));

    let cast = Executor::Cast {
        caller: CALLER,
        ct: word(a),
        toType: 11,
        result: word(result),
    }
    .encode_log_data();
    assert!(matches!(decode(executor, &cast), Err(DecodeError::Type { .. })));
    let add = binary_log(Operation::Add, a, B256::ZERO, 2, result);
    assert!(matches!(
        decode(executor, &add),
        Err(DecodeError::Operation {
            source: OperationError::InvalidScalarByte { .. },
            ..
        })
    ));
}

#[test]
fn claimed_lengths_beyond_the_data_allocate_nothing() {
    for length in [U256::from(1u64 << 40), U256::MAX] {
        let mut data = U256::from(64).to_be_bytes::<32>().to_vec();
        data.extend_from_slice(word(handle(1, FheType::Uint8)).as_slice());
        data.extend_from_slice(&length.to_be_bytes::<32>());
        let topics = [event_topic(Operation::Sum), B256::left_padding_from(CALLER.as_slice())];
        let read = decode_log(addresses().executor, &topics, &data, &addresses());
        assert!(matches!(read, Err(DecodeError::Data { .. })), "{read:?}");
    }
}

#[test]
fn a_list_longer_than_the_table_allows_is_refused() {
    let ty = FheType::Uint64;
    let values = vec![word(handle(1, ty)); 61];
    let log = Executor::FheSum {
        caller: CALLER,
        values,
        result: word(handle(2, ty)),
    }
    .encode_log_data();
    assert!(matches!(
        decode(addresses().executor, &log),
        Err(DecodeError::Operation {
            source: OperationError::ListTooLong { size: 61, limit: 60, .. },
            ..
        })
    ));
}

/// Bytes from a small linear congruential generator, so that a failure can be repeated from the printed seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let step = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

#[test]
fn random_data_never_panics() {
    let mut topics: Vec<(Address, B256)> = Operation::all()
        .map(|operation| (addresses().executor, event_topic(operation)))
        .collect();
    topics.extend(
        [
            ACL::Allowed::SIGNATURE_HASH,
            ACL::AllowedForDecryption::SIGNATURE_HASH,
            ACL::DelegatedForUserDecryption::SIGNATURE_HASH,
            ACL::RevokedDelegationForUserDecryption::SIGNATURE_HASH,
        ]
        .map(|topic| (addresses().acl, topic)),
    );
    for seed in 0..200u64 {
        for (emitter, topic) in &topics {
            let length = usize::from(noise(seed, 1)[0]) * 3;
            let mut data = noise(seed, length);
            // Small words make offsets and lengths that point into the data, where the interesting cases are.
            data.chunks_mut(32).filter(|chunk| chunk[0] % 2 == 0).for_each(|chunk| {
                let keep = chunk.len().saturating_sub(2);
                chunk[..keep].fill(0);
            });
            for count in 1..=3 {
                let all = [*topic, B256::left_padding_from(&[1]), B256::left_padding_from(&[2])];
                let read = decode_log(*emitter, &all[..count], &data, &addresses());
                assert!(
                    !matches!(read, Ok(None)),
                    "seed {seed}: an event of the contract is read or refused"
                );
            }
        }
    }
}
