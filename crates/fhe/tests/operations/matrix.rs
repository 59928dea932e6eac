//! Cases for every line of the operation table.

use cipherloom_primitives::{
    FheType, Operand, Operation, OperationSpec, TypedOperation, U256,
    operation::{CAST_TARGETS, ScalarRule, Shape},
};

/// An operation with the plaintexts of its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) operation: TypedOperation,
    pub(crate) inputs: Vec<U256>,
}

/// Random numbers that are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator `SplitMix64`.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn value(&mut self, ty: FheType) -> U256 {
        ty.truncate(U256::from_limbs([self.next(), self.next(), self.next(), self.next()]))
    }

    pub(crate) fn seed(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }
}

/// The values where carries, signs and widths go wrong.
pub(crate) fn edges(ty: FheType) -> Vec<U256> {
    let max = ty.max_value();
    if ty == FheType::Bool {
        return vec![U256::ZERO, max];
    }
    let width = U256::from(ty.bits());
    let high_bit = U256::ONE << (ty.bits() as usize - 1);
    let alternating = max / U256::from(3);
    let mut edges = vec![
        U256::ZERO,
        max,
        U256::ONE,
        high_bit,
        width,
        U256::from(2),
        max - U256::ONE,
        high_bit - U256::ONE,
        width - U256::ONE,
        width + U256::ONE,
        alternating,
        U256::from(7),
    ];
    edges.retain(|value| *value <= max);
    edges
}

/// Makes pairs of values: all pairs of the first `edge_count` edges, then random ones.
fn pairs(ty: FheType, size: Size, random: &mut Random) -> Vec<(U256, U256)> {
    let edges: Vec<U256> = edges(ty).into_iter().take(size.edges).collect();
    let mut pairs: Vec<_> = edges.iter().flat_map(|left| edges.iter().map(|right| (*left, *right))).collect();
    // Amounts and divisors are often small.
    pairs.extend((0..size.random).map(|_| (random.value(ty), ty.truncate(U256::from(random.next() % 300)))));
    pairs.extend((0..size.random).map(|_| (random.value(ty), random.value(ty))));
    pairs
}

/// How many cases to make of each kind.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// How many edge values, of which all pairs are taken.
    pub(crate) edges: usize,
    /// How many random pairs, twice: with a small and with any second number.
    pub(crate) random: usize,
}

/// Makes the cases of an operation for a type of its set. Random values are left out: they have no expected value.
pub(crate) fn cases(spec: &OperationSpec, ty: FheType, size: Size) -> Vec<Case> {
    let mut random = Random::new(u64::from(spec.operation.id()) << 8 | u64::from(ty.id()));
    let pairs = pairs(ty, size, &mut random);
    let values: Vec<U256> = pairs.iter().map(|pair| pair.0).collect();
    let operation = spec.operation;
    match spec.shape {
        Shape::Binary(rule) => pairs
            .into_iter()
            .flat_map(|(left, right)| {
                let scalar = Case {
                    operation: TypedOperation::Binary {
                        operation,
                        ty,
                        rhs: Operand::Scalar(right),
                    },
                    inputs: vec![left],
                };
                let encrypted = Case {
                    operation: TypedOperation::Binary {
                        operation,
                        ty,
                        rhs: Operand::Encrypted,
                    },
                    inputs: vec![left, right],
                };
                match rule {
                    ScalarRule::Either => vec![scalar, encrypted],
                    ScalarRule::NonZeroScalarOnly if right.is_zero() => vec![],
                    ScalarRule::NonZeroScalarOnly => vec![scalar],
                }
            })
            .collect(),
        Shape::Unary => distinct(values)
            .into_iter()
            .map(|value| {
                let operation = match operation {
                    Operation::Neg => TypedOperation::Neg { ty },
                    Operation::Not => TypedOperation::Not { ty },
                    other => panic!("add {other} to the matrix"),
                };
                Case {
                    operation,
                    inputs: vec![value],
                }
            })
            .collect(),
        Shape::Cast => CAST_TARGETS
            .iter()
            .filter(|to| *to != ty)
            .flat_map(|to| {
                let operation = TypedOperation::Cast { from: ty, to };
                distinct(values.clone()).into_iter().map(move |value| Case {
                    operation: operation.clone(),
                    inputs: vec![value],
                })
            })
            .collect(),
        Shape::Trivial => distinct(values)
            .into_iter()
            .map(|value| Case {
                operation: TypedOperation::TrivialEncrypt { value, ty },
                inputs: vec![],
            })
            .collect(),
        Shape::Select => pairs
            .into_iter()
            .flat_map(|(if_true, if_false)| {
                [U256::ZERO, U256::ONE].map(|condition| Case {
                    operation: TypedOperation::IfThenElse { ty },
                    inputs: vec![condition, if_true, if_false],
                })
            })
            .collect(),
        Shape::List => lists(ty, size, spec.list_limit(ty).unwrap(), &mut random)
            .into_iter()
            .map(|inputs| Case {
                operation: TypedOperation::Sum {
                    ty,
                    count: inputs.len() as u8,
                },
                inputs,
            })
            .collect(),
        Shape::Membership => lists(ty, size, spec.list_limit(ty).unwrap(), &mut random)
            .into_iter()
            .flat_map(|list| {
                // A value of the list in half of the cases, if there is one.
                let inside = list.last().copied().unwrap_or_default();
                [inside, random.value(ty)].map(|value| Case {
                    operation: TypedOperation::IsIn {
                        ty,
                        count: list.len() as u8,
                    },
                    inputs: [&[value][..], &list].concat(),
                })
            })
            .collect(),
        Shape::MulDiv => pairs
            .into_iter()
            .flat_map(|(left, right)| {
                let divisor = [
                    U256::ONE,
                    U256::from(7),
                    U256::from(8),
                    ty.max_value(),
                    random.value(ty).max(U256::ONE),
                ][random.below(5)];
                let scalar = Case {
                    operation: TypedOperation::MulDiv {
                        ty,
                        factor: Operand::Scalar(right),
                        divisor,
                    },
                    inputs: vec![left],
                };
                let encrypted = Case {
                    operation: TypedOperation::MulDiv {
                        ty,
                        factor: Operand::Encrypted,
                        divisor,
                    },
                    inputs: vec![left, right],
                };
                [scalar, encrypted]
            })
            .collect(),
        Shape::Random { .. } | Shape::Input => vec![],
    }
}

/// Lists of several lengths, the empty one among them.
fn lists(ty: FheType, size: Size, limit: usize, random: &mut Random) -> Vec<Vec<U256>> {
    let edges = edges(ty);
    let mut lists = vec![
        vec![],
        vec![ty.max_value()],
        vec![ty.max_value(); 2],
        edges.clone(),
        vec![U256::ZERO; 3],
    ];
    lists.extend((0..size.random).map(|_| (0..random.below(9)).map(|_| random.value(ty)).collect()));
    if size.edges > 6 {
        lists.push((0..limit).map(|_| random.value(ty)).collect());
    }
    lists
}

fn distinct(mut values: Vec<U256>) -> Vec<U256> {
    values.sort_unstable();
    values.dedup();
    values
}
