//! What the threads of a pool share, and what each of them does.
//!
//! Order is kept under one lock, which is held for microseconds. Each program's blocks have a lock of their own, held while combinations are
//! computed. Neither is held during a bootstrap.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use cipherloom_fhe::{
    Ciphertext, FheBackend,
    blocks::{Block, BlockBackend, BootstrapJob, LookupTable},
};
use cipherloom_primitives::{Handle, TypedOperation};

use super::{
    Evaluated, Evaluation, PoolStatistics,
    clock::{ThreadClock, Total},
    evaluation::Promise,
    permits::{Permit, Permits},
};
use crate::{
    error::{EngineError, NodeError},
    program::Program,
    run::{Run, Work},
    schedule::{Dependencies, GroupId, Policy, ProgramId, Schedule, TaskRef},
};

/// A program under way.
struct Job {
    run: Mutex<Run>,
    /// Set when nobody wants the results any more.
    over: AtomicBool,
    bootstraps: AtomicU64,
    fhe_cpu: Total,
    result: Arc<Promise>,
}

struct Order {
    schedule: Schedule,
    jobs: HashMap<ProgramId, Arc<Job>>,
    /// How many threads wait for something to do.
    waiting: usize,
    stopped: bool,
}

/// What the threads of a pool share.
pub(crate) struct Workshop {
    order: Mutex<Order>,
    changed: Condvar,
    threads: usize,
    /// Whether the size of batches was given. Else the threads ask the backend.
    batch_given: bool,
    /// What this pool shares with others.
    permits: Option<Arc<Permits>>,
    bootstraps: AtomicU64,
    batches: AtomicU64,
    whole_operations: AtomicU64,
    fhe_cpu: Total,
    scheduling_cpu: Total,
}

/// What a thread is to do next.
struct Share<'a> {
    tasks: Vec<Taken>,
    /// The number of bootstraps to do at a time.
    batch: usize,
    /// Held while it is done.
    _permit: Option<Permit<'a>>,
}

/// A task that a thread took.
struct Taken {
    task: TaskRef,
    job: Arc<Job>,
}

/// A bootstrap that is ready to be done.
struct Lookup<'a> {
    taken: &'a Taken,
    input: Block,
    table: LookupTable,
}

impl Workshop {
    pub(crate) fn new(policy: Policy, batch: Option<usize>, threads: usize, permits: Option<Arc<Permits>>) -> Self {
        Self {
            order: Mutex::new(Order {
                schedule: Schedule::new(policy, batch.unwrap_or(1), threads),
                jobs: HashMap::new(),
                waiting: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
            threads,
            batch_given: batch.is_some(),
            permits,
            bootstraps: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            whole_operations: AtomicU64::new(0),
            fhe_cpu: Total::default(),
            scheduling_cpu: Total::default(),
        }
    }

    /// Adds a program.
    pub(crate) fn submit(
        self: &Arc<Self>,
        blocks: &dyn BlockBackend,
        group: GroupId,
        program: Arc<Program>,
        inputs: HashMap<Handle, Ciphertext>,
    ) -> Evaluation {
        let result = Arc::new(Promise::default());
        let tasks = program.tasks.len();
        let dependencies = Dependencies::of(&program);
        let job = Arc::new(Job {
            run: Mutex::new(Run::new(program, inputs)),
            over: AtomicBool::new(false),
            bootstraps: AtomicU64::new(0),
            fhe_cpu: Total::default(),
            result: Arc::clone(&result),
        });
        if tasks == 0 {
            job.finish(blocks);
            return Evaluation::over(result, tasks);
        }
        let mut order = lock(&self.order);
        if order.stopped {
            result.keep(Err(EngineError::Stopped));
            return Evaluation::over(result, tasks);
        }
        let program = order.schedule.add_to(group, dependencies);
        order.jobs.insert(program, job);
        self.wake_one(&order);
        drop(order);
        Evaluation::under_way(result, Arc::downgrade(self), program, tasks)
    }

    /// Forgets a program that nobody waits for.
    pub(super) fn cancel(&self, program: ProgramId) {
        let mut order = lock(&self.order);
        order.schedule.remove(program);
        let job = order.jobs.remove(&program);
        drop(order);
        if let Some(job) = job {
            job.over.store(true, Ordering::Relaxed);
        }
    }

    /// Returns how many of a program's tasks are not done.
    pub(super) fn left(&self, program: ProgramId) -> usize {
        lock(&self.order).schedule.left(program)
    }

    /// Ends the threads after what they are at. Programs that are not finished fail.
    pub(crate) fn stop(&self) {
        let mut order = lock(&self.order);
        order.stopped = true;
        let jobs = std::mem::take(&mut order.jobs);
        jobs.keys().for_each(|program| order.schedule.remove(*program));
        drop(order);
        self.changed.notify_all();
        for job in jobs.into_values() {
            job.over.store(true, Ordering::Relaxed);
            job.result.keep(Err(EngineError::Stopped));
        }
    }

    pub(super) fn statistics(&self) -> PoolStatistics {
        let order = lock(&self.order);
        PoolStatistics {
            threads: self.threads,
            bootstraps: self.bootstraps.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            whole_operations: self.whole_operations.load(Ordering::Relaxed),
            fhe_cpu: self.fhe_cpu.get(),
            scheduling_cpu: self.scheduling_cpu.get(),
            programs: order.jobs.len(),
            queued: order.schedule.queued(),
        }
    }

    /// What each thread does until the pool is stopped.
    pub(crate) fn work(&self, backend: &dyn FheBackend, blocks: &dyn BlockBackend, worker: usize) {
        let mut measured = self.batch_given;
        // A pool that shares permits may be one of many, most of which never have anything to do.
        if !measured && self.permits.is_none() {
            self.measure(blocks);
            measured = true;
        }
        let mut clock = ThreadClock::start();
        while self.wait_for_work() {
            if !measured {
                let _permit = self.permits.as_ref().map(|permits| permits.acquire());
                self.measure(blocks);
                measured = true;
                clock.lap();
            }
            let Some(share) = self.take(worker) else { continue };
            self.perform(backend, blocks, &share.tasks, share.batch, &mut clock);
            let finished = self.done(worker, &share.tasks);
            finished.iter().for_each(|job| job.finish(blocks));
            self.scheduling_cpu.add(clock.lap());
        }
    }

    /// Finds the cheapest size of batches. The first thread to ask measures, the others wait for it.
    fn measure(&self, blocks: &dyn BlockBackend) {
        if let Ok(batch) = guarded(|| blocks.preferred_batch()) {
            lock(&self.order).schedule.set_batch(batch);
        }
    }

    /// Waits until something is ready. Returns whether the pool is still to work.
    fn wait_for_work(&self) -> bool {
        let mut order = lock(&self.order);
        while !order.stopped && order.schedule.queued() == 0 {
            order = self.wait(order);
        }
        !order.stopped
    }

    fn wait<'a>(&self, mut order: MutexGuard<'a, Order>) -> MutexGuard<'a, Order> {
        order.waiting += 1;
        order = self.changed.wait(order).unwrap_or_else(PoisonError::into_inner);
        order.waiting -= 1;
        order
    }

    /// Takes something to do. Returns nothing if all of it was taken by others meanwhile, or cannot be done now.
    fn take(&self, worker: usize) -> Option<Share<'_>> {
        // Before tasks are taken, because they wait for the permit where another thread could do them.
        let permit = self.permits.as_ref().map(|permits| permits.acquire());
        let mut order = lock(&self.order);
        if order.stopped {
            return None;
        }
        let tasks = order.schedule.take(worker);
        if tasks.is_empty() {
            // Others wait for the permit, not for what this thread waits for.
            drop(permit);
            if order.schedule.queued() > 0 {
                drop(self.wait(order));
            }
            return None;
        }
        let taken = |task: TaskRef| {
            let job = order
                .jobs
                .get(&task.program)
                .expect("programs are removed from schedule and list together");
            Taken {
                task,
                job: Arc::clone(job),
            }
        };
        let tasks = tasks.into_iter().map(taken).collect();
        self.wake_one(&order);
        Some(Share {
            tasks,
            batch: order.schedule.batch(),
            _permit: permit,
        })
    }

    /// Wakes a thread if there is something to do. It wakes the next one if there is still something when it has taken its share.
    fn wake_one(&self, order: &Order) {
        if order.waiting > 0 && order.schedule.queued() > 0 {
            self.changed.notify_one();
        }
    }

    /// Notes that tasks are done. Returns the programs that are finished by them.
    fn done(&self, worker: usize, tasks: &[Taken]) -> Vec<Arc<Job>> {
        let mut order = lock(&self.order);
        let mut finished = Vec::new();
        for Taken { task, .. } in tasks {
            order.schedule.done(worker, *task);
            if !order.schedule.is_open(task.program) {
                order.schedule.remove(task.program);
                finished.extend(order.jobs.remove(&task.program));
            }
        }
        self.wake_one(&order);
        finished
    }

    /// Does the tasks a thread took.
    fn perform(&self, backend: &dyn FheBackend, blocks: &dyn BlockBackend, tasks: &[Taken], batch: usize, clock: &mut ThreadClock) {
        let mut lookups = Vec::with_capacity(tasks.len());
        for taken in tasks.iter().filter(|taken| !taken.job.over.load(Ordering::Relaxed)) {
            let number = taken.task.task;
            match taken.on_run(self, |run| run.prepare(blocks, number)) {
                Some(Ok(Work::Lookup(input, table))) => lookups.push(Lookup { taken, input, table }),
                Some(Ok(Work::Whole(operation, inputs))) => self.evaluate(backend, taken, &operation, &inputs),
                Some(Err(error)) => {
                    taken.on_run(self, |run| run.set_failed(number, error));
                }
                None => {}
            }
        }
        for lookups in lookups.chunks(batch.max(1)) {
            self.scheduling_cpu.add(clock.lap());
            let results = bootstrap(blocks, lookups);
            let took = clock.lap();
            self.fhe_cpu.add(took);
            // The bootstraps of a batch are of one kind, so that each took its share.
            let each = took / u32::try_from(lookups.len()).unwrap_or(u32::MAX).max(1);
            lookups.iter().for_each(|lookup| lookup.taken.job.fhe_cpu.add(each));
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.bootstraps.fetch_add(lookups.len() as u64, Ordering::Relaxed);
            for (lookup, result) in lookups.iter().zip(results) {
                match result {
                    Ok(result) => lookup.taken.looked(self, result),
                    Err(panic) => self.fail(lookup.taken, panic),
                }
            }
        }
    }

    fn evaluate(&self, backend: &dyn FheBackend, taken: &Taken, operation: &TypedOperation, inputs: &[Ciphertext]) {
        let inputs: Vec<&Ciphertext> = inputs.iter().collect();
        match guarded(|| backend.evaluate(operation, &inputs)) {
            Ok(result) => {
                self.whole_operations.fetch_add(1, Ordering::Relaxed);
                taken.on_run(self, |run| run.set_whole(taken.task.task, result.map_err(NodeError::from)));
            }
            Err(panic) => self.fail(taken, panic),
        }
    }

    /// Ends a program that panicked, and no other.
    fn fail(&self, taken: &Taken, panic: String) {
        self.cancel(taken.task.program);
        taken.job.over.store(true, Ordering::Relaxed);
        taken.job.result.keep(Err(EngineError::Panicked(panic)));
    }
}

impl Taken {
    /// Does something with the program's blocks. Nothing comes of it if it panics, which ends the program.
    fn on_run<T>(&self, workshop: &Workshop, work: impl FnOnce(&mut Run) -> T) -> Option<T> {
        match guarded(|| work(&mut lock(&self.job.run))) {
            Ok(result) => Some(result),
            Err(panic) => {
                workshop.fail(self, panic);
                None
            }
        }
    }

    fn looked(&self, workshop: &Workshop, result: Result<Vec<Block>, NodeError>) {
        self.job.bootstraps.fetch_add(1, Ordering::Relaxed);
        self.on_run(workshop, |run| run.set_looked(self.task.task, result));
    }
}

impl Job {
    /// Gives the results to who waits for them, after the last task.
    fn finish(&self, blocks: &dyn BlockBackend) {
        let outputs = guarded(|| lock(&self.run).outputs(blocks));
        self.result.keep(match outputs {
            Ok(outputs) => Ok(Evaluated {
                outputs,
                bootstraps: self.bootstraps.load(Ordering::Relaxed),
                fhe_cpu: self.fhe_cpu.get(),
                wall: self.result.age(),
            }),
            Err(panic) => Err(EngineError::Panicked(panic)),
        });
    }
}

/// Does bootstraps in one batch. If one of the blocks is refused or brings the backend to a panic, each is tried alone, so that it fails or
/// panics for itself.
fn bootstrap(blocks: &dyn BlockBackend, lookups: &[Lookup<'_>]) -> Vec<Result<Result<Vec<Block>, NodeError>, String>> {
    let jobs: Vec<BootstrapJob<'_>> = lookups
        .iter()
        .map(|Lookup { input, table, .. }| BootstrapJob { input, table })
        .collect();
    if let Ok(Ok(results)) = guarded(|| blocks.bootstrap_here(&jobs)) {
        return results.into_iter().map(|result| Ok(Ok(result))).collect();
    }
    let alone = |job: &BootstrapJob<'_>| {
        let result = guarded(|| blocks.bootstrap_here(std::slice::from_ref(job)))?;
        Ok(result.map(|mut results| results.pop().unwrap_or_default()).map_err(NodeError::from))
    };
    jobs.iter().map(alone).collect()
}

/// Runs it; if it panics, returns the message.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What a panic leaves half done belongs to the program that then fails, or to the backend, whose calls change nothing.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned())
    })
}

/// Locks, also after a panic: programs that panicked are given up, and order is kept by code that does not panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
