//! The one table of all operations: ids, names, operand shapes, allowed types, scalar rules and result types.
//!
//! The numbers are the public protocol's (section 1.2). [`crate::cost`] adds what each costs; the Solidity constants,
//! `docs/operations.md` and the test matrix are generated from both.

use serde::{Deserialize, Serialize};

use crate::fhe_type::FheType;

/// An operation of the executor contract; the discriminant is the operator id that enters handle pre-images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum Operation {
    /// Wrapping addition.
    Add = 0,
    /// Wrapping subtraction.
    Sub = 1,
    /// Wrapping multiplication.
    Mul = 2,
    /// Division by a scalar, rounded down.
    Div = 3,
    /// Remainder of the division by a scalar.
    Rem = 4,
    /// Bitwise and.
    BitAnd = 5,
    /// Bitwise or.
    BitOr = 6,
    /// Bitwise exclusive or.
    BitXor = 7,
    /// Shift left; the amount is taken modulo the width.
    Shl = 8,
    /// Logical shift right; the amount is taken modulo the width.
    Shr = 9,
    /// Rotate left; the amount is taken modulo the width.
    Rotl = 10,
    /// Rotate right; the amount is taken modulo the width.
    Rotr = 11,
    /// Equal.
    Eq = 12,
    /// Not equal.
    Ne = 13,
    /// Greater or equal, unsigned.
    Ge = 14,
    /// Greater, unsigned.
    Gt = 15,
    /// Less or equal, unsigned.
    Le = 16,
    /// Less, unsigned.
    Lt = 17,
    /// The smaller of two, unsigned.
    Min = 18,
    /// The larger of two, unsigned.
    Max = 19,
    /// Two's complement negation.
    Neg = 20,
    /// Bitwise complement.
    Not = 21,
    /// Admission of an encrypted input; computes nothing.
    VerifyInput = 22,
    /// Conversion to another width: zero extension or truncation.
    Cast = 23,
    /// A public value as a ciphertext.
    TrivialEncrypt = 24,
    /// Choice between two values by an encrypted condition.
    IfThenElse = 25,
    /// A uniformly random value.
    Rand = 26,
    /// A uniformly random value below a power of two.
    RandBounded = 27,
    /// Wrapping sum of a list.
    Sum = 28,
    /// Whether a value is in a list.
    IsIn = 29,
    /// Product with a full-width intermediate, divided by a scalar and truncated.
    MulDiv = 30,
}

/// The operator number that was read is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown operation number {0}; the table ends at 30 (mulDiv)")]
pub struct UnknownOperation(pub u8);

/// What operands an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two operands of one type; the second is encrypted or a scalar as the rule says.
    Binary(ScalarRule),
    /// One operand.
    Unary,
    /// An input handle with its proof.
    Input,
    /// One operand and a target type.
    Cast,
    /// A public value and a type.
    Trivial,
    /// An `ebool` and two operands of one type.
    Select,
    /// A seed and a type; with an upper bound if `bounded`.
    Random {
        /// Whether the operation takes an upper bound.
        bounded: bool,
    },
    /// A list of operands of one type.
    List,
    /// One operand and a list of the same type.
    Membership,
    /// Two factors, of which the second may be a scalar, and a scalar divisor.
    MulDiv,
}

/// Whether the second operand of a binary operation may, or must, be a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarRule {
    /// Encrypted or scalar.
    Either,
    /// Scalar and not zero (after truncation to the type).
    NonZeroScalarOnly,
}

/// What type the result has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultRule {
    /// The type of the (first, for select: second) operand.
    Operand,
    /// `ebool`.
    Bool,
    /// The type named in the request.
    Requested,
}

/// A set of [`FheType`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeSet(u16);

impl TypeSet {
    /// Builds the set with these members.
    #[must_use]
    pub const fn of(types: &[FheType]) -> Self {
        let mut mask = 0u16;
        let mut rest = types;
        while let [first, tail @ ..] = rest {
            mask |= 1 << first.id();
            rest = tail;
        }
        Self(mask)
    }

    /// Says whether the type is a member.
    #[must_use]
    pub const fn contains(self, ty: FheType) -> bool {
        self.0 & (1 << ty.id()) != 0
    }

    /// Lists the members in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = FheType> {
        FheType::ALL.into_iter().filter(move |ty| self.contains(*ty))
    }

    /// Returns the set as the bit mask the contracts use: bit `n` is type number `n`.
    #[must_use]
    pub const fn mask(self) -> u16 {
        self.0
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct OperationSpec {
    /// The operation.
    pub operation: Operation,
    /// The executor's function, such as `fheAdd`; its event has the same name with a capital first letter.
    pub function: &'static str,
    /// The function dApps call in the Solidity library, such as `add`.
    pub library_name: &'static str,
    /// The operands.
    pub shape: Shape,
    /// The types the operand (or, for cast, the source; for random and trivial, the result) can have.
    pub types: TypeSet,
    /// The type of the result.
    pub result: ResultRule,
}

use FheType::{Address, Bool, Uint8, Uint16, Uint32, Uint64, Uint128, Uint256};

const UINTS_TO_64: TypeSet = TypeSet::of(&[Uint8, Uint16, Uint32, Uint64]);
const UINTS_TO_128: TypeSet = TypeSet::of(&[Uint8, Uint16, Uint32, Uint64, Uint128]);
const UINTS: TypeSet = TypeSet::of(&[Uint8, Uint16, Uint32, Uint64, Uint128, Uint256]);
const BOOL_AND_UINTS: TypeSet = TypeSet::of(&[Bool, Uint8, Uint16, Uint32, Uint64, Uint128, Uint256]);
const UINTS_TO_128_ADDRESS_256: TypeSet = TypeSet::of(&[Uint8, Uint16, Uint32, Uint64, Uint128, Address, Uint256]);
const ALL_TYPES: TypeSet = TypeSet::of(&FheType::ALL);

const fn binary(
    operation: Operation,
    function: &'static str,
    library_name: &'static str,
    types: TypeSet,
    result: ResultRule,
) -> OperationSpec {
    OperationSpec {
        operation,
        function,
        library_name,
        shape: Shape::Binary(ScalarRule::Either),
        types,
        result,
    }
}

const fn other(
    operation: Operation,
    function: &'static str,
    library_name: &'static str,
    shape: Shape,
    types: TypeSet,
    result: ResultRule,
) -> OperationSpec {
    OperationSpec {
        operation,
        function,
        library_name,
        shape,
        types,
        result,
    }
}

/// Every operation, in the order of the ids.
pub const TABLE: [OperationSpec; 31] = {
    use Operation as Op;
    use ResultRule::{Operand, Requested};
    use Shape::{Cast, Input, List, Membership, Select, Trivial, Unary};
    const BOOL: ResultRule = ResultRule::Bool;
    const DIVISION: Shape = Shape::Binary(ScalarRule::NonZeroScalarOnly);
    [
        binary(Op::Add, "fheAdd", "add", UINTS_TO_128, Operand),
        binary(Op::Sub, "fheSub", "sub", UINTS_TO_128, Operand),
        binary(Op::Mul, "fheMul", "mul", UINTS_TO_128, Operand),
        other(Op::Div, "fheDiv", "div", DIVISION, UINTS_TO_128, Operand),
        other(Op::Rem, "fheRem", "rem", DIVISION, UINTS_TO_128, Operand),
        binary(Op::BitAnd, "fheBitAnd", "and", BOOL_AND_UINTS, Operand),
        binary(Op::BitOr, "fheBitOr", "or", BOOL_AND_UINTS, Operand),
        binary(Op::BitXor, "fheBitXor", "xor", BOOL_AND_UINTS, Operand),
        binary(Op::Shl, "fheShl", "shl", UINTS, Operand),
        binary(Op::Shr, "fheShr", "shr", UINTS, Operand),
        binary(Op::Rotl, "fheRotl", "rotl", UINTS, Operand),
        binary(Op::Rotr, "fheRotr", "rotr", UINTS, Operand),
        binary(Op::Eq, "fheEq", "eq", ALL_TYPES, BOOL),
        binary(Op::Ne, "fheNe", "ne", ALL_TYPES, BOOL),
        binary(Op::Ge, "fheGe", "ge", UINTS_TO_128, BOOL),
        binary(Op::Gt, "fheGt", "gt", UINTS_TO_128, BOOL),
        binary(Op::Le, "fheLe", "le", UINTS_TO_128, BOOL),
        binary(Op::Lt, "fheLt", "lt", UINTS_TO_128, BOOL),
        binary(Op::Min, "fheMin", "min", UINTS_TO_128, Operand),
        binary(Op::Max, "fheMax", "max", UINTS_TO_128, Operand),
        other(Op::Neg, "fheNeg", "neg", Unary, UINTS, Operand),
        other(Op::Not, "fheNot", "not", Unary, BOOL_AND_UINTS, Operand),
        other(Op::VerifyInput, "verifyInput", "fromExternal", Input, ALL_TYPES, Requested),
        other(Op::Cast, "cast", "asEuint", Cast, BOOL_AND_UINTS, Requested),
        other(Op::TrivialEncrypt, "trivialEncrypt", "asEuint", Trivial, ALL_TYPES, Requested),
        other(Op::IfThenElse, "fheIfThenElse", "select", Select, ALL_TYPES, Operand),
        other(
            Op::Rand,
            "fheRand",
            "randEuint",
            Shape::Random { bounded: false },
            BOOL_AND_UINTS,
            Requested,
        ),
        other(
            Op::RandBounded,
            "fheRandBounded",
            "randEuint",
            Shape::Random { bounded: true },
            UINTS,
            Requested,
        ),
        other(Op::Sum, "fheSum", "sum", List, UINTS_TO_128, Requested),
        other(Op::IsIn, "fheIsIn", "isIn", Membership, UINTS_TO_128_ADDRESS_256, BOOL),
        other(Op::MulDiv, "fheMulDiv", "mulDiv", Shape::MulDiv, UINTS_TO_64, Operand),
    ]
};

/// The types [`Operation::Cast`] can produce; its sources are in the table.
pub const CAST_TARGETS: TypeSet = UINTS;

impl Operation {
    /// Returns the operator id.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Returns the operation's line of the table.
    #[must_use]
    pub fn spec(self) -> &'static OperationSpec {
        TABLE
            .get(usize::from(self.id()))
            .expect("the table has a line per operation, as its test checks")
    }

    /// Lists every operation in the order of the ids.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|spec| spec.operation)
    }
}

impl TryFrom<u8> for Operation {
    type Error = UnknownOperation;

    fn try_from(id: u8) -> Result<Self, UnknownOperation> {
        TABLE.get(usize::from(id)).map(|spec| spec.operation).ok_or(UnknownOperation(id))
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec().function)
    }
}

impl OperationSpec {
    /// Returns the name of the executor's event, such as `FheAdd`.
    #[must_use]
    pub fn event(&self) -> String {
        let mut letters = self.function.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
            .collect()
    }

    /// Returns the longest list a list operation takes for this type, or `None` for operations without lists.
    ///
    /// Source: public protocol, section 1.2.
    #[must_use]
    pub const fn list_limit(&self, ty: FheType) -> Option<usize> {
        match (self.shape, ty) {
            (Shape::List | Shape::Membership, Uint8 | Uint16 | Uint32) => Some(100),
            (Shape::List | Shape::Membership, _) => Some(60),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_ids() {
        for (index, spec) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(spec.operation.id()), index, "{}", spec.function);
            assert_eq!(Operation::try_from(spec.operation.id()), Ok(spec.operation));
        }
        assert_eq!(Operation::try_from(31), Err(UnknownOperation(31)));
    }

    #[test]
    fn event_names_are_the_functions_capitalised() {
        assert_eq!(Operation::Add.spec().event(), "FheAdd");
        assert_eq!(Operation::VerifyInput.spec().event(), "VerifyInput");
        assert_eq!(Operation::IfThenElse.spec().event(), "FheIfThenElse");
    }

    #[test]
    fn type_masks_are_bits_at_the_type_numbers() {
        assert_eq!(UINTS_TO_128.mask(), 0b0_0111_1100);
        assert_eq!(ALL_TYPES.mask(), 0b1_1111_1101);
        assert_eq!(Operation::Eq.spec().types.iter().count(), 8);
    }
}
