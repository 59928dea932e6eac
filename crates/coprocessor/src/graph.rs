//! What has to be computed for a transaction's outputs, and what that needs from outside.

use std::collections::{BTreeMap, BTreeSet};

use cipherloom_engine::{EngineError, Graph, Node, NodeError};
use cipherloom_primitives::{Computation, FheType, Handle, HandleOrigin, Operation};

/// The part of a transaction that matters for its outputs.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The graph of the computations that outputs depend on.
    pub(crate) graph: Graph,
    /// Computed handles from earlier transactions that they use, in order of handles.
    pub(crate) boundary: BTreeSet<Handle>,
    /// Results of computations that are not for this chain, with the reason.
    refused: BTreeMap<Handle, String>,
}

impl Plan {
    /// Finds what has to be computed for these outputs.
    ///
    /// An operand refers to the first computation of that handle before its use; if there is none it comes from outside. A computation
    /// that names a handle of another chain is refused, and what depends on it fails with it.
    ///
    /// # Errors
    /// [`EngineError::TooManyComputations`].
    pub(crate) fn new<'a>(
        chain_id: u64,
        computations: impl IntoIterator<Item = &'a Computation>,
        outputs: &[Handle],
    ) -> Result<Self, EngineError> {
        let mut refused = BTreeMap::new();
        let mut computed = BTreeSet::new();
        let mut outside = BTreeSet::new();
        let mut accepted = Vec::new();
        for computation in computations {
            if computed.contains(&computation.result) || refused.contains_key(&computation.result) {
                continue;
            }
            if let Err(reason) = check_chain(chain_id, computation) {
                refused.insert(computation.result, reason);
                continue;
            }
            let unknown = |handle: &&Handle| !computed.contains(*handle) && !refused.contains_key(*handle);
            outside.extend(computation.inputs.iter().filter(unknown).copied());
            computed.insert(computation.result);
            accepted.push(computation);
        }
        let graph = Graph::record(accepted, outputs.iter().copied(), outside)?.prune();
        let computed = |handle: &Handle| handle.origin() == HandleOrigin::Computed;
        let boundary = graph.boundary().map(|(handle, _)| handle).filter(computed).collect();
        Ok(Self { graph, boundary, refused })
    }

    /// Lists the operations with the type they work on, in the order of their events.
    pub(crate) fn operations(&self) -> Vec<(Operation, FheType)> {
        let operations = self.graph.nodes().filter_map(|(_, node)| match node {
            Node::Operation { operation, .. } => Some((operation.operation(), operation.worked_type())),
            Node::Boundary { .. } | Node::Failed(_) => None,
        });
        operations.collect()
    }

    /// Returns why a value that comes from a refused computation has none.
    pub(crate) fn refusal(&self, error: &NodeError) -> Option<&str> {
        match error {
            NodeError::UnknownOperand(handle) | NodeError::NotComputed(handle) => self.refused.get(handle).map(String::as_str),
            _ => None,
        }
    }
}

fn check_chain(chain_id: u64, computation: &Computation) -> Result<(), String> {
    let mut handles = computation.inputs.iter().chain([&computation.result]);
    match handles.find(|handle| handle.chain_id() != chain_id) {
        Some(foreign) => Err(format!("{foreign} is a handle of chain {}, not {chain_id}", foreign.chain_id())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{B256, TypedOperation};

    use super::*;

    fn handle(tag: u8) -> Handle {
        Handle::computed(B256::repeat_byte(tag), 1, FheType::Uint8)
    }

    fn computation(result: u8, inputs: &[Handle]) -> Computation {
        let operation = TypedOperation::Sum {
            ty: FheType::Uint8,
            count: u8::try_from(inputs.len()).unwrap(),
        };
        Computation {
            operation,
            inputs: inputs.to_vec(),
            result: handle(result),
        }
    }

    fn plan(computations: &[Computation], outputs: &[Handle]) -> Plan {
        Plan::new(1, computations, outputs).unwrap()
    }

    /// Returns the only output's error.
    fn failure(plan: &Plan) -> NodeError {
        let (_, id) = plan.graph.outputs().next().unwrap();
        plan.graph.fhe_type(id).unwrap_err()
    }

    #[test]
    fn computations_that_feed_no_output_are_left_out_with_their_operands() {
        let computations = [
            computation(1, &[handle(100)]),
            computation(2, &[handle(101)]),
            computation(3, &[handle(1)]),
            computation(4, &[handle(2)]),
        ];
        let plan = plan(&computations, &[handle(3)]);
        assert_eq!(plan.operations(), [(Operation::Sum, FheType::Uint8); 2]);
        assert_eq!(plan.boundary, BTreeSet::from([handle(100)]));
    }

    #[test]
    fn inputs_are_not_from_earlier_transactions() {
        let input = Handle::input(B256::repeat_byte(9), 3, 1, FheType::Uint8).unwrap();
        let plan = plan(&[computation(1, &[input, handle(100)])], &[handle(1)]);
        assert_eq!(plan.boundary, BTreeSet::from([handle(100)]));
    }

    #[test]
    fn a_handle_recorded_twice_is_computed_once() {
        let computations = [
            computation(1, &[handle(100)]),
            computation(1, &[handle(100)]),
            computation(2, &[handle(1)]),
        ];
        assert_eq!(plan(&computations, &[handle(1), handle(2)]).operations().len(), 2);
    }

    #[test]
    fn a_handle_used_before_it_is_computed_comes_from_outside() {
        let computations = [computation(2, &[handle(1)]), computation(1, &[handle(100)])];
        let both = plan(&computations, &[handle(2), handle(1)]);
        assert_eq!(both.operations().len(), 2);
        assert_eq!(both.boundary, BTreeSet::from([handle(1), handle(100)]));
        // If only the use leaves, the later computation is not needed.
        let first = plan(&computations, &[handle(2)]);
        assert_eq!(first.operations().len(), 1);
        assert_eq!(first.boundary, BTreeSet::from([handle(1)]));
    }

    #[test]
    fn outputs_nobody_computes_fail() {
        let plan = plan(&[], &[handle(1)]);
        assert!(plan.boundary.is_empty());
        assert!(matches!(failure(&plan), NodeError::NotComputed(output) if output == handle(1)));
    }

    #[test]
    fn handles_of_another_chain_poison_what_depends_on_them() {
        let foreign = Handle::computed(B256::repeat_byte(7), 2, FheType::Uint8);
        let computations = [
            computation(1, &[foreign]),
            computation(2, &[handle(1), handle(100)]),
            computation(3, &[handle(101)]),
        ];
        let poisoned = plan(&computations, &[handle(2)]);
        assert!(poisoned.boundary.is_empty() && poisoned.operations().is_empty());
        let reason = poisoned.refusal(&failure(&poisoned)).unwrap().to_owned();
        assert_eq!(reason, format!("{foreign} is a handle of chain 2, not 1"));
        let itself = plan(&computations, &[handle(1)]);
        assert_eq!(itself.refusal(&failure(&itself)), Some(reason.as_str()));
        let others = plan(&computations, &[handle(3)]);
        assert_eq!(others.boundary, BTreeSet::from([handle(101)]));
    }
}
