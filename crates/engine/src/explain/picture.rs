//! What there is to draw of a transaction: boxes and arrows, before anything has a place.

use std::collections::HashMap;

use cipherloom_primitives::{Handle, Operand, Operation, TypedOperation, U256};

use super::report::Report;
use crate::graph::{Graph, Node, NodeId, label};

/// A larger graph is not drawn: nobody could read it.
pub const MAX_DRAWN: usize = 1000;

/// What a box stands for, which is its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Boundary,
    Public,
    Arithmetic,
    Comparison,
    Choice,
    Logic,
    Random,
    Failed,
    Output,
}

impl Kind {
    /// The name of its style.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Boundary => "boundary",
            Self::Public => "public",
            Self::Arithmetic => "arithmetic",
            Self::Comparison => "comparison",
            Self::Choice => "choice",
            Self::Logic => "logic",
            Self::Random => "random",
            Self::Failed => "failed",
            Self::Output => "output",
        }
    }

    /// What the legend says.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Boundary => "from outside",
            Self::Public => "public value",
            Self::Arithmetic => "arithmetic",
            Self::Comparison => "comparison",
            Self::Choice => "choice",
            Self::Logic => "bits and conversions",
            Self::Random => "random",
            Self::Failed => "cannot be computed",
            Self::Output => "leaves the transaction",
        }
    }
}

/// A box.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Its name, unique in the picture.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The first line: what it is.
    pub(super) title: String,
    /// The second: type and cost.
    pub(super) detail: String,
    /// More, for who points at it.
    pub(super) hint: String,
    pub(super) critical: bool,
}

/// An arrow between two boxes, by their positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) critical: bool,
}

/// What there is to draw.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) shapes: Vec<Shape>,
    pub(super) arrows: Vec<Arrow>,
}

impl Picture {
    /// Lists boxes and arrows of the graph after rewriting. Arrows lead from earlier to later boxes.
    pub(super) fn of(report: &Report) -> Self {
        let graph = &report.compiled.graph;
        let mut picture = Self::default();
        let mut places: HashMap<NodeId, usize> = HashMap::new();
        for (id, node) in Report::steps(graph) {
            let place = picture.shapes.len();
            places.insert(id, place);
            picture.shapes.push(shape(report, id, node));
            let Node::Operation { inputs, .. } = node else { continue };
            let mut from: Vec<(usize, bool)> = inputs
                .iter()
                .filter_map(|input| Some((*places.get(input)?, report.critical.goes(*input, id))))
                .collect();
            from.dedup();
            let arrow = |(from, critical)| Arrow { from, to: place, critical };
            picture.arrows.extend(from.into_iter().map(arrow));
        }
        for (position, (handle, id)) in graph.outputs().enumerate() {
            picture.output(position, handle, places.get(&id).copied());
        }
        picture
    }

    fn output(&mut self, position: usize, handle: Handle, from: Option<usize>) {
        let to = self.shapes.len();
        self.shapes.push(Shape {
            name: format!("out{position}"),
            kind: Kind::Output,
            title: short(handle),
            detail: String::new(),
            hint: format!("leaves the transaction as {handle}"),
            critical: false,
        });
        self.arrows.extend(from.map(|from| Arrow { from, to, critical: false }));
    }
}

fn shape(report: &Report, id: NodeId, node: &Node) -> Shape {
    let graph = &report.compiled.graph;
    let (kind, title, detail, hint) = match node {
        Node::Boundary { handle, ty } => (Kind::Boundary, ty.to_string(), short(*handle), format!("from outside: {handle}")),
        Node::Operation { operation, inputs } => {
            let cost = report.cost(id);
            let count = match (cost.whole, cost.bootstraps) {
                (true, _) => "by the backend as a whole".to_owned(),
                (false, 0) if graph.constant(id).is_some() => "public".to_owned(),
                (false, 0) => "free".to_owned(),
                (false, 1) => "1 bootstrap".to_owned(),
                (false, count) => format!("{count} bootstraps"),
            };
            let hint = format!("{id} = {}", formula(graph, operation, inputs));
            (
                kind(operation),
                title(graph, operation, inputs),
                format!("{} · {count}", operation.result_type()),
                hint,
            )
        }
        Node::Failed(error) => (Kind::Failed, "cannot be computed".to_owned(), String::new(), error.to_string()),
    };
    Shape {
        name: id.to_string(),
        kind,
        title,
        detail,
        hint,
        critical: report.critical.contains(id),
    }
}

/// An operation with its public operands, in a few words.
fn title(graph: &Graph, operation: &TypedOperation, inputs: &[NodeId]) -> String {
    let public = |id: &NodeId| graph.constant(*id);
    match (operation, inputs) {
        (TypedOperation::IfThenElse { .. }, [_, if_true, if_false]) => match (public(if_true), public(if_false)) {
            (Some(x), Some(y)) => format!("select {} or {}", number(x), number(y)),
            (None, Some(y)) => format!("select or {}", number(y)),
            (Some(x), None) => format!("select {} or", number(x)),
            (None, None) => "select".to_owned(),
        },
        _ => inputs
            .iter()
            .filter_map(public)
            .fold(words(operation), |label, value| format!("{label} {}", number(value))),
    }
}

/// A public value: small ones in full, as decimals; of large ones the beginning and the end, as people know addresses.
fn number(value: U256) -> String {
    if value < U256::from(1_000_000_000_000_u64) {
        return value.to_string();
    }
    let text = format!("{value:#x}");
    match (text.get(..6), text.get(text.len().saturating_sub(4)..)) {
        (Some(start), Some(end)) if text.len() > 12 => format!("{start}…{end}"),
        _ => text,
    }
}

/// An operation's label without brackets, which a box has already.
fn words(operation: &TypedOperation) -> String {
    match operation {
        TypedOperation::Binary {
            operation,
            rhs: Operand::Scalar(value),
            ..
        } => format!("{} {}", operation.spec().library_name, number(*value)),
        TypedOperation::TrivialEncrypt { value, .. } => number(*value),
        _ => label(operation).replace('[', " ").replace(']', ""),
    }
}

/// An operation with all its operands; public ones by their value.
pub(super) fn formula(graph: &Graph, operation: &TypedOperation, inputs: &[NodeId]) -> String {
    inputs.iter().fold(label(operation), |text, input| match graph.constant(*input) {
        Some(value) => format!("{text} {}", number(value)),
        None => format!("{text} {input}"),
    })
}

/// The beginning and the end of a handle.
pub(super) fn short(handle: Handle) -> String {
    let text = handle.to_string();
    match (text.get(..10), text.get(text.len().saturating_sub(4)..)) {
        (Some(start), Some(end)) if text.len() > 16 => format!("{start}…{end}"),
        _ => text,
    }
}

const fn kind_of(operation: Operation) -> Kind {
    use Operation as Op;
    match operation {
        Op::Eq | Op::Ne | Op::Ge | Op::Gt | Op::Le | Op::Lt | Op::IsIn => Kind::Comparison,
        Op::IfThenElse | Op::Min | Op::Max => Kind::Choice,
        Op::Rand | Op::RandBounded => Kind::Random,
        Op::TrivialEncrypt => Kind::Public,
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem | Op::Neg | Op::Sum | Op::MulDiv => Kind::Arithmetic,
        _ => Kind::Logic,
    }
}

fn kind(operation: &TypedOperation) -> Kind {
    kind_of(operation.operation())
}
