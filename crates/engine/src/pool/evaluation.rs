//! One program under way, from the side of who asked for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::workshop::{Workshop, lock};
use crate::{error::EngineError, run::Outputs, schedule::ProgramId};

/// What became of a program.
#[derive(Debug)]
pub struct Evaluated {
    /// Its results.
    pub outputs: Outputs,
    /// How many bootstraps were done for it. Lookups of public blocks, which cost nothing, are among them.
    pub bootstraps: u64,
    /// What threads computed in these bootstraps. Those of a batch have equal shares in its time.
    pub fhe_cpu: Duration,
    /// The time from submission to the end.
    pub wall: Duration,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many bootstraps and whole operations are done.
    pub tasks: usize,
    /// How many there are.
    pub of: usize,
}

/// A program under way. It is a future of its result; [`Self::wait`] is for threads. Dropping it cancels what is not done yet.
#[must_use = "dropping an evaluation cancels it"]
pub struct Evaluation {
    result: Arc<Promise>,
    /// Where it is under way, unless it was over at once.
    place: Option<(Weak<Workshop>, ProgramId)>,
    tasks: usize,
}

impl Evaluation {
    pub(super) const fn under_way(result: Arc<Promise>, workshop: Weak<Workshop>, program: ProgramId, tasks: usize) -> Self {
        Self {
            result,
            place: Some((workshop, program)),
            tasks,
        }
    }

    pub(super) const fn over(result: Arc<Promise>, tasks: usize) -> Self {
        Self {
            result,
            place: None,
            tasks,
        }
    }

    pub(super) fn failed(error: EngineError) -> Self {
        let result = Arc::new(Promise::default());
        result.keep(Err(error));
        Self::over(result, 0)
    }

    /// Blocks until the end.
    ///
    /// # Errors
    /// [`EngineError::Panicked`] if the evaluation panicked, [`EngineError::Stopped`] if the pool was dropped. Failures of single values are in
    /// the results.
    pub fn wait(self) -> Result<Evaluated, EngineError> {
        self.result.wait()
    }

    /// Says how far it is.
    #[must_use]
    pub fn done(&self) -> Done {
        let workshop = self
            .place
            .as_ref()
            .and_then(|(workshop, program)| Some((workshop.upgrade()?, *program)));
        let left = workshop.map_or(0, |(workshop, program)| workshop.left(program));
        Done {
            tasks: self.tasks.saturating_sub(left),
            of: self.tasks,
        }
    }
}

impl Future for Evaluation {
    type Output = Result<Evaluated, EngineError>;

    /// # Panics
    /// If polled again after the result.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.result.poll(context)
    }
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        if let Some((workshop, program)) = &self.place
            && let Some(workshop) = workshop.upgrade()
        {
            workshop.cancel(*program);
        }
    }
}

impl std::fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluation").field("done", &self.done()).finish_non_exhaustive()
    }
}

/// Where a result is left for who waits for it.
pub(super) struct Promise {
    since: Instant,
    state: Mutex<State>,
    kept: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Open,
    Awaited(Waker),
    Kept(Result<Evaluated, EngineError>),
    Taken,
}

impl Default for Promise {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            state: Mutex::default(),
            kept: Condvar::new(),
        }
    }
}

impl Promise {
    /// Returns how long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Leaves the result, if it is the first one.
    pub(super) fn keep(&self, result: Result<Evaluated, EngineError>) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Kept(_) | State::Taken) {
            return;
        }
        let before = std::mem::replace(&mut *state, State::Kept(result));
        drop(state);
        self.kept.notify_all();
        if let State::Awaited(waker) = before {
            waker.wake();
        }
    }

    fn wait(&self) -> Result<Evaluated, EngineError> {
        let mut state = lock(&self.state);
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Kept(result) => return result,
                before => *state = before,
            }
            state = self.kept.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Evaluated, EngineError>> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Kept(result) => Poll::Ready(result),
            State::Open | State::Awaited(_) => {
                *state = State::Awaited(context.waker().clone());
                Poll::Pending
            }
            State::Taken => panic!("an evaluation was polled after it had given its result"),
        }
    }
}
