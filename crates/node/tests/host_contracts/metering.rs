//! Random programs under random limits: an operation passes exactly if the published costs leave room for it.

use alloy::{
    primitives::Uint,
    sol_types::{SolError, SolEvent},
};
use cipherloom_contracts::bindings::HCULimit;
use cipherloom_primitives::{FheType, Operation};
use proptest::{prelude::*, sample::Index};

use crate::stage::{Arg, Batch, Stage, byte, is_in_arguments, sum_arguments};

const UINT64: FheType = FheType::Uint64;

/// Costs of the public protocol (section 1.8) for `euint64`, in HCU.
mod cost {
    pub(super) const TRIVIAL_ENCRYPT: u64 = 32;
    pub(super) const RAND: u64 = 24_000;
    pub(super) const ADD: u64 = 162_000;
    pub(super) const ADD_SCALAR: u64 = 133_000;
    pub(super) const MUL: u64 = 596_000;
    pub(super) const LT_SCALAR: u64 = 118_000;
    pub(super) const SELECT: u64 = 55_000;
    pub(super) const SUM_TO_10: u64 = 139_000;
    pub(super) const IS_IN_TO_10: u64 = 218_000;
}

/// An operation on `euint64` operands; those that give an `ebool` are followed by a choice that uses it.
#[derive(Clone, Debug)]
enum Step {
    Encrypt,
    Rand,
    Add(Index, Index),
    AddScalar(Index),
    Mul(Index, Index),
    Choose(Index, Index, Index),
    Sum(Vec<Index>),
    ChooseIfContained(Index, Index, Index),
}

fn step() -> impl Strategy<Value = Step> {
    let operand = any::<Index>;
    prop_oneof![
        1 => Just(Step::Encrypt),
        1 => Just(Step::Rand),
        2 => (operand(), operand()).prop_map(|(a, b)| Step::Add(a, b)),
        2 => operand().prop_map(Step::AddScalar),
        2 => (operand(), operand()).prop_map(|(a, b)| Step::Mul(a, b)),
        1 => (operand(), operand(), operand()).prop_map(|(a, b, c)| Step::Choose(a, b, c)),
        1 => proptest::collection::vec(operand(), 1..10).prop_map(Step::Sum),
        1 => (operand(), operand(), operand()).prop_map(|(a, b, c)| Step::ChooseIfContained(a, b, c)),
    ]
}

/// One operation of a program: its cost and the positions of its operands in the script.
struct Priced {
    cost: u64,
    operands: Vec<usize>,
}

/// A script with the price of each of its calls.
struct Program {
    script: crate::stage::Script,
    calls: Vec<Priced>,
    /// The calls that give `euint64`.
    values: Vec<usize>,
}

impl Program {
    fn of(stage: &Stage, steps: &[Step]) -> Self {
        let mut program = Self {
            script: stage.script(),
            calls: Vec::new(),
            values: Vec::new(),
        };
        program.add(Operation::TrivialEncrypt, &[1.into(), UINT64.into()], cost::TRIVIAL_ENCRYPT);
        program.values.push(0);
        for step in steps {
            let last = program.step(step);
            program.values.push(last);
        }
        program
    }

    fn add(&mut self, operation: Operation, arguments: &[Arg], cost: u64) -> usize {
        self.script.operation(operation, arguments);
        let operands = arguments.iter().filter_map(|argument| match argument {
            Arg::Result(source) => Some(*source),
            Arg::Word(_) => None,
        });
        self.calls.push(Priced {
            cost,
            operands: operands.collect(),
        });
        self.calls.len() - 1
    }

    fn step(&mut self, step: &Step) -> usize {
        let values = self.values.clone();
        let value = |index: &Index| Arg::Result(values[index.index(values.len())]);
        let next = self.calls.len() as u64;
        match step {
            Step::Encrypt => self.add(Operation::TrivialEncrypt, &[next.into(), UINT64.into()], cost::TRIVIAL_ENCRYPT),
            Step::Rand => self.add(Operation::Rand, &[UINT64.into()], cost::RAND),
            Step::Add(a, b) => self.add(Operation::Add, &[value(a), value(b), byte(0)], cost::ADD),
            Step::AddScalar(a) => self.add(Operation::Add, &[value(a), next.into(), byte(1)], cost::ADD_SCALAR),
            Step::Mul(a, b) => self.add(Operation::Mul, &[value(a), value(b), byte(0)], cost::MUL),
            Step::Choose(a, b, c) => {
                let condition = self.add(Operation::Lt, &[value(a), next.into(), byte(1)], cost::LT_SCALAR);
                self.choose(condition, value(b), value(c))
            }
            Step::Sum(list) => {
                let list: Vec<Arg> = list.iter().map(value).collect();
                self.add(Operation::Sum, &sum_arguments(&list, UINT64), cost::SUM_TO_10)
            }
            Step::ChooseIfContained(a, b, c) => {
                let list = [value(b), value(c)];
                let condition = self.add(Operation::IsIn, &is_in_arguments(value(a), &list, UINT64), cost::IS_IN_TO_10);
                self.choose(condition, value(b), value(c))
            }
        }
    }

    fn choose(&mut self, condition: usize, yes: Arg, no: Arg) -> usize {
        self.add(Operation::IfThenElse, &[Arg::Result(condition), yes, no], cost::SELECT)
    }
}

/// Runs a program under limits and returns how many calls were refused for want of room.
fn check(stage: &Stage, steps: &[Step], depth_limit: u64, sum_limit: u64) -> usize {
    let limit = stage.host.hcu_limit;
    let depth_call = |depth| HCULimit::setMaxHCUDepthPerTxCall {
        maxHCUDepthPerTx: Uint::from(depth),
    };
    // The depth is never above the sum, on the way either.
    stage.administer(limit, &depth_call(1));
    let sum_call = HCULimit::setMaxHCUPerTxCall {
        maxHCUPerTx: Uint::from(sum_limit),
    };
    stage.administer(limit, &sum_call);
    stage.administer(limit, &depth_call(depth_limit));

    let program = Program::of(stage, steps);
    let attempt = Batch::attemptCall {
        calls: program.script.calls().to_vec(),
    };
    let mined = stage.send(stage.user(0), stage.batch, &attempt).unwrap();
    let outcome = Batch::Attempted::decode_log(mined.logs.last().unwrap()).unwrap().data;
    let (mut total, mut refused) = (0, 0);
    // The depth of each result; a refused call has none, and whatever uses it is refused by the access list.
    let mut depths: Vec<Option<u64>> = Vec::new();
    for (index, call) in program.calls.iter().enumerate() {
        let operands: Option<Vec<u64>> = call.operands.iter().map(|operand| depths[*operand]).collect();
        let (success, result) = (outcome.successes[index], &outcome.results[index]);
        let Some(operands) = operands else {
            assert!(!success, "call {index} used a missing operand");
            depths.push(None);
            continue;
        };
        let depth = operands.into_iter().max().unwrap_or(0) + call.cost;
        let error = if total + call.cost > sum_limit {
            Some(HCULimit::HCUTransactionLimitExceeded {}.abi_encode())
        } else if depth > depth_limit {
            Some(HCULimit::HCUTransactionDepthLimitExceeded {}.abi_encode())
        } else {
            None
        };
        assert_eq!(success, error.is_none(), "call {index} after {total} HCU, depth {depth}: {result}");
        if let Some(error) = error {
            assert_eq!(result.as_ref(), error);
            refused += 1;
            depths.push(None);
        } else {
            total += call.cost;
            depths.push(Some(depth));
        }
    }
    refused
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operations_pass_while_sum_and_depth_leave_room(
        programs in proptest::collection::vec(
            (proptest::collection::vec(step(), 5..30), 100_000..3_000_000u64, 0..6_000_000u64),
            80..81,
        )
    ) {
        let stage = Stage::new();
        let mut refused = 0;
        for (steps, depth, more) in programs {
            refused += check(&stage, &steps, depth, depth + more);
        }
        prop_assert!(refused > 50, "{refused} calls were refused");
    }
}
