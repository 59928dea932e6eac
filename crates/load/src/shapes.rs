//! Shapes of transactions: what contracts do, and what schedulers find hard.

use alloy_primitives::U256;
use cipherloom_primitives::FheType;
use cipherloom_rpc::fhevm::common::FheOperation as Op;

use crate::{plain::Value, traffic::State, transaction::Transaction};

/// The types with an arithmetic.
const NUMBERS: [FheType; 5] = [FheType::Uint8, FheType::Uint16, FheType::Uint32, FheType::Uint64, FheType::Uint128];

/// The operations that every number has, on two of them.
const ARITHMETIC: [Op; 8] = [
    Op::FheAdd,
    Op::FheSub,
    Op::FheMul,
    Op::FheMin,
    Op::FheMax,
    Op::FheBitAnd,
    Op::FheBitOr,
    Op::FheBitXor,
];

const COMPARISONS: [Op; 6] = [Op::FheEq, Op::FheNe, Op::FheGe, Op::FheGt, Op::FheLe, Op::FheLt];
const MOVES: [Op; 4] = [Op::FheShl, Op::FheShr, Op::FheRotl, Op::FheRotr];

/// A shape of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A token transfer between two accounts: each balance depends on the transaction that changed it before.
    Transfer,
    /// One more on a number that all of these transactions count on: a chain through the whole history.
    Count,
    /// Many operations on one value, joined at the end.
    Wide,
    /// One operation after the other.
    Deep,
    /// Shifts, rotations and conversions.
    Moves,
    /// Conditions and choices.
    Choice,
    /// Random values, and what can be known of them.
    Random,
    /// What users sent encrypted, compared and kept: a bid.
    Bid,
    /// Division and remainder by public numbers.
    Division,
    /// Nothing but a public value.
    Single,
}

impl Shape {
    /// All of them, those that contracts use most more than once.
    pub const MIXED: [Self; 14] = [
        Self::Transfer,
        Self::Transfer,
        Self::Transfer,
        Self::Transfer,
        Self::Count,
        Self::Wide,
        Self::Deep,
        Self::Moves,
        Self::Choice,
        Self::Random,
        Self::Bid,
        Self::Bid,
        Self::Division,
        Self::Single,
    ];

    /// Writes a transaction of this shape.
    pub(crate) fn write(self, state: &mut State<'_>, transaction: &mut Transaction<'_>) {
        match self {
            Self::Transfer => transfer(state, transaction),
            Self::Count => {
                let next = transaction.binary_scalar(Op::FheAdd, &state.counter(), U256::ONE);
                state.counted(next);
            }
            Self::Wide => wide(state, transaction),
            Self::Deep => deep(state, transaction),
            Self::Moves => moves(state, transaction),
            Self::Choice => choice(state, transaction),
            Self::Random => random(transaction),
            Self::Bid => bid(state, transaction),
            Self::Division => division(state, transaction),
            Self::Single => {
                let ty = any_of(transaction, &FheType::ALL, FheType::Uint64);
                let value = transaction.random().plaintext(ty);
                transaction.trivial(ty, value);
            }
        }
    }
}

/// Moves an amount if the balance is large enough, and nothing if not; the sum of all balances stays what it was.
pub(crate) fn transfer(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let (from, to) = state.two_accounts(transaction.random());
    let (sender, receiver) = (state.account(from), state.account(to));
    let amount = state.some(FheType::Uint64, transaction);
    let enough = transaction.binary(Op::FheLe, &amount, &sender);
    let zero = transaction.trivial(FheType::Uint64, U256::ZERO);
    let moved = transaction.select(&enough, &amount, &zero);
    let sent = transaction.binary(Op::FheSub, &sender, &moved);
    let received = transaction.binary(Op::FheAdd, &receiver, &moved);
    state.changed(from, sent);
    state.changed(to, received);
}

fn wide(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let ty = any_of(transaction, &NUMBERS, FheType::Uint32);
    let value = state.some(ty, transaction);
    let mut sum = transaction.unary(Op::FheNot, &value);
    for _ in 0..4 + transaction.random().below(6) {
        let operation = any_of(transaction, &ARITHMETIC, Op::FheAdd);
        let operand = transaction.random().plaintext(ty);
        let one = transaction.binary_scalar(operation, &value, operand);
        sum = transaction.binary(Op::FheAdd, &sum, &one);
    }
    state.keep(sum);
}

fn deep(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let ty = any_of(transaction, &NUMBERS, FheType::Uint16);
    let (mut value, other) = (state.some(ty, transaction), state.some(ty, transaction));
    for _ in 0..6 + transaction.random().below(8) {
        let operation = any_of(transaction, &ARITHMETIC, Op::FheSub);
        value = transaction.binary(operation, &value, &other);
    }
    state.keep(value);
}

fn moves(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let ty = any_of(transaction, &[FheType::Uint8, FheType::Uint64, FheType::Uint256], FheType::Uint8);
    let mut value = state.some(ty, transaction);
    let amount = state.some(ty, transaction);
    for operation in MOVES {
        let by = transaction.random().below(300);
        let moved = transaction.binary_scalar(operation, &value, U256::from(by));
        value = transaction.binary(Op::FheBitXor, &moved, &value);
    }
    let moved = transaction.binary(Op::FheRotl, &value, &amount);
    let narrow = transaction.cast(&moved, FheType::Uint16);
    let wide = transaction.cast(&narrow, FheType::Uint128);
    let negative = transaction.unary(Op::FheNeg, &wide);
    state.keep(negative);
}

fn choice(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let ty = any_of(transaction, &NUMBERS, FheType::Uint8);
    let (left, right) = (state.some(ty, transaction), state.some(ty, transaction));
    let mut conditions = Vec::new();
    for operation in COMPARISONS {
        conditions.push(transaction.binary(operation, &left, &right));
    }
    let combined = [Op::FheBitAnd, Op::FheBitOr, Op::FheBitXor, Op::FheEq];
    let Some(mut condition) = conditions.pop() else {
        return;
    };
    for (next, operation) in conditions.iter().zip(combined.into_iter().cycle()) {
        condition = transaction.binary(operation, &condition, next);
    }
    let chosen = transaction.select(&condition, &left, &right);
    let opposite = transaction.unary(Op::FheNot, &condition);
    let other = transaction.select(&opposite, &left, &right);
    let sum = transaction.binary(Op::FheAdd, &chosen, &other);
    state.keep(sum);
}

/// Random values cannot be foreseen; that they differ from themselves in nothing, and stay below their bound, can.
fn random(transaction: &mut Transaction<'_>) {
    let value = transaction.rand(FheType::Uint64);
    let bounded = transaction.rand_below_power(FheType::Uint64, 20);
    let nothing = transaction.binary(Op::FheBitXor, &value, &value);
    let sum = transaction.binary(Op::FheAdd, &bounded, &value);
    let more = transaction.binary(Op::FheBitXor, &sum, &sum);
    transaction.binary(Op::FheEq, &nothing, &more);
}

/// Keeps the higher of two bids, and who made it.
fn bid(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let bid = state.some(FheType::Uint64, transaction);
    let (highest, bidder) = state.highest_bid();
    let higher = transaction.binary(Op::FheGt, &bid, &highest);
    let account = transaction.random().plaintext(FheType::Address);
    let me = transaction.trivial(FheType::Address, account);
    let price = transaction.select(&higher, &bid, &highest);
    let winner = transaction.select(&higher, &me, &bidder);
    state.bid_placed(price, winner);
}

fn division(state: &mut State<'_>, transaction: &mut Transaction<'_>) {
    let ty = any_of(transaction, &NUMBERS, FheType::Uint16);
    let value = state.some(ty, transaction);
    let divisor = transaction.random().plaintext(ty).max(U256::ONE);
    let quotient = transaction.binary_scalar(Op::FheDiv, &value, divisor);
    let remainder = transaction.binary_scalar(Op::FheRem, &value, divisor);
    let product = transaction.binary_scalar(Op::FheMul, &quotient, divisor);
    let whole = transaction.binary(Op::FheAdd, &product, &remainder);
    transaction.binary(Op::FheEq, &whole, &value);
}

fn any_of<T: Copy>(transaction: &mut Transaction<'_>, among: &[T], otherwise: T) -> T {
    transaction.random().pick(among).copied().unwrap_or(otherwise)
}

/// A public value for a transaction that finds none of its type.
pub(crate) fn fresh(ty: FheType, transaction: &mut Transaction<'_>) -> Value {
    let value = transaction.random().plaintext(ty);
    transaction.trivial(ty, value)
}
