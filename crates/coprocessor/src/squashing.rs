//! Noise-squashed ciphertexts, which a committee decrypts: made when somebody asks, and made once.
//!
//! **Roles.** The nodes of a committee ask for a handle ([`Coprocessor::signed_squashed`]); as many of them as there are get the same bytes. A [`Squashing`]
//! belongs to a process and is shared by its coprocessors. It has few places for values that are being squashed, because squashing one takes as long as
//! hundreds of ordinary bootstraps, and values that wait are squashed together in small steps, between which ordinary computations get their processors.
//!
//! **Flow.** A handle's list is looked for in memory, then in the store, and else squashed of the ciphertext's packed form, which is the one that all
//! coprocessors have. Whoever asks for a handle that is being squashed waits for the same result. The list is signed, stored with its signature, and kept in memory.
//! Nobody has to wait to the end: the work goes on, and who asks again finds it done. What is made public will be asked for; an operator may have it squashed
//! as soon as it is computed ([`SquashingAhead`]).
//!
//! **Same bytes everywhere.** A list is a function of the packed ciphertext and the keys of noise squashing, so that coprocessors of several operators sign
//! the same bytes and their attestations add up.
//!
//! **What is signed** was made here: a list from the store counts only if this coprocessor's own signature is stored with it, so that who can write
//! to the store cannot have it vouch for numbers of his choice, whose decryptions would give away the secret.
//!
//! **Restart and reorganisations.** What is stored is served again after a restart; what was under way is begun anew when somebody asks. A list is found by
//! the digest of the ciphertext it was made of, and stored only while that is; a withdrawn block takes its lists with it.
//!
//! **Keys** of noise squashing are large. They are read when a value is first squashed and let go after a while without any.

mod ahead;
mod dispatch;
mod keys;
mod memory;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy::signers::{Signature, SignerSync};
use cipherloom_engine::GroupId;
use cipherloom_primitives::{
    B256, Handle,
    eip712::{recover_signer, squashed_ciphertext_attestation_digest},
};
use cipherloom_store::{CiphertextHead, SquashedList};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use self::ahead::SquashingAhead;
pub use self::keys::{SquashingKeys, StoredKeys};
use self::{
    dispatch::{Dispatcher, Job},
    keys::KeyShelf,
    memory::ListMemory,
};
use crate::{
    Coprocessor, CoprocessorError, HandleStatus,
    metrics::{Metrics, SquashedFrom, SquashingRefusal},
};

/// How much of a process squashing may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SquashingOptions {
    /// How many batches of values are squashed at the same time, at least 1; each keeps up to three threads busy.
    pub concurrent: usize,
    /// How many values a batch has at most, at least 1.
    pub batch: usize,
    /// How many values may wait or be squashed at the same time before [`CoprocessorError::SquashingBusy`].
    pub waiting: usize,
    /// How many bytes of lists are kept in memory; 0 for none. One has 98 KB with production parameters.
    pub memory_bytes: usize,
    /// How long lists are kept in the store; those that are asked for later are made again.
    pub keep: Duration,
    /// After how long without use the keys are let go.
    pub release_keys_after: Duration,
    /// Squashes values as soon as they are computed and anybody may have them decrypted, before somebody asks.
    pub public_ahead: bool,
}

impl Default for SquashingOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            // At most half of the processors.
            concurrent: (processors / 6).max(1),
            batch: 8,
            waiting: 256,
            memory_bytes: 64 << 20,
            keep: Duration::from_hours(30 * 24),
            release_keys_after: Duration::from_mins(10),
            public_ahead: false,
        }
    }
}

/// A noise-squashed ciphertext and this coprocessor's word for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSquashed {
    /// What it is the value of.
    pub handle: Handle,
    /// The key set it is under.
    pub key_set_id: B256,
    /// The packed list, which has one value; see `SquashedValue::from_list` of the crate `cipherloom-fhe`.
    pub bytes: Vec<u8>,
    /// The Keccak hash of `bytes`.
    pub digest: B256,
    /// The signature over [`squashed_ciphertext_attestation_digest`].
    pub signature: Signature,
}

/// What decides all bytes of a list, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ListKey {
    group: GroupId,
    handle: Handle,
    key_set_id: B256,
    raw_digest: B256,
    squashing_keys: B256,
}

/// How a flight ended.
type Ending = Result<Arc<SignedSquashed>, Failure>;

/// Why a value was not squashed.
#[derive(Clone, Debug)]
enum Failure {
    /// Its ciphertext is not stored any more, or has become another one.
    Withdrawn,
    /// The keys cannot be used.
    Keys(String),
    /// Something else.
    Other(String),
    /// The process is stopping.
    Stopped,
}

/// Squashes noise for the coprocessors of a process. Its task ends when it is told to ([`Self::shutdown`]) or dropped.
pub struct Squashing {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What those who ask and those who squash share.
struct Shared {
    options: SquashingOptions,
    metrics: Metrics,
    memory: ListMemory,
    shelf: KeyShelf,
    /// Values that wait or are being squashed, for those who ask for them meanwhile.
    flights: Mutex<HashMap<ListKey, watch::Receiver<Option<Ending>>>>,
    stop: CancellationToken,
}

impl Squashing {
    /// Starts the task that squashes, which needs a runtime around it.
    #[must_use]
    pub fn start(options: SquashingOptions, metrics: Metrics) -> Arc<Self> {
        let shared = Arc::new(Shared {
            memory: ListMemory::new(options.memory_bytes),
            shelf: KeyShelf::default(),
            flights: Mutex::default(),
            stop: CancellationToken::new(),
            options,
            metrics,
        });
        // Bounded by the number of flights.
        let (jobs, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(Dispatcher::new(Arc::clone(&shared), received).run());
        Arc::new(Self {
            shared,
            jobs,
            task: Mutex::new(Some(task)),
        })
    }

    /// Ends the task after the steps under way. What is not finished is begun anew by whoever asks another process, or this one later.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has nothing left to do either.
            let _ = task.await;
        }
    }

    /// Returns how much it may take.
    #[must_use]
    pub fn options(&self) -> &SquashingOptions {
        &self.shared.options
    }

    /// Joins the flight of a list, or begins one.
    fn fly(
        &self,
        key: ListKey,
        job: impl FnOnce(watch::Sender<Option<Ending>>) -> Job,
    ) -> Result<watch::Receiver<Option<Ending>>, CoprocessorError> {
        let mut flights = self.shared.flights();
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.clone());
        }
        // What was finished since it was looked for is in memory before its flight ends.
        if let Some(list) = self.shared.memory.get(&key) {
            return Ok(watch::channel(Some(Ok(list))).1);
        }
        if flights.len() >= self.shared.options.waiting.max(1) {
            self.shared.metrics.squashing().refused(SquashingRefusal::Busy);
            return Err(CoprocessorError::SquashingBusy);
        }
        let (ending, flight) = watch::channel(None);
        // If the task is gone, the sender is dropped with the job, and whoever waits learns it.
        if self.jobs.send(job(ending)).is_ok() {
            flights.insert(key, flight.clone());
            self.shared.metrics.squashing().set_waiting(flights.len());
        }
        Ok(flight)
    }
}

impl Drop for Squashing {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for Squashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Squashing")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn flights(&self) -> MutexGuard<'_, HashMap<ListKey, watch::Receiver<Option<Ending>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a list in memory.
    fn remember(&self, key: ListKey, list: &Arc<SignedSquashed>) {
        self.memory.put(key, list);
        self.metrics.squashing().set_memory(self.memory.bytes());
    }
}

impl Coprocessor {
    /// Returns the noise-squashed form of a handle's ciphertext, signed, for a committee to decrypt. Waits until the handle is computed and squashed, at
    /// most this long. Squashing takes seconds for each 64 bits with production parameters, and goes on when nobody waits any more.
    ///
    /// Whether anyone may see it is not asked here: the nodes of a committee check who may decrypt.
    ///
    /// # Errors
    /// [`CoprocessorError::NotComputed`] if the time is up; [`CoprocessorError::UnknownHandle`], [`CoprocessorError::Failed`] and
    /// [`CoprocessorError::WrongChain`] as for [`Self::signed_ciphertext`]; [`CoprocessorError::NoSquashing`] if the key set cannot, or the ciphertext is under
    /// another one; [`CoprocessorError::SquashingBusy`] if too many wait; [`CoprocessorError::SquashingFailed`].
    pub async fn signed_squashed(&self, handle: Handle, at_most: Duration) -> Result<SignedSquashed, CoprocessorError> {
        if handle.chain_id() != self.chain_id() {
            return Err(CoprocessorError::WrongChain {
                expected: self.chain_id(),
                found: handle.chain_id(),
            });
        }
        let (squashing, keys) = self.squashing().ok_or_else(|| self.cannot_squash("this process does not squash"))?;
        let squashing_keys = keys.digest().map_err(|reason| self.cannot_squash(&reason))?;
        let deadline = tokio::time::Instant::now() + at_most;
        match self.wait_for(handle, at_most).await? {
            HandleStatus::Computed => {}
            HandleStatus::Unknown => return Err(CoprocessorError::UnknownHandle(handle)),
            HandleStatus::Pending => return Err(CoprocessorError::NotComputed(handle)),
            HandleStatus::Failed(reason) => return Err(CoprocessorError::Failed { handle, reason }),
        }
        let head = self.stored_head(handle).await?;
        if head.key_set_id != self.key_set_id() {
            return Err(self.cannot_squash(&format!("{handle} is under another key set, {}", head.key_set_id)));
        }
        let key = ListKey {
            group: self.config().group,
            handle,
            key_set_id: head.key_set_id,
            raw_digest: head.raw_digest,
            squashing_keys,
        };
        let metrics = self.config().metrics.squashing();
        if let Some(list) = squashing.shared.memory.get(&key) {
            metrics.handed_out(SquashedFrom::Memory);
            return Ok(SignedSquashed::clone(&list));
        }
        if let Some(list) = self.stored_list(&key).await {
            let list = Arc::new(list);
            squashing.shared.remember(key, &list);
            metrics.handed_out(SquashedFrom::Store);
            return Ok(SignedSquashed::clone(&list));
        }
        let mut flight = squashing.fly(key, |ending| Job {
            key,
            coprocessor: self.clone(),
            keys: keys.clone(),
            ending,
        })?;
        let ended = match tokio::time::timeout_at(deadline, flight.wait_for(Option::is_some)).await {
            Err(_) => return Err(CoprocessorError::NotComputed(handle)),
            // The sender is gone with the task.
            Ok(Err(_)) => None,
            Ok(Ok(ending)) => ending.clone(),
        };
        match ended.unwrap_or(Err(Failure::Stopped)) {
            Ok(list) => {
                metrics.handed_out(SquashedFrom::Made);
                Ok(SignedSquashed::clone(&list))
            }
            Err(Failure::Withdrawn) => Err(CoprocessorError::NotComputed(handle)),
            Err(Failure::Keys(reason)) => Err(self.cannot_squash(&reason)),
            Err(Failure::Other(reason)) => Err(CoprocessorError::SquashingFailed { handle, reason }),
            Err(Failure::Stopped) => Err(CoprocessorError::ThreadLost),
        }
    }

    fn cannot_squash(&self, reason: &str) -> CoprocessorError {
        self.config().metrics.squashing().refused(SquashingRefusal::Keys);
        CoprocessorError::NoSquashing {
            key_set: self.key_set_id(),
            reason: reason.to_owned(),
        }
    }

    /// Returns what the store has of a computed handle. An admitted input that was not used yet is stored for it.
    async fn stored_head(&self, handle: Handle) -> Result<CiphertextHead, CoprocessorError> {
        if let Some(head) = self.head(handle).await? {
            return Ok(head);
        }
        self.signed_ciphertext(handle).await?;
        self.head(handle).await?.ok_or(CoprocessorError::NotComputed(handle))
    }

    async fn head(&self, handle: Handle) -> Result<Option<CiphertextHead>, CoprocessorError> {
        Ok(self.store().ciphertext_heads(&[handle]).await?.into_iter().next().flatten())
    }

    /// Returns the stored list of a value if this coprocessor made it. What is damaged, somebody else's, or of other keys is made anew.
    async fn stored_list(&self, key: &ListKey) -> Option<SignedSquashed> {
        let stored = match self.store().squashed(key.handle).await {
            Ok(stored) => stored?,
            Err(error) => {
                tracing::warn!(handle = %key.handle, %error, "a squashed list cannot be read from the store; it is made again");
                return None;
            }
        };
        if (stored.key_set_id, stored.raw_digest, stored.squashing_keys) != (key.key_set_id, key.raw_digest, key.squashing_keys) {
            return None;
        }
        let attested = squashed_ciphertext_attestation_digest(key.handle, key.key_set_id, stored.digest);
        if recover_signer(attested, &stored.attestation) != Some(self.signer_address()) {
            tracing::warn!(handle = %key.handle, "the store has a squashed list that this coprocessor did not sign; it is made again");
            return None;
        }
        Some(SignedSquashed {
            handle: key.handle,
            key_set_id: key.key_set_id,
            signature: Signature::try_from(stored.attestation.as_slice()).ok()?,
            digest: stored.digest,
            bytes: stored.bytes,
        })
    }

    /// Signs a list that was just made, and stores it.
    async fn keep_list(&self, key: &ListKey, bytes: Vec<u8>) -> Ending {
        let digest = alloy::primitives::keccak256(&bytes);
        let attested = squashed_ciphertext_attestation_digest(key.handle, key.key_set_id, digest);
        let signature = self
            .signer()
            .sign_hash_sync(&attested)
            .map_err(|error| Failure::Other(error.to_string()))?;
        let list = SquashedList {
            handle: key.handle,
            key_set_id: key.key_set_id,
            raw_digest: key.raw_digest,
            squashing_keys: key.squashing_keys,
            digest,
            bytes,
            attestation: signature.as_bytes(),
        };
        match self.store().add_squashed(&list, (self.config().clock)()).await {
            Ok(true) => {}
            Ok(false) => return Err(Failure::Withdrawn),
            // It is as good as it would be in the store; only the work is done again some day.
            Err(error) => tracing::warn!(handle = %key.handle, %error, "a squashed list could not be stored"),
        }
        Ok(Arc::new(SignedSquashed {
            handle: key.handle,
            key_set_id: key.key_set_id,
            bytes: list.bytes,
            digest,
            signature,
        }))
    }
}
