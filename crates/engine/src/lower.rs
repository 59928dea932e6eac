//! From operations to blocks: which kernel does what.

use std::collections::{BTreeMap, HashSet};

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use crate::{
    builder::{Builder, block_count},
    error::NodeError,
    graph::{Graph, Node, NodeId},
    kernels::{self, Blocks, digit, public_number},
    program::{Form, Program, Whole},
};

/// Lowers a graph to a program on blocks.
#[must_use]
pub fn lower(graph: &Graph) -> Program {
    lower_to(graph, Granularity::Blocks, Profile::Throughput)
}

/// Lowers a graph to a program of this granularity and profile.
#[must_use]
pub fn lower_to(graph: &Graph, granularity: Granularity, profile: Profile) -> Program {
    let mut lowering = Lowering {
        granularity,
        builder: Builder::new(profile),
        values: Vec::with_capacity(graph.nodes.len()),
        subtractions: public_subtractions(graph),
    };
    for (id, node) in graph.nodes() {
        lowering.builder.work_for(id);
        let value = lowering.node(node);
        lowering.values.push(value);
    }
    let mut outputs = BTreeMap::new();
    for (handle, id) in graph.outputs() {
        lowering.builder.work_for(id);
        let whole = lowering.value(id).and_then(|blocks| {
            let ty = graph.fhe_type(id)?;
            Ok(lowering.builder.join(ty, &blocks))
        });
        outputs.insert(handle, whole);
    }
    lowering.builder.finish(outputs)
}

/// Finds what public numbers are subtracted from which values: a comparison with the same number is cheapest as part of it.
fn public_subtractions(graph: &Graph) -> HashSet<(NodeId, U256)> {
    graph
        .nodes()
        .filter_map(|(_, node)| match node {
            Node::Operation {
                operation:
                    TypedOperation::Binary {
                        operation: Operation::Sub,
                        rhs: Operand::Scalar(value),
                        ..
                    },
                inputs,
            } => inputs.first().map(|input| (*input, *value)),
            _ => None,
        })
        .collect()
}

/// What the tasks of a program are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// Bootstraps on blocks, and the operations that have no kernel.
    #[default]
    Blocks,
    /// Operations, for backends that do each faster as a whole. Only what merely moves blocks is done on blocks.
    Operations,
}

/// What kernels save. It decides what is bootstrapped, and so the bytes of results: all coprocessors of a key set use the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Bootstraps: the most transactions per processor.
    #[default]
    Throughput,
    /// Depth: carries and comparisons in a number of steps that grows with the logarithm of the width, for more bootstraps. For machines with far more
    /// processors than there is work.
    Latency,
}

impl Profile {
    /// Both profiles.
    pub const ALL: [Self; 2] = [Self::Throughput, Self::Latency];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
        }
    }
}

struct Lowering {
    granularity: Granularity,
    builder: Builder,
    values: Vec<Result<Blocks, NodeError>>,
    subtractions: HashSet<(NodeId, U256)>,
}

impl Lowering {
    fn value(&self, id: NodeId) -> Result<Blocks, NodeError> {
        self.values.get(id.index()).cloned().expect("operands are lowered before their use")
    }

    fn node(&mut self, node: &Node) -> Result<Blocks, NodeError> {
        match node {
            Node::Boundary { handle, ty } => {
                let value = self.builder.boundary(*handle, *ty);
                Ok(self.builder.split(value, *ty))
            }
            Node::Failed(error) => Err(error.clone()),
            Node::Operation { operation, inputs } => {
                let operands = inputs.iter().map(|input| self.value(*input)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.operation(operation, inputs, &operands))
            }
        }
    }

    fn operation(&mut self, operation: &TypedOperation, ids: &[NodeId], operands: &[Blocks]) -> Blocks {
        let is_free = matches!(
            operation,
            TypedOperation::TrivialEncrypt { .. } | TypedOperation::Not { .. } | TypedOperation::Cast { .. }
        );
        if self.granularity == Granularity::Operations && !is_free {
            return self.opaque(operation, operands);
        }
        let builder = &mut self.builder;
        match (operation, operands) {
            (TypedOperation::TrivialEncrypt { value, ty }, _) => public_blocks(*ty, *value),
            (TypedOperation::Neg { .. }, [value]) => kernels::negate(builder, value),
            (TypedOperation::Not { ty }, [value]) => kernels::not(*ty, value),
            (TypedOperation::Cast { to, .. }, [value]) => {
                let mut blocks = value.clone();
                blocks.resize(block_count(*to), Form::known(0));
                blocks
            }
            (TypedOperation::IfThenElse { ty }, [condition, if_true, if_false]) => match condition.first() {
                Some(condition) => kernels::select(builder, *ty, condition, if_true, if_false),
                None => unreachable!("an ebool has one block"),
            },
            (TypedOperation::Sum { ty, .. }, numbers) => kernels::sum(builder, numbers, block_count(*ty)),
            (TypedOperation::IsIn { .. }, [value, list @ ..]) => vec![kernels::is_in(builder, value, list)],
            (TypedOperation::MulDiv { ty, factor, divisor }, [left, rest @ ..]) => {
                let right = right_operand(*ty, factor, rest);
                kernels::multiply_divide(builder, left, &right, *divisor)
            }
            (TypedOperation::Binary { operation: kind, ty, rhs }, [left, rest @ ..]) => {
                let right = right_operand(*ty, rhs, rest);
                self.binary(*kind, *ty, ids, left, &right)
            }
            (TypedOperation::Rand { .. }, _) => self.opaque(operation, operands),
            _ => unreachable!("operands were counted when the graph was recorded"),
        }
    }

    fn binary(&mut self, kind: Operation, ty: FheType, ids: &[NodeId], left: &[Form], right: &[Form]) -> Blocks {
        let amount = public_number(right).map(|value| amount(ty, value));
        let builder = &mut self.builder;
        match (kind, amount) {
            (Operation::Add, _) => kernels::add(builder, left, right),
            (Operation::Sub, _) => kernels::subtract(builder, left, right).0,
            (Operation::Mul, _) => kernels::mul(builder, left, right, left.len()),
            (Operation::BitAnd | Operation::BitOr | Operation::BitXor, _) => kernels::bitwise(builder, kind, ty, left, right),
            (Operation::Eq, _) => vec![kernels::equal(builder, left, right)],
            (Operation::Ne, _) => {
                let equal = kernels::equal(builder, left, right);
                kernels::not(FheType::Bool, &[equal])
            }
            (Operation::Ge, _) => vec![self.greater_or_equal(ids, left, right)],
            (Operation::Lt, _) => {
                let ordered = self.greater_or_equal(ids, left, right);
                kernels::not(FheType::Bool, &[ordered])
            }
            (Operation::Le, _) => vec![self.greater_or_equal(&[], right, left)],
            (Operation::Gt, _) => {
                let ordered = self.greater_or_equal(&[], right, left);
                kernels::not(FheType::Bool, &[ordered])
            }
            (Operation::Min | Operation::Max, _) => self.min_max(kind, ty, ids, left, right),
            (Operation::Shl, Some(bits)) => kernels::shift_left(builder, left, bits),
            (Operation::Shr, Some(bits)) => kernels::shift_right(builder, left, bits),
            (Operation::Rotl, Some(bits)) => kernels::rotate_left(builder, left, bits),
            (Operation::Rotr, Some(bits)) => kernels::rotate_left(builder, left, (ty.bits() as usize - bits) % ty.bits() as usize),
            (Operation::Shl | Operation::Shr | Operation::Rotl | Operation::Rotr, None) => kernels::shift(builder, kind, ty, left, right),
            (Operation::Div, _) => kernels::divide(builder, left, public_number(right).unwrap_or(U256::ONE), left.len()),
            (Operation::Rem, _) => kernels::remainder(builder, left, public_number(right).unwrap_or(U256::ONE)),
            _ => unreachable!("{kind} has no two operands"),
        }
    }

    /// Compares. A comparison with a public number has a cheaper kernel, unless it comes for free with a subtraction.
    fn greater_or_equal(&mut self, ids: &[NodeId], left: &[Form], right: &[Form]) -> Form {
        let builder = &mut self.builder;
        match (public_number(left), public_number(right)) {
            (_, Some(value)) => {
                let shared = ids.first().is_some_and(|left| self.subtractions.contains(&(*left, value)));
                if shared {
                    return kernels::greater_or_equal(builder, left, right);
                }
                kernels::greater_or_equal_public(builder, left, &public_digits(right))
            }
            (Some(value), None) => {
                // k ≥ x is not x ≥ k + 1, and always so for the largest k.
                let next = value + U256::ONE;
                let bits = right.len() * 2;
                if next.bit_len() > bits {
                    return Form::known(1);
                }
                let digits: Vec<u8> = (0..right.len()).map(|index| digit(next, index)).collect();
                let above = kernels::greater_or_equal_public(builder, right, &digits);
                Form::sum(&[(-1, &above)], 1)
            }
            (None, None) => kernels::greater_or_equal(builder, left, right),
        }
    }

    /// The two share everything, whatever the order of their operands.
    fn min_max(&mut self, kind: Operation, ty: FheType, ids: &[NodeId], left: &[Form], right: &[Form]) -> Blocks {
        let swapped = public_number(left).is_some() || (public_number(right).is_none() && matches!(ids, [left, right] if left > right));
        let (left, right) = if swapped { (right, left) } else { (left, right) };
        let ordered = self.greater_or_equal(&[], left, right);
        let (smaller, larger) = kernels::min_max(&mut self.builder, ty, &ordered, left, right);
        if kind == Operation::Min { smaller } else { larger }
    }

    fn opaque(&mut self, operation: &TypedOperation, operands: &[Blocks]) -> Blocks {
        let types = operation.input_types();
        let inputs: Vec<Whole> = types
            .iter()
            .zip(operands)
            .map(|(ty, blocks)| self.builder.join(*ty, blocks))
            .collect();
        let value = self.builder.opaque(operation.clone(), inputs);
        self.builder.split(value, operation.result_type())
    }
}

/// The second operand's blocks, of which those of a scalar are public.
fn right_operand(ty: FheType, operand: &Operand, rest: &[Blocks]) -> Blocks {
    match (operand, rest) {
        (Operand::Encrypted, [right]) => right.clone(),
        (Operand::Scalar(value), []) => public_blocks(ty, *value),
        _ => unreachable!("operands were counted when the graph was recorded"),
    }
}

fn public_blocks(ty: FheType, value: U256) -> Blocks {
    (0..block_count(ty)).map(|index| Form::known(digit(value, index))).collect()
}

fn public_digits(blocks: &[Form]) -> Vec<u8> {
    blocks.iter().filter_map(Form::public).collect()
}

/// The amount of a shift, modulo the width.
fn amount(ty: FheType, value: U256) -> usize {
    usize::try_from(value % U256::from(ty.bits())).expect("a number below 256 fits a usize")
}
