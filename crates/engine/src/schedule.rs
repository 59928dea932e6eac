//! In which order, and how many at a time, the tasks of programs are done. Results do not depend on it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    str::FromStr,
};

use crate::{error::EngineError, program::Program};

/// How tasks are ordered. The names are those of the environment variable `FHEVM_DF_SCHEDULE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `BATCHED`: batches as large as the machine likes, from all programs, those first on which the longest chains wait.
    #[default]
    Batched,
    /// `LOOP`: one task after the other, program by program, in the order of their operations.
    Loop,
    /// `FINE_GRAIN`: one task at a time, in the order in which they become ready.
    FineGrain,
    /// `MAX_PARALLELISM`: everything that is ready, at once.
    MaxParallelism,
    /// `MAX_LOCALITY`: batches of one program, what became ready last first, so that results are used while they are in a cache.
    MaxLocality,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 5] = [Self::Batched, Self::Loop, Self::FineGrain, Self::MaxParallelism, Self::MaxLocality];

    /// Returns the name in the environment variable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batched => "BATCHED",
            Self::Loop => "LOOP",
            Self::FineGrain => "FINE_GRAIN",
            Self::MaxParallelism => "MAX_PARALLELISM",
            Self::MaxLocality => "MAX_LOCALITY",
        }
    }
}

impl FromStr for Policy {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        let known = Self::ALL.into_iter().find(|policy| policy.name() == name);
        known.ok_or_else(|| EngineError::UnknownPolicy(name.to_owned()))
    }
}

/// A task of one of several programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskRef {
    /// The program's number.
    pub program: usize,
    /// The task's number in it.
    pub task: usize,
}

/// Tasks that are ready, in the order of the policy.
#[derive(Debug)]
enum Ready {
    /// By the length of the chain that waits, then by number.
    Priority(BinaryHeap<(usize, Reverse<TaskRef>)>),
    Numbered(BTreeSet<TaskRef>),
    Queue(VecDeque<TaskRef>),
    Stack(Vec<TaskRef>),
}

/// Hands out the tasks of programs in batches whose members do not need each other.
#[derive(Debug)]
pub struct Schedule {
    policy: Policy,
    batch: usize,
    ready: Ready,
    waiting_for: Vec<Vec<usize>>,
    dependents: Vec<Vec<Vec<usize>>>,
    remaining: Vec<Vec<usize>>,
}

impl Schedule {
    /// Makes a schedule of programs. Batches have about this many tasks where the policy has batches.
    #[must_use]
    pub fn new(programs: &[&Program], policy: Policy, batch: usize) -> Self {
        let mut schedule = Self {
            policy,
            batch: batch.max(1),
            ready: match policy {
                Policy::Batched => Ready::Priority(BinaryHeap::new()),
                Policy::Loop => Ready::Numbered(BTreeSet::new()),
                Policy::FineGrain | Policy::MaxParallelism => Ready::Queue(VecDeque::new()),
                Policy::MaxLocality => Ready::Stack(Vec::new()),
            },
            waiting_for: Vec::new(),
            dependents: Vec::new(),
            remaining: Vec::new(),
        };
        for program in programs {
            let dependencies = program.dependencies();
            let mut dependents = vec![Vec::new(); dependencies.len()];
            for (task, needs) in dependencies.iter().enumerate() {
                for need in needs {
                    if let Some(list) = dependents.get_mut(*need) {
                        list.push(task);
                    }
                }
            }
            schedule.remaining.push(remaining_path(&dependents));
            schedule.waiting_for.push(dependencies.iter().map(Vec::len).collect());
            schedule.dependents.push(dependents);
        }
        for (program, waiting) in schedule.waiting_for.clone().into_iter().enumerate() {
            for (task, _) in waiting.into_iter().enumerate().filter(|(_, count)| *count == 0) {
                schedule.push(TaskRef { program, task });
            }
        }
        schedule
    }

    fn push(&mut self, task: TaskRef) {
        let remaining = self.remaining.get(task.program).and_then(|tasks| tasks.get(task.task)).copied();
        match &mut self.ready {
            Ready::Priority(heap) => heap.push((remaining.unwrap_or_default(), Reverse(task))),
            Ready::Numbered(set) => {
                set.insert(task);
            }
            Ready::Queue(queue) => queue.push_back(task),
            Ready::Stack(stack) => stack.push(task),
        }
    }

    /// Takes the next batch; an empty one says that nothing is ready.
    pub fn next_batch(&mut self) -> Vec<TaskRef> {
        match (&mut self.ready, self.policy) {
            (Ready::Priority(heap), _) => (0..self.batch).map_while(|_| heap.pop()).map(|(_, Reverse(task))| task).collect(),
            (Ready::Numbered(set), _) => set.pop_first().into_iter().collect(),
            (Ready::Queue(queue), Policy::FineGrain) => queue.pop_front().into_iter().collect(),
            (Ready::Queue(queue), _) => std::mem::take(queue).into(),
            (Ready::Stack(stack), _) => {
                let program = stack.last().map(|task| task.program);
                let same = stack
                    .iter()
                    .rev()
                    .take(self.batch)
                    .take_while(|task| Some(task.program) == program)
                    .count();
                stack.split_off(stack.len() - same)
            }
        }
    }

    /// Notes that a task is done, so that what waited for it can become ready.
    pub fn done(&mut self, done: TaskRef) {
        let dependents = self.dependents.get_mut(done.program).and_then(|tasks| tasks.get_mut(done.task));
        for task in dependents.map(std::mem::take).unwrap_or_default() {
            let waiting = self.waiting_for.get_mut(done.program).and_then(|tasks| tasks.get_mut(task));
            let Some(waiting) = waiting else { continue };
            *waiting -= 1;
            if *waiting == 0 {
                self.push(TaskRef {
                    program: done.program,
                    task,
                });
            }
        }
    }
}

/// For each task, how many tasks the longest chain that starts with it has.
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
