//! The executor's functions: calls that succeeded to the computations they ask for.
//!
//! A node of a native chain sees calls, where a coprocessor sees events. Both name the same operations with the same operands, so what a call is
//! read as equals what its event is read as. Random operations are the exception: their seed is made by the contract, and only the event tells it.

use alloy_primitives::{Address, FixedBytes};
use alloy_sol_types::{
    SolCall, SolType,
    abi::{AbiDecoderConfig, TokenSeq},
    sol_data::{self, Array, Uint},
};
use cipherloom_primitives::{Computation, FheType, Operation, RawOperands, operation::Shape};

use crate::{
    bindings::FHEVMExecutor as Executor,
    error::DecodeError,
    events::{HostEvent, handle, handles},
};

/// The most memory the arguments of one call may take in bytes; the longest are input proofs.
const MEMORY_LIMIT_BYTES: usize = 8 << 20;

type Word = sol_data::FixedBytes<32>;
type ScalarByte = sol_data::FixedBytes<1>;
type Type = Uint<8>;

/// Returns the selector of the executor's function that requests an operation.
#[must_use]
pub const fn call_selector(operation: Operation) -> [u8; 4] {
    use Operation as Op;
    match operation {
        Op::Add => Executor::fheAddCall::SELECTOR,
        Op::Sub => Executor::fheSubCall::SELECTOR,
        Op::Mul => Executor::fheMulCall::SELECTOR,
        Op::Div => Executor::fheDivCall::SELECTOR,
        Op::Rem => Executor::fheRemCall::SELECTOR,
        Op::BitAnd => Executor::fheBitAndCall::SELECTOR,
        Op::BitOr => Executor::fheBitOrCall::SELECTOR,
        Op::BitXor => Executor::fheBitXorCall::SELECTOR,
        Op::Shl => Executor::fheShlCall::SELECTOR,
        Op::Shr => Executor::fheShrCall::SELECTOR,
        Op::Rotl => Executor::fheRotlCall::SELECTOR,
        Op::Rotr => Executor::fheRotrCall::SELECTOR,
        Op::Eq => Executor::fheEqCall::SELECTOR,
        Op::Ne => Executor::fheNeCall::SELECTOR,
        Op::Ge => Executor::fheGeCall::SELECTOR,
        Op::Gt => Executor::fheGtCall::SELECTOR,
        Op::Le => Executor::fheLeCall::SELECTOR,
        Op::Lt => Executor::fheLtCall::SELECTOR,
        Op::Min => Executor::fheMinCall::SELECTOR,
        Op::Max => Executor::fheMaxCall::SELECTOR,
        Op::Neg => Executor::fheNegCall::SELECTOR,
        Op::Not => Executor::fheNotCall::SELECTOR,
        Op::VerifyInput => Executor::verifyInputCall::SELECTOR,
        Op::Cast => Executor::castCall::SELECTOR,
        Op::TrivialEncrypt => Executor::trivialEncryptCall::SELECTOR,
        Op::IfThenElse => Executor::fheIfThenElseCall::SELECTOR,
        Op::Rand => Executor::fheRandCall::SELECTOR,
        Op::RandBounded => Executor::fheRandBoundedCall::SELECTOR,
        Op::Sum => Executor::fheSumCall::SELECTOR,
        Op::IsIn => Executor::fheIsInCall::SELECTOR,
        Op::MulDiv => Executor::fheMulDivCall::SELECTOR,
    }
}

/// A call of the executor that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorCall<'a> {
    /// Who called: the contract that uses the result.
    pub caller: Address,
    /// The call data, selector included.
    pub input: &'a [u8],
    /// What the call returned: the result's handle.
    pub output: &'a [u8],
    /// The seed of the `FheRand` or `FheRandBounded` event that the call emitted, if it emitted one.
    pub seed: Option<[u8; 16]>,
}

/// Reads a call of the executor; `None` if the function called asks for no operation.
///
/// As the contract does, this takes arguments in any encoding that can be decoded: more bytes may follow them.
///
/// # Errors
/// [`DecodeError`] if the contract cannot have accepted this call and returned this output: it is not the executor this software knows.
pub fn decode_call(call: ExecutorCall<'_>) -> Result<Option<HostEvent>, DecodeError> {
    let Some((selector, arguments)) = call.input.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let Some(operation) = Operation::all().find(|operation| call_selector(*operation) == *selector) else {
        return Ok(None);
    };
    let (result,) = decode::<(Word,)>(operation.spec().function, call.output)?;
    Reader {
        operation,
        function: operation.spec().function,
        result,
        call,
    }
    .read(arguments)
    .map(Some)
}

struct Reader<'a> {
    operation: Operation,
    function: &'static str,
    result: FixedBytes<32>,
    call: ExecutorCall<'a>,
}

impl Reader<'_> {
    fn read(&self, arguments: &[u8]) -> Result<HostEvent, DecodeError> {
        let name = self.function;
        match self.operation.spec().shape {
            Shape::Binary(_) => {
                let (lhs, rhs, scalar) = decode::<(Word, Word, ScalarByte)>(name, arguments)?;
                self.computation(&RawOperands::Binary {
                    lhs: handle(name, lhs)?,
                    rhs: rhs.into(),
                    scalar_byte: scalar.0[0],
                })
            }
            Shape::Unary => {
                let (operand,) = decode::<(Word,)>(name, arguments)?;
                self.computation(&RawOperands::Unary(handle(name, operand)?))
            }
            Shape::Input => self.input(arguments),
            Shape::Cast => {
                let (operand, to) = decode::<(Word, Type)>(name, arguments)?;
                self.computation(&RawOperands::Cast(handle(name, operand)?, self.ty(to)?))
            }
            Shape::Trivial => {
                let (value, to) = decode::<(Uint<256>, Type)>(name, arguments)?;
                self.computation(&RawOperands::Trivial(value, self.ty(to)?))
            }
            Shape::Select => {
                let (condition, if_true, if_false) = decode::<(Word, Word, Word)>(name, arguments)?;
                let (if_true, if_false) = (handle(name, if_true)?, handle(name, if_false)?);
                self.computation(&RawOperands::Select(handle(name, condition)?, if_true, if_false))
            }
            Shape::Random { bounded: false } => {
                let (ty,) = decode::<(Type,)>(name, arguments)?;
                self.computation(&RawOperands::Random(self.seed()?, self.ty(ty)?, None))
            }
            Shape::Random { bounded: true } => {
                let (bound, ty) = decode::<(Uint<256>, Type)>(name, arguments)?;
                self.computation(&RawOperands::Random(self.seed()?, self.ty(ty)?, Some(bound)))
            }
            Shape::List => {
                let (values, ty) = decode::<(Array<Word>, Type)>(name, arguments)?;
                self.computation(&RawOperands::List(&handles(name, &values)?, self.ty(ty)?))
            }
            Shape::Membership => {
                let (value, list, _) = decode::<(Word, Array<Word>, Type)>(name, arguments)?;
                self.computation(&RawOperands::Membership(handle(name, value)?, &handles(name, &list)?))
            }
            Shape::MulDiv => {
                let (lhs, rhs, divisor, scalar) = decode::<(Word, Word, Word, ScalarByte)>(name, arguments)?;
                self.computation(&RawOperands::MulDiv {
                    lhs: handle(name, lhs)?,
                    rhs: rhs.into(),
                    divisor: divisor.into(),
                    scalar_byte: scalar.0[0],
                })
            }
        }
    }

    fn computation(&self, operands: &RawOperands<'_>) -> Result<HostEvent, DecodeError> {
        let result = handle(self.function, self.result)?;
        Computation::check(self.operation, operands, result)
            .map(HostEvent::Computation)
            .map_err(|source| DecodeError::Operation {
                event: self.function,
                source,
            })
    }

    fn input(&self, arguments: &[u8]) -> Result<HostEvent, DecodeError> {
        type Arguments = (Word, sol_data::Address, sol_data::Bytes, Type);
        let (input, user, proof, ty) = decode::<Arguments>(self.function, arguments)?;
        let input = handle(self.function, input)?;
        if handle(self.function, self.result)? != input || self.ty(ty)? != input.fhe_type() {
            return Err(DecodeError::InputMismatch);
        }
        Ok(HostEvent::InputVerified {
            caller: self.call.caller,
            user,
            handle: input,
            proof,
        })
    }

    fn seed(&self) -> Result<[u8; 16], DecodeError> {
        self.call.seed.ok_or(DecodeError::NoSeed { function: self.function })
    }

    fn ty(&self, number: <Type as SolType>::RustType) -> Result<FheType, DecodeError> {
        FheType::try_from(number).map_err(|source| DecodeError::Type {
            event: self.function,
            source,
        })
    }
}

/// Reads arguments or return values as the contract does: leniently.
fn decode<'a, T>(function: &'static str, data: &'a [u8]) -> Result<T::RustType, DecodeError>
where
    T: SolType,
    T::Token<'a>: TokenSeq<'a>,
{
    let config = AbiDecoderConfig::new().memory_limit(MEMORY_LIMIT_BYTES);
    T::abi_decode_params_with_config(data, config).map_err(|source| DecodeError::Data { event: function, source })
}
