//! The task that squashes: takes jobs as they come, and does several of one key set together.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use cipherloom_engine::GroupId;
use cipherloom_fhe::{Ciphertext, NoiseSquasher};
use cipherloom_store::Store;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{Ending, Failure, ListKey, Shared, SquashingKeys};
use crate::{Clock, Coprocessor, CoprocessorError, Machine, metrics::SquashingRefusal};

/// How often keys that nobody uses and lists that are too old are looked for.
const TIDY_INTERVAL: Duration = Duration::from_mins(1);

/// How many lists of a store are forgotten each time.
const FORGOTTEN_AT_ONCE: u32 = 256;

/// A value to squash.
pub(super) struct Job {
    pub(super) key: ListKey,
    pub(super) coprocessor: Coprocessor,
    pub(super) keys: SquashingKeys,
    pub(super) ending: watch::Sender<Option<Ending>>,
}

/// The task.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedReceiver<Job>,
    waiting: VecDeque<Job>,
    running: JoinSet<()>,
    /// Where lists were stored, so that old ones are forgotten.
    stores: HashMap<GroupId, Kept>,
}

/// A store with lists.
struct Kept {
    store: Arc<dyn Store>,
    chain_id: u64,
    clock: Clock,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>, jobs: mpsc::UnboundedReceiver<Job>) -> Self {
        Self {
            shared,
            jobs,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            stores: HashMap::new(),
        }
    }

    /// Squashes until told to stop, or until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let mut tidy = Instant::now() + TIDY_INTERVAL;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                job = self.jobs.recv() => match job {
                    Some(job) => self.waiting.push_back(job),
                    None => break,
                },
                Some(_) = self.running.join_next() => {}
                () = tokio::time::sleep_until(tidy) => {
                    self.tidy().await;
                    tidy = Instant::now() + TIDY_INTERVAL;
                }
            }
            while let Ok(job) = self.jobs.try_recv() {
                self.waiting.push_back(job);
            }
            self.begin();
        }
        // What waits is told by its senders, which go with the jobs; what runs ends after a step.
        let left: Vec<ListKey> = self.waiting.drain(..).map(|job| job.key).collect();
        while self.running.join_next().await.is_some() {}
        let mut flights = self.shared.flights();
        left.iter().for_each(|key| drop(flights.remove(key)));
    }

    /// Begins batches while there are places.
    fn begin(&mut self) {
        while self.running.len() < self.shared.options.concurrent.max(1)
            && let Some(first) = self.waiting.pop_front()
        {
            let engine = first.coprocessor.keyed_engine().number();
            let with = (engine, first.key.squashing_keys);
            self.stores.entry(first.key.group).or_insert_with(|| Kept {
                store: Arc::clone(first.coprocessor.store()),
                chain_id: first.coprocessor.chain_id(),
                clock: Arc::clone(&first.coprocessor.config().clock),
            });
            let mut batch = vec![first];
            let mut others = VecDeque::with_capacity(self.waiting.len());
            for job in self.waiting.drain(..) {
                let same = (job.coprocessor.keyed_engine().number(), job.key.squashing_keys) == with;
                if same && batch.len() < self.shared.options.batch {
                    batch.push(job);
                } else {
                    others.push_back(job);
                }
            }
            self.waiting = others;
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move { Batch { shared, jobs: batch }.run().await });
        }
    }

    async fn tidy(&mut self) {
        self.shared.shelf.release(self.shared.options.release_keys_after);
        self.shared.metrics.squashing().set_keys_held(self.shared.shelf.held());
        let keep_ms = u64::try_from(self.shared.options.keep.as_millis()).unwrap_or(u64::MAX);
        for kept in self.stores.values() {
            let before_ms = (kept.clock)().saturating_sub(keep_ms);
            if let Err(error) = kept.store.forget_squashed(kept.chain_id, before_ms, FORGOTTEN_AT_ONCE).await {
                tracing::warn!(%error, "old squashed lists could not be removed from the store");
            }
        }
    }
}

/// Values that are squashed together.
struct Batch {
    shared: Arc<Shared>,
    jobs: Vec<Job>,
}

/// A value that was read.
struct Loaded {
    job: Job,
    packed: Vec<u8>,
}

impl Batch {
    async fn run(self) {
        let Some(first) = self.jobs.first() else { return };
        let metrics = self.shared.metrics.squashing();
        let opened = self.shared.shelf.squasher(first.coprocessor.keyed_engine(), &first.keys).await;
        let squasher = match opened {
            Ok((squasher, took)) => {
                if let Some(took) = took {
                    tracing::info!(key_set = %first.key.key_set_id, took_ms = took.as_millis(), "keys of noise squashing are ready");
                    metrics.keys_read(took);
                    metrics.set_keys_held(self.shared.shelf.held());
                }
                squasher
            }
            Err(reason) => {
                tracing::warn!(key_set = %first.key.key_set_id, reason, "the keys of noise squashing cannot be used");
                for job in self.jobs {
                    metrics.refused(SquashingRefusal::Keys);
                    end(&self.shared, &job, Err(Failure::Keys(reason.clone())));
                }
                return;
            }
        };
        let mut loaded = Vec::with_capacity(self.jobs.len());
        for job in self.jobs {
            match load(&job).await {
                Ok(packed) => loaded.push(Loaded { job, packed }),
                Err(failure) => fail(&self.shared, &job, failure),
            }
        }
        if !loaded.is_empty() {
            metrics.batch(loaded.len());
            squash(&self.shared, squasher, loaded).await;
        }
    }
}

/// Reads the packed form of a value, if it is still the value that was asked for.
async fn load(job: &Job) -> Result<Vec<u8>, Failure> {
    let other = |error: CoprocessorError| match error {
        CoprocessorError::UnknownHandle(_) | CoprocessorError::NotComputed(_) => Failure::Withdrawn,
        error => Failure::Other(error.to_string()),
    };
    let packed = job.coprocessor.signed_ciphertext(job.key.handle).await.map_err(other)?;
    // After the bytes: what was there before them need not be there any more.
    let head = job.coprocessor.head(job.key.handle).await.map_err(other)?;
    match head {
        Some(head) if head.raw_digest == job.key.raw_digest && packed.key_set_id == job.key.key_set_id => Ok(packed.bytes),
        _ => Err(Failure::Withdrawn),
    }
}

/// Squashes values on a thread that may block, step by step, and ends each flight as soon as its value is done.
async fn squash(shared: &Arc<Shared>, squasher: Arc<NoiseSquasher>, loaded: Vec<Loaded>) {
    let (jobs, packed): (Vec<Job>, Vec<Vec<u8>>) = loaded.into_iter().map(|loaded| (loaded.job, loaded.packed)).unzip();
    let Some(first) = jobs.first() else { return };
    let engine = Arc::clone(first.coprocessor.keyed_engine());
    let values: Vec<_> = jobs.iter().map(|job| job.key.handle.fhe_type()).zip(packed).collect();
    let (sender, mut finished) = mpsc::unbounded_channel();
    let stop = shared.stop.clone();
    let start = Instant::now();
    let work = tokio::task::spawn_blocking(move || {
        let machine: &Machine = engine.machine();
        let mut places = Vec::with_capacity(values.len());
        let mut ciphertexts: Vec<Ciphertext> = Vec::with_capacity(values.len());
        for (place, (ty, packed)) in values.into_iter().enumerate() {
            match machine.compute(|| engine.backend().unpack(ty, &packed)) {
                Ok(ciphertext) => {
                    places.push(place);
                    ciphertexts.push(ciphertext);
                }
                // If nobody receives it, nobody waits for it.
                Err(error) => drop(sender.send((place, Err(error.to_string())))),
            }
        }
        let ciphertexts: Vec<&Ciphertext> = ciphertexts.iter().collect();
        let mut batch = squasher.batch(&ciphertexts);
        while !batch.is_over() && !stop.is_cancelled() {
            // The processor is given back after each step.
            if let Some(done) = machine.compute(|| batch.step())
                && let Some(place) = places.get(done.index)
            {
                drop(sender.send((*place, done.list.map_err(|error| error.to_string()))));
            }
        }
    });
    let mut open: Vec<Option<Job>> = jobs.into_iter().map(Some).collect();
    while let Some((place, list)) = finished.recv().await {
        let Some(job) = open.get_mut(place).and_then(Option::take) else {
            continue;
        };
        match list {
            Ok(bytes) => {
                let ending = job.coprocessor.keep_list(&job.key, bytes).await;
                match ending {
                    Ok(list) => {
                        shared.metrics.squashing().made(start.elapsed());
                        shared.remember(job.key, &list);
                        end(shared, &job, Ok(list));
                    }
                    Err(failure) => fail(shared, &job, failure),
                }
            }
            Err(reason) => fail(shared, &job, Failure::Other(reason)),
        }
    }
    let panicked = work.await.is_err();
    for job in open.into_iter().flatten() {
        let failure = match panicked {
            true => Failure::Other("a computing thread panicked".to_owned()),
            false => Failure::Stopped,
        };
        fail(shared, &job, failure);
    }
}

fn fail(shared: &Shared, job: &Job, failure: Failure) {
    if let Failure::Other(reason) = &failure {
        tracing::warn!(handle = %job.key.handle, reason, "a value could not be squashed");
        shared.metrics.squashing().refused(SquashingRefusal::Failed);
    }
    end(shared, job, Err(failure));
}

/// Ends a flight: whoever asks from now on finds the list in memory, or begins anew.
fn end(shared: &Shared, job: &Job, ending: Ending) {
    let mut flights = shared.flights();
    flights.remove(&job.key);
    shared.metrics.squashing().set_waiting(flights.len());
    drop(flights);
    job.ending.send_replace(Some(ending));
}
