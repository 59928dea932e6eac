//! Dropping what no output depends on.

use crate::graph::{Graph, Node, NodeId};

/// Keeps what outputs depend on, in the same order.
pub(crate) fn prune(graph: &Graph) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    for id in graph.outputs.values() {
        mark(&mut needed, *id);
    }
    for (id, node) in graph.nodes().collect::<Vec<_>>().into_iter().rev() {
        if let (true, Node::Operation { inputs, .. }) = (needed.get(id.index()) == Some(&true), node) {
            inputs.iter().for_each(|input| mark(&mut needed, *input));
        }
    }
    let mut pruned = Graph::default();
    let mut moved = vec![NodeId(0); graph.nodes.len()];
    let new_id = |moved: &[NodeId], old: NodeId| *moved.get(old.index()).expect("operands were moved before their use");
    for (id, node) in graph.nodes() {
        if needed.get(id.index()) != Some(&true) {
            continue;
        }
        let node = match node {
            Node::Operation { operation, inputs } => Node::Operation {
                operation: operation.clone(),
                inputs: inputs.iter().map(|input| new_id(&moved, *input)).collect(),
            },
            other => other.clone(),
        };
        let new = pruned.push(node);
        if let Some(slot) = moved.get_mut(id.index()) {
            *slot = new;
        }
    }
    pruned.outputs = graph.outputs.iter().map(|(handle, id)| (*handle, new_id(&moved, *id))).collect();
    pruned
}

fn mark(needed: &mut [bool], id: NodeId) {
    if let Some(slot) = needed.get_mut(id.index()) {
        *slot = true;
    }
}
