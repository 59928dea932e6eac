//! One program under way: the blocks that exist, what is looked up next, and what leaves.
//!
//! A block of production parameters takes 16 kilobytes, so each is dropped with its last use: that is counted before the program starts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cipherloom_fhe::{
    Ciphertext,
    blocks::{Block, BlockBackend, LookupTable},
};
use cipherloom_primitives::{FheType, Handle, TypedOperation};

use crate::{
    error::NodeError,
    program::{Base, BaseId, Form, Program, Task, ValueId, ValueSource, Whole},
};

/// The results of a program: a ciphertext for each output, or why there is none.
pub type Outputs = BTreeMap<Handle, Result<Ciphertext, NodeError>>;

/// What a task asks of the backend.
pub(crate) enum Work {
    /// A bootstrap of this block.
    Lookup(Block, LookupTable),
    /// The evaluation of an operation.
    Whole(TypedOperation, Vec<Ciphertext>),
}

/// A result that is kept until it was used as often as the program does.
struct Held<T> {
    uses: usize,
    result: Option<Result<T, NodeError>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { uses: 0, result: None }
    }
}

impl<T: Clone> Held<T> {
    fn put(&mut self, result: Result<T, NodeError>) {
        if self.uses > 0 {
            self.result = Some(result);
        }
    }

    /// Uses the result, if it exists.
    fn use_once(&mut self) -> Option<Result<T, NodeError>> {
        self.uses = self.uses.saturating_sub(1);
        if self.uses == 0 { self.result.take() } else { self.result.clone() }
    }
}

/// One program under way.
pub(crate) struct Run {
    program: Arc<Program>,
    /// By base.
    blocks: Vec<Held<Block>>,
    /// By value. Taking a ciphertext apart is one use.
    values: Vec<Held<Ciphertext>>,
    /// For each task, the functions of its lookup that are used, and as which bases.
    looked: Vec<Vec<(usize, BaseId)>>,
    /// For each value, which of its blocks are used, and as which bases.
    parts: Vec<Vec<(usize, BaseId)>>,
    /// The values that operations of the backend give, by task.
    evaluated: HashMap<usize, ValueId>,
}

impl Run {
    /// Starts a program with its ciphertexts from outside. What is missing fails with all that depends on it.
    pub(crate) fn new(program: Arc<Program>, mut inputs: HashMap<Handle, Ciphertext>) -> Self {
        let mut run = Self {
            blocks: (0..program.bases.len()).map(|_| Held::default()).collect(),
            values: (0..program.values.len()).map(|_| Held::default()).collect(),
            looked: vec![Vec::new(); program.tasks.len()],
            parts: vec![Vec::new(); program.values.len()],
            evaluated: HashMap::new(),
            program: Arc::clone(&program),
        };
        run.count_uses(&program);
        for ((number, source), held) in (0..).zip(&program.values).zip(&mut run.values) {
            match source {
                ValueSource::Boundary { handle, ty } => held.put(from_outside(*handle, *ty, inputs.remove(handle))),
                ValueSource::Opaque { task, .. } => {
                    run.evaluated.insert(*task, ValueId(number));
                }
            }
        }
        run
    }

    fn count_uses(&mut self, program: &Program) {
        for task in &program.tasks {
            match task {
                Task::Bootstrap { input, .. } => self.count_form(input),
                Task::Opaque { inputs, .. } => inputs.iter().for_each(|input| self.count_whole(input)),
            }
        }
        program.outputs.values().flatten().for_each(|output| self.count_whole(output));
        // Combinations are of earlier bases. One that is used uses its own terms once, however often it is used itself.
        for (number, base) in program.bases.iter().enumerate().rev() {
            if self.blocks.get(number).is_none_or(|held| held.uses == 0) {
                continue;
            }
            let id = BaseId(u32::try_from(number).expect("bases are numbered by 32 bits"));
            match base {
                Base::Part { value, index } => {
                    let parts = self.parts.get_mut(value.0 as usize).expect("values are of their program");
                    parts.push((*index, id));
                    if parts.len() == 1 {
                        self.count_value(*value);
                    }
                }
                Base::Looked { task, function } => {
                    let looked = self.looked.get_mut(*task).expect("tasks are of their program");
                    looked.push((*function, id));
                }
                Base::Bounded { form, .. } => self.count_form(form),
            }
        }
    }

    fn count_form(&mut self, form: &Form) {
        for (base, _) in &form.terms {
            self.held_block(*base).uses += 1;
        }
    }

    fn count_whole(&mut self, whole: &Whole) {
        match whole {
            Whole::Value(value) => self.count_value(*value),
            Whole::Blocks { blocks, .. } => blocks.iter().for_each(|form| self.count_form(form)),
        }
    }

    fn count_value(&mut self, value: ValueId) {
        self.held_value(value).uses += 1;
    }

    fn held_block(&mut self, base: BaseId) -> &mut Held<Block> {
        self.blocks.get_mut(base.0 as usize).expect("forms are of blocks of their program")
    }

    fn held_value(&mut self, value: ValueId) -> &mut Held<Ciphertext> {
        self.values.get_mut(value.0 as usize).expect("values are of their program")
    }

    /// Prepares a task that is ready. What it needs is used by that: it is prepared once.
    ///
    /// # Errors
    /// Why it cannot be done; it has to be told to [`Self::set_failed`] all the same.
    pub(crate) fn prepare(&mut self, backend: &dyn BlockBackend, task: usize) -> Result<Work, NodeError> {
        let program = Arc::clone(&self.program);
        match program.tasks.get(task).expect("tasks are of their program") {
            Task::Bootstrap { input, functions } => {
                let block = self.form(backend, input)?;
                let functions: Vec<&[u8]> = functions.iter().map(Vec::as_slice).collect();
                Ok(Work::Lookup(block, LookupTable::new(&functions)?))
            }
            Task::Opaque { operation, inputs } => {
                let inputs = all(inputs.iter().map(|input| self.whole(backend, input)))?;
                Ok(Work::Whole(operation.clone(), inputs))
            }
        }
    }

    /// Keeps the results of a bootstrap.
    pub(crate) fn set_looked(&mut self, task: usize, result: Result<Vec<Block>, NodeError>) {
        let places = self.looked.get_mut(task).map(std::mem::take).unwrap_or_default();
        self.distribute(places, &result);
    }

    /// Keeps the result of an operation that the backend evaluated.
    pub(crate) fn set_whole(&mut self, task: usize, result: Result<Ciphertext, NodeError>) {
        if let Some(value) = self.evaluated.get(&task) {
            self.held_value(*value).put(result);
        }
    }

    /// Notes that a task has no result.
    pub(crate) fn set_failed(&mut self, task: usize, error: NodeError) {
        match self.program.tasks.get(task) {
            Some(Task::Opaque { .. }) => self.set_whole(task, Err(error)),
            _ => self.set_looked(task, Err(error)),
        }
    }

    fn distribute(&mut self, places: Vec<(usize, BaseId)>, blocks: &Result<Vec<Block>, NodeError>) {
        for (index, base) in places {
            let block = blocks.as_ref().map_err(Clone::clone).map(|blocks| {
                let block = blocks.get(index).cloned();
                block.expect("a bootstrap gives a block per function, a ciphertext as many as its type says")
            });
            self.held_block(base).put(block);
        }
    }

    fn form(&mut self, backend: &dyn BlockBackend, form: &Form) -> Result<Block, NodeError> {
        if let ([(base, 1)], 0) = (form.terms.as_slice(), form.constant) {
            return self.block(backend, *base);
        }
        let (terms, constant) = self.terms(backend, form)?;
        let terms: Vec<(i8, &Block)> = terms.iter().map(|(coefficient, block)| (*coefficient, block)).collect();
        Ok(backend.linear(&terms, constant)?)
    }

    /// Returns the blocks of a combination and what is added. A negative constant becomes a public block that is subtracted.
    fn terms(&mut self, backend: &dyn BlockBackend, form: &Form) -> Result<(Vec<(i8, Block)>, u8), NodeError> {
        let mut terms = all(form.terms.iter().map(|(base, coefficient)| {
            let coefficient = i8::try_from(*coefficient).expect("coefficients are within the noise bound of 5");
            Ok((coefficient, self.block(backend, *base)?))
        }))?;
        if form.constant < 0 {
            let less = u8::try_from(form.constant.unsigned_abs()).expect("constants are within the range of blocks");
            terms.push((-1, backend.trivial(less)));
        }
        Ok((terms, u8::try_from(form.constant).unwrap_or_default()))
    }

    fn block(&mut self, backend: &dyn BlockBackend, id: BaseId) -> Result<Block, NodeError> {
        let program = Arc::clone(&self.program);
        if self.held_block(id).result.is_none() {
            match program.bases.get(id.0 as usize).expect("forms are of blocks of their program") {
                Base::Part { value, .. } => {
                    let blocks = self.value(*value).and_then(|ciphertext| Ok(backend.split(&ciphertext)?));
                    let places = self.parts.get_mut(value.0 as usize).map(std::mem::take).unwrap_or_default();
                    self.distribute(places, &blocks);
                }
                Base::Bounded { form, max } => {
                    let block = self.terms(backend, form).and_then(|(terms, constant)| {
                        let terms: Vec<(i8, &Block)> = terms.iter().map(|(coefficient, block)| (*coefficient, block)).collect();
                        Ok(backend.linear_within(&terms, constant, *max)?)
                    });
                    self.held_block(id).put(block);
                }
                Base::Looked { .. } => {}
            }
        }
        let block = self.held_block(id).use_once();
        block.expect("tasks are done before what needs them, and every use was counted")
    }

    fn value(&mut self, value: ValueId) -> Result<Ciphertext, NodeError> {
        let ciphertext = self.held_value(value).use_once();
        ciphertext.expect("tasks are done before what needs them, and every use was counted")
    }

    fn whole(&mut self, backend: &dyn BlockBackend, whole: &Whole) -> Result<Ciphertext, NodeError> {
        match whole {
            Whole::Value(value) => self.value(*value),
            Whole::Blocks { ty, blocks } => {
                let blocks = all(blocks.iter().map(|form| self.form(backend, form)))?;
                Ok(backend.join(*ty, blocks)?)
            }
        }
    }

    /// Gives what leaves the program, after its last task.
    pub(crate) fn outputs(&mut self, backend: &dyn BlockBackend) -> Outputs {
        let program = Arc::clone(&self.program);
        let output = |(handle, whole): (&Handle, &Result<Whole, NodeError>)| {
            let value = whole.as_ref().map_err(Clone::clone).and_then(|whole| self.whole(backend, whole));
            (*handle, value)
        };
        program.outputs.iter().map(output).collect()
    }

    /// Counts the blocks and ciphertexts that are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        let blocks = self.blocks.iter().filter(|held| held.result.is_some()).count();
        blocks + self.values.iter().filter(|held| held.result.is_some()).count()
    }
}

/// Checks a ciphertext that was given from outside.
fn from_outside(handle: Handle, expected: FheType, given: Option<Ciphertext>) -> Result<Ciphertext, NodeError> {
    let ciphertext = given.ok_or(NodeError::MissingInput(handle))?;
    let found = ciphertext.fhe_type();
    if found != expected {
        return Err(NodeError::InputType { handle, expected, found });
    }
    Ok(ciphertext)
}

/// Collects all results, the first error if there is one. Unlike a plain `collect` it does not stop there: every use counts.
fn all<T>(results: impl Iterator<Item = Result<T, NodeError>>) -> Result<Vec<T>, NodeError> {
    let results: Vec<Result<T, NodeError>> = results.collect();
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use cipherloom_fhe::{blocks::ClearBlocks, clear};
    use cipherloom_primitives::{B256, Computation, Operand, Operation, U256};

    use super::*;
    use crate::{graph::Graph, lower::lower};

    fn handle(number: u64) -> Handle {
        Handle::computed(B256::from(U256::from(number) << 100), 1, FheType::Uint8)
    }

    fn operation(operation: Operation, left: u64, right: u64, result: u64) -> Computation {
        Computation {
            operation: TypedOperation::Binary {
                operation,
                ty: FheType::Uint8,
                rhs: Operand::Encrypted,
            },
            inputs: vec![handle(left), handle(right)],
            result: handle(result),
        }
    }

    /// Does all tasks in order. Returns the outputs, and how much is kept before each task and after the end.
    fn run(program: &Arc<Program>, inputs: HashMap<Handle, Ciphertext>, backend: &ClearBlocks) -> (Outputs, Vec<usize>) {
        let mut run = Run::new(Arc::clone(program), inputs);
        let mut kept = Vec::new();
        for task in 0..program.tasks.len() {
            kept.push(run.kept());
            match run.prepare(backend, task) {
                Ok(Work::Lookup(input, table)) => {
                    let results = backend.bootstrap_here(&[cipherloom_fhe::BootstrapJob {
                        input: &input,
                        table: &table,
                    }]);
                    run.set_looked(task, Ok(results.unwrap().remove(0)));
                }
                Ok(Work::Whole(..)) => unreachable!("all of the test's operations have kernels"),
                Err(error) => run.set_failed(task, error),
            }
        }
        let outputs = run.outputs(backend);
        kept.push(run.kept());
        (outputs, kept)
    }

    fn secret(backend: &ClearBlocks, value: u8) -> Ciphertext {
        let digits = (0..4).map(|digit| ClearBlocks::insecure_secret((value >> (2 * digit)) & 3, 3).unwrap());
        backend.join(FheType::Uint8, digits.collect()).unwrap()
    }

    #[test]
    fn every_block_is_dropped_with_its_last_use() {
        let backend = ClearBlocks::insecure_new();
        // The product 1 * 2 is used twice, leaves and is compared; input 2 leaves as it is.
        let computations = [
            operation(Operation::Mul, 1, 2, 3),
            operation(Operation::Max, 3, 1, 4),
            operation(Operation::Sub, 4, 3, 5),
        ];
        let graph = Graph::record(&computations, [handle(2), handle(3), handle(5)], [handle(1), handle(2)]).unwrap();
        let program = Arc::new(lower(&graph));
        let values = HashMap::from([(handle(1), 77), (handle(2), 200)]);
        let inputs = values.iter().map(|(handle, value)| (*handle, secret(&backend, *value))).collect();
        let (outputs, kept) = run(&program, inputs, &backend);
        assert_eq!(kept.last(), Some(&0), "{kept:?}");
        assert!(
            *kept.iter().max().unwrap() < program.bases.len(),
            "{kept:?} of {}",
            program.bases.len()
        );
        let product = clear::evaluate(&computations[0].operation, &[U256::from(77), U256::from(200)]);
        let larger = product.max(U256::from(77));
        let expected = [U256::from(200), product, larger - product];
        for (handle, expected) in [2, 3, 5].map(handle).into_iter().zip(expected) {
            let blocks = backend.split(outputs[&handle].as_ref().unwrap()).unwrap();
            let digits = blocks.iter().rev().map(|block| ClearBlocks::insecure_value(block).unwrap());
            let found = digits.fold(U256::ZERO, |value, digit| (value << 2) | U256::from(digit));
            assert_eq!(found, expected, "{handle}");
        }
    }

    #[test]
    fn nothing_stays_of_what_failed() {
        let backend = ClearBlocks::insecure_new();
        let computations = [operation(Operation::Add, 1, 2, 3), operation(Operation::Add, 3, 1, 4)];
        let graph = Graph::record(&computations, [handle(4)], [handle(1), handle(2)]).unwrap();
        let inputs = HashMap::from([(handle(1), secret(&backend, 1))]);
        let (outputs, kept) = run(&Arc::new(lower(&graph)), inputs, &backend);
        assert!(matches!(outputs[&handle(4)], Err(NodeError::MissingInput(missing)) if missing == handle(2)));
        assert_eq!(kept.last(), Some(&0), "{kept:?}");
    }
}
