//! Waiting for handles at a coprocessor in another process: whatever many jobs wait for is watched with one call.
//!
//! A task asks for everything that somebody waits for. The coprocessor answers as soon as one of the handles is done; when more are waited for
//! meanwhile, the call is made anew. Nobody waits, nothing is asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cipherloom_gateway::{
    Label, ServiceError,
    services::{ComputationProgress, Progress},
};
use cipherloom_primitives::Handle;
use cipherloom_rpc::{cipherloom::coprocessor::v1::HandleProgress, codec::MAX_WATCHED_HANDLES};
use cipherloom_service::coprocessor::RemoteCoprocessor;
use futures_util::future::{BoxFuture, try_join_all};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use super::coprocessor::watch as watch_handles;

/// How long one call waits.
const WATCH: Duration = Duration::from_secs(20);
/// How long it waits if there are more handles than fit in one call, so that all have their turn.
const SHARED_WATCH: Duration = Duration::from_millis(500);
/// How long more handles are gathered before a call is made anew.
const GATHER: Duration = Duration::from_millis(10);

/// What became of a handle.
type Outcome = Result<(), ServiceError>;

/// The handles of a chain that somebody waits for.
pub(crate) struct Awaited {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    coprocessor: Arc<RemoteCoprocessor>,
    waiting: Mutex<HashMap<Handle, watch::Sender<Option<Outcome>>>>,
    joined: Notify,
}

impl Awaited {
    /// Begins to watch at a coprocessor.
    pub(crate) fn at(coprocessor: Arc<RemoteCoprocessor>) -> Self {
        let shared = Arc::new(Shared {
            coprocessor,
            waiting: Mutex::default(),
            joined: Notify::new(),
        });
        Self {
            task: tokio::spawn(run(Arc::clone(&shared))),
            shared,
        }
    }

    /// Waits until all handles are computed, at most this long.
    ///
    /// # Errors
    /// `request_error` if one can never be computed; `gateway_not_reachable` if the coprocessor does not answer.
    pub(crate) async fn all(&self, handles: &[Handle], at_most: Duration) -> Result<(), ServiceError> {
        let receivers: Vec<_> = {
            let mut waiting = self.shared.waiting();
            let subscribe = |handle: &Handle| waiting.entry(*handle).or_default().subscribe();
            handles.iter().map(subscribe).collect()
        };
        self.shared.joined.notify_one();
        let each = receivers
            .into_iter()
            .map(async |mut receiver| match receiver.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
                // The watching task is over, with the process.
                Err(_) => Err(ServiceError::new(Label::GatewayNotReachable, "the gateway is stopping; try again")),
            });
        match tokio::time::timeout(at_most, try_join_all(each)).await {
            Ok(outcome) => outcome.map(|_| ()),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Handle, watch::Sender<Option<Outcome>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the handles that somebody still waits for, and forgets the others.
    fn wanted(&self) -> Vec<Handle> {
        let mut waiting = self.waiting();
        waiting.retain(|_, outcome| outcome.receiver_count() > 0);
        waiting.keys().copied().collect()
    }

    fn settle(&self, handle: Handle, outcome: Outcome) {
        if let Some(sender) = self.waiting().remove(&handle) {
            sender.send_replace(Some(outcome));
        }
    }
}

async fn run(shared: Arc<Shared>) {
    let mut turn = 0usize;
    loop {
        let mut wanted = shared.wanted();
        if wanted.is_empty() {
            shared.joined.notified().await;
            tokio::time::sleep(GATHER).await;
            continue;
        }
        let crowded = wanted.len() > MAX_WATCHED_HANDLES;
        if crowded {
            wanted.sort_unstable();
            let start = turn.wrapping_mul(MAX_WATCHED_HANDLES) % wanted.len();
            wanted.rotate_left(start);
            wanted.truncate(MAX_WATCHED_HANDLES);
            turn = turn.wrapping_add(1);
        }
        let at_most = if crowded { SHARED_WATCH } else { WATCH };
        let answer = tokio::select! {
            answer = watch_handles(&shared.coprocessor, &wanted, at_most) => answer,
            () = shared.joined.notified(), if !crowded => {
                tokio::time::sleep(GATHER).await;
                continue;
            }
        };
        match answer {
            Ok(states) => {
                for (handle, state) in wanted.into_iter().zip(states) {
                    match state.progress() {
                        HandleProgress::Computed => shared.settle(handle, Ok(())),
                        HandleProgress::Failed => {
                            let message = format!("handle {handle} cannot be computed: {}", state.reason);
                            shared.settle(handle, Err(ServiceError::new(Label::RequestError, message)));
                        }
                        HandleProgress::Unknown | HandleProgress::Pending => {}
                    }
                }
            }
            Err(error) => wanted.into_iter().for_each(|handle| shared.settle(handle, Err(error.clone()))),
        }
    }
}

/// How far the computations of several chains are.
pub(crate) struct RemoteProgress {
    /// Their coprocessors, by the chain's id.
    pub(crate) coprocessors: HashMap<u64, Arc<RemoteCoprocessor>>,
}

impl ComputationProgress for RemoteProgress {
    fn progress(&self, handles: Arc<[Handle]>) -> BoxFuture<'static, Option<Progress>> {
        let chain = handles.first().map(|handle| handle.chain_id());
        let coprocessor = chain.and_then(|chain| self.coprocessors.get(&chain)).map(Arc::clone);
        Box::pin(async move {
            let states = watch_handles(&*coprocessor?, &handles, Duration::ZERO).await.ok()?;
            let pending = states.iter().filter(|state| state.progress() != HandleProgress::Computed).count();
            Some(Progress {
                pending_handles: u64::try_from(pending).ok()?,
                pending_computations: None,
            })
        })
    }
}
