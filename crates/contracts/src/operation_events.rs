//! The executor's events: topic to operation, data to a checked computation.
//!
//! The 31 events have nine shapes; what an event means beyond its shape stands in the operation table.

use alloy_primitives::{Address, B256, FixedBytes};
use alloy_sol_types::{
    SolEvent, SolType,
    sol_data::{self, Array, Uint},
};
use cipherloom_primitives::{Computation, FheType, Operation, RawOperands, operation::Shape};

use crate::{
    bindings::FHEVMExecutor as Executor,
    error::DecodeError,
    events::{HostEvent, decode_data, handle, handles},
};

type Word = sol_data::FixedBytes<32>;
type ScalarByte = sol_data::FixedBytes<1>;
type Seed = sol_data::FixedBytes<16>;

/// Returns the first topic of the event that requests an operation.
#[must_use]
pub const fn event_topic(operation: Operation) -> B256 {
    use Operation as Op;
    match operation {
        Op::Add => Executor::FheAdd::SIGNATURE_HASH,
        Op::Sub => Executor::FheSub::SIGNATURE_HASH,
        Op::Mul => Executor::FheMul::SIGNATURE_HASH,
        Op::Div => Executor::FheDiv::SIGNATURE_HASH,
        Op::Rem => Executor::FheRem::SIGNATURE_HASH,
        Op::BitAnd => Executor::FheBitAnd::SIGNATURE_HASH,
        Op::BitOr => Executor::FheBitOr::SIGNATURE_HASH,
        Op::BitXor => Executor::FheBitXor::SIGNATURE_HASH,
        Op::Shl => Executor::FheShl::SIGNATURE_HASH,
        Op::Shr => Executor::FheShr::SIGNATURE_HASH,
        Op::Rotl => Executor::FheRotl::SIGNATURE_HASH,
        Op::Rotr => Executor::FheRotr::SIGNATURE_HASH,
        Op::Eq => Executor::FheEq::SIGNATURE_HASH,
        Op::Ne => Executor::FheNe::SIGNATURE_HASH,
        Op::Ge => Executor::FheGe::SIGNATURE_HASH,
        Op::Gt => Executor::FheGt::SIGNATURE_HASH,
        Op::Le => Executor::FheLe::SIGNATURE_HASH,
        Op::Lt => Executor::FheLt::SIGNATURE_HASH,
        Op::Min => Executor::FheMin::SIGNATURE_HASH,
        Op::Max => Executor::FheMax::SIGNATURE_HASH,
        Op::Neg => Executor::FheNeg::SIGNATURE_HASH,
        Op::Not => Executor::FheNot::SIGNATURE_HASH,
        Op::VerifyInput => Executor::VerifyInput::SIGNATURE_HASH,
        Op::Cast => Executor::Cast::SIGNATURE_HASH,
        Op::TrivialEncrypt => Executor::TrivialEncrypt::SIGNATURE_HASH,
        Op::IfThenElse => Executor::FheIfThenElse::SIGNATURE_HASH,
        Op::Rand => Executor::FheRand::SIGNATURE_HASH,
        Op::RandBounded => Executor::FheRandBounded::SIGNATURE_HASH,
        Op::Sum => Executor::FheSum::SIGNATURE_HASH,
        Op::IsIn => Executor::FheIsIn::SIGNATURE_HASH,
        Op::MulDiv => Executor::FheMulDiv::SIGNATURE_HASH,
    }
}

/// Finds the operation that an event with this first topic requests.
pub(crate) fn operation_of(topic: B256) -> Option<Operation> {
    Operation::all().find(|operation| event_topic(*operation) == topic)
}

/// Reads the data of the event that requests `operation`.
pub(crate) fn decode(operation: Operation, caller: Address, data: &[u8]) -> Result<HostEvent, DecodeError> {
    let event = operation.spec().function;
    let computation = |operands: &RawOperands<'_>, result: FixedBytes<32>| {
        Computation::check(operation, operands, handle(event, result)?)
            .map(HostEvent::Computation)
            .map_err(|source| DecodeError::Operation { event, source })
    };
    match operation.spec().shape {
        Shape::Binary(_) => {
            let (lhs, rhs, scalar, result) = decode_data::<(Word, Word, ScalarByte, Word)>(event, data)?;
            let operands = RawOperands::Binary {
                lhs: handle(event, lhs)?,
                rhs: rhs.into(),
                scalar_byte: byte(scalar),
            };
            computation(&operands, result)
        }
        Shape::Unary => {
            let (operand, result) = decode_data::<(Word, Word)>(event, data)?;
            computation(&RawOperands::Unary(handle(event, operand)?), result)
        }
        Shape::Input => input(event, caller, data),
        Shape::Cast => {
            let (operand, to, result) = decode_data::<(Word, Uint<8>, Word)>(event, data)?;
            computation(&RawOperands::Cast(handle(event, operand)?, fhe_type(event, to)?), result)
        }
        Shape::Trivial => {
            let (value, to, result) = decode_data::<(Uint<256>, Uint<8>, Word)>(event, data)?;
            computation(&RawOperands::Trivial(value, fhe_type(event, to)?), result)
        }
        Shape::Select => {
            let (condition, if_true, if_false, result) = decode_data::<(Word, Word, Word, Word)>(event, data)?;
            let operands = RawOperands::Select(handle(event, condition)?, handle(event, if_true)?, handle(event, if_false)?);
            computation(&operands, result)
        }
        Shape::Random { bounded: false } => {
            let (ty, seed, result) = decode_data::<(Uint<8>, Seed, Word)>(event, data)?;
            computation(&RawOperands::Random(seed.0, fhe_type(event, ty)?, None), result)
        }
        Shape::Random { bounded: true } => {
            let (bound, ty, seed, result) = decode_data::<(Uint<256>, Uint<8>, Seed, Word)>(event, data)?;
            computation(&RawOperands::Random(seed.0, fhe_type(event, ty)?, Some(bound)), result)
        }
        Shape::List => {
            let (values, result) = decode_data::<(Array<Word>, Word)>(event, data)?;
            // The event does not name the type, which only an empty list leaves open; the result has it too.
            let ty = handle(event, result)?.fhe_type();
            computation(&RawOperands::List(&handles(event, &values)?, ty), result)
        }
        Shape::Membership => {
            let (value, list, result) = decode_data::<(Word, Array<Word>, Word)>(event, data)?;
            computation(&RawOperands::Membership(handle(event, value)?, &handles(event, &list)?), result)
        }
        Shape::MulDiv => {
            let (lhs, rhs, divisor, scalar, result) = decode_data::<(Word, Word, Word, ScalarByte, Word)>(event, data)?;
            let operands = RawOperands::MulDiv {
                lhs: handle(event, lhs)?,
                rhs: rhs.into(),
                divisor: divisor.into(),
                scalar_byte: byte(scalar),
            };
            computation(&operands, result)
        }
    }
}

/// Reads the admission of an input.
fn input(event: &'static str, caller: Address, data: &[u8]) -> Result<HostEvent, DecodeError> {
    type Fields = (Word, sol_data::Address, sol_data::Bytes, Uint<8>, Word);
    let (input, user, proof, ty, result) = decode_data::<Fields>(event, data)?;
    let input = handle(event, input)?;
    if handle(event, result)? != input || fhe_type(event, ty)? != input.fhe_type() {
        return Err(DecodeError::InputMismatch);
    }
    Ok(HostEvent::InputVerified {
        caller,
        user,
        handle: input,
        proof,
    })
}

fn fhe_type(event: &'static str, number: <Uint<8> as SolType>::RustType) -> Result<FheType, DecodeError> {
    FheType::try_from(number).map_err(|source| DecodeError::Type { event, source })
}

const fn byte(value: FixedBytes<1>) -> u8 {
    let [byte] = value.0;
    byte
}
