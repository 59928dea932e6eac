//! Executors that are processes of their own, asked over gRPC.
//!
//! # What is trusted
//! A validator trusts its executors as it trusts itself: what they answer is what it proposes and votes for. Connections belong into the validator's own
//! network, or behind TLS. An executor of another key set is found out before it is asked for anything.
//!
//! # Several executors
//! A block is cut into requests ([`split`]) which are sent at the same time, each to another executor first. One that does not answer is stood in for by
//! the others. Behind a load balancer there may be more executors than URLs; then the number of requests is an option.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use anyhow::Result;
use cipherloom_node::native::{BlockWork, ComputeBlock, ComputeUnavailable};
use cipherloom_rpc::cipherloom::executor::v1::{ComputeRequest, DescribeRequest, DescribeResponse, executor_client::ExecutorClient};
use cipherloom_service::endpoints::{Endpoints, Place, with_causes};
use futures_util::future::{BoxFuture, try_join_all};
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{
    SharedCounts,
    split::split,
    wire::{Answers, Computed, request},
};

/// What people call an executor.
pub(crate) const PART: &str = "executor";

/// How long an executor may take to say what it computes with.
const DESCRIBE: Duration = Duration::from_secs(5);

/// The largest single result; packed values have a few kilobytes.
const MAX_RESULT_BYTES: usize = 16 << 20;

/// How often all executors are asked before the chain is told that none answers, and how long is waited in between.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// How long requests go to those who stand in, before the executors that did not answer are tried again.
const STANDING_IN: Duration = Duration::from_secs(60);

/// Where executors are.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Their URLs, the preferred one first.
    pub urls: Vec<String>,
    /// The PEM file of whoever issued their certificates, for `https` URLs.
    pub ca: Option<PathBuf>,
    /// How long one of them may take for a block before the next one is asked.
    pub timeout: Duration,
    /// Into how many requests a block is cut at most; one for each URL without it.
    pub requests: Option<NonZeroUsize>,
}

/// Executors of one key set, of which any can answer.
pub struct RemoteExecutors {
    /// One for each request of a block: all executors, beginning with another one each.
    lanes: Vec<Endpoints>,
    returned: Mutex<Instant>,
    timeout: Duration,
    key_set_id: B256,
    counts: SharedCounts,
}

impl RemoteExecutors {
    /// Sets up calls. Connections are made when they are needed.
    ///
    /// # Errors
    /// If a URL is none, or the certificate cannot be read.
    pub fn new(options: &RemoteOptions, key_set_id: B256) -> Result<Self> {
        let count = options.requests.map_or(options.urls.len(), NonZeroUsize::get).max(1);
        let lane = |number: usize| {
            let mut urls = options.urls.clone();
            let first = number.checked_rem(urls.len()).unwrap_or_default();
            urls.rotate_left(first);
            Endpoints::new(&Place {
                part: PART,
                urls: &urls,
                ca: options.ca.as_deref(),
                key: None,
            })
        };
        Ok(Self {
            lanes: (0..count).map(lane).collect::<Result<_>>()?,
            returned: Mutex::new(Instant::now()),
            timeout: options.timeout,
            key_set_id,
            counts: SharedCounts::default(),
        })
    }

    /// Returns what was computed so far.
    #[must_use]
    pub fn counts(&self) -> SharedCounts {
        Arc::clone(&self.counts)
    }

    /// Asks an executor of the chain's key set what it computes with.
    ///
    /// # Errors
    /// The status of the last one if none answers; `FAILED_PRECONDITION` if one has another key set.
    pub async fn describe(&self) -> Result<DescribeResponse, Status> {
        let key_set_id = self.key_set_id;
        let ask = move |channel: Channel, _: Request<()>| async move { describe(channel, key_set_id).await.map(Response::new) };
        match self.lanes.first() {
            Some(lane) => lane.call((), DESCRIBE, ask).await,
            None => Err(Status::unavailable("there are no executors")),
        }
    }

    /// Has a block computed, by several executors if it can be cut.
    async fn compute_split(&self, work: &BlockWork) -> Result<Computed, String> {
        self.return_to_first();
        let count = NonZeroUsize::new(self.lanes.len()).unwrap_or(NonZeroUsize::MIN);
        let requests = split(work, count).into_iter().zip(&self.lanes);
        let answers = requests.map(|(request, lane)| Box::pin(self.answer(lane, Arc::new(request))));
        Ok(try_join_all(answers).await?.concat())
    }

    /// Tries executors again that others have stood in for.
    fn return_to_first(&self) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        if returned.elapsed() > STANDING_IN {
            *returned = Instant::now();
            self.lanes.iter().for_each(Endpoints::return_to_first);
        }
    }

    async fn answer(&self, lane: &Endpoints, work: Arc<BlockWork>) -> Result<Computed, String> {
        let message = request(&work);
        let key_set_id = self.key_set_id;
        let mut last = String::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            let work = Arc::clone(&work);
            let attempt = move |channel: Channel, request: Request<ComputeRequest>| {
                let work = Arc::clone(&work);
                async move {
                    describe(channel.clone(), key_set_id).await?;
                    let client = ExecutorClient::new(channel).max_decoding_message_size(MAX_RESULT_BYTES);
                    Box::pin(ask(client, request, &work)).await.map(Response::new)
                }
            };
            match lane.call(message.clone(), self.timeout, attempt).await {
                Ok(computed) => return Ok(computed),
                Err(status) => last = with_causes(&status),
            }
        }
        Err(last)
    }
}

/// Makes sure that an executor has the chain's key set.
async fn describe(channel: Channel, key_set_id: B256) -> Result<DescribeResponse, Status> {
    let mut request = Request::new(DescribeRequest {});
    request.set_timeout(DESCRIBE);
    let mut client = ExecutorClient::new(channel);
    let asked = tokio::time::timeout(DESCRIBE, client.describe(request));
    let description = asked
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("the executor does not say what it computes with")))?
        .into_inner();
    if description.key_set_id.as_ref() == key_set_id.as_slice() {
        return Ok(description);
    }
    let found = hex::encode(&description.key_set_id);
    tracing::error!(
        executor = found,
        chain = hex::encode(key_set_id),
        "an executor has another key set than the chain"
    );
    // Another endpoint may have the right one.
    Err(Status::unavailable(format!(
        "an executor computes with key set {found}, the chain with {}",
        hex::encode(key_set_id)
    )))
}

/// Asks one executor for a block. Whatever keeps it from answering, another one may do better.
async fn ask(mut client: ExecutorClient<Channel>, request: Request<ComputeRequest>, work: &BlockWork) -> Result<Computed, Status> {
    let elsewhere = |status: Status| match status.code() {
        Code::ResourceExhausted | Code::Internal | Code::OutOfRange | Code::InvalidArgument => Status::unavailable(with_causes(&status)),
        _ => status,
    };
    let mut results = client.compute(request).await.map_err(elsewhere)?.into_inner();
    let mut answers = Answers::to(work);
    while let Some(result) = results.message().await.map_err(elsewhere)? {
        answers.take(result).map_err(Status::unavailable)?;
    }
    answers.finish().map_err(Status::unavailable)
}

impl ComputeBlock for RemoteExecutors {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Computed, ComputeUnavailable>> {
        Box::pin(async move {
            let start = Instant::now();
            let answer = Box::pin(self.compute_split(&work)).await;
            self.counts.answered(&work, start, answer.as_ref().map_err(String::as_str));
            answer.map_err(ComputeUnavailable::new)
        })
    }
}

impl std::fmt::Debug for RemoteExecutors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteExecutors").finish_non_exhaustive()
    }
}
