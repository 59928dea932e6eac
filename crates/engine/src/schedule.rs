//! In which order, and how many at a time, the tasks of programs are done. Results do not depend on it.
//!
//! Programs come and go at any time. Several workers take tasks; a worker has what it took until it says that it is done, and takes
//! nothing else meanwhile. What is ready is shared among the workers that have nothing to do, so that none takes everything while others wait.

mod policy;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use self::policy::Policy;
use crate::program::{Program, Task};

/// How many threads of its own a backend uses for an operation that it evaluates as a whole, about. A worker that waits for one keeps that many
/// processors busy.
const THREADS_OF_BACKEND: usize = 3;

/// A program in a schedule. Programs that were added later have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId(u64);

/// Whose programs share one place in line, under the policy that has an order among programs. Each group that has programs gets the same share of the
/// workers, whatever it has waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupId(pub u64);

/// A task of one of several programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskRef {
    /// Its program.
    pub program: ProgramId,
    /// The task's number in it.
    pub task: usize,
}

/// What the order of a program's tasks follows from.
#[derive(Clone, Debug)]
pub struct Dependencies {
    waiting_for: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    /// For each task, how many tasks the longest chain that starts with it has.
    remaining: Vec<usize>,
    whole: Vec<bool>,
}

impl Dependencies {
    /// Finds which tasks of a program wait for which.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let needs = program.dependencies();
        let mut dependents = vec![Vec::new(); needs.len()];
        for (task, needs) in needs.iter().enumerate() {
            for need in needs {
                if let Some(list) = dependents.get_mut(*need) {
                    list.push(task);
                }
            }
        }
        Self {
            waiting_for: needs.iter().map(Vec::len).collect(),
            remaining: remaining_path(&dependents),
            dependents,
            whole: program.tasks.iter().map(|task| matches!(task, Task::Opaque { .. })).collect(),
        }
    }
}

/// Where a ready task stands in line: the smallest is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: i64,
    program: ProgramId,
    order: i64,
    task: usize,
}

impl Place {
    const fn task(self) -> TaskRef {
        TaskRef {
            program: self.program,
            task: self.task,
        }
    }
}

/// A program that is not finished.
#[derive(Debug)]
struct Open {
    dependencies: Dependencies,
    left: usize,
    group: GroupId,
    /// Where its group's line had come to when it was added, in tasks.
    start: u64,
    /// The same in full batches of all workers: what comes later yields by that much.
    since: i64,
}

/// The line of a group's programs.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Its end, in tasks.
    end: u64,
    /// How many of its programs are open.
    open: usize,
}

/// What a worker is doing.
#[derive(Clone, Debug, Default)]
struct Worker {
    /// How many of the tasks it took are not done.
    busy: usize,
    /// Whether one of them is an operation that the backend evaluates.
    whole: bool,
    /// The program it took tasks of last.
    program: Option<ProgramId>,
}

/// Hands out the tasks of programs in batches whose members do not need each other.
#[derive(Debug)]
pub struct Schedule {
    policy: Policy,
    batch: usize,
    workers: Vec<Worker>,
    programs: HashMap<ProgramId, Open>,
    /// Ready bootstraps.
    bootstraps: BTreeSet<Place>,
    /// Ready operations that the backend evaluates as a whole.
    wholes: BTreeSet<Place>,
    next_program: u64,
    /// Counts tasks that became ready.
    readied: i64,
    /// The lines of groups that have programs. They all pass the same point at the same time, which is what shares the workers.
    lines: HashMap<GroupId, Line>,
    /// The point up to which lines were served, in tasks. A group that comes joins here, and not at the beginning.
    served: u64,
}

impl Schedule {
    /// Makes a schedule without programs. Batches have at most this many bootstraps where the policy has batches. At least one worker
    /// and one task at a time are taken for granted.
    #[must_use]
    pub fn new(policy: Policy, batch: usize, workers: usize) -> Self {
        Self {
            policy,
            batch: batch.max(1),
            workers: vec![Worker::default(); workers.max(1)],
            programs: HashMap::new(),
            bootstraps: BTreeSet::new(),
            wholes: BTreeSet::new(),
            next_program: 0,
            readied: 0,
            lines: HashMap::new(),
            served: 0,
        }
    }

    /// Changes how many bootstraps a batch has at most.
    pub fn set_batch(&mut self, batch: usize) {
        self.batch = batch.max(1);
    }

    /// Returns how many bootstraps a batch has at most.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// Adds a program of the group that has no name.
    pub fn add(&mut self, dependencies: Dependencies) -> ProgramId {
        self.add_to(GroupId::default(), dependencies)
    }

    /// Adds a program of a group.
    pub fn add_to(&mut self, group: GroupId, dependencies: Dependencies) -> ProgramId {
        let program = ProgramId(self.next_program);
        self.next_program += 1;
        let first: Vec<usize> = positions_of_zero(&dependencies.waiting_for).collect();
        let left = dependencies.waiting_for.len();
        self.advance();
        let line = self.lines.entry(group).or_default();
        let start = line.end.max(self.served);
        line.end = start.saturating_add(left as u64);
        line.open += 1;
        let open = Open {
            left,
            dependencies,
            group,
            start,
            since: self.rounds(start),
        };
        self.programs.insert(program, open);
        first.into_iter().for_each(|task| self.ready(TaskRef { program, task }));
        program
    }

    /// Forgets a program. What workers took of it they may finish or not.
    pub fn remove(&mut self, program: ProgramId) {
        if let Some(open) = self.programs.remove(&program) {
            if let Some(line) = self.lines.get_mut(&open.group) {
                line.open = line.open.saturating_sub(1);
            }
            self.bootstraps.retain(|place| place.program != program);
            self.wholes.retain(|place| place.program != program);
        }
    }

    /// Says whether a program has tasks that are not done.
    #[must_use]
    pub fn is_open(&self, program: ProgramId) -> bool {
        self.programs.get(&program).is_some_and(|open| open.left > 0)
    }

    /// Returns how many of a program's tasks are not done.
    #[must_use]
    pub fn left(&self, program: ProgramId) -> usize {
        self.programs.get(&program).map_or(0, |open| open.left)
    }

    /// Counts the tasks that are ready and not taken.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.bootstraps.len() + self.wholes.len()
    }

    /// Finds up to where lines were served: to the beginning of the oldest program that is open. A group that had more than that keeps its line, so
    /// that one program after the other gets no more than many at a time.
    fn advance(&mut self) {
        let oldest = self.programs.values().map(|open| open.start).min();
        let ends = || self.lines.values().map(|line| line.end).max();
        self.served = self.served.max(oldest.or_else(ends).unwrap_or_default());
        let served = self.served;
        self.lines.retain(|_, line| line.open > 0 || line.end > served);
    }

    /// Returns how many full batches for every worker so many tasks are.
    fn rounds(&self, tasks: u64) -> i64 {
        let per_round = self.batch.saturating_mul(self.workers.len()) as u64;
        i64::try_from(tasks / per_round.max(1)).unwrap_or(i64::MAX)
    }

    fn ready(&mut self, task: TaskRef) {
        let Some(open) = self.programs.get(&task.program) else { return };
        let number = i64::try_from(task.task).unwrap_or(i64::MAX);
        let remaining = open.dependencies.remaining.get(task.task).copied().unwrap_or_default();
        let (rank, order) = match self.policy {
            Policy::Batched => (open.since.saturating_sub_unsigned(remaining as u64), number),
            Policy::Loop => (0, number),
            Policy::FineGrain | Policy::MaxParallelism => (self.readied, number),
            Policy::MaxLocality => (0, -self.readied),
        };
        self.readied += 1;
        let place = Place {
            rank,
            program: task.program,
            order,
            task: task.task,
        };
        if open.dependencies.whole.get(task.task) == Some(&true) {
            self.wholes.insert(place);
        } else {
            self.bootstraps.insert(place);
        }
    }

    /// Takes what a worker is to do next: some bootstraps, or one operation that the backend evaluates. Nothing says that the worker has to
    /// wait until another one is done.
    pub fn take(&mut self, worker: usize) -> Vec<TaskRef> {
        let idle = self.workers.iter().filter(|worker| worker.busy == 0).count().max(1);
        if self.policy == Policy::Loop && idle < self.workers.len() {
            return Vec::new();
        }
        let whole = self.first_whole(worker);
        let places = match whole {
            Some(whole) if self.is_before_bootstraps(worker, whole) => vec![whole],
            _ => self.some_bootstraps(worker, idle),
        };
        for place in &places {
            self.bootstraps.remove(place);
            self.wholes.remove(place);
        }
        if let (Some(first), Some(worker)) = (places.first(), self.workers.get_mut(worker)) {
            *worker = Worker {
                busy: places.len(),
                whole: whole == Some(*first),
                program: Some(first.program),
            };
        }
        places.into_iter().map(Place::task).collect()
    }

    /// Finds the first operation for the backend, unless so many workers wait for the backend that bootstraps would be held up.
    fn first_whole(&self, worker: usize) -> Option<Place> {
        let waiting = self.workers.iter().filter(|worker| worker.busy > 0 && worker.whole).count();
        if waiting >= self.workers.len().div_ceil(THREADS_OF_BACKEND) {
            return None;
        }
        let own = self.own_program(worker);
        own.and_then(|program| of_program(&self.wholes, program).next())
            .or_else(|| self.wholes.first())
            .copied()
    }

    /// Says whether a worker does a ready operation before any bootstrap.
    fn is_before_bootstraps(&self, worker: usize, whole: Place) -> bool {
        match (self.own_program(worker), self.bootstraps.first()) {
            (_, None) => true,
            (Some(own), Some(_)) if whole.program == own => of_program(&self.bootstraps, own).next().is_none(),
            (_, Some(bootstrap)) => whole < *bootstrap,
        }
    }

    /// Returns the program a worker sticks to, if the policy wants that.
    fn own_program(&self, worker: usize) -> Option<ProgramId> {
        let own = self.workers.get(worker).and_then(|worker| worker.program);
        own.filter(|_| self.policy == Policy::MaxLocality)
    }

    fn some_bootstraps(&self, worker: usize, idle: usize) -> Vec<Place> {
        let share = |ready: usize| ready.div_ceil(idle);
        let places = self.bootstraps.iter();
        match self.policy {
            Policy::Batched => places.take(share(self.bootstraps.len()).min(self.batch)).copied().collect(),
            Policy::Loop | Policy::FineGrain => places.take(1).copied().collect(),
            Policy::MaxParallelism => places.take(share(self.bootstraps.len())).copied().collect(),
            Policy::MaxLocality => {
                let Some((program, helpers)) = self.local_program(worker) else {
                    return Vec::new();
                };
                let ready = of_program(&self.bootstraps, program).count();
                let count = ready.div_ceil(helpers).min(self.batch);
                of_program(&self.bootstraps, program).take(count).copied().collect()
            }
        }
    }

    /// Picks the program a worker sticks to, and among how many workers that have nothing to do its tasks are to be shared: its last one; else one
    /// that nobody sticks to, which it has for itself; else it helps with the one of which most is ready.
    fn local_program(&self, worker: usize) -> Option<(ProgramId, usize)> {
        let mut ready = BTreeMap::<ProgramId, usize>::new();
        for place in &self.bootstraps {
            *ready.entry(place.program).or_default() += 1;
        }
        let idle = self.workers.iter().filter(|worker| worker.busy == 0).count();
        // Workers for which there is no program of their own help.
        let helpers = idle.saturating_sub(ready.len()) + 1;
        if let Some(own) = self.own_program(worker).filter(|own| ready.contains_key(own)) {
            return Some((own, helpers));
        }
        let stuck_to: BTreeSet<ProgramId> = self.workers.iter().filter_map(|worker| worker.program).collect();
        let free = ready.keys().find(|program| !stuck_to.contains(program));
        let fullest = || ready.iter().max_by_key(|(_, count)| **count).map(|(program, _)| program);
        free.or_else(fullest).map(|program| (*program, helpers))
    }

    /// Notes that a worker did one of the tasks it took, so that what waited for it can become ready.
    pub fn done(&mut self, worker: usize, done: TaskRef) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.busy = worker.busy.saturating_sub(1);
        }
        let Some(open) = self.programs.get_mut(&done.program) else { return };
        open.left = open.left.saturating_sub(1);
        let dependents = open.dependencies.dependents.get_mut(done.task).map(std::mem::take);
        let mut free = Vec::new();
        for task in dependents.unwrap_or_default() {
            if let Some(waiting) = open.dependencies.waiting_for.get_mut(task) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 {
                    free.push(task);
                }
            }
        }
        let program = done.program;
        free.into_iter().for_each(|task| self.ready(TaskRef { program, task }));
    }
}

/// Lists the places of one program under the policy that keeps programs together.
fn of_program(places: &BTreeSet<Place>, program: ProgramId) -> impl Iterator<Item = &Place> {
    let from = Place {
        rank: 0,
        program,
        order: i64::MIN,
        task: 0,
    };
    places.range(from..).take_while(move |place| place.program == program)
}

fn positions_of_zero(counts: &[usize]) -> impl Iterator<Item = usize> {
    counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count == 0)
        .map(|(position, _)| position)
}

fn remaining_path(dependents: &[Vec<usize>]) -> Vec<usize> {
    let mut remaining = vec![1; dependents.len()];
    for (task, list) in dependents.iter().enumerate().rev() {
        let longest = list.iter().filter_map(|dependent| remaining.get(*dependent)).max().copied();
        if let (Some(longest), Some(slot)) = (longest, remaining.get_mut(task)) {
            *slot = longest + 1;
        }
    }
    remaining
}
