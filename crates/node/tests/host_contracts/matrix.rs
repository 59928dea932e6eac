//! The executor's whole matrix: every operation with every combination of types, scalar bytes and rights of its operands.
//!
//! What must happen is written down here once more, from the public protocol's table (section 1.2) and not from ours, so
//! that a mistake in the operation table cannot agree with itself.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Bytes, U256, Uint},
    sol_types::{SolCall, SolError},
};
use cipherloom_contracts::bindings::{FHEVMExecutor as Executor, HCULimit, InputVerifier};
use cipherloom_primitives::{FheType, Handle};

use crate::stage::{Batch, Stage, foreign_handle};

/// Type numbers: all that mean something, those that once will, the first that means nothing, and the ends of a byte.
const NUMBERS: [u8; 18] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 83, 84, 127, 128, 255];

const SCALAR_BYTES: [u8; 6] = [0x00, 0x01, 0x02, 0x03, 0x80, 0xff];

const BOOL: u8 = 0;
const ADDRESS: u8 = 7;
const UINT256: u8 = 8;
/// `euint8` to `euint128`.
const SMALL: [u8; 5] = [2, 3, 4, 5, 6];

fn with_256(number: u8) -> bool {
    SMALL.contains(&number) || number == UINT256
}

fn with_bool_and_256(number: u8) -> bool {
    with_256(number) || number == BOOL
}

/// Every type that is in use.
fn used(number: u8) -> bool {
    with_bool_and_256(number) || number == ADDRESS
}

fn bits(number: u8) -> usize {
    match number {
        BOOL => 1,
        2..=6 => 8 << (number - 2),
        ADDRESS => 160,
        UINT256 => 256,
        other => panic!("type {other} is not in use"),
    }
}

/// Whether a plaintext is zero once it is cut to the type.
fn is_zero_in(number: u8, value: B256) -> bool {
    let value = U256::from_be_bytes(value.0);
    value << (256 - bits(number)) == U256::ZERO
}

/// The longest list of a type.
fn list_limit(number: u8) -> usize {
    if matches!(number, 2..=4) { 100 } else { 60 }
}

/// What a call must do: return a handle of this type, or revert with these bytes.
type Expected = Result<u8, Vec<u8>>;

fn reverts<E: SolError>(error: E) -> Expected {
    Err(error.abi_encode())
}

fn unsupported() -> Expected {
    reverts(Executor::UnsupportedType {})
}

/// Handles of all types.
#[derive(Clone)]
struct Operands {
    /// Those that the batch contract may use, by type number.
    allowed: BTreeMap<u8, B256>,
    account: Address,
}

impl Operands {
    /// A handle of a type: an allowed one if the type is in use.
    fn of(&self, number: u8) -> B256 {
        self.allowed.get(&number).copied().unwrap_or_else(|| foreign_handle(number))
    }

    /// What is expected once types and plaintexts are right: the caller must have a right to every operand.
    fn rights(&self, handles: &[B256], result: u8) -> Expected {
        match handles.iter().find(|handle| **handle == foreign_handle(handle[30])) {
            Some(handle) => reverts(Executor::ACLNotAllowed {
                handle: *handle,
                account: self.account,
            }),
            None => Ok(result),
        }
    }
}

/// The calls so far, with what is expected of them.
struct Matrix {
    stage: Stage,
    operands: Operands,
    calls: Vec<(String, Bytes, Expected)>,
}

impl Matrix {
    fn new() -> Self {
        let stage = Stage::new();
        let limit = stage.host.hcu_limit;
        stage.administer(limit, &HCULimit::setMaxHCUPerTxCall { maxHCUPerTx: Uint::MAX });
        let depth = HCULimit::setMaxHCUDepthPerTxCall {
            maxHCUDepthPerTx: Uint::MAX,
        };
        stage.administer(limit, &depth);
        let allowed = FheType::ALL.map(|ty| {
            let mut script = stage.script();
            let value = script.value(1, ty);
            script.call(stage.host.acl, "allow(bytes32,address)", &[value, stage.batch.into()]);
            (ty.id(), stage.mine_handle(&script).as_b256())
        });
        let operands = Operands {
            allowed: allowed.into_iter().collect(),
            account: stage.batch,
        };
        Self {
            stage,
            operands,
            calls: Vec::new(),
        }
    }

    fn add(&mut self, what: String, call: Vec<u8>, expected: Expected) {
        self.calls.push((what, call.into(), expected));
    }

    /// Makes all calls and returns how many there were.
    #[track_caller]
    fn check(self) -> usize {
        let count = self.calls.len();
        for chunk in self.calls.chunks(250) {
            let target = self.stage.host.executor;
            let calls = chunk.iter().map(|(_, data, _)| Batch::Call {
                target,
                data: data.clone(),
                patches: Vec::new(),
            });
            let attempt = Batch::attemptCall { calls: calls.collect() };
            let outcome = self.stage.call(self.stage.user(0), self.stage.batch, &attempt).unwrap();
            for (index, (what, _, expected)) in chunk.iter().enumerate() {
                let (success, result) = (outcome.successes[index], &outcome.results[index]);
                match expected {
                    Ok(number) => {
                        assert!(success, "{what}: reverted with {result}");
                        let handle = Handle::try_from(B256::from_slice(result)).unwrap();
                        assert_eq!(handle.fhe_type().id(), *number, "{what}");
                        assert_eq!((handle.as_slice()[21], handle.chain_id()), (0xff, 31337), "{what}");
                    }
                    Err(error) => {
                        assert!(!success, "{what}: passed");
                        assert_eq!(result.as_ref(), error, "{what}");
                    }
                }
            }
        }
        count
    }
}

/// One call of a binary operation; the bindings have a type per function, and all have these parameters.
type Binary = fn(B256, B256, u8) -> Vec<u8>;

macro_rules! binary {
    ($call:ident) => {
        |lhs: B256, rhs: B256, scalar: u8| {
            Executor::$call {
                lhs,
                rhs,
                scalarByte: [scalar].into(),
            }
            .abi_encode()
        }
    };
}

struct BinaryOperation {
    name: &'static str,
    call: Binary,
    /// The types of the first operand.
    takes: fn(u8) -> bool,
    /// Whether the result is a Bool, and not of the first operand's type.
    compares: bool,
    /// Whether the second operand must be a plaintext other than zero.
    divides: bool,
}

fn binary_operations() -> Vec<BinaryOperation> {
    let small = |number: u8| SMALL.contains(&number);
    let operation = |name, call, takes| BinaryOperation {
        name,
        call,
        takes,
        compares: false,
        divides: false,
    };
    let division = |name, call| BinaryOperation {
        divides: true,
        ..operation(name, call, small)
    };
    let comparison = |name, call, takes| BinaryOperation {
        compares: true,
        ..operation(name, call, takes)
    };
    vec![
        operation("fheAdd", binary!(fheAddCall), small),
        operation("fheSub", binary!(fheSubCall), small),
        operation("fheMul", binary!(fheMulCall), small),
        division("fheDiv", binary!(fheDivCall)),
        division("fheRem", binary!(fheRemCall)),
        operation("fheBitAnd", binary!(fheBitAndCall), with_bool_and_256),
        operation("fheBitOr", binary!(fheBitOrCall), with_bool_and_256),
        operation("fheBitXor", binary!(fheBitXorCall), with_bool_and_256),
        operation("fheShl", binary!(fheShlCall), with_256),
        operation("fheShr", binary!(fheShrCall), with_256),
        operation("fheRotl", binary!(fheRotlCall), with_256),
        operation("fheRotr", binary!(fheRotrCall), with_256),
        comparison("fheEq", binary!(fheEqCall), used),
        comparison("fheNe", binary!(fheNeCall), used),
        comparison("fheGe", binary!(fheGeCall), small),
        comparison("fheGt", binary!(fheGtCall), small),
        comparison("fheLe", binary!(fheLeCall), small),
        comparison("fheLt", binary!(fheLtCall), small),
        operation("fheMin", binary!(fheMinCall), small),
        operation("fheMax", binary!(fheMaxCall), small),
    ]
}

/// What a binary operation must do.
fn binary_expected(operands: &Operands, operation: &BinaryOperation, [lhs, rhs]: [B256; 2], scalar: u8) -> Expected {
    let (lhs_type, rhs_type) = (lhs[30], rhs[30]);
    if !(operation.takes)(lhs_type) {
        return unsupported();
    }
    if operation.divides && scalar != 1 {
        return reverts(Executor::IsNotScalar {});
    }
    if operation.divides && is_zero_in(lhs_type, rhs) {
        return reverts(Executor::DivisionByZero {});
    }
    if scalar > 1 {
        return reverts(Executor::ScalarByteIsNotBoolean {});
    }
    if scalar == 0 && lhs_type != rhs_type {
        return reverts(Executor::IncompatibleTypes {});
    }
    let handles = if scalar == 0 { vec![lhs, rhs] } else { vec![lhs] };
    operands.rights(&handles, if operation.compares { BOOL } else { lhs_type })
}

#[test]
fn binary_operations_take_equal_types_and_a_scalar_byte_of_zero_or_one() {
    let mut matrix = Matrix::new();
    let operands = matrix.operands.clone();
    let operations = binary_operations();
    assert_eq!(operations.len(), 20);
    for operation in operations {
        let mut add = |lhs: B256, rhs: B256, scalar: u8| {
            let what = format!("{}({lhs}, {rhs}, {scalar:#04x})", operation.name);
            let expected = binary_expected(&operands, &operation, [lhs, rhs], scalar);
            matrix.add(what, (operation.call)(lhs, rhs, scalar), expected);
        };
        for scalar in SCALAR_BYTES {
            for number in NUMBERS {
                let lhs = operands.of(number);
                NUMBERS.iter().for_each(|rhs| add(lhs, operands.of(*rhs), scalar));
                add(foreign_handle(number), operands.of(number), scalar);
                add(lhs, foreign_handle(number), scalar);
            }
        }
        // Plaintexts: around zero in each type, and far beyond it.
        for number in NUMBERS {
            for value in [U256::ZERO, U256::ONE, U256::from(256), U256::ONE << 128, U256::MAX] {
                add(operands.of(number), value.into(), 1);
            }
        }
    }
    let count = matrix.check();
    assert!(count > 20 * 6 * 18 * 18, "{count} calls");
}

#[test]
fn unary_operations_and_casts_take_their_types() {
    let mut matrix = Matrix::new();
    let operands = matrix.operands.clone();
    for number in NUMBERS {
        for ct in [operands.of(number), foreign_handle(number)] {
            let one = |takes: bool| if takes { operands.rights(&[ct], number) } else { unsupported() };
            matrix.add(
                format!("fheNeg({ct})"),
                Executor::fheNegCall { ct }.abi_encode(),
                one(with_256(number)),
            );
            let not = one(with_bool_and_256(number));
            matrix.add(format!("fheNot({ct})"), Executor::fheNotCall { ct }.abi_encode(), not);
            for target in NUMBERS {
                let expected = if !with_bool_and_256(number) || !with_256(target) {
                    unsupported()
                } else if number == target {
                    reverts(Executor::InvalidType {})
                } else {
                    operands.rights(&[ct], target)
                };
                let call = Executor::castCall { ct, toType: target };
                matrix.add(format!("cast({ct}, {target})"), call.abi_encode(), expected);
            }
        }
    }
    assert_eq!(matrix.check(), 18 * 2 * (2 + 18));
}

#[test]
fn choices_take_a_bool_and_two_of_one_type() {
    let mut matrix = Matrix::new();
    let operands = matrix.operands.clone();
    let mut add = |control: B256, yes: B256, no: B256| {
        let expected = if !used(yes[30]) || control[30] != BOOL {
            unsupported()
        } else if yes[30] != no[30] {
            reverts(Executor::IncompatibleTypes {})
        } else {
            operands.rights(&[control, yes, no], yes[30])
        };
        let call = Executor::fheIfThenElseCall {
            control,
            ifTrue: yes,
            ifFalse: no,
        };
        matrix.add(format!("fheIfThenElse({control}, {yes}, {no})"), call.abi_encode(), expected);
    };
    for control in NUMBERS.map(|number| operands.of(number)) {
        for yes in NUMBERS.map(|number| operands.of(number)) {
            for no in NUMBERS.map(|number| operands.of(number)) {
                add(control, yes, no);
            }
        }
    }
    for number in NUMBERS {
        let (control, own, foreign) = (operands.of(BOOL), operands.of(number), foreign_handle(number));
        add(foreign_handle(BOOL), own, own);
        add(control, foreign, own);
        add(control, own, foreign);
    }
    assert_eq!(matrix.check(), 18 * 18 * 18 + 18 * 3);
}

#[test]
fn values_from_nothing_take_a_type() {
    let mut matrix = Matrix::new();
    for number in NUMBERS {
        let made = |takes: bool| if takes { Ok(number) } else { unsupported() };
        let encrypt = Executor::trivialEncryptCall {
            pt: U256::MAX,
            toType: number,
        };
        matrix.add(format!("trivialEncrypt to {number}"), encrypt.abi_encode(), made(used(number)));
        let random = Executor::fheRandCall { randType: number };
        matrix.add(format!("fheRand of {number}"), random.abi_encode(), made(with_bool_and_256(number)));
        let bounds = (0..=255).map(|shift| U256::ONE << shift);
        let others = [
            U256::ZERO,
            U256::from(3),
            U256::from(6),
            U256::from(255),
            U256::from(257),
            U256::MAX,
        ];
        for bound in bounds.chain(others) {
            let expected = if !with_256(number) {
                unsupported()
            } else if bound.count_ones() != 1 {
                reverts(Executor::NotPowerOfTwo {})
            } else if bound.trailing_zeros() > bits(number) {
                reverts(Executor::UpperBoundAboveMaxTypeValue {})
            } else {
                Ok(number)
            };
            let call = Executor::fheRandBoundedCall {
                upperBound: bound,
                randType: number,
            };
            matrix.add(format!("fheRandBounded({bound}, {number})"), call.abi_encode(), expected);
        }
    }
    assert_eq!(matrix.check(), 18 * (2 + 256 + 6));
}

/// What must hold for the elements of a list of one type: their number, then element by element type and right.
fn list_expected(operands: &Operands, number: u8, values: &[B256]) -> Result<(), Vec<u8>> {
    let limit = list_limit(number);
    if values.len() > limit {
        let (size, limit) = (U256::from(values.len()), U256::from(limit));
        return reverts(Executor::FHECollectionSizeInvalid { size, limit }).map(drop);
    }
    for value in values {
        if value[30] != number {
            return reverts(Executor::IncompatibleTypes {}).map(drop);
        }
        operands.rights(&[*value], number)?;
    }
    Ok(())
}

#[test]
fn lists_hold_elements_of_their_type_up_to_a_limit() {
    let mut matrix = Matrix::new();
    let operands = matrix.operands.clone();
    for number in NUMBERS {
        let own = operands.of(number);
        let mut lists: Vec<Vec<B256>> = NUMBERS.iter().map(|other| vec![own, operands.of(*other)]).collect();
        lists.push(vec![own, foreign_handle(number)]);
        lists.extend([0, 1, 60, 61, 100, 101].map(|length| vec![own; length]));
        for values in lists {
            let shown = format!("{} of type {number}, the last {:?}", values.len(), values.last());
            let sum = if SMALL.contains(&number) {
                list_expected(&operands, number, &values).map(|()| number)
            } else {
                unsupported()
            };
            let call = Executor::fheSumCall {
                values: values.clone(),
                fheType: number,
            };
            matrix.add(format!("fheSum, {shown}"), call.abi_encode(), sum);
            for value_type in NUMBERS {
                let mut wanted = vec![operands.of(value_type)];
                if value_type == number {
                    wanted.push(foreign_handle(number));
                }
                for value in wanted {
                    let is_in = if !used(number) || number == BOOL {
                        unsupported()
                    } else if value_type != number {
                        reverts(Executor::IncompatibleTypes {})
                    } else {
                        let right = operands.rights(&[value], BOOL);
                        right.and_then(|result| list_expected(&operands, number, &values).map(|()| result))
                    };
                    let call = Executor::fheIsInCall {
                        value,
                        values: values.clone(),
                        fheType: number,
                    };
                    matrix.add(format!("fheIsIn({value}), {shown}"), call.abi_encode(), is_in);
                }
            }
        }
    }
    assert_eq!(matrix.check(), 18 * (18 + 1 + 6) * (1 + 18 + 1));
}

#[test]
fn a_product_and_division_takes_two_factors_and_a_plain_divisor() {
    let mut matrix = Matrix::new();
    let operands = matrix.operands.clone();
    let mut add = |factor1: B256, factor2: B256, divisor: U256, scalar: u8| {
        let number = factor1[30];
        let expected = if !matches!(number, 2..=5) {
            unsupported()
        } else if scalar != 1 && scalar != 3 {
            reverts(Executor::InvalidMulDivScalarByte {})
        } else if is_zero_in(number, divisor.into()) {
            reverts(Executor::DivisionByZero {})
        } else if scalar == 1 && factor2[30] != number {
            reverts(Executor::IncompatibleTypes {})
        } else {
            let handles = if scalar == 1 { vec![factor1, factor2] } else { vec![factor1] };
            operands.rights(&handles, number)
        };
        let call = Executor::fheMulDivCall {
            factor1,
            factor2,
            divisor: divisor.into(),
            scalarByte: [scalar].into(),
        };
        let what = format!("fheMulDiv({factor1}, {factor2}, {divisor}, {scalar:#04x})");
        matrix.add(what, call.abi_encode(), expected);
    };
    let divisors = [0, 1, 8, 16, 32, 64, 128].map(|shift| if shift == 0 { U256::ZERO } else { U256::ONE << shift });
    for scalar in [0x00, 0x01, 0x02, 0x03, 0x04, 0x81, 0xff] {
        for number in NUMBERS {
            let own = operands.of(number);
            for divisor in divisors.into_iter().chain([U256::from(3), U256::MAX]) {
                NUMBERS.iter().for_each(|other| add(own, operands.of(*other), divisor, scalar));
                add(foreign_handle(number), own, divisor, scalar);
                add(own, foreign_handle(number), divisor, scalar);
            }
        }
    }
    assert_eq!(matrix.check(), 7 * 18 * 9 * 20);
}

#[test]
fn admissions_take_the_type_of_their_handle() {
    let mut matrix = Matrix::new();
    let account = matrix.operands.account;
    for number in NUMBERS {
        for input_type in NUMBERS {
            let expected = if !used(input_type) {
                unsupported()
            } else if number != input_type {
                reverts(Executor::InvalidType {})
            } else {
                // From here on it is the InputVerifier's: there is no proof.
                reverts(InputVerifier::EmptyInputProof {})
            };
            let call = Executor::verifyInputCall {
                inputHandle: foreign_handle(number),
                userAddress: account,
                inputProof: Bytes::new(),
                inputType: input_type,
            };
            matrix.add(format!("verifyInput of {number} as {input_type}"), call.abi_encode(), expected);
        }
    }
    assert_eq!(matrix.check(), 18 * 18);
}
