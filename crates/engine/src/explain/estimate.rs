//! How long a program takes: its bootstraps, at what one of them costs.

use std::collections::BinaryHeap;

use crate::program::Program;

/// What a bootstrap costs, keyswitch included, in seconds of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootstrapTime {
    /// Alone.
    pub alone_s: f64,
    /// In a large batch, each.
    pub batched_s: f64,
    /// Where the figures come from.
    pub source: TimeSource,
}

/// Where figures of time come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// `docs/fhe.md`: production parameters on one core of a Zen 5 machine, alone and in batches of 16.
    Documented,
    /// Measured on this machine, with the key set that was given.
    Measured,
}

impl BootstrapTime {
    /// The figures of `docs/fhe.md`.
    pub const DOCUMENTED: Self = Self {
        alone_s: 0.008_0,
        batched_s: 0.004_3,
        source: TimeSource::Documented,
    };
}

/// How long a program takes, in seconds. Operations that the backend evaluates as a whole are not counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// How many cores there are.
    pub cores: usize,
    /// What one bootstrap costs.
    pub time: BootstrapTime,
    /// CPU time, with bootstraps in batches, as on a busy machine.
    pub cpu_s: f64,
    /// Time until the result is there, with nothing else to do and one bootstrap per core at a time.
    pub wall_s: f64,
}

impl Estimate {
    /// Estimates a program's time.
    #[must_use]
    pub fn of(program: &Program, cores: usize, time: BootstrapTime) -> Self {
        let cores = cores.max(1);
        let seconds = |count: usize, each: f64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * each;
        Self {
            cores,
            time,
            cpu_s: seconds(program.bootstraps(), time.batched_s),
            wall_s: seconds(rounds(program, cores).len(), time.alone_s),
        }
    }
}

/// Divides a program's tasks into rounds of at most `width` that do not need each other, those first on which the longest chains wait: what a machine
/// with so many cores does at one time.
#[must_use]
pub fn rounds(program: &Program, width: usize) -> Vec<Vec<usize>> {
    let dependencies = program.dependencies();
    let mut waiting: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); dependencies.len()];
    for (task, needs) in dependencies.iter().enumerate() {
        for need in needs {
            if let Some(list) = dependents.get_mut(*need) {
                list.push(task);
            }
        }
    }
    let mut remaining = vec![1_usize; dependents.len()];
    for (task, list) in dependents.iter().enumerate().rev() {
        let longest = list.iter().filter_map(|dependent| remaining.get(*dependent)).max().copied();
        if let (Some(longest), Some(slot)) = (longest, remaining.get_mut(task)) {
            *slot = longest + 1;
        }
    }
    let place = |task: usize| (remaining.get(task).copied().unwrap_or_default(), std::cmp::Reverse(task));
    let ready = waiting.iter().enumerate().filter(|(_, count)| **count == 0);
    let mut ready: BinaryHeap<_> = ready.map(|(task, _)| place(task)).collect();
    let mut rounds = Vec::new();
    while !ready.is_empty() {
        let round: Vec<usize> = (0..width.max(1))
            .map_while(|_| ready.pop())
            .map(|(_, std::cmp::Reverse(task))| task)
            .collect();
        for dependent in round.iter().filter_map(|task| dependents.get(*task)).flatten() {
            let Some(count) = waiting.get_mut(*dependent) else { continue };
            *count -= 1;
            if *count == 0 {
                ready.push(place(*dependent));
            }
        }
        rounds.push(round);
    }
    rounds
}
