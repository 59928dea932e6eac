//! The typed graph of one transaction: which value is made from which.
//!
//! A graph is recorded from computations in the order of their events. An operand refers to the first computation of that handle
//! before its use; if there is none, it comes from outside. A computation that cannot be evaluated becomes a failed node, and
//! only what depends on it fails with it.

mod check;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use cipherloom_fhe::clear;
use cipherloom_primitives::{Computation, FheType, Handle, Operand, TypedOperation, U256};

use crate::error::{EngineError, NodeError};

/// The largest number of computations in one graph. The cost limit of the host contracts keeps real transactions far below.
pub const MAX_COMPUTATIONS: usize = 1 << 16;

/// A node of one graph. Operands have smaller numbers than what uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("a graph has far fewer nodes than 2^32, see MAX_COMPUTATIONS"))
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// One value.
#[derive(Clone, Debug)]
pub enum Node {
    /// A ciphertext from outside the transaction.
    Boundary {
        /// Its handle.
        handle: Handle,
        /// Its type.
        ty: FheType,
    },
    /// The result of an operation; a public value is the result of [`TypedOperation::TrivialEncrypt`].
    Operation {
        /// The operation, which satisfies the operation table.
        operation: TypedOperation,
        /// Its encrypted operands, of the types it takes.
        inputs: Vec<NodeId>,
    },
    /// A value that cannot be computed.
    Failed(NodeError),
}

/// The graph of one transaction and the values that leave it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: BTreeMap<Handle, NodeId>,
}

impl Graph {
    /// Records the graph of a transaction: its computations in the order of their events, the handles that leave it, and those that
    /// are given from outside.
    ///
    /// # Errors
    /// [`EngineError::TooManyComputations`] above [`MAX_COMPUTATIONS`]. Faults of single computations become failed nodes.
    pub fn record<'a>(
        computations: impl IntoIterator<Item = &'a Computation>,
        outputs: impl IntoIterator<Item = Handle>,
        boundary: impl IntoIterator<Item = Handle>,
    ) -> Result<Self, EngineError> {
        let computations: Vec<&Computation> = computations.into_iter().collect();
        if computations.len() > MAX_COMPUTATIONS {
            return Err(EngineError::TooManyComputations {
                count: computations.len(),
                limit: MAX_COMPUTATIONS,
            });
        }
        let mut graph = Self::default();
        let mut known = HashMap::new();
        for handle in boundary {
            known.entry(handle).or_insert_with(|| {
                graph.push(Node::Boundary {
                    handle,
                    ty: handle.fhe_type(),
                })
            });
        }
        let mut computed = HashMap::new();
        let results: std::collections::HashSet<Handle> = computations.iter().map(|computation| computation.result).collect();
        for computation in computations {
            if computed.contains_key(&computation.result) {
                continue;
            }
            let node = graph.recorded(computation, |handle| {
                computed
                    .get(handle)
                    .or_else(|| known.get(handle))
                    .copied()
                    .ok_or(if results.contains(handle) {
                        NodeError::UsedBeforeComputed(*handle)
                    } else {
                        NodeError::UnknownOperand(*handle)
                    })
            });
            let id = graph.push(node);
            computed.insert(computation.result, id);
        }
        for output in outputs {
            let id = computed.get(&output).or_else(|| known.get(&output)).copied();
            let id = id.unwrap_or_else(|| graph.push(Node::Failed(NodeError::NotComputed(output))));
            graph.outputs.insert(output, id);
        }
        Ok(graph)
    }

    fn recorded(&self, computation: &Computation, find: impl Fn(&Handle) -> Result<NodeId, NodeError>) -> Node {
        let node = || {
            let inputs = computation.inputs.iter().map(&find).collect::<Result<Vec<_>, _>>()?;
            let types = inputs.iter().map(|input| self.fhe_type(*input)).collect::<Result<Vec<_>, _>>()?;
            check::check(&computation.operation, &types, computation.result.fhe_type())?;
            Ok(Node::Operation {
                operation: computation.operation.clone(),
                inputs,
            })
        };
        node().unwrap_or_else(Node::Failed)
    }

    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        let id = NodeId::at(self.nodes.len());
        self.nodes.push(node);
        id
    }

    /// Returns a node of this graph.
    ///
    /// # Panics
    /// If the id is of a larger graph.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.index()).expect("a node id is used with the graph it came from")
    }

    /// Lists the nodes, operands before what uses them.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId::at(index), node))
    }

    /// Lists the values that leave the transaction, in the order of their handles.
    pub fn outputs(&self) -> impl Iterator<Item = (Handle, NodeId)> {
        self.outputs.iter().map(|(handle, id)| (*handle, *id))
    }

    /// Lists the values the graph takes from outside.
    pub fn boundary(&self) -> impl Iterator<Item = (Handle, NodeId)> {
        self.nodes().filter_map(|(id, node)| match node {
            Node::Boundary { handle, .. } => Some((*handle, id)),
            Node::Operation { .. } | Node::Failed(_) => None,
        })
    }

    /// Counts the operations; public values are not counted.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        let is_operation =
            |node: &&Node| matches!(node, Node::Operation { operation, .. } if !matches!(operation, TypedOperation::TrivialEncrypt { .. }));
        self.nodes.iter().filter(is_operation).count()
    }

    /// Returns the type of a value.
    ///
    /// # Errors
    /// Why it cannot be computed, if it cannot.
    pub fn fhe_type(&self, id: NodeId) -> Result<FheType, NodeError> {
        match self.node(id) {
            Node::Boundary { ty, .. } => Ok(*ty),
            Node::Operation { operation, .. } => Ok(operation.result_type()),
            Node::Failed(error) => Err(error.clone()),
        }
    }

    /// Returns the value of a node that is public.
    #[must_use]
    pub fn constant(&self, id: NodeId) -> Option<U256> {
        match self.node(id) {
            Node::Operation {
                operation: TypedOperation::TrivialEncrypt { value, .. },
                ..
            } => Some(*value),
            _ => None,
        }
    }

    /// Computes every node on plaintext: the reference that all later stages must agree with.
    ///
    /// # Errors
    /// In the list: why a value cannot be computed.
    #[must_use]
    pub fn evaluate_clear(&self, inputs: &HashMap<Handle, U256>) -> Vec<Result<U256, NodeError>> {
        let mut values: Vec<Result<U256, NodeError>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let value = match node {
                Node::Boundary { handle, .. } => inputs.get(handle).copied().ok_or(NodeError::MissingInput(*handle)),
                Node::Failed(error) => Err(error.clone()),
                Node::Operation { operation, inputs } => inputs
                    .iter()
                    .map(|input| values.get(input.index()).cloned().expect("operands come before their use"))
                    .collect::<Result<Vec<_>, _>>()
                    .map(|inputs| clear::evaluate(operation, &inputs)),
            };
            values.push(value);
        }
        values
    }

    /// Drops what no output depends on, and numbers the rest anew in the same order.
    #[must_use]
    pub fn prune(&self) -> Self {
        crate::prune::prune(self)
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.nodes() {
            match node {
                Node::Boundary { handle, ty } => writeln!(f, "{id}: {ty} = from outside {handle}")?,
                Node::Operation { operation, inputs } => {
                    write!(f, "{id}: {} = {}", operation.result_type(), label(operation))?;
                    inputs.iter().try_for_each(|input| write!(f, " {input}"))?;
                    writeln!(f)?;
                }
                Node::Failed(error) => writeln!(f, "{id}: cannot be computed: {error}")?,
            }
        }
        self.outputs().try_for_each(|(handle, id)| writeln!(f, "out {handle} = {id}"))
    }
}

/// Names an operation with its public operands.
#[must_use]
pub fn label(operation: &TypedOperation) -> String {
    let name = operation.operation().spec().library_name;
    match operation {
        TypedOperation::Binary {
            rhs: Operand::Scalar(value),
            ..
        } => format!("{name}[{value}]"),
        TypedOperation::TrivialEncrypt { value, .. } => format!("public {value}"),
        TypedOperation::Cast { to, .. } => format!("cast to {to}"),
        TypedOperation::MulDiv { factor, divisor, .. } => match factor {
            Operand::Encrypted => format!("{name}[/{divisor}]"),
            Operand::Scalar(factor) => format!("{name}[*{factor}/{divisor}]"),
        },
        TypedOperation::Rand { random_bits, .. } => format!("rand[{random_bits} bits]"),
        _ => name.to_owned(),
    }
}
