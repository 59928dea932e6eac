//! The engine as a whole: compilation of a transaction, and evaluation for callers that wait for it.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZero,
    sync::Arc,
    thread,
};

use cipherloom_fhe::{Ciphertext, FheBackend};
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::{
    error::EngineError,
    graph::{Graph, Node, NodeId},
    lower::{Granularity, Profile, lower_to},
    pool::Workshop,
    program::{Program, Task},
    rewrite::{Firing, RuleSet, rewrite},
    run::Outputs,
    schedule::{GroupId, Policy},
};

/// Compiles graphs and evaluates programs.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// In which order tasks are done.
    pub policy: Policy,
    /// Which rewriting rules are used.
    pub rules: RuleSet,
    /// What the tasks of programs are.
    pub granularity: Granularity,
    /// What kernels save.
    pub profile: Profile,
}

/// A compiled transaction with the stages it went through.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph after rewriting.
    pub graph: Graph,
    /// How often each rule was applied.
    pub firings: Vec<Firing>,
    /// The program.
    pub program: Program,
}

/// A program and its ciphertexts from outside.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The program.
    pub program: &'a Program,
    /// The ciphertexts; what is missing fails with all that depends on it.
    pub inputs: &'a HashMap<Handle, Ciphertext>,
}

impl Compiled {
    /// Counts the bootstraps by operation and the type it works on. One that several operations share counts for the first.
    #[must_use]
    pub fn bootstraps_by_operation(&self) -> BTreeMap<(Operation, FheType), u64> {
        let mut of_nodes = BTreeMap::<NodeId, u64>::new();
        for (task, origin) in self.program.tasks().iter().zip(self.program.origins()) {
            if matches!(task, Task::Bootstrap { .. }) {
                *of_nodes.entry(*origin).or_default() += 1;
            }
        }
        let mut counts = BTreeMap::new();
        for (node, bootstraps) in of_nodes {
            if let Node::Operation { operation, .. } = self.graph.node(node) {
                *counts.entry((operation.operation(), operation.worked_type())).or_default() += bootstraps;
            }
        }
        counts
    }
}

impl Engine {
    /// Returns the engine that compiles for this backend: to operations if it does each faster as a whole, else to blocks.
    #[must_use]
    pub fn for_backend(self, backend: &dyn FheBackend) -> Self {
        let granularity = if backend.evaluates_whole_operations() {
            Granularity::Operations
        } else {
            Granularity::Blocks
        };
        Self { granularity, ..self }
    }

    /// Compiles the graph of a transaction. The result depends on graph, rules, granularity and profile alone.
    #[must_use]
    pub fn compile(&self, graph: &Graph) -> Compiled {
        let (graph, firings) = rewrite(&graph.prune(), &self.rules);
        let program = lower_to(&graph, self.granularity, self.profile);
        Compiled { graph, firings, program }
    }

    /// Evaluates one program with all processors and waits for it. What evaluates more than one uses an [`EnginePool`](crate::EnginePool).
    ///
    /// # Errors
    /// [`EngineError::NoBlocks`] if the backend has no machinery of blocks, [`EngineError::Panicked`] after a panic. Failures of single values
    /// are in the results.
    pub fn evaluate(
        &self,
        backend: &dyn FheBackend,
        program: &Program,
        inputs: &HashMap<Handle, Ciphertext>,
    ) -> Result<Outputs, EngineError> {
        let outputs = self.evaluate_all(backend, &[Job { program, inputs }])?;
        Ok(outputs.into_iter().next().unwrap_or_default())
    }

    /// Evaluates several programs together and waits for all. The results are those of evaluating each alone.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_all(&self, backend: &dyn FheBackend, jobs: &[Job<'_>]) -> Result<Vec<Outputs>, EngineError> {
        let blocks = backend.blocks().ok_or(EngineError::NoBlocks)?;
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let workshop = Arc::new(Workshop::new(self.policy, Some(blocks.preferred_batch()), threads, None));
        let submit = |job: &Job<'_>| workshop.submit(blocks, GroupId::default(), Arc::new(job.program.clone()), job.inputs.clone());
        let evaluations: Vec<_> = jobs.iter().map(submit).collect();
        thread::scope(|scope| {
            for worker in 0..threads {
                let workshop = &workshop;
                scope.spawn(move || workshop.work(backend, blocks, worker));
            }
            let results: Vec<_> = evaluations.into_iter().map(|evaluation| evaluation.wait()).collect();
            workshop.stop();
            results.into_iter().map(|result| Ok(result?.outputs)).collect()
        })
    }
}
