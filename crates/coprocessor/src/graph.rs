//! The graph of one transaction: what leaves it, what that needs, and what need not be computed.

use std::collections::{BTreeMap, BTreeSet};

use cipherloom_primitives::{Computation, Handle, HandleOrigin};

/// The part of a transaction that matters for its outputs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// The computations that outputs depend on, in event order. Each handle is computed once.
    pub(crate) computations: Vec<&'a Computation>,
    /// Computed handles from earlier transactions that they use, in order of handles.
    pub(crate) boundary: BTreeSet<Handle>,
    /// Input handles that they use, in order of handles.
    pub(crate) inputs: BTreeSet<Handle>,
}

impl<'a> Plan<'a> {
    /// Finds what has to be computed for these outputs.
    ///
    /// An operand refers to the first computation of that handle before its use; if there is none it comes from
    /// outside. An output that no computation produces is ignored.
    pub(crate) fn new(computations: &'a [Computation], outputs: &[Handle]) -> Self {
        let mut first = BTreeMap::<Handle, usize>::new();
        for (index, computation) in computations.iter().enumerate() {
            first.entry(computation.result).or_insert(index);
        }
        let mut plan = Self {
            computations: Vec::new(),
            boundary: BTreeSet::new(),
            inputs: BTreeSet::new(),
        };
        let mut needed: BTreeSet<Handle> = outputs.iter().copied().collect();
        // Operands come before their use, so one pass from the end finds everything.
        for (index, computation) in computations.iter().enumerate().rev() {
            if first.get(&computation.result) != Some(&index) || !needed.remove(&computation.result) {
                continue;
            }
            needed.extend(computation.inputs.iter().copied());
            plan.computations.push(computation);
        }
        plan.computations.reverse();
        let mut computed = BTreeSet::new();
        for computation in &plan.computations {
            for input in computation.inputs.iter().filter(|input| !computed.contains(*input)) {
                match input.origin() {
                    HandleOrigin::Input(_) => plan.inputs.insert(*input),
                    HandleOrigin::Computed => plan.boundary.insert(*input),
                };
            }
            computed.insert(computation.result);
        }
        plan
    }

    /// Counts how often each handle is used as an operand, so that a value can be dropped after its last use.
    pub(crate) fn uses(&self) -> BTreeMap<Handle, usize> {
        let mut uses = BTreeMap::new();
        for input in self.computations.iter().flat_map(|computation| &computation.inputs) {
            *uses.entry(*input).or_insert(0) += 1;
        }
        uses
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{B256, FheType, TypedOperation};

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

    fn results(plan: &Plan<'_>) -> Vec<Handle> {
        plan.computations.iter().map(|computation| computation.result).collect()
    }

    #[test]
    fn computations_that_feed_no_output_are_left_out_with_their_operands() {
        let computations = [
            computation(1, &[handle(100)]),
            computation(2, &[handle(101)]),
            computation(3, &[handle(1)]),
            computation(4, &[handle(2)]),
        ];
        let plan = Plan::new(&computations, &[handle(3)]);
        assert_eq!(results(&plan), [handle(1), handle(3)]);
        assert_eq!(plan.boundary, BTreeSet::from([handle(100)]));
    }

    #[test]
    fn input_handles_are_told_apart_from_computed_ones() {
        let input = Handle::input(B256::repeat_byte(9), 3, 1, FheType::Uint8).unwrap();
        let computations = [computation(1, &[input, handle(100)])];
        let plan = Plan::new(&computations, &[handle(1)]);
        assert_eq!(
            (plan.inputs, plan.boundary),
            (BTreeSet::from([input]), BTreeSet::from([handle(100)]))
        );
    }

    #[test]
    fn a_handle_recorded_twice_is_computed_once() {
        let computations = [
            computation(1, &[handle(100)]),
            computation(1, &[handle(100)]),
            computation(2, &[handle(1)]),
        ];
        let plan = Plan::new(&computations, &[handle(1), handle(2)]);
        assert_eq!(results(&plan), [handle(1), handle(2)]);
    }

    #[test]
    fn a_handle_used_before_it_is_computed_comes_from_outside() {
        let computations = [computation(2, &[handle(1)]), computation(1, &[handle(100)])];
        let plan = Plan::new(&computations, &[handle(2), handle(1)]);
        assert_eq!(results(&plan), [handle(2), handle(1)]);
        assert_eq!(plan.boundary, BTreeSet::from([handle(1), handle(100)]));
        // If only the use leaves, the later computation is not needed.
        let plan = Plan::new(&computations, &[handle(2)]);
        assert_eq!(results(&plan), [handle(2)]);
    }

    #[test]
    fn outputs_nobody_computes_are_ignored() {
        let plan = Plan::new(&[], &[handle(1)]);
        assert!(plan.computations.is_empty() && plan.boundary.is_empty());
    }
}
