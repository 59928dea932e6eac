//! A block's work as several requests, so that several executors compute it at the same time.
//!
//! What an executor answers for a handle depends on the computations that are connected with it through results, and on nothing else in its request. So work can
//! be cut between such groups, and the bytes stay the same: a validator with ten executors agrees with one that has a single one. A group is never cut, and an
//! input list goes to one executor with everything that uses it, so that its proof is checked once.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use alloy::primitives::B256;
use cipherloom_node::native::{BlockWork, PROOF_HCU, ProvenInput, STORED_HCU};
use cipherloom_primitives::{
    FheType, Handle, HandleOrigin,
    cost::cost_hcu,
    input::{InputMetadata, MAX_INPUT_VALUES, input_handle, list_digest},
    native::native_input_handles,
};

/// Cuts work into at most so many requests, of costs as equal as groups allow. Together they have the outputs of the whole, each once.
pub(super) fn split(work: &BlockWork, count: NonZeroUsize) -> Vec<BlockWork> {
    if count.get() == 1 || work.outputs.len() < 2 {
        return vec![work.clone()];
    }
    let mut groups = Groups::of(work);
    let bundles = bundles(&groups.costs(work), count.get());
    let bundle_of = |node: usize, groups: &mut Groups| bundles.get(&groups.root(node)).copied().unwrap_or_default();
    let used = bundles.values().max().map_or(1, |last| last + 1);
    let mut requests = vec![
        BlockWork {
            number: work.number,
            ..BlockWork::default()
        };
        used
    ];
    for (node, computation) in work.computations.iter().enumerate() {
        if let Some(request) = requests.get_mut(bundle_of(node, &mut groups)) {
            request.computations.push(computation.clone());
        }
    }
    for (node, list) in (work.computations.len()..).zip(&work.inputs) {
        if let Some(request) = requests.get_mut(bundle_of(node, &mut groups)) {
            request.inputs.push(list.clone());
        }
    }
    for output in &work.outputs {
        let node = groups.source(output).unwrap_or_default();
        if let Some(request) = requests.get_mut(bundle_of(node, &mut groups)) {
            request.outputs.push(*output);
        }
    }
    for request in &mut requests {
        let operands = request.computations.iter().flat_map(|computation| &computation.inputs);
        let needed: HashSet<&Handle> = operands.chain(&request.outputs).collect();
        let given = work.ciphertexts.iter().filter(|(handle, _)| needed.contains(handle));
        request.ciphertexts = given.cloned().collect();
    }
    requests
}

/// Puts each group into the bundle that has least, the dearest group first. Says which bundle a group, named by its root, is in.
fn bundles(costs: &[(usize, u64)], count: usize) -> HashMap<usize, usize> {
    let mut dearest_first = costs.to_vec();
    dearest_first.sort_by_key(|(root, cost)| (std::cmp::Reverse(*cost), *root));
    let mut totals = vec![0u64; count.min(costs.len()).max(1)];
    let mut placed = HashMap::new();
    for (root, cost) in dearest_first {
        let least = totals.iter_mut().enumerate().min_by_key(|(_, total)| **total);
        let Some((bundle, total)) = least else { break };
        *total = total.saturating_add(cost);
        placed.insert(root, bundle);
    }
    placed
}

/// What is connected: nodes are the computations and, after them, the input lists.
struct Groups {
    parents: Vec<usize>,
    sources: HashMap<Handle, usize>,
}

impl Groups {
    fn of(work: &BlockWork) -> Self {
        let first_list = work.computations.len();
        let results = work.computations.iter().enumerate();
        let sources: HashMap<Handle, usize> = results.map(|(node, computation)| (computation.result, node)).collect();
        let mut groups = Self {
            parents: (0..first_list + work.inputs.len()).collect(),
            sources,
        };
        let given: HashSet<Handle> = work.ciphertexts.iter().map(|(handle, _)| *handle).collect();
        let lists: Vec<List<'_>> = work.inputs.iter().map(List::of).collect();
        let owner = |groups: &mut Self, handle: &Handle| {
            if given.contains(handle) || groups.sources.contains_key(handle) {
                return;
            }
            if let Some(list) = lists.iter().position(|list| list.has(handle)) {
                groups.sources.insert(*handle, first_list + list);
            }
        };
        for output in &work.outputs {
            owner(&mut groups, output);
        }
        for (node, computation) in work.computations.iter().enumerate() {
            for operand in &computation.inputs {
                owner(&mut groups, operand);
                if let Some(source) = groups.source(operand) {
                    groups.join(node, source);
                }
            }
        }
        groups
    }

    /// The computation or list that a handle comes from; none for what state has.
    fn source(&self, handle: &Handle) -> Option<usize> {
        self.sources.get(handle).copied()
    }

    fn root(&mut self, node: usize) -> usize {
        let mut root = node;
        while let Some(parent) = self.parents.get(root).copied().filter(|parent| *parent != root) {
            root = parent;
        }
        // The next one who asks has a short way.
        let mut at = node;
        while let Some(parent) = self.parents.get_mut(at).filter(|parent| **parent != root) {
            at = std::mem::replace(parent, root);
        }
        root
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The lowest number names a group, so that it does not depend on the order of joining.
        if let Some(parent) = self.parents.get_mut(one.max(other)) {
            *parent = one.min(other);
        }
    }

    /// What each group costs, in HCU.
    fn costs(&mut self, work: &BlockWork) -> Vec<(usize, u64)> {
        let mut costs: HashMap<usize, u64> = HashMap::new();
        let mut add = |groups: &mut Self, node: usize, cost: u64| {
            let total = costs.entry(groups.root(node)).or_default();
            *total = total.saturating_add(cost);
        };
        for (node, computation) in work.computations.iter().enumerate() {
            add(self, node, cost_hcu(&computation.operation));
        }
        for (node, _) in (work.computations.len()..).zip(&work.inputs) {
            add(self, node, PROOF_HCU);
        }
        for output in &work.outputs {
            if let Some(node) = self.source(output) {
                add(self, node, STORED_HCU);
            }
        }
        costs.into_iter().collect()
    }
}

/// An input list, as far as is needed to know its handles.
struct List<'a> {
    input: &'a ProvenInput,
    digest: B256,
    /// The handles of as many values as there can be, in the 0.6 generation's form and all with one type.
    older: Vec<Handle>,
}

impl<'a> List<'a> {
    fn of(input: &'a ProvenInput) -> Self {
        Self {
            input,
            digest: list_digest(&input.list),
            older: native_input_handles(&input.list, &[FheType::Bool; MAX_INPUT_VALUES]).unwrap_or_default(),
        }
    }

    /// Says whether a handle is that of a value of the list, in either form. The handle itself tells index and type.
    fn has(&self, handle: &Handle) -> bool {
        let InputMetadata { acl, chain_id, .. } = self.input.context;
        if let HandleOrigin::Input(index) = handle.origin()
            && input_handle(self.digest, index, handle.fhe_type(), acl, chain_id) == Some(*handle)
        {
            return true;
        }
        let hash_and_index = |handle: &Handle| handle.as_slice().first_chunk::<30>().copied();
        self.older.iter().any(|older| hash_and_index(older) == hash_and_index(handle))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, Bytes, U256, keccak256};
    use cipherloom_primitives::{Computation, Operation, RawOperands, TypedOperation, input::input_handles};
    use proptest::prelude::*;

    use super::*;

    const U64: FheType = FheType::Uint64;

    fn handle(number: u64) -> Handle {
        Handle::computed(keccak256(number.to_be_bytes()), 31338, U64)
    }

    fn computation(result: u64, operands: &[Handle]) -> Computation {
        let word = |handle: &Handle| U256::from_be_bytes(handle.as_b256().0);
        let (operation, raw) = match operands {
            [] => (Operation::TrivialEncrypt, RawOperands::Trivial(U256::from(result), U64)),
            [one] => (Operation::Neg, RawOperands::Unary(*one)),
            [lhs, rhs, ..] => (
                Operation::Add,
                RawOperands::Binary {
                    lhs: *lhs,
                    rhs: word(rhs),
                    scalar_byte: 0,
                },
            ),
        };
        Computation {
            operation: TypedOperation::check(operation, &raw).unwrap().0,
            inputs: operands.to_vec(),
            result: handle(result),
        }
    }

    fn list(number: u8) -> ProvenInput {
        ProvenInput {
            list: Bytes::from(vec![number; 40]),
            context: InputMetadata {
                contract: Address::repeat_byte(1),
                user: Address::repeat_byte(2),
                acl: Address::repeat_byte(3),
                chain_id: 31338,
            },
        }
    }

    fn values_of(input: &ProvenInput) -> (Handle, Handle) {
        let types = [U64, U64];
        let current = input_handles(&input.list, &types, input.context.acl, input.context.chain_id).unwrap();
        let older = native_input_handles(&input.list, &types).unwrap();
        (current[0], older[1])
    }

    fn requests(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    /// Whether everything that a request needs is in it.
    fn assert_whole(request: &BlockWork) {
        let mut known: HashSet<Handle> = request.ciphertexts.iter().map(|(handle, _)| *handle).collect();
        for input in &request.inputs {
            let (current, older) = values_of(input);
            known.extend([current, older]);
        }
        for computation in &request.computations {
            assert!(computation.inputs.iter().all(|operand| known.contains(operand)), "{request:?}");
            known.insert(computation.result);
        }
        assert!(request.outputs.iter().all(|output| known.contains(output)), "{request:?}");
    }

    #[test]
    fn independent_computations_go_to_different_executors_and_connected_ones_stay_together() {
        let (first, second) = (list(1), list(2));
        let ((a, _), (_, b)) = (values_of(&first), values_of(&second));
        let stored = handle(100);
        let work = BlockWork {
            number: 7,
            computations: vec![
                computation(1, &[a, stored]),
                computation(2, &[stored]),
                computation(3, &[b]),
                computation(4, &[handle(1)]),
            ],
            inputs: vec![first, second],
            ciphertexts: vec![(stored, Bytes::from_static(b"packed"))],
            outputs: vec![handle(2), handle(3), handle(4)],
        };
        let parts = split(&work, requests(8));
        assert_eq!(parts.len(), 3, "as many as there are groups");
        parts.iter().for_each(assert_whole);
        let with = |output: u64| parts.iter().find(|part| part.outputs.contains(&handle(output))).unwrap();
        assert_eq!(with(4).computations, [work.computations[0].clone(), work.computations[3].clone()]);
        assert_eq!(with(4).inputs, [work.inputs[0].clone()]);
        assert_eq!(with(3).inputs, [work.inputs[1].clone()]);
        assert!(with(3).ciphertexts.is_empty() && with(2).inputs.is_empty());
        assert_eq!(
            with(2).ciphertexts.len() + with(4).ciphertexts.len(),
            2,
            "what state has goes to all who need it"
        );
        assert!(parts.iter().all(|part| part.number == 7));
    }

    #[test]
    fn inputs_that_are_stored_as_they_are_go_with_their_list() {
        let lists = [list(1), list(2)];
        let outputs: Vec<Handle> = lists.iter().map(|input| values_of(input).0).collect();
        let work = BlockWork {
            inputs: lists.to_vec(),
            outputs,
            ..BlockWork::default()
        };
        let parts = split(&work, requests(2));
        assert_eq!(parts.len(), 2);
        parts.iter().for_each(assert_whole);
    }

    #[test]
    fn the_dearest_groups_are_spread() {
        // One chain of four and four single ones: two bundles of four operations.
        let chain = (1..=4).map(|number| computation(number, &(1..number).last().map(handle).into_iter().collect::<Vec<_>>()));
        let single = (11..=13).map(|number| computation(number, &[handle(99)]));
        let work = BlockWork {
            computations: chain.chain(single).collect(),
            ciphertexts: vec![(handle(99), Bytes::from_static(b"packed"))],
            outputs: vec![handle(4), handle(11), handle(12), handle(13)],
            ..BlockWork::default()
        };
        let parts = split(&work, requests(2));
        let mut sizes: Vec<usize> = parts.iter().map(|part| part.computations.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [3, 4]);
        assert_eq!(split(&work, requests(1)), std::slice::from_ref(&work));
    }

    fn any_work() -> impl Strategy<Value = BlockWork> {
        let operands = proptest::collection::vec(any::<proptest::sample::Index>(), 0..3);
        (proptest::collection::vec(operands, 1..40), 0..4u8, any::<u64>()).prop_map(|(shapes, lists, stored)| {
            let inputs: Vec<ProvenInput> = (0..lists).map(list).collect();
            let mut known: Vec<Handle> = vec![handle(1000), handle(1001)];
            known.extend(inputs.iter().flat_map(|input| <[Handle; 2]>::from(values_of(input))));
            let mut computations = Vec::new();
            for (number, shape) in (0..).zip(&shapes) {
                let operands: Vec<Handle> = shape.iter().map(|index| *index.get(&known)).collect();
                computations.push(computation(number, &operands));
                known.push(handle(number));
            }
            let is_stored = |number: u64| stored >> (number % 64) & 1 == 1;
            let outputs = (0..computations.len() as u64).filter(|number| is_stored(*number)).map(handle);
            BlockWork {
                number: 1,
                outputs: outputs.collect(),
                computations,
                inputs,
                ciphertexts: [1000, 1001].map(|number| (handle(number), Bytes::from_static(b"packed"))).to_vec(),
            }
        })
    }

    proptest! {
        #[test]
        fn requests_are_whole_and_have_every_output_and_computation_once(work in any_work(), count in 1..6usize) {
            let parts = split(&work, requests(count));
            prop_assert!(parts.len() <= count);
            parts.iter().for_each(assert_whole);
            let mut outputs: Vec<Handle> = parts.iter().flat_map(|part| part.outputs.clone()).collect();
            outputs.sort_unstable();
            let mut expected = work.outputs.clone();
            expected.sort_unstable();
            prop_assert_eq!(outputs, expected);
            let mut results: Vec<Handle> = parts.iter().flat_map(|part| part.computations.iter().map(|one| one.result)).collect();
            results.sort_unstable();
            let mut all: Vec<Handle> = work.computations.iter().map(|one| one.result).collect();
            all.sort_unstable();
            prop_assert_eq!(results, all);
            prop_assert_eq!(parts.iter().map(|part| part.inputs.len()).sum::<usize>(), work.inputs.len());
        }
    }
}
