//! Random transactions: optimized, unoptimized and clear agree.

use cipherloom_engine::{Engine, Granularity, Profile, lower::lower_to};
use cipherloom_primitives::{FheType, Handle, Operand, Operation, TypedOperation, U256, operation::CAST_TARGETS, operation::Shape};

use crate::support::{Random, Transaction, effort, encrypted, reference, with_scalar};

/// A transaction with this many operations on values of all types, which it mostly finds among earlier results.
pub(crate) fn random_transaction(random: &mut Random, operations: usize) -> Transaction {
    let mut transaction = Transaction::default();
    let mut values: Vec<Handle> = Vec::new();
    let kinds: Vec<Operation> = Operation::all().filter(|operation| *operation != Operation::VerifyInput).collect();
    let weighted = [
        FheType::Uint8,
        FheType::Uint8,
        FheType::Uint8,
        FheType::Uint16,
        FheType::Uint32,
        FheType::Uint64,
    ];
    while transaction.computations.len() < operations {
        let kind = random.pick(&kinds);
        let spec = kind.spec();
        let common = random.below(20) > 0;
        let ty = if common {
            random.pick(&weighted)
        } else {
            random.pick(&FheType::ALL)
        };
        let ty = if kind == Operation::BitAnd || kind == Operation::IfThenElse || kind == Operation::Not {
            random.pick(&[ty, FheType::Bool])
        } else {
            ty
        };
        if !spec.types.contains(ty) || (kind == Operation::Mul && ty.bits() > 64) {
            continue;
        }
        let operation = match spec.shape {
            Shape::Binary(_) if matches!(kind, Operation::Div | Operation::Rem) => with_scalar(kind, ty, random.value(ty).max(U256::ONE)),
            Shape::Binary(_) if random.below(3) == 0 => with_scalar(kind, ty, random.value(ty)),
            Shape::Binary(_) => encrypted(kind, ty),
            Shape::Unary if kind == Operation::Neg => TypedOperation::Neg { ty },
            Shape::Unary => TypedOperation::Not { ty },
            Shape::Cast => match CAST_TARGETS.iter().nth(random.below(6)).filter(|to| *to != ty && to.bits() <= 64) {
                Some(to) => TypedOperation::Cast { from: ty, to },
                None => continue,
            },
            Shape::Trivial => TypedOperation::TrivialEncrypt {
                value: random.value(ty),
                ty,
            },
            Shape::Select => TypedOperation::IfThenElse { ty },
            Shape::Random { .. } => TypedOperation::Rand {
                ty,
                seed: [u8::try_from(random.below(4)).unwrap(); 16],
                random_bits: match ty {
                    FheType::Bool => 1,
                    _ => u32::try_from(random.below(ty.bits() as usize + 1)).unwrap(),
                },
            },
            Shape::List => TypedOperation::Sum {
                ty,
                count: u8::try_from(random.below(7)).unwrap(),
            },
            Shape::Membership => TypedOperation::IsIn {
                ty,
                count: u8::try_from(random.below(5)).unwrap(),
            },
            Shape::MulDiv => TypedOperation::MulDiv {
                ty,
                factor: Operand::Encrypted,
                divisor: random.value(ty).max(U256::ONE),
            },
            Shape::Input => continue,
        };
        let inputs: Vec<Handle> = operation
            .input_types()
            .into_iter()
            .map(|ty| {
                let known: Vec<Handle> = values.iter().copied().filter(|handle| handle.fhe_type() == ty).collect();
                if known.is_empty() || random.below(8) == 0 {
                    let input = transaction.input(ty);
                    values.push(input);
                    return input;
                }
                // Recent results are taken more often, which makes graphs deep.
                let recent = known.len().saturating_sub(4);
                if random.below(2) == 0 {
                    random.pick(&known)
                } else {
                    random.pick(&known[recent..])
                }
            })
            .collect();
        values.push(transaction.operation(operation, &inputs));
    }
    transaction
}

/// Some results leave; that of the last operation always.
pub(crate) fn random_outputs(random: &mut Random, transaction: &Transaction) -> Vec<Handle> {
    let results = transaction.computations.iter().map(|computation| computation.result);
    let last = transaction.computations.last().map(|computation| computation.result);
    results.filter(|_| random.below(4) == 0).chain(last).collect()
}

#[test]
fn optimized_unoptimized_and_clear_agree_on_ten_thousand_graphs() {
    let mut operations_left = 0;
    for seed in 0..effort(10_000) as u64 {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        // Most graphs are small, every fiftieth may have 200 operations.
        let largest = if seed % 50 == 0 { 200 } else { 24 };
        let operations = 1 + random.below(largest);
        let transaction = random_transaction(&mut random, operations);
        let outputs = random_outputs(&mut random, &transaction);
        let graph = transaction.graph(&outputs);
        let compiled = Engine::default().compile(&graph);
        operations_left += compiled.graph.operation_count();
        // What is not optimized is lowered for either profile.
        let profile = Profile::ALL[usize::try_from(seed % 2).unwrap()];
        let unoptimized = lower_to(&graph, Granularity::Blocks, profile);
        for _ in 0..2 {
            let values = transaction.values(&mut random);
            let expected = reference(&graph, &values);
            assert_eq!(reference(&compiled.graph, &values), expected, "seed {seed}: rewriting");
            let (plain, optimized) = (unoptimized.simulate(&values), compiled.program.simulate(&values));
            for (handle, expected) in expected {
                assert_eq!(plain[&handle].clone().unwrap(), expected, "seed {seed}: lowering of {handle}");
                assert_eq!(optimized[&handle].clone().unwrap(), expected, "seed {seed}: optimized {handle}");
            }
        }
    }
    assert!(operations_left > 0, "the graphs were all empty");
}
