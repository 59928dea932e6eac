//! The threads that squash: they end with the work, some time after it, and take the keys with them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use cipherloom_primitives::{B256, Handle};
use tokio::sync::watch;

use super::{Ending, KEYS_PAUSE, OpenedKeys, Shared};
use crate::ports::SquashError;

/// A value to squash.
pub(super) struct Job {
    pub(super) name: B256,
    pub(super) handle: Handle,
    pub(super) bytes: Vec<u8>,
    pub(super) ending: watch::Sender<Option<Ending>>,
}

/// The keys, if they are in memory.
#[derive(Default)]
pub(super) enum Shelf {
    /// They are not.
    #[default]
    Empty,
    /// They are.
    Held(Arc<OpenedKeys>),
    /// They could not be used when they were last read.
    Unusable { reason: String, at: Instant },
}

/// Values that are squashed together. Those that are left when it is dropped have failed.
struct Batch<'a> {
    shared: &'a Shared,
    jobs: Vec<Option<Job>>,
}

impl Shared {
    /// Squashes until there is nothing to squash for a while.
    pub(super) fn run(self: &Arc<Self>) {
        while let Some(jobs) = self.next() {
            let batch = AssertUnwindSafe(|| self.squash(jobs));
            if catch_unwind(batch).is_err() {
                tracing::error!("squashing panicked; its values have failed, and others go on");
            }
        }
    }

    /// Waits for values. Nothing if this thread is not needed any more; the last one takes the keys with it.
    fn next(&self) -> Option<Vec<Job>> {
        let mut state = self.state();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                state.workers = state.workers.saturating_sub(1);
                return None;
            }
            let jobs = state.turns.take(self.limits.batch.max(1));
            if !jobs.is_empty() {
                return Some(jobs);
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, self.limits.release_keys_after);
            let (found, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = found;
            state.idle = state.idle.saturating_sub(1);
            if timeout.timed_out() && state.turns.len() == 0 {
                state.workers = state.workers.saturating_sub(1);
                if state.workers == 0 {
                    drop(state);
                    *self.shelf.lock().unwrap_or_else(PoisonError::into_inner) = Shelf::Empty;
                }
                return None;
            }
        }
    }

    /// Returns the keys, and reads them if they are not in memory.
    fn keys(&self) -> Result<Arc<OpenedKeys>, String> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shelf {
            Shelf::Held(keys) => return Ok(Arc::clone(keys)),
            Shelf::Unusable { reason, at } if at.elapsed() < KEYS_PAUSE => return Err(reason.clone()),
            Shelf::Empty | Shelf::Unusable { .. } => {}
        }
        let start = Instant::now();
        match self.keys.open() {
            Ok(keys) => {
                tracing::info!(key_set = %self.key_set_id, took_ms = start.elapsed().as_millis(), "the keys of noise squashing are ready");
                let keys = Arc::new(keys);
                *shelf = Shelf::Held(Arc::clone(&keys));
                Ok(keys)
            }
            Err(reason) => {
                *shelf = Shelf::Unusable {
                    reason: reason.clone(),
                    at: Instant::now(),
                };
                Err(reason)
            }
        }
    }

    fn squash(&self, jobs: Vec<Job>) {
        let mut batch = Batch {
            shared: self,
            jobs: jobs.into_iter().map(Some).collect(),
        };
        let keys = match self.keys() {
            Ok(keys) => keys,
            Err(reason) => {
                for place in 0..batch.jobs.len() {
                    batch.end(place, Err(SquashError::Keys(reason.clone())));
                }
                return;
            }
        };
        let start = Instant::now();
        let (mut places, mut ciphertexts) = (Vec::new(), Vec::new());
        for place in 0..batch.jobs.len() {
            let Some(job) = batch.jobs.get(place).and_then(Option::as_ref) else {
                continue;
            };
            match keys.backend.unpack(job.handle.fhe_type(), &job.bytes) {
                Ok(ciphertext) => {
                    places.push(place);
                    ciphertexts.push(ciphertext);
                }
                Err(error) => batch.end(place, Err(SquashError::Failed(format!("is no ciphertext of its type: {error}")))),
            }
        }
        let ciphertexts: Vec<_> = ciphertexts.iter().collect();
        let mut squashing = keys.squasher.batch(&ciphertexts);
        while !squashing.is_over() && !self.stop.load(Ordering::Relaxed) {
            if let Some(done) = squashing.step()
                && let Some(place) = places.get(done.index)
            {
                let list = done
                    .list
                    .map_err(|error| SquashError::Failed(format!("cannot be squashed: {error}")));
                batch.end(*place, list.map(Arc::new));
            }
        }
        let busy = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counts.busy_nanoseconds.fetch_add(busy, Ordering::Relaxed);
    }
}

impl Batch<'_> {
    /// Ends a value's flight: whoever asks from now on finds the list in memory, or begins anew.
    fn end(&mut self, place: usize, ending: Ending) {
        let Some(job) = self.jobs.get_mut(place).and_then(Option::take) else {
            return;
        };
        let count = match &ending {
            Ok(list) => {
                self.shared.made.keep(job.name, Arc::clone(list), list.len(), self.shared.seconds());
                &self.shared.counts.made
            }
            Err(error) => {
                tracing::warn!(handle = %job.handle, %error, "a value is not squashed");
                &self.shared.counts.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.shared.state().flights.remove(&job.name);
        job.ending.send_replace(Some(ending));
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let stopped = self.shared.stop.load(Ordering::Relaxed);
        for place in 0..self.jobs.len() {
            let error = match stopped {
                true => SquashError::NotReady,
                false => SquashError::Failed("cannot be squashed: a thread panicked".to_owned()),
            };
            self.end(place, Err(error));
        }
    }
}
