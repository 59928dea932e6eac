//! Each rule alone: it fires on its patterns, and what it gives is the same for all 8-bit numbers and random larger ones.

use std::collections::HashMap;

use cipherloom_engine::rewrite::{COMMON_SUBEXPRESSIONS, RuleSet, rewrite, rules};
use cipherloom_primitives::{FheType, Handle, Operand, Operation, TypedOperation, U256};

use crate::support::{Random, Transaction, reference};

/// A transaction on `x`, `y` and `c` whose result a rule changes.
type Pattern = fn(&mut Transaction, Handle, Handle, Handle) -> Handle;

fn patterns(rule: &str) -> Vec<Pattern> {
    use Operation as Op;
    match rule {
        "fold-public" => vec![|t, x, _, _| {
            let (a, b) = (t.public(x.fhe_type(), 77), t.public(x.fhe_type(), 200));
            t.binary(Op::Sub, a, b)
        }],
        "scalar-operand" => vec![
            |t, x, _, _| {
                let k = t.public(x.fhe_type(), 77);
                t.binary(Op::Sub, x, k)
            },
            |t, x, _, _| {
                let k = t.public(x.fhe_type(), 77);
                t.binary(Op::Mul, k, x)
            },
            |t, x, _, _| {
                let k = t.public(x.fhe_type(), 77);
                t.binary(Op::Gt, k, x)
            },
            |t, x, _, _| {
                let k = t.public(x.fhe_type(), 77);
                t.binary(Op::Le, k, x)
            },
            |t, x, _, _| {
                let k = t.public(x.fhe_type(), 77);
                t.binary(Op::Lt, k, x)
            },
            |t, x, _, _| {
                let k = t.public(x.fhe_type(), 77);
                t.binary(Op::Ge, k, x)
            },
        ],
        "neutral-element" => vec![
            |t, x, _, _| t.scalar(Op::Add, x, 0),
            |t, x, _, _| t.scalar(Op::Sub, x, 0),
            |t, x, _, _| t.scalar(Op::BitOr, x, 0),
            |t, x, _, _| t.scalar(Op::BitXor, x, 0),
            |t, x, _, _| t.scalar(Op::Max, x, 0),
            |t, x, _, _| t.scalar(Op::Min, x, u64::MAX),
            |t, x, _, _| t.scalar(Op::BitAnd, x, u64::MAX),
            |t, x, _, _| t.scalar(Op::Mul, x, 1),
            |t, x, _, _| t.scalar(Op::Div, x, 1),
            |t, x, _, _| t.scalar(Op::Shl, x, 0),
            |t, x, _, _| t.scalar(Op::Rotr, x, u64::from(x.fhe_type().bits())),
        ],
        "absorbing-element" => vec![
            |t, x, _, _| t.scalar(Op::BitAnd, x, 0),
            |t, x, _, _| t.scalar(Op::Mul, x, 0),
            |t, x, _, _| t.scalar(Op::Min, x, 0),
            |t, x, _, _| t.scalar(Op::Rem, x, 1),
            |t, x, _, _| t.scalar(Op::BitOr, x, u64::MAX),
            |t, x, _, _| t.scalar(Op::Max, x, u64::MAX),
            |t, x, _, _| t.scalar(Op::BitXor, x, u64::MAX),
        ],
        "same-operands" => vec![
            |t, x, _, _| t.binary(Op::Add, x, x),
            |t, x, _, _| t.binary(Op::Sub, x, x),
            |t, x, _, _| t.binary(Op::BitXor, x, x),
            |t, x, _, _| t.binary(Op::BitAnd, x, x),
            |t, x, _, _| t.binary(Op::BitOr, x, x),
            |t, x, _, _| t.binary(Op::Min, x, x),
            |t, x, _, _| t.binary(Op::Max, x, x),
        ],
        "double-negation" => vec![
            |t, x, _, _| {
                let not = t.not(x);
                t.not(not)
            },
            |t, x, _, _| {
                let ty = x.fhe_type();
                let neg = t.operation(TypedOperation::Neg { ty }, &[x]);
                t.operation(TypedOperation::Neg { ty }, &[neg])
            },
        ],
        "power-of-two" => vec![
            |t, x, _, _| t.scalar(Op::Mul, x, 8),
            |t, x, _, _| t.scalar(Op::Div, x, 16),
            |t, x, _, _| t.scalar(Op::Rem, x, 32),
            |t, x, _, _| t.scalar(Op::Rem, x, 2),
        ],
        "scalar-chain" => scalar_chains(),
        "negated-operand" => vec![
            |t, x, y, _| {
                let negated = t.operation(TypedOperation::Neg { ty: y.fhe_type() }, &[y]);
                t.binary(Op::Add, x, negated)
            },
            |t, x, y, _| {
                let negated = t.operation(TypedOperation::Neg { ty: y.fhe_type() }, &[y]);
                t.binary(Op::Add, negated, x)
            },
            |t, x, y, _| {
                let negated = t.operation(TypedOperation::Neg { ty: y.fhe_type() }, &[y]);
                t.binary(Op::Sub, x, negated)
            },
            |t, x, y, _| {
                let difference = t.binary(Op::Sub, x, y);
                t.operation(TypedOperation::Neg { ty: x.fhe_type() }, &[difference])
            },
        ],
        "remainder" => vec![
            |t, x, _, _| {
                let quotient = t.scalar(Op::Div, x, 10);
                let multiple = t.scalar(Op::Mul, quotient, 10);
                t.binary(Op::Sub, x, multiple)
            },
            |t, x, _, _| {
                let quotient = t.scalar(Op::Shr, x, 3);
                let multiple = t.scalar(Op::Shl, quotient, 3);
                t.binary(Op::Sub, x, multiple)
            },
        ],
        "minimum-and-maximum" => vec![
            |t, x, y, _| {
                let (smaller, larger) = (t.binary(Op::Min, x, y), t.binary(Op::Max, y, x));
                t.binary(Op::Add, larger, smaller)
            },
            |t, x, y, _| {
                let larger = t.binary(Op::Max, y, x);
                t.binary(Op::Min, x, larger)
            },
            |t, x, y, _| {
                let smaller = t.binary(Op::Min, x, y);
                t.binary(Op::Max, smaller, x)
            },
        ],
        "fraction" => vec![
            |t, x, _, _| fraction(t, x, 30, 100),
            |t, x, _, _| fraction(t, x, 48, 16),
            |t, x, _, _| fraction(t, x, 5, 45),
            |t, x, _, _| fraction(t, x, 0, 45),
        ],
        "one-comparison" => vec![
            |t, x, y, _| t.binary(Op::Lt, x, y),
            |t, x, y, _| t.binary(Op::Le, x, y),
            |t, x, y, _| t.binary(Op::Gt, x, y),
            |t, x, y, _| t.binary(Op::Ne, x, y),
            |t, x, _, _| t.scalar(Op::Lt, x, 77),
            |t, x, _, _| t.scalar(Op::Le, x, 77),
            |t, x, _, _| t.scalar(Op::Gt, x, 77),
            |t, x, _, _| t.scalar(Op::Ne, x, 77),
            |t, x, _, _| t.scalar(Op::Le, x, u64::MAX),
            |t, x, _, _| t.scalar(Op::Gt, x, u64::MAX),
            |t, x, _, _| t.scalar(Op::Lt, x, 0),
        ],
        "known-comparison" => vec![
            |t, x, _, _| t.scalar(Op::Ge, x, 0),
            |t, x, _, _| t.binary(Op::Ge, x, x),
            |t, x, _, _| t.binary(Op::Eq, x, x),
            |t, _, _, c| t.scalar(Op::Eq, c, 0),
            |t, _, _, c| t.scalar(Op::Eq, c, 1),
        ],
        "known-choice" => vec![
            |t, x, _, c| t.select(c, x, x),
            |t, x, y, _| {
                let condition = t.public(FheType::Bool, 0);
                t.select(condition, x, y)
            },
            |t, x, y, _| {
                let condition = t.public(FheType::Bool, 1);
                t.select(condition, x, y)
            },
            |t, _, _, c| {
                let (yes, no) = (t.public(FheType::Bool, 1), t.public(FheType::Bool, 0));
                t.select(c, yes, no)
            },
            |t, _, _, c| {
                let (yes, no) = (t.public(FheType::Bool, 1), t.public(FheType::Bool, 0));
                t.select(c, no, yes)
            },
        ],
        "choice-by-complement" => vec![|t, x, y, c| {
            let not = t.not(c);
            t.select(not, x, y)
        }],
        "comparisons-of-pair" => comparisons_of_pair(),
        "complements" => vec![
            |t, x, y, _| {
                let (x, y) = (t.not(x), t.not(y));
                t.binary(Op::BitAnd, x, y)
            },
            |t, x, y, _| {
                let (x, y) = (t.not(x), t.not(y));
                t.binary(Op::BitOr, x, y)
            },
            |t, x, y, _| {
                let x = t.not(x);
                t.binary(Op::BitXor, x, y)
            },
            |t, x, y, _| {
                let y = t.not(y);
                t.binary(Op::BitXor, x, y)
            },
        ],
        "choice-in-choice" => vec![
            |t, x, y, c| {
                let inner = t.select(c, x, y);
                let other = t.binary(Op::Add, x, y);
                t.select(c, inner, other)
            },
            |t, x, y, c| {
                let inner = t.select(c, x, y);
                let other = t.binary(Op::Add, x, y);
                t.select(c, other, inner)
            },
        ],
        "choice-of-extreme" => vec![
            |t, x, y, _| {
                let ordered = t.binary(Op::Ge, x, y);
                t.select(ordered, x, y)
            },
            |t, x, y, _| {
                let ordered = t.binary(Op::Ge, x, y);
                t.select(ordered, y, x)
            },
            |t, x, _, _| {
                let (ordered, bound) = (t.scalar(Op::Ge, x, 77), t.public(x.fhe_type(), 77));
                t.select(ordered, bound, x)
            },
        ],
        "choice-of-change" => vec![
            |t, x, y, c| {
                let sum = t.binary(Op::Add, x, y);
                t.select(c, sum, x)
            },
            |t, x, y, c| {
                let sum = t.binary(Op::Add, y, x);
                t.select(c, x, sum)
            },
            |t, x, y, c| {
                let difference = t.binary(Op::Sub, x, y);
                t.select(c, difference, x)
            },
            |t, x, _, c| {
                let sum = t.scalar(Op::Sub, x, 9);
                t.select(c, sum, x)
            },
            |t, x, y, c| {
                let (sum, other) = (t.binary(Op::Add, x, y), t.scalar(Op::Add, x, 100));
                t.select(c, sum, other)
            },
            |t, x, y, c| {
                let three = t.scalar(Op::Mul, x, 3);
                let (left, right) = (t.binary(Op::Sub, y, x), t.binary(Op::Sub, y, three));
                t.select(c, left, right)
            },
        ],
        "several-equalities" => vec![
            |t, x, y, _| {
                let (first, second) = (t.binary(Op::Eq, x, y), t.scalar(Op::Eq, x, 77));
                t.binary(Op::BitOr, first, second)
            },
            |t, x, y, _| {
                let (first, second) = (t.scalar(Op::Eq, y, 7), t.binary(Op::Eq, x, y));
                t.binary(Op::BitOr, first, second)
            },
            |t, x, y, _| {
                let ty = x.fhe_type();
                let sum = t.binary(Op::Add, x, y);
                let list = t.operation(TypedOperation::IsIn { ty, count: 2 }, &[x, y, sum]);
                let equal = t.scalar(Op::Eq, x, 77);
                t.binary(Op::BitOr, list, equal)
            },
        ],
        "cast-chain" => vec![
            |t, x, _, _| {
                let from = x.fhe_type();
                let to = FheType::Uint256;
                let wide = t.operation(TypedOperation::Cast { from, to }, &[x]);
                t.operation(
                    TypedOperation::Cast {
                        from: to,
                        to: FheType::Uint128,
                    },
                    &[wide],
                )
            },
            |t, x, _, _| {
                let from = x.fhe_type();
                let to = FheType::Uint256;
                let wide = t.operation(TypedOperation::Cast { from, to }, &[x]);
                t.operation(TypedOperation::Cast { from: to, to: from }, &[wide])
            },
        ],
        "addition-chain" => vec![
            |t, x, y, _| {
                let inner = t.binary(Op::Add, x, y);
                t.binary(Op::Add, inner, x)
            },
            |t, x, y, _| {
                let (left, right) = (t.binary(Op::Add, x, y), t.binary(Op::Add, y, y));
                let ty = x.fhe_type();
                t.operation(TypedOperation::Sum { ty, count: 3 }, &[left, right, x])
            },
        ],
        "short-list" => vec![
            |t, x, _, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::Sum { ty, count: 0 }, &[])
            },
            |t, x, _, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::Sum { ty, count: 1 }, &[x])
            },
            |t, x, y, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::Sum { ty, count: 2 }, &[x, y])
            },
            |t, x, y, _| {
                let ty = x.fhe_type();
                let (a, b) = (t.public(ty, 200), t.public(ty, 100));
                t.operation(TypedOperation::Sum { ty, count: 4 }, &[x, a, y, b])
            },
            |t, x, y, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::IsIn { ty, count: 3 }, &[x, y, x, y])
            },
            |t, x, y, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::IsIn { ty, count: 2 }, &[x, y, y])
            },
            |t, x, y, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::IsIn { ty, count: 1 }, &[x, y])
            },
            |t, x, _, _| {
                let ty = x.fhe_type();
                t.operation(TypedOperation::IsIn { ty, count: 0 }, &[x])
            },
        ],
        COMMON_SUBEXPRESSIONS => vec![|t, x, y, _| {
            let (left, right) = (t.binary(Op::Mul, x, y), t.binary(Op::Mul, y, x));
            t.binary(Op::BitXor, left, right)
        }],
        other => panic!("rule {other} has no pattern"),
    }
}

fn scalar_chains() -> Vec<Pattern> {
    use Operation as Op;
    /// A pattern of two operations with scalars.
    macro_rules! chain {
        ($first:ident $a:literal $second:ident $b:literal) => {
            |t, x, _, _| {
                let inner = t.scalar(Op::$first, x, $a);
                t.scalar(Op::$second, inner, $b)
            }
        };
    }
    vec![
        chain!(Add 200 Add 100),
        chain!(Sub 200 Sub 100),
        chain!(Add 200 Sub 100),
        chain!(Sub 200 Add 100),
        chain!(Mul 7 Mul 99),
        chain!(Div 7 Div 9),
        chain!(Div 200 Div 0x7fff_ffff_ffff_ff03),
        chain!(Rem 60 Rem 12),
        chain!(Min 200 Min 100),
        chain!(Max 200 Max 100),
        chain!(BitAnd 204 BitAnd 170),
        chain!(BitOr 204 BitOr 170),
        chain!(BitXor 204 BitXor 170),
        chain!(Shl 3 Shl 2),
        chain!(Shl 7 Shl 63),
        chain!(Shr 3 Shr 2),
        chain!(Rotl 7 Rotl 63),
        chain!(Rotr 3 Rotr 2),
    ]
}

fn fraction(transaction: &mut Transaction, value: Handle, factor: u64, divisor: u64) -> Handle {
    let operation = TypedOperation::MulDiv {
        ty: value.fhe_type(),
        factor: Operand::Scalar(U256::from(factor)),
        divisor: U256::from(divisor),
    };
    transaction.operation(operation, &[value])
}

/// Every two relations of a pair, joined in three ways, and two of a value with public numbers.
fn comparisons_of_pair() -> Vec<Pattern> {
    use Operation as Op;
    macro_rules! joined {
        ($($first:ident $second:ident $join:ident,)*) => {
            vec![$(
                |t: &mut Transaction, x: Handle, y: Handle, _: Handle| {
                    let first = $first(t, x, y);
                    let second = $second(t, x, y);
                    t.binary(Op::$join, first, second)
                },
            )*]
        };
    }
    let mut patterns: Vec<Pattern> = joined![
        less equal BitOr, less greater BitOr, less not_equal BitAnd, greater equal BitXor,
        not_less not_greater BitAnd, not_less greater BitAnd, not_greater not_equal BitAnd, not_less not_greater BitOr,
        less greater BitAnd, less not_less BitXor, not_equal not_greater BitXor, equal not_greater BitAnd,
    ];
    patterns.push(|t, x, _, _| {
        let (first, second) = (t.scalar(Op::Ge, x, 7), t.scalar(Op::Ge, x, 77));
        t.binary(Op::BitAnd, first, second)
    });
    patterns.push(|t, x, _, _| {
        let (first, second) = (t.scalar(Op::Ge, x, 7), t.scalar(Op::Ge, x, 77));
        t.binary(Op::BitOr, first, second)
    });
    patterns
}

fn not_less(t: &mut Transaction, x: Handle, y: Handle) -> Handle {
    t.binary(Operation::Ge, x, y)
}

fn not_greater(t: &mut Transaction, x: Handle, y: Handle) -> Handle {
    t.binary(Operation::Ge, y, x)
}

fn equal(t: &mut Transaction, x: Handle, y: Handle) -> Handle {
    t.binary(Operation::Eq, x, y)
}

fn less(t: &mut Transaction, x: Handle, y: Handle) -> Handle {
    let complement = not_less(t, x, y);
    t.not(complement)
}

fn greater(t: &mut Transaction, x: Handle, y: Handle) -> Handle {
    let complement = not_greater(t, x, y);
    t.not(complement)
}

fn not_equal(t: &mut Transaction, x: Handle, y: Handle) -> Handle {
    let complement = equal(t, x, y);
    t.not(complement)
}

fn all_rules() -> Vec<&'static str> {
    rules().map(|rule| rule.name).chain([COMMON_SUBEXPRESSIONS]).collect()
}

fn check(rule: &str, pattern: Pattern, ty: FheType, numbers: impl Iterator<Item = (U256, U256)>) {
    let mut transaction = Transaction::default();
    let (x, y, c) = (transaction.input(ty), transaction.input(ty), transaction.input(FheType::Bool));
    let result = pattern(&mut transaction, x, y, c);
    let graph = transaction.graph(&[result]).prune();
    let (rewritten, firings) = rewrite(&graph, &RuleSet::only(rule));
    let fired: Vec<&str> = firings.iter().map(|firing| firing.rule).collect();
    assert_eq!(fired, [rule], "on\n{graph}");
    for (left, right) in numbers {
        for condition in 0..2_u8 {
            let values = HashMap::from([(x, left), (y, right), (c, U256::from(condition))]);
            assert_eq!(
                reference(&rewritten, &values),
                reference(&graph, &values),
                "{rule} on {left} and {right}\n{graph}\n{rewritten}"
            );
        }
    }
}

#[test]
fn every_rule_is_exact_on_all_pairs_of_8_bit_numbers() {
    for rule in all_rules() {
        for pattern in patterns(rule) {
            let pairs = (0..=u16::MAX).map(|pair| (U256::from(pair >> 8), U256::from(pair & 255)));
            check(rule, pattern, FheType::Uint8, pairs);
        }
    }
}

#[test]
fn every_rule_is_exact_on_random_64_bit_numbers() {
    let mut random = Random(4);
    for rule in all_rules() {
        for pattern in patterns(rule) {
            let pairs: Vec<_> = (0..300)
                .map(|_| (random.value(FheType::Uint64), random.value(FheType::Uint64)))
                .collect();
            check(rule, pattern, FheType::Uint64, pairs.into_iter());
        }
    }
}

#[test]
fn rules_can_be_switched_off() {
    let mut transaction = Transaction::default();
    let x = transaction.input(FheType::Uint8);
    let sum = transaction.scalar(Operation::Add, x, 0);
    let graph = transaction.graph(&[sum]);
    let off = RuleSet::default().without("neutral-element");
    assert_eq!(rewrite(&graph, &off).0.operation_count(), 1);
    assert_eq!(rewrite(&graph, &RuleSet::default()).0.operation_count(), 0);
}

#[test]
fn the_order_of_rewriting_is_fixed() {
    let mut transaction = Transaction::default();
    let (x, y) = (transaction.input(FheType::Uint64), transaction.input(FheType::Uint64));
    let less = transaction.binary(Operation::Lt, x, y);
    let zero = transaction.public(FheType::Uint64, 0);
    let chosen = transaction.select(less, zero, x);
    let graph = transaction.graph(&[chosen]);
    let first = rewrite(&graph, &RuleSet::default()).0.to_string();
    assert!((0..10).all(|_| rewrite(&graph, &RuleSet::default()).0.to_string() == first));
}
