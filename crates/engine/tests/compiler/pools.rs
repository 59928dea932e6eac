//! Many programs on many threads: same results, and no program harms another.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use cipherloom_engine::{Engine, EngineError, EnginePool, Evaluated, Outputs, Policy, PoolOptions, Program, evaluate::Job, lower::lower};
use cipherloom_fhe::{
    BackendKind, Block, BlockBackend, BootstrapJob, Ciphertext, FheBackend, FheError, LookupTable, VerifiedInput, insecure_test_keys,
};
use cipherloom_primitives::{B256, FheType, Handle, Operation, TypedOperation, U256, input::InputMetadata};

use crate::{
    encrypted::{clear_backend, encrypt, encrypt_inputs},
    random_graphs::{random_outputs, random_transaction},
    support::{Random, Transaction},
};

type Inputs = HashMap<Handle, Ciphertext>;

fn pool(backend: Arc<dyn FheBackend>, policy: Policy, threads: usize) -> EnginePool {
    let engine = Engine {
        policy,
        ..Engine::default()
    };
    let options = PoolOptions {
        engine,
        threads: NonZeroUsize::new(threads),
        batch: NonZeroUsize::new(8),
        ..PoolOptions::default()
    };
    EnginePool::start(backend, options).unwrap()
}

fn bytes(backend: &dyn FheBackend, outputs: &Outputs) -> Vec<(Handle, Vec<u8>)> {
    let result = |(handle, result): (&Handle, &Result<Ciphertext, _>)| (*handle, backend.serialize(result.as_ref().unwrap()).unwrap());
    outputs.iter().map(result).collect()
}

#[test]
fn results_have_the_same_bytes_on_any_threads_under_any_policy_in_any_company() {
    let keys = insecure_test_keys().unwrap();
    let backend = keys.evaluation().unwrap();
    let programs: Vec<(Arc<Program>, Inputs)> = (0..6)
        .map(|seed| {
            let mut random = Random(seed);
            let transaction = random_transaction(&mut random, 8);
            let outputs = random_outputs(&mut random, &transaction);
            let program = Engine::default().compile(&transaction.graph(&outputs)).program;
            let values = transaction.values(&mut random);
            (Arc::new(program), encrypt_inputs(&keys, &transaction, &values))
        })
        .collect();
    let alone: Vec<_> = programs
        .iter()
        .map(|(program, inputs)| {
            let pool = pool(Arc::clone(&backend), Policy::Loop, 1);
            let evaluated = pool.submit(Arc::clone(program), inputs.clone()).wait().unwrap();
            bytes(backend.as_ref(), &evaluated.outputs)
        })
        .collect();
    assert!(alone.iter().any(|outputs| outputs.len() > 1));
    for policy in Policy::ALL {
        for threads in [1, 2, 3, 8] {
            let pool = pool(Arc::clone(&backend), policy, threads);
            let submit = |(program, inputs): &(Arc<Program>, Inputs)| pool.submit(Arc::clone(program), inputs.clone());
            let (early, late) = programs.split_at(3);
            let mut evaluations: Vec<_> = early.iter().map(submit).collect();
            // The others come when some work is done.
            while evaluations.iter().all(|evaluation| evaluation.done().tasks == 0) {
                thread::yield_now();
            }
            evaluations.extend(late.iter().map(submit));
            for (evaluation, expected) in evaluations.into_iter().zip(&alone) {
                let found = bytes(backend.as_ref(), &evaluation.wait().unwrap().outputs);
                assert!(found == *expected, "{policy} on {threads} threads");
            }
        }
    }
}

#[test]
fn evaluation_without_a_pool_gives_the_same() {
    let backend = clear_backend();
    let transactions: Vec<_> = (0..4).map(|seed| random_transaction(&mut Random(seed), 30)).collect();
    let jobs: Vec<(Program, Inputs)> = transactions
        .iter()
        .map(|transaction| {
            let outputs = random_outputs(&mut Random(7), transaction);
            let values = transaction.values(&mut Random(8));
            let encrypt = |(handle, value): (Handle, U256)| (handle, encrypt(backend.as_ref(), handle.fhe_type(), value));
            (lower(&transaction.graph(&outputs)), values.into_iter().map(encrypt).collect())
        })
        .collect();
    let engine = Engine::default();
    let pool = pool(Arc::clone(&backend), Policy::Batched, 2);
    let list: Vec<_> = jobs.iter().map(|(program, inputs)| Job { program, inputs }).collect();
    let together = engine.evaluate_all(backend.as_ref(), &list).unwrap();
    assert_eq!(together.len(), jobs.len());
    for ((program, inputs), outputs) in jobs.into_iter().zip(together) {
        let expected = bytes(backend.as_ref(), &outputs);
        let alone = engine.evaluate(backend.as_ref(), &program, &inputs).unwrap();
        assert_eq!(bytes(backend.as_ref(), &alone), expected);
        let pooled = pool.submit(Arc::new(program), inputs).wait().unwrap();
        assert_eq!(bytes(backend.as_ref(), &pooled.outputs), expected);
    }
}

/// The clear backend, with something done before each operation that it evaluates as a whole, given the operation's seed, and before each bootstrap.
struct Probe {
    inner: Arc<dyn FheBackend>,
    on_whole: Box<dyn Fn(u8) + Send + Sync>,
    on_bootstrap: Box<dyn Fn(&LookupTable) + Send + Sync>,
}

impl Probe {
    fn new(on_whole: impl Fn(u8) + Send + Sync + 'static, on_bootstrap: impl Fn(&LookupTable) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner: clear_backend(),
            on_whole: Box::new(on_whole),
            on_bootstrap: Box::new(on_bootstrap),
        })
    }

    fn inner_blocks(&self) -> &dyn BlockBackend {
        self.inner.blocks().unwrap()
    }
}

impl FheBackend for Probe {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        if let TypedOperation::Rand { seed, .. } = operation {
            (self.on_whole)(seed[0]);
        }
        self.inner.evaluate(operation, inputs)
    }

    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
        self.inner.verify_input(list, metadata)
    }

    fn list_types(&self, list: &[u8]) -> Result<Vec<FheType>, FheError> {
        self.inner.list_types(list)
    }

    fn expand_values(&self, list: &[u8], positions: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.inner.expand_values(list, positions)
    }

    fn expand_input(&self, list: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.inner.expand_input(list)
    }

    fn serialize(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.inner.serialize(ciphertext)
    }

    fn deserialize(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.inner.deserialize(ty, bytes)
    }

    fn pack(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.inner.pack(ciphertext)
    }

    fn unpack(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.inner.unpack(ty, bytes)
    }

    fn rerandomise(&self, ciphertext: &mut Ciphertext, seed: &B256) -> Result<(), FheError> {
        self.inner.rerandomise(ciphertext, seed)
    }

    fn blocks(&self) -> Option<&dyn BlockBackend> {
        Some(self)
    }
}

impl BlockBackend for Probe {
    fn linear(&self, terms: &[(i8, &Block)], constant: u8) -> Result<Block, FheError> {
        self.inner_blocks().linear(terms, constant)
    }

    fn linear_within(&self, terms: &[(i8, &Block)], constant: u8, max: u8) -> Result<Block, FheError> {
        self.inner_blocks().linear_within(terms, constant, max)
    }

    fn bootstrap_batch(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        self.inner_blocks().bootstrap_batch(jobs)
    }

    fn bootstrap_here(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        jobs.iter().for_each(|job| (self.on_bootstrap)(job.table));
        self.inner_blocks().bootstrap_here(jobs)
    }

    fn preferred_batch(&self) -> usize {
        self.inner_blocks().preferred_batch()
    }

    fn bootstraps(&self) -> u64 {
        self.inner_blocks().bootstraps()
    }

    fn split(&self, ciphertext: &Ciphertext) -> Result<Vec<Block>, FheError> {
        self.inner_blocks().split(ciphertext)
    }

    fn join(&self, ty: FheType, blocks: Vec<Block>) -> Result<Ciphertext, FheError> {
        self.inner_blocks().join(ty, blocks)
    }
}

/// A door at which backends wait.
#[derive(Default)]
struct Gate {
    /// How many wait, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    fn wait_for_arrival(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(waiting, _)| *waiting == 0).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// `rand + 1`: an operation of the backend, then four bootstraps.
fn random_plus_one(seed: u8) -> Arc<Program> {
    let mut transaction = Transaction::default();
    let random = transaction.operation(
        TypedOperation::Rand {
            ty: FheType::Uint8,
            seed: [seed; 16],
            random_bits: 8,
        },
        &[],
    );
    let sum = transaction.scalar(Operation::Add, random, 1);
    let program = lower(&transaction.graph(&[sum]));
    assert_eq!((program.opaque().count(), program.bootstraps()), (1, 4));
    Arc::new(program)
}

/// An exclusive or: four bootstraps, which need no operation of the backend.
fn exclusive_or() -> (Arc<Program>, Inputs) {
    let mut transaction = Transaction::default();
    let (x, y) = (transaction.input(FheType::Uint8), transaction.input(FheType::Uint8));
    let result = transaction.binary(Operation::BitXor, x, y);
    let program = lower(&transaction.graph(&[result]));
    assert_eq!(program.bootstraps(), 4);
    let backend = clear_backend();
    let inputs = [(x, 12), (y, 10)].map(|(handle, value)| (handle, encrypt(backend.as_ref(), FheType::Uint8, U256::from(value))));
    (Arc::new(program), inputs.into())
}

fn assert_is_six(evaluated: Result<Evaluated, EngineError>) {
    let evaluated = evaluated.unwrap();
    let backend = clear_backend();
    let six = backend
        .serialize(&encrypt(backend.as_ref(), FheType::Uint8, U256::from(6)))
        .unwrap();
    let outputs = bytes(backend.as_ref(), &evaluated.outputs);
    assert!(outputs.len() == 1 && outputs[0].1 == six);
    assert_eq!(evaluated.bootstraps, 4);
}

#[test]
fn an_operation_of_the_backend_does_not_hold_up_other_programs() {
    let gate = Arc::new(Gate::default());
    let backend_gate = Arc::clone(&gate);
    let pool = pool(Probe::new(move |_| backend_gate.pass(), |_| ()), Policy::Batched, 2);
    let slow: Vec<_> = [1, 2].map(|seed| pool.submit(random_plus_one(seed), Inputs::new())).into();
    gate.wait_for_arrival();
    let (program, inputs) = exclusive_or();
    assert_is_six(pool.submit(program, inputs).wait());
    assert_eq!(pool.statistics().programs, 2);
    assert_eq!(slow[0].done().of, 5);
    gate.open();
    for evaluation in slow {
        assert_eq!(evaluation.wait().unwrap().bootstraps, 4);
    }
    let statistics = pool.statistics();
    assert_eq!(
        (statistics.whole_operations, statistics.bootstraps, statistics.programs),
        (2, 12, 0)
    );
    assert!(statistics.mean_batch() >= 1.0 && statistics.queued == 0);
}

#[test]
fn the_time_of_bootstraps_is_shared_out_among_programs() {
    let pool = pool(clear_backend(), Policy::Batched, 2);
    let (program, inputs) = exclusive_or();
    let submitted: Vec<_> = (0..50).map(|_| pool.submit(Arc::clone(&program), inputs.clone())).collect();
    let of_programs: Duration = submitted.into_iter().map(|evaluation| evaluation.wait().unwrap().fhe_cpu).sum();
    let of_pool = pool.statistics().fhe_cpu;
    // A share is cut to nanoseconds.
    let bootstraps = u32::try_from(pool.statistics().bootstraps).unwrap();
    assert!(of_programs <= of_pool && of_pool - of_programs <= Duration::from_nanos(1) * bootstraps);
    assert!(of_pool > Duration::ZERO);
}

#[test]
fn a_dropped_evaluation_is_not_continued() {
    let gate = Arc::new(Gate::default());
    let backend_gate = Arc::clone(&gate);
    let pool = pool(Probe::new(move |_| backend_gate.pass(), |_| ()), Policy::Batched, 1);
    let dropped = pool.submit(random_plus_one(1), Inputs::new());
    gate.wait_for_arrival();
    drop(dropped);
    gate.open();
    let (program, inputs) = exclusive_or();
    assert_is_six(pool.submit(program, inputs).wait());
    let statistics = pool.statistics();
    assert_eq!((statistics.bootstraps, statistics.programs), (4, 0), "only the other one's");
}

#[test]
fn a_panic_fails_its_own_program_only() {
    let (poisoned, inputs) = exclusive_or();
    let cipherloom_engine::program::Task::Bootstrap { functions, .. } = &poisoned.tasks()[0] else {
        panic!("its first task is a bootstrap");
    };
    let functions: Vec<&[u8]> = functions.iter().map(Vec::as_slice).collect();
    let table = LookupTable::new(&functions).unwrap();
    let backend = Probe::new(
        |seed| assert_ne!(seed, 13, "an unlucky operation"),
        move |of| assert!(*of != table, "an unlucky bootstrap"),
    );
    for policy in Policy::ALL {
        let pool = pool(Arc::clone(&backend) as Arc<dyn FheBackend>, policy, 2);
        let submitted = [
            pool.submit(random_plus_one(1), Inputs::new()),
            pool.submit(random_plus_one(13), Inputs::new()),
            pool.submit(Arc::clone(&poisoned), inputs.clone()),
            pool.submit(random_plus_one(2), Inputs::new()),
        ];
        let [fine, operation, bootstrap, also_fine] = submitted.map(|evaluation| evaluation.wait());
        assert_eq!(fine.unwrap().bootstraps, 4, "{policy}");
        let is_panic = |result, part: &str| matches!(result, Err(EngineError::Panicked(message)) if str::contains(&message, part));
        assert!(is_panic(operation, "an unlucky operation"), "{policy}");
        assert!(is_panic(bootstrap, "an unlucky bootstrap"), "{policy}");
        assert_eq!(also_fine.unwrap().bootstraps, 4, "{policy}");
        assert_eq!(
            pool.submit(random_plus_one(3), Inputs::new()).wait().unwrap().bootstraps,
            4,
            "{policy}"
        );
        assert_eq!(pool.statistics().programs, 0, "{policy}");
    }
}

#[test]
fn a_dropped_pool_fails_what_is_not_finished() {
    let gate = Arc::new(Gate::default());
    let backend_gate = Arc::clone(&gate);
    let pool = pool(Probe::new(move |_| backend_gate.pass(), |_| ()), Policy::Batched, 1);
    let under_way = pool.submit(random_plus_one(1), Inputs::new());
    gate.wait_for_arrival();
    let waiting = pool.submit(random_plus_one(2), Inputs::new());
    let dropping = thread::spawn(move || drop(pool));
    assert_eq!(under_way.wait().unwrap_err(), EngineError::Stopped);
    assert_eq!(waiting.wait().unwrap_err(), EngineError::Stopped);
    gate.open();
    dropping.join().unwrap();
}

#[test]
fn a_program_without_tasks_is_done_at_once() {
    let pool = pool(clear_backend(), Policy::Batched, 1);
    let mut transaction = Transaction::default();
    let (kept, missing) = (transaction.input(FheType::Uint8), transaction.input(FheType::Uint8));
    let program = Arc::new(lower(&transaction.graph(&[kept, missing])));
    assert!(program.tasks().is_empty());
    let value = encrypt(clear_backend().as_ref(), FheType::Uint8, U256::from(5));
    let evaluated = pool.submit(program, Inputs::from([(kept, value)])).wait().unwrap();
    assert!(evaluated.outputs[&kept].is_ok() && evaluated.outputs[&missing].is_err());
}

/// Says on a channel that a future wants to be polled.
struct Bell(Mutex<mpsc::Sender<()>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().send(()).unwrap();
    }
}

#[test]
fn an_evaluation_is_a_future() {
    let gate = Arc::new(Gate::default());
    let backend_gate = Arc::clone(&gate);
    let pool = pool(Probe::new(move |_| backend_gate.pass(), |_| ()), Policy::Batched, 2);
    let mut evaluation = Box::pin(pool.submit(random_plus_one(1), Inputs::new()));
    let (bell, rung) = mpsc::channel();
    let waker = Waker::from(Arc::new(Bell(Mutex::new(bell))));
    let mut context = Context::from_waker(&waker);
    assert!(evaluation.as_mut().poll(&mut context).is_pending());
    gate.open();
    rung.recv().unwrap();
    match evaluation.as_mut().poll(&mut context) {
        Poll::Ready(result) => assert_eq!(result.unwrap().bootstraps, 4),
        Poll::Pending => panic!("it was woken before there was a result"),
    }
}
