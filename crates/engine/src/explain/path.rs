//! The critical path: the operations on which a transaction's time hangs, however many processors there are.

use std::collections::{BTreeSet, HashMap};

use crate::{
    graph::{Graph, Node, NodeId},
    program::Program,
};

/// One of the longest chains of bootstraps that wait for each other, as seen from the operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriticalPath {
    nodes: BTreeSet<NodeId>,
    arrows: BTreeSet<(NodeId, NodeId)>,
}

impl CriticalPath {
    /// Finds a longest chain of tasks, and the operations they are done for with the free ones between them.
    #[must_use]
    pub fn of(graph: &Graph, program: &Program) -> Self {
        let origins = program.origins();
        let busy: BTreeSet<NodeId> = origins.iter().copied().collect();
        let chain: Vec<NodeId> = longest_chain(program)
            .into_iter()
            .filter_map(|task| origins.get(task).copied())
            .collect();
        let mut path = Self {
            nodes: chain.iter().copied().collect(),
            arrows: BTreeSet::new(),
        };
        let steps: BTreeSet<(NodeId, NodeId)> = chain
            .windows(2)
            .filter_map(|pair| match pair {
                [from, to] if from != to => Some((*from, *to)),
                _ => None,
            })
            .collect();
        for (from, to) in steps {
            let way = way(graph, from, to, &busy);
            path.nodes.extend(&way);
            path.arrows.extend(way.windows(2).filter_map(|pair| match pair {
                [from, to] => Some((*from, *to)),
                _ => None,
            }));
        }
        path
    }

    /// Says whether an operation is on the path.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Says whether the path goes from one operation to another that uses it.
    #[must_use]
    pub fn goes(&self, from: NodeId, to: NodeId) -> bool {
        self.arrows.contains(&(from, to))
    }
}

/// Returns the tasks of a longest chain, first to last. Of equally long ones it takes the tasks with the smallest numbers.
fn longest_chain(program: &Program) -> Vec<usize> {
    let dependencies = program.dependencies();
    let mut depths: Vec<usize> = Vec::with_capacity(dependencies.len());
    for needs in &dependencies {
        let deepest = needs.iter().filter_map(|task| depths.get(*task)).max();
        depths.push(deepest.map_or(1, |depth| depth + 1));
    }
    let depth_of = |task: usize| depths.get(task).copied().unwrap_or_default();
    let deepest = |tasks: &mut dyn Iterator<Item = usize>| tasks.max_by_key(|task| (depth_of(*task), std::cmp::Reverse(*task)));
    let mut chain: Vec<usize> = deepest(&mut (0..depths.len())).into_iter().collect();
    while let Some(needs) = chain
        .last()
        .and_then(|last| dependencies.get(*last))
        .filter(|needs| !needs.is_empty())
    {
        chain.extend(deepest(&mut needs.iter().copied()));
    }
    chain.reverse();
    chain
}

/// Finds the way on which a value goes from one operation to another, over operations without tasks of their own; ends included. There is none where
/// a bootstrap that was done for one operation serves another that does not depend on it.
fn way(graph: &Graph, from: NodeId, to: NodeId, busy: &BTreeSet<NodeId>) -> Vec<NodeId> {
    let mut next: HashMap<NodeId, NodeId> = HashMap::new();
    let mut open = vec![to];
    while let Some(node) = open.pop() {
        let Node::Operation { inputs, .. } = graph.node(node) else {
            continue;
        };
        if inputs.contains(&from) {
            let rest = std::iter::successors(Some(node), |node| next.get(node).copied());
            return std::iter::once(from).chain(rest).collect();
        }
        for input in inputs {
            if *input > from && !busy.contains(input) && !next.contains_key(input) {
                next.insert(*input, node);
                open.push(*input);
            }
        }
    }
    Vec::new()
}
