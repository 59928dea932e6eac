//! What is known about a transaction on its way through the compiler: every stage, and what each rule and each operation is worth.

use std::collections::{BTreeSet, HashMap};

use cipherloom_fhe::clear;
use cipherloom_primitives::{B256, FheType, Handle, TypedOperation, U256};

use super::{
    path::CriticalPath,
    reference::{self, Reference},
};
use crate::{
    evaluate::{Compiled, Engine},
    graph::{Graph, Node, NodeId},
    lower::lower,
    program::{Program, Task},
    rewrite::rules,
};

/// A transaction with every stage of its compilation.
#[derive(Clone, Debug)]
pub struct Report {
    /// The graph as it was recorded.
    pub recorded: Graph,
    /// What the outputs need of it.
    pub needed: Graph,
    /// The program without any rewriting.
    pub plain: Program,
    /// The graph after rewriting, the rules that were applied, and the program.
    pub compiled: Compiled,
    /// What each rule that was applied is worth.
    pub rules: Vec<RuleEffect>,
    /// What each operation after rewriting costs, by its number.
    pub costs: Vec<Cost>,
    /// The operations on which the time hangs.
    pub critical: CriticalPath,
    /// What each needed operation takes alone.
    pub alone: Vec<Alone>,
}

/// How much a program has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bootstraps, those inside operations that the backend evaluates as a whole not counted.
    pub bootstraps: usize,
    /// Operations that the backend evaluates as a whole.
    pub whole: usize,
    /// The longest chain of bootstraps that wait for each other; a whole operation counts as one.
    pub depth: usize,
}

/// What a rule is worth in one transaction: the difference that switching it off makes, alone, with all other rules on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleEffect {
    /// The rule's name.
    pub rule: &'static str,
    /// What it says.
    pub doc: &'static str,
    /// How often it was applied.
    pub times: usize,
    /// How many bootstraps there would be more without it.
    pub bootstraps_saved: i64,
    /// How many operations the backend would have to evaluate as a whole, more than now, without it.
    pub whole_saved: i64,
}

/// What one operation takes without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alone {
    /// The operation, in the graph of what is needed.
    pub node: NodeId,
    /// Compiled alone: nothing shared, nothing left out.
    pub load: Load,
    /// tfhe-rs's bootstraps, if they were counted.
    pub tfhe_rs: Option<usize>,
}

/// What one operation costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The bootstraps done for it. One that serves several operations counts for the first.
    pub bootstraps: usize,
    /// Whether the backend evaluates it as a whole.
    pub whole: bool,
}

impl Load {
    /// Counts what a program has to do.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        Self {
            bootstraps: program.bootstraps(),
            whole: program.opaque().count(),
            depth: program.depth(),
        }
    }
}

impl Report {
    /// Compiles a recorded graph with the engine's rules, and once more without each rule that was applied.
    #[must_use]
    pub fn new(recorded: &Graph, engine: &Engine) -> Self {
        let needed = recorded.prune();
        let compiled = engine.compile(recorded);
        let rules = effects(&needed, engine, &compiled);
        Self {
            plain: lower(&needed),
            costs: costs(&compiled),
            critical: CriticalPath::of(&compiled.graph, &compiled.program),
            alone: alone(&needed),
            recorded: recorded.clone(),
            needed,
            compiled,
            rules,
        }
    }

    /// Counts what there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        Load::of(&self.compiled.program)
    }

    /// Counts what there would be to do without rewriting.
    #[must_use]
    pub fn plain_load(&self) -> Load {
        Load::of(&self.plain)
    }

    /// Counts what there would be to do if each needed operation was compiled alone.
    #[must_use]
    pub fn alone_load(&self) -> Load {
        let add = |total: Load, alone: &Alone| Load {
            bootstraps: total.bootstraps + alone.load.bootstraps,
            whole: total.whole + alone.load.whole,
            depth: total.depth.max(alone.load.depth),
        };
        self.alone.iter().fold(Load::default(), add)
    }

    /// Counts what tfhe-rs does for the needed operations, one after the other.
    #[must_use]
    pub fn tfhe_rs(&self) -> Reference {
        self.alone.iter().map(|alone| alone.tfhe_rs).collect()
    }

    /// Returns what an operation after rewriting costs.
    #[must_use]
    pub fn cost(&self, id: NodeId) -> Cost {
        self.costs.get(id.index()).copied().unwrap_or_default()
    }

    /// Lists the operations of a graph, without public values that only stand in others' labels.
    pub(super) fn steps(graph: &Graph) -> Vec<(NodeId, &Node)> {
        let leaving: BTreeSet<NodeId> = graph.outputs().map(|(_, id)| id).collect();
        graph
            .nodes()
            .filter(|(id, _)| graph.constant(*id).is_none() || leaving.contains(id))
            .collect()
    }
}

fn effects(needed: &Graph, engine: &Engine, compiled: &Compiled) -> Vec<RuleEffect> {
    let with = Load::of(&compiled.program);
    let effect = |firing: &crate::rewrite::Firing| {
        let without = Engine {
            rules: engine.rules.clone().without(firing.rule),
            ..engine.clone()
        };
        let without = Load::of(&without.compile(needed).program);
        let doc = rules().find(|rule| rule.name == firing.rule).map(|rule| rule.doc);
        RuleEffect {
            rule: firing.rule,
            doc: doc.unwrap_or("no operation is done twice"),
            times: firing.count,
            bootstraps_saved: difference(without.bootstraps, with.bootstraps),
            whole_saved: difference(without.whole, with.whole),
        }
    };
    compiled.firings.iter().map(effect).collect()
}

/// Compiles each operation of a graph by itself. What follows from public values is public, and everything else comes from outside.
fn alone(graph: &Graph) -> Vec<Alone> {
    let mut known: HashMap<(TypedOperation, Vec<Option<U256>>), Load> = HashMap::new();
    let mut values: Vec<Option<U256>> = Vec::new();
    let mut all = Vec::new();
    for (id, node) in graph.nodes() {
        let Node::Operation { operation, inputs } = node else {
            values.push(None);
            continue;
        };
        let public: Vec<Option<U256>> = inputs.iter().map(|input| values.get(input.index()).copied().flatten()).collect();
        let operands: Option<Vec<U256>> = public.iter().copied().collect();
        let operands = operands.filter(|_| !matches!(operation, TypedOperation::Rand { .. }));
        values.push(operands.map(|operands| clear::evaluate(operation, &operands)));
        if matches!(operation, TypedOperation::TrivialEncrypt { .. }) {
            continue;
        }
        let tfhe_rs = reference::bootstraps(operation, &public);
        let load = known
            .entry((operation.clone(), public))
            .or_insert_with_key(|(operation, public)| Load::of(&lower(&single(operation, public))));
        all.push(Alone {
            node: id,
            load: *load,
            tfhe_rs,
        });
    }
    all
}

/// The graph of one operation.
fn single(operation: &TypedOperation, public: &[Option<U256>]) -> Graph {
    let handle = |number: usize, ty: FheType| Handle::computed(B256::from(U256::from(number) << 128), 0, ty);
    let mut graph = Graph::default();
    let mut inputs = Vec::with_capacity(public.len());
    for (number, (ty, value)) in operation.input_types().into_iter().zip(public).enumerate() {
        inputs.push(graph.push(match value {
            Some(value) => Node::Operation {
                operation: TypedOperation::TrivialEncrypt { value: *value, ty },
                inputs: Vec::new(),
            },
            None => Node::Boundary {
                handle: handle(number, ty),
                ty,
            },
        }));
    }
    let result = handle(public.len(), operation.result_type());
    let operation = operation.clone();
    let id = graph.push(Node::Operation { operation, inputs });
    graph.outputs.insert(result, id);
    graph
}

fn difference(without: usize, with: usize) -> i64 {
    let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    signed(without) - signed(with)
}

fn costs(compiled: &Compiled) -> Vec<Cost> {
    let mut costs = vec![Cost::default(); compiled.graph.nodes().count()];
    for (task, origin) in compiled.program.tasks().iter().zip(compiled.program.origins()) {
        let Some(cost) = costs.get_mut(origin.index()) else { continue };
        match task {
            Task::Bootstrap { .. } => cost.bootstraps += 1,
            Task::Opaque { .. } => cost.whole = true,
        }
    }
    costs
}
