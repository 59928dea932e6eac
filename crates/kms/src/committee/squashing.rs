//! Squashing in the party itself, for native chains.
//!
//! On other chains coprocessors squash noise and attest the lists. A native chain has none, and a list that anybody else made would have to be believed: it decides what shares are given for. A party therefore takes the packed
//! ciphertext that is proven to stand in the chain's state and squashes it itself. Squashing is a pure function of packed form and keys, so honest parties come to the same bytes without talking to each other.
//!
//! **Who may have it done.** Squashing a value takes seconds of all that a processor has, so it comes after everything that can refuse: [`super::CommitteeNode`] has checked the permit, rights, share and budgets, and the
//! ciphertext is proven. The list is no secret and no answer; whether it is decrypted is decided by whoever asked for it.
//!
//! **Flow.** A list that was made lately is in memory. Otherwise the value joins those that wait, or its equal that is being squashed already. A bounded number of threads takes values in turns: each requester has one, and
//! everybody's public values together have one, so that nobody's many values keep another's single one waiting. Whoever asked waits for a while and is then told that it is not ready; the work goes on, and who asks again finds it done.
//!
//! **Keys** are large: some two gigabytes with production parameters. They are read when a value is first squashed and let go after a while without any ([`SquashingKeys`] says from where). Keys that cannot be used are not tried again
//! at once.
//!
//! **Restart.** Nothing is kept; what is asked for again is squashed again.

mod turns;
mod work;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy_primitives::keccak256;
use cipherloom_fhe::{FheBackend, KeySet, NoiseSquasher};
use cipherloom_primitives::{Address, B256};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use self::{
    turns::Turns,
    work::{Job, Shelf},
};
use super::sharing::{KeepLimits, Recent};
use crate::ports::{SquashError, SquashStored, StoredCiphertext};

/// How much of a process squashing may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SquashingLimits {
    /// How many batches of values are squashed at the same time, at least 1; each keeps up to three threads busy.
    pub concurrent: usize,
    /// How many values a batch has at most, at least 1.
    pub batch: usize,
    /// How many values may wait or be squashed at the same time. One requester has a quarter of these places, public values together have half of them.
    pub waiting: usize,
    /// How many bytes of lists are kept in memory. One has 98 KB with production parameters.
    pub memory_bytes: usize,
    /// How long whoever asks waits for a list. Shorter than gateways wait for the slower nodes, so that these can say that they are at it.
    pub wait: Duration,
    /// After how long without use the keys are let go.
    pub release_keys_after: Duration,
}

impl Default for SquashingLimits {
    fn default() -> Self {
        Self {
            concurrent: 1,
            batch: 4,
            waiting: 256,
            memory_bytes: 64 << 20,
            wait: Duration::from_secs(15),
            release_keys_after: Duration::from_mins(10),
        }
    }
}

impl SquashingLimits {
    /// How many values of one requester may wait.
    const fn waiting_of(&self, requester: Option<Address>) -> usize {
        let places = match requester {
            Some(_) => self.waiting / 4,
            None => self.waiting / 2,
        };
        if places == 0 { 1 } else { places }
    }
}

/// How long lists are kept in memory.
const KEPT: Duration = Duration::from_hours(1);
/// How long keys that could not be used are not tried again.
const KEYS_PAUSE: Duration = Duration::from_secs(10);

/// Where the keys of noise squashing come from.
pub trait SquashingKeys: Send + Sync {
    /// Reads them and makes them usable, which takes some ten seconds and two gigabytes with production parameters. Called on a thread that may block, one call after the other.
    ///
    /// # Errors
    /// Why they cannot be used, for operators.
    fn open(&self) -> Result<OpenedKeys, String>;
}

/// Keys that squash.
pub struct OpenedKeys {
    /// Reads the packed form.
    pub backend: Arc<dyn FheBackend>,
    /// Squashes.
    pub squasher: Arc<NoiseSquasher>,
}

/// A key set in a directory of which nobody but this process's owner can change anything, so that its manifest is believed. For development; a party of a deployment compares keys with the record of its share.
pub struct TrustedKeys(pub Arc<KeySet>);

impl SquashingKeys for TrustedKeys {
    fn open(&self) -> Result<OpenedKeys, String> {
        let backend = self.0.evaluation().map_err(|error| error.to_string())?;
        let squasher = self.0.squasher_on(backend.as_ref()).map_err(|error| error.to_string())?;
        Ok(OpenedKeys {
            backend,
            squasher: Arc::new(squasher),
        })
    }
}

/// What squashing did and has to do, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquashingCounts {
    /// Values that were squashed.
    pub made: u64,
    /// Values that could not be.
    pub failed: u64,
    /// Requests that were refused because too many waited.
    pub refused: u64,
    /// How long threads were at it, reading keys not counted.
    pub busy: Duration,
    /// Values that wait or are being squashed.
    pub waiting: usize,
    /// Whether the keys are in memory.
    pub holds_keys: bool,
}

/// How a value's flight ended.
type Ending = Result<Arc<Vec<u8>>, SquashError>;

/// Squashes ciphertexts of one key set for a party, on threads of its own. They end when it is dropped.
pub struct Squashing(Arc<Shared>);

/// What those who ask and those who squash share.
struct Shared {
    key_set_id: B256,
    keys: Arc<dyn SquashingKeys>,
    limits: SquashingLimits,
    state: Mutex<State>,
    /// Told when there is work, or none any more.
    work: Condvar,
    made: Recent<Vec<u8>>,
    shelf: Mutex<Shelf>,
    started: Instant,
    stop: AtomicBool,
    counts: Counts,
}

#[derive(Default)]
struct State {
    /// Values that wait or are being squashed, for those who ask for them meanwhile.
    flights: HashMap<B256, watch::Receiver<Option<Ending>>>,
    turns: Turns<Option<Address>, Job>,
    workers: usize,
    idle: usize,
}

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    busy_nanoseconds: AtomicU64,
}

impl Squashing {
    /// Gets ready to squash values of a key set. Nothing is read yet.
    #[must_use]
    pub fn new(key_set_id: B256, keys: Arc<dyn SquashingKeys>, limits: SquashingLimits) -> Self {
        Self(Arc::new(Shared {
            key_set_id,
            keys,
            made: Recent::new(KeepLimits {
                seconds: KEPT.as_secs(),
                bytes: limits.memory_bytes,
            }),
            limits,
            state: Mutex::default(),
            work: Condvar::new(),
            shelf: Mutex::default(),
            started: Instant::now(),
            stop: AtomicBool::new(false),
            counts: Counts::default(),
        }))
    }

    /// Says what it did and has to do.
    #[must_use]
    pub fn counts(&self) -> SquashingCounts {
        let Shared { counts, state, .. } = &*self.0;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SquashingCounts {
            made: read(&counts.made),
            failed: read(&counts.failed),
            refused: read(&counts.refused),
            busy: Duration::from_nanos(read(&counts.busy_nanoseconds)),
            waiting: state.lock().unwrap_or_else(PoisonError::into_inner).flights.len(),
            holds_keys: match self.0.shelf.try_lock() {
                Ok(shelf) => matches!(*shelf, Shelf::Held(_)),
                Err(TryLockError::Poisoned(shelf)) => matches!(*shelf.into_inner(), Shelf::Held(_)),
                // Somebody reads them.
                Err(TryLockError::WouldBlock) => false,
            },
        }
    }
}

impl Drop for Squashing {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        // With the lock held, so that nobody is between looking and waiting.
        let mut state = self.0.state();
        let left = state.turns.drain();
        drop(state);
        self.0.work.notify_all();
        drop(left);
    }
}

impl fmt::Debug for Squashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Squashing")
            .field("key_set_id", &self.0.key_set_id)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl SquashStored for Squashing {
    fn squash(&self, stored: StoredCiphertext) -> BoxFuture<'_, Ending> {
        Box::pin(async move {
            if stored.key_set_id != self.0.key_set_id {
                let (asked, here) = (stored.key_set_id, self.0.key_set_id);
                return Err(SquashError::Keys(format!(
                    "they are of key set {here}, and the ciphertext is under {asked}"
                )));
            }
            let mut flight = self.0.begin(stored)?;
            match tokio::time::timeout(self.0.limits.wait, flight.wait_for(Option::is_some)).await {
                Ok(Ok(ending)) => ending.clone().unwrap_or(Err(SquashError::NotReady)),
                // Either it takes longer, or the process ends.
                Ok(Err(_)) | Err(_) => Err(SquashError::NotReady),
            }
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Joins the flight of a value, or begins one.
    fn begin(self: &Arc<Self>, stored: StoredCiphertext) -> Result<watch::Receiver<Option<Ending>>, SquashError> {
        let name = name(&stored);
        let mut state = self.state();
        if let Some(flight) = state.flights.get(&name) {
            return Ok(flight.clone());
        }
        // What has ended is in memory before its flight is gone.
        if let Some(list) = self.made.find(name, self.seconds()) {
            return Ok(watch::channel(Some(Ok(list))).1);
        }
        let requester = stored.requester;
        if state.flights.len() >= self.limits.waiting.max(1) || state.turns.of(&requester) >= self.limits.waiting_of(requester) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SquashError::Busy);
        }
        let (ending, flight) = watch::channel(None);
        let job = Job {
            name,
            handle: stored.handle,
            bytes: stored.bytes,
            ending,
        };
        state.turns.push(requester, job);
        if state.turns.len() > state.idle && state.workers < self.limits.concurrent.max(1) {
            let shared = Arc::clone(self);
            let spawned = std::thread::Builder::new().name("squashing".to_owned()).spawn(move || shared.run());
            match spawned {
                Ok(_) => state.workers += 1,
                Err(error) if state.workers == 0 => {
                    // Nobody would ever take what waits.
                    drop(state.turns.drain());
                    state.flights.clear();
                    return Err(SquashError::Failed(format!("finds no thread to squash it: {error}")));
                }
                // Those that there are do it.
                Err(_) => {}
            }
        }
        state.flights.insert(name, flight.clone());
        drop(state);
        self.work.notify_one();
        Ok(flight)
    }
}

/// Everything that decides the bytes of a list under a key set.
fn name(stored: &StoredCiphertext) -> B256 {
    let mut content = Vec::with_capacity(stored.bytes.len().saturating_add(1));
    content.push(stored.handle.fhe_type().id());
    content.extend_from_slice(&stored.bytes);
    keccak256(content)
}
