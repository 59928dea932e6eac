//! Evaluation of programs on a backend, in batches that the schedule composes.

use std::collections::{BTreeMap, HashMap};

use cipherloom_fhe::{
    Ciphertext, FheBackend, FheError,
    blocks::{Block, BlockBackend, BootstrapJob, LookupTable},
};
use cipherloom_primitives::Handle;

use crate::{
    error::NodeError,
    graph::Graph,
    lower::lower,
    program::{Base, BaseId, Form, Program, Task, ValueId, ValueSource, Whole},
    rewrite::{Firing, RuleSet, rewrite},
    schedule::{Policy, Schedule, TaskRef},
};

/// The results of a program: a ciphertext for each output, or why there is none.
pub type Outputs = BTreeMap<Handle, Result<Ciphertext, NodeError>>;

/// Compiles graphs and evaluates programs.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// In which order tasks are done.
    pub policy: Policy,
    /// Which rewriting rules are used.
    pub rules: RuleSet,
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

impl Engine {
    /// Compiles the graph of a transaction. The result depends on graph and rules alone.
    #[must_use]
    pub fn compile(&self, graph: &Graph) -> Compiled {
        let (graph, firings) = rewrite(&graph.prune(), &self.rules);
        let program = lower(&graph);
        Compiled { graph, firings, program }
    }

    /// Evaluates one program.
    ///
    /// # Errors
    /// [`FheError::ForeignCiphertext`] if the backend has no machinery of blocks. Failures of single values are in the results.
    pub fn evaluate(&self, backend: &dyn FheBackend, program: &Program, inputs: &HashMap<Handle, Ciphertext>) -> Result<Outputs, FheError> {
        let outputs = self.evaluate_all(backend, &[Job { program, inputs }], &|| false)?;
        Ok(outputs.and_then(|outputs| outputs.into_iter().next()).unwrap_or_default())
    }

    /// Evaluates several programs together, so that their bootstraps share batches. Gives up with `None` between two batches once `stop`
    /// says so. The results are those of evaluating each alone.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_all(
        &self,
        backend: &dyn FheBackend,
        jobs: &[Job<'_>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Outputs>>, FheError> {
        let blocks = backend.blocks().ok_or(FheError::ForeignCiphertext)?;
        let mut runs: Vec<Run<'_>> = jobs.iter().map(|job| Run::new(backend, blocks, *job)).collect();
        let programs: Vec<&Program> = jobs.iter().map(|job| job.program).collect();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut schedule = Schedule::new(&programs, self.policy, blocks.preferred_batch().saturating_mul(processors));
        loop {
            if stop() {
                return Ok(None);
            }
            let batch = schedule.next_batch();
            if batch.is_empty() {
                break;
            }
            perform(blocks, &mut runs, &batch);
            batch.into_iter().for_each(|task| schedule.done(task));
        }
        Ok(Some(runs.into_iter().map(Run::outputs).collect()))
    }
}

/// Does the tasks of a batch: all bootstraps in one call, then operations of the backend.
fn perform(blocks: &dyn BlockBackend, runs: &mut [Run<'_>], batch: &[TaskRef]) {
    let mut lookups: Vec<(TaskRef, Block, LookupTable)> = Vec::new();
    for reference in batch {
        let Some(run) = runs.get_mut(reference.program) else { continue };
        match run.prepare(reference.task) {
            Ok(Some((block, table))) => lookups.push((*reference, block, table)),
            Ok(None) => {}
            Err(error) => run.set_task(reference.task, Err(error)),
        }
    }
    let jobs: Vec<BootstrapJob<'_>> = lookups.iter().map(|(_, input, table)| BootstrapJob { input, table }).collect();
    match blocks.bootstrap_batch(&jobs) {
        Ok(results) => {
            for ((reference, ..), result) in lookups.iter().zip(results) {
                set(runs, *reference, Ok(result));
            }
        }
        // One of the blocks was refused. Alone, each fails or succeeds for itself.
        Err(_) => {
            for (reference, input, table) in &lookups {
                let result = blocks.bootstrap_batch(&[BootstrapJob { input, table }]);
                let result = result.map(|mut results| results.pop().unwrap_or_default());
                set(runs, *reference, result.map_err(NodeError::from));
            }
        }
    }
}

fn set(runs: &mut [Run<'_>], reference: TaskRef, result: Result<Vec<Block>, NodeError>) {
    if let Some(run) = runs.get_mut(reference.program) {
        run.set_task(reference.task, result);
    }
}

/// One program under way.
struct Run<'a> {
    backend: &'a dyn FheBackend,
    blocks: &'a dyn BlockBackend,
    job: Job<'a>,
    /// The results of bootstraps, by task.
    looked: HashMap<usize, Result<Vec<Block>, NodeError>>,
    /// The results of operations the backend evaluated, by task.
    evaluated: HashMap<usize, Result<Ciphertext, NodeError>>,
    /// Ciphertexts that were taken apart.
    split: HashMap<ValueId, Result<Vec<Block>, NodeError>>,
    bounded: HashMap<BaseId, Block>,
}

impl<'a> Run<'a> {
    fn new(backend: &'a dyn FheBackend, blocks: &'a dyn BlockBackend, job: Job<'a>) -> Self {
        Self {
            backend,
            blocks,
            job,
            looked: HashMap::new(),
            evaluated: HashMap::new(),
            split: HashMap::new(),
            bounded: HashMap::new(),
        }
    }

    /// Gives the lookup of a bootstrap; does any other task.
    fn prepare(&mut self, number: usize) -> Result<Option<(Block, LookupTable)>, NodeError> {
        match self.job.program.tasks.get(number) {
            Some(Task::Bootstrap { input, functions }) => {
                let block = self.form(input)?;
                let functions: Vec<&[u8]> = functions.iter().map(Vec::as_slice).collect();
                Ok(Some((block, LookupTable::new(&functions)?)))
            }
            Some(Task::Opaque { operation, inputs }) => {
                let inputs = inputs.iter().map(|input| self.whole(input)).collect::<Result<Vec<_>, _>>();
                let result = inputs.and_then(|inputs| {
                    let inputs: Vec<&Ciphertext> = inputs.iter().collect();
                    Ok(self.backend.evaluate(operation, &inputs)?)
                });
                self.evaluated.insert(number, result);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn set_task(&mut self, number: usize, result: Result<Vec<Block>, NodeError>) {
        self.looked.insert(number, result);
    }

    fn form(&mut self, form: &Form) -> Result<Block, NodeError> {
        if let ([(base, 1)], 0) = (form.terms.as_slice(), form.constant) {
            return self.base(*base);
        }
        let (terms, constant) = self.terms(form)?;
        let terms: Vec<(i8, &Block)> = terms.iter().map(|(coefficient, block)| (*coefficient, block)).collect();
        Ok(self.blocks.linear(&terms, constant)?)
    }

    /// Returns the blocks of a combination and what is added. A negative constant becomes a public block that is subtracted.
    fn terms(&mut self, form: &Form) -> Result<(Vec<(i8, Block)>, u8), NodeError> {
        let mut terms = Vec::with_capacity(form.terms.len() + 1);
        for (base, coefficient) in &form.terms {
            let coefficient = i8::try_from(*coefficient).expect("coefficients are within the noise bound of 5");
            terms.push((coefficient, self.base(*base)?));
        }
        if form.constant < 0 {
            let less = u8::try_from(form.constant.unsigned_abs()).expect("constants are within the range of blocks");
            terms.push((-1, self.blocks.trivial(less)));
        }
        Ok((terms, u8::try_from(form.constant).unwrap_or_default()))
    }

    fn base(&mut self, id: BaseId) -> Result<Block, NodeError> {
        let program = self.job.program;
        match program.bases.get(id.0 as usize) {
            Some(Base::Looked { task, function }) => {
                let outputs = self.looked.get(task).expect("tasks are done before what needs them").clone()?;
                Ok(outputs.get(*function).cloned().expect("a bootstrap gives one block per function"))
            }
            Some(Base::Part { value, index }) => {
                let blocks = self.parts(*value)?;
                Ok(blocks
                    .get(*index)
                    .cloned()
                    .expect("ciphertexts have as many blocks as their type says"))
            }
            Some(Base::Bounded { form, max }) => {
                if let Some(block) = self.bounded.get(&id) {
                    return Ok(block.clone());
                }
                let (terms, constant) = self.terms(form)?;
                let terms: Vec<(i8, &Block)> = terms.iter().map(|(coefficient, block)| (*coefficient, block)).collect();
                let block = self.blocks.linear_within(&terms, constant, *max)?;
                self.bounded.insert(id, block.clone());
                Ok(block)
            }
            None => unreachable!("forms are of blocks of their program"),
        }
    }

    fn parts(&mut self, value: ValueId) -> Result<Vec<Block>, NodeError> {
        if let Some(blocks) = self.split.get(&value) {
            return blocks.clone();
        }
        let blocks = self.value(value).and_then(|ciphertext| Ok(self.blocks.split(&ciphertext)?));
        self.split.insert(value, blocks.clone());
        blocks
    }

    fn value(&self, value: ValueId) -> Result<Ciphertext, NodeError> {
        match self.job.program.values.get(value.0 as usize) {
            Some(ValueSource::Boundary { handle, ty }) => match self.job.inputs.get(handle) {
                Some(ciphertext) if ciphertext.fhe_type() == *ty => Ok(ciphertext.clone()),
                Some(ciphertext) => Err(NodeError::InputType {
                    handle: *handle,
                    expected: *ty,
                    found: ciphertext.fhe_type(),
                }),
                None => Err(NodeError::MissingInput(*handle)),
            },
            Some(ValueSource::Opaque { task, .. }) => self.evaluated.get(task).expect("tasks are done before what needs them").clone(),
            None => unreachable!("values are of their program"),
        }
    }

    fn whole(&mut self, whole: &Whole) -> Result<Ciphertext, NodeError> {
        match whole {
            Whole::Value(value) => self.value(*value),
            Whole::Blocks { ty, blocks } => {
                let blocks = blocks.iter().map(|form| self.form(form)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.blocks.join(*ty, blocks)?)
            }
        }
    }

    fn outputs(mut self) -> Outputs {
        let program = self.job.program;
        let output = |(handle, whole): (&Handle, &Result<Whole, NodeError>)| {
            let value = whole.as_ref().map_err(Clone::clone).and_then(|whole| self.whole(whole));
            (*handle, value)
        };
        program.outputs.iter().map(output).collect()
    }
}
