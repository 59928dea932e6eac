//! Transactions for tests, and numbers that repeat.

use std::collections::HashMap;

use cipherloom_engine::Graph;
use cipherloom_primitives::{B256, Computation, FheType, Handle, Operand, Operation, TypedOperation, U256};

/// A generator whose numbers depend on the seed alone (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A number of the type; small, large and special ones are frequent.
    pub(crate) fn value(&mut self, ty: FheType) -> U256 {
        let any = U256::from_limbs([self.next(), self.next(), self.next(), self.next()]);
        let value = match self.below(8) {
            0 => U256::ZERO,
            1 => U256::MAX,
            2 => U256::from(self.below(5)),
            3 => U256::MAX - U256::from(self.below(5)),
            4 => U256::ONE << self.below(256),
            5 => any >> self.below(256),
            _ => any,
        };
        ty.truncate(value)
    }
}

/// A transaction that grows.
#[derive(Default)]
pub(crate) struct Transaction {
    pub(crate) computations: Vec<Computation>,
    pub(crate) inputs: Vec<Handle>,
    count: u64,
}

impl Transaction {
    pub(crate) fn handle(&mut self, ty: FheType) -> Handle {
        self.count += 1;
        Handle::computed(B256::from(U256::from(self.count) << 100), 1, ty)
    }

    pub(crate) fn input(&mut self, ty: FheType) -> Handle {
        let handle = self.handle(ty);
        self.inputs.push(handle);
        handle
    }

    pub(crate) fn operation(&mut self, operation: TypedOperation, inputs: &[Handle]) -> Handle {
        let result = self.handle(operation.result_type());
        self.computations.push(Computation {
            operation,
            inputs: inputs.to_vec(),
            result,
        });
        result
    }

    pub(crate) fn binary(&mut self, operation: Operation, left: Handle, right: Handle) -> Handle {
        self.operation(encrypted(operation, left.fhe_type()), &[left, right])
    }

    pub(crate) fn scalar(&mut self, operation: Operation, left: Handle, right: u64) -> Handle {
        let ty = left.fhe_type();
        self.operation(with_scalar(operation, ty, ty.truncate(U256::from(right))), &[left])
    }

    pub(crate) fn select(&mut self, condition: Handle, if_true: Handle, if_false: Handle) -> Handle {
        self.operation(
            TypedOperation::IfThenElse { ty: if_true.fhe_type() },
            &[condition, if_true, if_false],
        )
    }

    pub(crate) fn not(&mut self, value: Handle) -> Handle {
        self.operation(TypedOperation::Not { ty: value.fhe_type() }, &[value])
    }

    pub(crate) fn public(&mut self, ty: FheType, value: u64) -> Handle {
        let value = ty.truncate(U256::from(value));
        self.operation(TypedOperation::TrivialEncrypt { value, ty }, &[])
    }

    pub(crate) fn graph(&self, outputs: &[Handle]) -> Graph {
        Graph::record(&self.computations, outputs.iter().copied(), self.inputs.iter().copied()).unwrap()
    }

    pub(crate) fn values(&self, random: &mut Random) -> HashMap<Handle, U256> {
        self.inputs
            .iter()
            .map(|handle| (*handle, random.value(handle.fhe_type())))
            .collect()
    }
}

pub(crate) fn encrypted(operation: Operation, ty: FheType) -> TypedOperation {
    let rhs = Operand::Encrypted;
    TypedOperation::Binary { operation, ty, rhs }
}

pub(crate) fn with_scalar(operation: Operation, ty: FheType, value: U256) -> TypedOperation {
    let rhs = Operand::Scalar(value);
    TypedOperation::Binary { operation, ty, rhs }
}

/// The reference: every output in the clear.
pub(crate) fn reference(graph: &Graph, values: &HashMap<Handle, U256>) -> Vec<(Handle, U256)> {
    let nodes = graph.evaluate_clear(values);
    let value = |(handle, id)| (handle, graph_value(&nodes, graph, id));
    graph.outputs().map(value).collect()
}

fn graph_value(nodes: &[Result<U256, cipherloom_engine::NodeError>], graph: &Graph, id: cipherloom_engine::NodeId) -> U256 {
    let position = graph.nodes().position(|(node, _)| node == id).unwrap();
    nodes[position].clone().unwrap()
}

/// Says how many random graphs or values a test takes: `default`, times the environment variable `CIPHERLOOM_ENGINE_TEST_FACTOR`.
pub(crate) fn effort(default: usize) -> usize {
    let factor = std::env::var("CIPHERLOOM_ENGINE_TEST_FACTOR")
        .ok()
        .and_then(|factor| factor.parse().ok());
    default * factor.unwrap_or(1)
}
