//! What the engine makes of a transaction, for people: a text and a picture.

use std::fmt::Write as _;

use cipherloom_primitives::TypedOperation;

use crate::{
    evaluate::Compiled,
    graph::{Graph, Node, label},
    lower::lower,
};

/// Describes a transaction from its operations to its bootstraps.
#[must_use]
pub fn explain(recorded: &Graph, compiled: &Compiled) -> String {
    let before = lower(&recorded.prune());
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "operations: {} recorded, {} needed, {} after rewriting",
        recorded.operation_count(),
        recorded.prune().operation_count(),
        compiled.graph.operation_count()
    ));
    if compiled.firings.is_empty() {
        line("rules applied: none".to_owned());
    }
    for firing in &compiled.firings {
        line(format!("rule {}: {} times", firing.rule, firing.count));
    }
    line(format!(
        "bootstraps: {} without rewriting, {} with",
        before.bootstraps(),
        compiled.program.bootstraps()
    ));
    line(format!(
        "depth: {} without rewriting, {} with",
        before.depth(),
        compiled.program.depth()
    ));
    for operation in compiled.program.opaque() {
        line(format!(
            "evaluated by the backend as a whole: {} on {}",
            label(operation),
            operation.result_type()
        ));
    }
    line(format!("\ngraph\n{}", compiled.graph));
    text
}

/// Draws a graph in the language of Graphviz.
#[must_use]
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from("digraph transaction {\n  rankdir=TB;\n  node [fontname=\"sans-serif\"];\n");
    // Writing to a string cannot fail.
    for (id, node) in graph.nodes() {
        let (shape, name) = match node {
            Node::Boundary { ty, .. } => ("box", format!("{ty} from outside")),
            Node::Operation {
                operation: operation @ TypedOperation::TrivialEncrypt { .. },
                ..
            } => ("plaintext", label(operation)),
            Node::Operation { operation, .. } => ("ellipse", format!("{} : {}", label(operation), operation.result_type())),
            Node::Failed(_) => ("octagon", "cannot be computed".to_owned()),
        };
        let _ = writeln!(text, "  {id} [shape={shape}, label=\"{name}\"];");
        if let Node::Operation { inputs, .. } = node {
            for input in inputs {
                let _ = writeln!(text, "  {input} -> {id};");
            }
        }
    }
    for (position, (_, id)) in graph.outputs().enumerate() {
        let _ = writeln!(
            text,
            "  out{position} [shape=doublecircle, label=\"out\"];\n  {id} -> out{position};"
        );
    }
    text.push_str("}\n");
    text
}
