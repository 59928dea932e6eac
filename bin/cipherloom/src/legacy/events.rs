//! From the events of `TFHEExecutorWithEvents` 0.6.1 to computations.
//!
//! Each operation emits one event, with the handle of its result last. Operand types follow from handles; what today's events say and these do
//! not is the seed of a random value. The seed has to be the same for everybody who computes it and nothing else, so it is the hash of the result's
//! handle, which the contract made from its own seed.

use alloy::{
    primitives::{B256, FixedBytes, U256, keccak256},
    rpc::types::Log,
    sol,
    sol_types::SolEventInterface as _,
};
use bytes::Bytes;
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    coprocessor::{AsyncComputation, AsyncComputationInput, async_computation_input::Input},
};

sol! {
    /// The events that ask for something to be computed.
    interface ExecutorEvents {
        event FheAdd(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheSub(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheMul(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheDiv(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheRem(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheBitAnd(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheBitOr(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheBitXor(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheShl(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheShr(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheRotl(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheRotr(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheEq(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheNe(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheGe(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheGt(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheLe(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheLt(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheMin(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheMax(uint256 lhs, uint256 rhs, bytes1 scalarByte, uint256 result);
        event FheNeg(uint256 ct, uint256 result);
        event FheNot(uint256 ct, uint256 result);
        event Cast(uint256 ct, bytes1 toType, uint256 result);
        event TrivialEncrypt(uint256 pt, bytes1 toType, uint256 result);
        event FheIfThenElse(uint256 control, uint256 ifTrue, uint256 ifFalse, uint256 result);
        event FheRand(bytes1 randType, uint256 result);
        event FheRandBounded(uint256 upperBound, bytes1 randType, uint256 result);
    }
}

use ExecutorEvents::ExecutorEventsEvents as Event;

/// Says what an event asks for. Nothing if it asks for nothing: inputs come by the gateway, and byte strings are not computed with here.
pub(super) fn computation(log: &Log) -> Option<AsyncComputation> {
    let event = Event::decode_log(&log.inner).ok()?.data;
    macro_rules! binary {
        ($event:expr, $operation:ident) => {
            (
                FheOperation::$operation,
                vec![handle($event.lhs), second($event.rhs, $event.scalarByte)],
                $event.result,
            )
        };
    }
    let (operation, inputs, result) = match event {
        Event::FheAdd(e) => binary!(e, FheAdd),
        Event::FheSub(e) => binary!(e, FheSub),
        Event::FheMul(e) => binary!(e, FheMul),
        Event::FheDiv(e) => binary!(e, FheDiv),
        Event::FheRem(e) => binary!(e, FheRem),
        Event::FheBitAnd(e) => binary!(e, FheBitAnd),
        Event::FheBitOr(e) => binary!(e, FheBitOr),
        Event::FheBitXor(e) => binary!(e, FheBitXor),
        Event::FheShl(e) => binary!(e, FheShl),
        Event::FheShr(e) => binary!(e, FheShr),
        Event::FheRotl(e) => binary!(e, FheRotl),
        Event::FheRotr(e) => binary!(e, FheRotr),
        Event::FheEq(e) => binary!(e, FheEq),
        Event::FheNe(e) => binary!(e, FheNe),
        Event::FheGe(e) => binary!(e, FheGe),
        Event::FheGt(e) => binary!(e, FheGt),
        Event::FheLe(e) => binary!(e, FheLe),
        Event::FheLt(e) => binary!(e, FheLt),
        Event::FheMin(e) => binary!(e, FheMin),
        Event::FheMax(e) => binary!(e, FheMax),
        Event::FheNeg(e) => (FheOperation::FheNeg, vec![handle(e.ct)], e.result),
        Event::FheNot(e) => (FheOperation::FheNot, vec![handle(e.ct)], e.result),
        Event::Cast(e) => (FheOperation::FheCast, vec![handle(e.ct), scalar(&e.toType.0)], e.result),
        Event::TrivialEncrypt(e) => (FheOperation::FheTrivialEncrypt, vec![word(e.pt), scalar(&e.toType.0)], e.result),
        Event::FheIfThenElse(e) => (
            FheOperation::FheIfThenElse,
            vec![handle(e.control), handle(e.ifTrue), handle(e.ifFalse)],
            e.result,
        ),
        Event::FheRand(e) => (FheOperation::FheRand, vec![seed(e.result), scalar(&e.randType.0)], e.result),
        Event::FheRandBounded(e) => (
            FheOperation::FheRandBounded,
            vec![seed(e.result), word(e.upperBound), scalar(&e.randType.0)],
            e.result,
        ),
    };
    Some(AsyncComputation {
        operation: operation.into(),
        output_handle: Bytes::copy_from_slice(&result.to_be_bytes::<32>()),
        inputs,
    })
}

fn second(value: U256, scalar_byte: FixedBytes<1>) -> AsyncComputationInput {
    if scalar_byte.0 == [1] { word(value) } else { handle(value) }
}

fn handle(value: U256) -> AsyncComputationInput {
    let bytes = Bytes::copy_from_slice(&value.to_be_bytes::<32>());
    AsyncComputationInput {
        input: Some(Input::InputHandle(bytes)),
    }
}

fn word(value: U256) -> AsyncComputationInput {
    scalar(&value.to_be_bytes::<32>())
}

fn scalar(bytes: &[u8]) -> AsyncComputationInput {
    AsyncComputationInput {
        input: Some(Input::Scalar(Bytes::copy_from_slice(bytes))),
    }
}

fn seed(result: U256) -> AsyncComputationInput {
    scalar(keccak256(B256::from(result)).as_slice())
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::b256, sol_types::SolEvent};

    use super::*;

    fn log(event: &impl SolEvent) -> Log {
        Log {
            inner: alloy::primitives::Log {
                address: alloy::primitives::Address::ZERO,
                data: event.encode_log_data(),
            },
            ..Log::default()
        }
    }

    fn scalars(computation: &AsyncComputation) -> Vec<bool> {
        let is_scalar = |input: &AsyncComputationInput| matches!(input.input, Some(Input::Scalar(_)));
        computation.inputs.iter().map(is_scalar).collect()
    }

    #[test]
    fn topics_are_those_of_the_published_contract() {
        let add = ExecutorEvents::FheAdd::SIGNATURE_HASH;
        assert_eq!(add[..4], [0xca, 0x10, 0x1b, 0x66]);
        assert_eq!(ExecutorEvents::TrivialEncrypt::SIGNATURE_HASH[..4], [0x11, 0x21, 0x87, 0x12]);
    }

    #[test]
    fn the_second_operand_is_a_number_if_the_event_says_so() {
        let event = |scalar| ExecutorEvents::FheSub {
            lhs: U256::from(1),
            rhs: U256::from(2),
            scalarByte: FixedBytes([scalar]),
            result: U256::from(3),
        };
        let computed = computation(&log(&event(0))).unwrap();
        assert_eq!(computed.operation, i32::from(FheOperation::FheSub));
        assert_eq!(computed.output_handle, B256::with_last_byte(3).to_vec());
        assert_eq!(scalars(&computed), [false, false]);
        assert_eq!(scalars(&computation(&log(&event(1))).unwrap()), [false, true]);
    }

    #[test]
    fn random_values_have_a_seed_of_their_own() {
        let random = |result| {
            let event = ExecutorEvents::FheRand {
                randType: FixedBytes([5]),
                result: U256::from(result),
            };
            computation(&log(&event)).unwrap()
        };
        assert_eq!(random(1), random(1));
        assert_ne!(random(1).inputs, random(2).inputs);
        assert_eq!(scalars(&random(1)), [true, true]);
    }

    #[test]
    fn what_is_no_operation_asks_for_nothing() {
        let mut unknown = log(&ExecutorEvents::FheNeg {
            ct: U256::ZERO,
            result: U256::ZERO,
        });
        unknown.inner.data.topics_mut_unchecked()[0] = b256!("777462f500000000000000000000000000000000000000000000000000000000");
        assert_eq!(computation(&unknown), None);
    }
}
