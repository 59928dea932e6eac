//! One pass over a graph.

use std::collections::{BTreeMap, HashMap};

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use super::{COMMON_SUBEXPRESSIONS, RuleSet, rules};
use crate::graph::{Graph, Node, NodeId};

/// Gives the node that replaces an operation on these operands, if the rule applies.
pub(crate) type Apply = fn(&mut Rewriter, &TypedOperation, &[NodeId]) -> Option<NodeId>;

/// A new graph that grows while the old one is read.
pub struct Rewriter {
    pub(crate) graph: Graph,
    pub(crate) firings: BTreeMap<&'static str, usize>,
    known: HashMap<(TypedOperation, Vec<NodeId>), NodeId>,
    /// How often the old graph used what became this node, as an operand or an output.
    uses: HashMap<NodeId, usize>,
    share: bool,
}

impl Rewriter {
    /// Reads a graph and writes it anew, with every rule of the set tried once on every node.
    pub(crate) fn pass(old: &Graph, set: &RuleSet) -> Self {
        let mut rewriter = Self {
            graph: Graph::default(),
            firings: BTreeMap::new(),
            known: HashMap::new(),
            uses: HashMap::new(),
            share: set.contains(COMMON_SUBEXPRESSIONS),
        };
        let uses = count_uses(old);
        let mut moved: Vec<NodeId> = Vec::with_capacity(old.nodes.len());
        for (id, node) in old.nodes() {
            let new = match node {
                Node::Operation { operation, inputs } => {
                    let inputs: Vec<NodeId> = inputs.iter().filter_map(|input| moved.get(input.index()).copied()).collect();
                    rewriter.offer(operation, inputs, set)
                }
                other => rewriter.graph.push(other.clone()),
            };
            *rewriter.uses.entry(new).or_default() += uses.get(id.index()).copied().unwrap_or_default();
            moved.push(new);
        }
        let new_id = |id: &NodeId| *moved.get(id.index()).expect("outputs are nodes of their graph");
        rewriter.graph.outputs = old.outputs.iter().map(|(handle, id)| (*handle, new_id(id))).collect();
        rewriter
    }

    fn offer(&mut self, operation: &TypedOperation, inputs: Vec<NodeId>, set: &RuleSet) -> NodeId {
        for rule in rules().filter(|rule| set.contains(rule.name)) {
            if let Some(node) = (rule.apply)(self, operation, &inputs) {
                *self.firings.entry(rule.name).or_default() += 1;
                return node;
            }
        }
        if self.share
            && let Some(known) = self.known.get(&key(operation, &inputs))
        {
            if !matches!(operation, TypedOperation::TrivialEncrypt { .. }) {
                *self.firings.entry(COMMON_SUBEXPRESSIONS).or_default() += 1;
            }
            return *known;
        }
        self.operation(operation.clone(), inputs)
    }

    /// Adds an operation, or finds it if it is there.
    pub(crate) fn operation(&mut self, operation: TypedOperation, inputs: Vec<NodeId>) -> NodeId {
        let key = key(&operation, &inputs);
        if self.share
            && let Some(known) = self.known.get(&key)
        {
            return *known;
        }
        let id = self.graph.push(Node::Operation { operation, inputs });
        self.known.insert(key, id);
        id
    }

    /// Adds a public value.
    pub(crate) fn public(&mut self, ty: FheType, value: U256) -> NodeId {
        self.operation(TypedOperation::TrivialEncrypt { value, ty }, Vec::new())
    }

    /// Adds an operation with an encrypted or a public right operand.
    pub(crate) fn binary(&mut self, operation: Operation, ty: FheType, left: NodeId, right: Right) -> NodeId {
        match right {
            Right::Node(right) => {
                let rhs = Operand::Encrypted;
                self.operation(TypedOperation::Binary { operation, ty, rhs }, vec![left, right])
            }
            Right::Scalar(value) => {
                let rhs = Operand::Scalar(value);
                self.operation(TypedOperation::Binary { operation, ty, rhs }, vec![left])
            }
        }
    }

    /// Adds the complement of a value.
    pub(crate) fn complement(&mut self, ty: FheType, value: NodeId) -> NodeId {
        self.operation(TypedOperation::Not { ty }, vec![value])
    }

    /// Returns the operation that makes a value, and its operands.
    pub(crate) fn made_by(&self, id: NodeId) -> Option<(&TypedOperation, &[NodeId])> {
        match self.graph.node(id) {
            Node::Operation { operation, inputs } => Some((operation, inputs)),
            Node::Boundary { .. } | Node::Failed(_) => None,
        }
    }

    /// Returns the value of a public node.
    pub(crate) fn constant(&self, id: NodeId) -> Option<U256> {
        self.graph.constant(id)
    }

    /// Says whether a value is used once and does not leave the transaction, so that absorbing it leaves nothing behind.
    pub(crate) fn is_used_once(&self, id: NodeId) -> bool {
        self.uses.get(&id) == Some(&1)
    }
}

/// A right operand.
pub(crate) enum Right {
    Node(NodeId),
    Scalar(U256),
}

fn count_uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes.len()];
    let inputs = graph.nodes.iter().flat_map(|node| match node {
        Node::Operation { inputs, .. } => inputs.as_slice(),
        Node::Boundary { .. } | Node::Failed(_) => &[],
    });
    // An output counts twice: it stays even if its one other user absorbs it.
    for id in inputs.chain(graph.outputs.values()).chain(graph.outputs.values()) {
        if let Some(count) = uses.get_mut(id.index()) {
            *count += 1;
        }
    }
    uses
}

/// What makes two operations the same: operands count without their order where it does not matter.
fn key(operation: &TypedOperation, inputs: &[NodeId]) -> (TypedOperation, Vec<NodeId>) {
    let mut inputs = inputs.to_vec();
    if is_commutative(operation) {
        inputs.sort_unstable();
    }
    (operation.clone(), inputs)
}

/// Says whether the order of all encrypted operands does not matter.
pub(crate) fn is_commutative(operation: &TypedOperation) -> bool {
    use Operation as Op;
    match operation {
        TypedOperation::Binary { operation, .. } => matches!(
            operation,
            Op::Add | Op::Mul | Op::BitAnd | Op::BitOr | Op::BitXor | Op::Eq | Op::Ne | Op::Min | Op::Max
        ),
        TypedOperation::Sum { .. } | TypedOperation::MulDiv { .. } => true,
        _ => false,
    }
}
