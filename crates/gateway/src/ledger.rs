//! The database of jobs, as one gateway uses it.
//!
//! A job is recorded before its client is told that it was accepted, and how it ended after its clients here were told: if the process dies
//! between, another one finds the same answer. Two writes for each job, then, and none of them while it runs, apart from one for all leases
//! now and then.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cipherloom_store::{
    ClaimedJob, GatewayJobs, JobEnd, JobId, JobLease, JobRecord, JobRetention, JobTotals, NewJob, StoreError, SubmittedJob,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Clock,
    config::JobLimits,
    error::Label,
    jobs::{Answer, JobKey},
    metrics::Metrics,
    requests::GatewayRequest,
    services::{FieldIssue, ServiceError},
};

/// How long a poll waits for the database before it says "not yet".
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// The first and the longest pause before a failed call is repeated.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often old answers are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// How long the last word of a process that stops may take.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What the database knows of a job.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It has not ended.
    Unfinished {
        /// Whether somebody runs it.
        running: bool,
        submitted_at_ms: u64,
    },
    /// It has ended like this.
    Ended(Result<Answer, ServiceError>),
}

/// This gateway's part in a deployment's jobs.
pub(crate) struct Ledger {
    jobs: Arc<dyn GatewayJobs>,
    /// The name of this process, which no other one has.
    owner: String,
    limits: JobLimits,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// The jobs whose leases this process keeps: those it runs, and those whose end is not recorded.
    held: Mutex<HashSet<Uuid>>,
    totals: Mutex<JobTotals>,
}

impl Ledger {
    /// Takes part under a new name.
    pub(crate) fn new(jobs: Arc<dyn GatewayJobs>, limits: JobLimits, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            jobs,
            owner: Uuid::new_v4().to_string(),
            limits,
            clock,
            metrics,
            held: Mutex::default(),
            totals: Mutex::default(),
        }
    }

    /// Records a job that this process will run, or finds the one that an equal request has.
    ///
    /// # Errors
    /// `gateway_not_reachable` if the database fails; then it may have recorded the job, and somebody takes it up.
    pub(crate) async fn record(&self, key: &JobKey, request: &GatewayRequest) -> Result<SubmittedJob, ServiceError> {
        let request = serde_json::to_vec(request).map_err(|error| self.failed("encode a request", &error))?;
        let job = NewJob {
            id: JobId(key.id.into_bytes()),
            operation: key.kind.as_str(),
            digest: key.digest,
            request: &request,
        };
        let submitted = self
            .jobs
            .submit(&job, self.lease())
            .await
            .map_err(|error| self.failed("record a job", &error))?;
        if submitted == SubmittedJob::New {
            self.held().insert(key.id);
        }
        Ok(submitted)
    }

    /// Takes up jobs that nobody runs. They are held from now on.
    pub(crate) async fn claim(&self, limit: u32) -> Vec<ClaimedJob> {
        match self.jobs.claim(self.lease(), limit).await {
            Ok(claimed) => {
                self.held().extend(claimed.iter().map(|job| Uuid::from_bytes(job.id.0)));
                claimed
            }
            Err(error) => {
                self.failed("take up jobs", &error);
                Vec::new()
            }
        }
    }

    /// Records how a job ended, however often the database fails, until `stop`.
    pub(crate) async fn finish(&self, id: Uuid, outcome: &Result<Answer, ServiceError>, stop: &CancellationToken) {
        let (succeeded, bytes) = encode(outcome);
        let end = if succeeded {
            JobEnd::Succeeded(&bytes)
        } else {
            JobEnd::Failed(&bytes)
        };
        let mut pause = PAUSES.0;
        loop {
            let finished = self.jobs.finish(JobId(id.into_bytes()), &self.owner, end, self.clock.unix_ms());
            match finished.await {
                Ok(_) => break,
                Err(error) => self.failed("record the end of a job", &error),
            };
            if stop.is_cancelled() {
                // Whoever takes it up finds the same answer.
                break;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        self.held().remove(&id);
    }

    /// Finds a job of any gateway.
    ///
    /// # Errors
    /// If the database fails or takes too long. That says nothing about the job.
    pub(crate) async fn find(&self, id: Uuid) -> Result<Option<JobRecord>, ServiceError> {
        match tokio::time::timeout(FIND_TIMEOUT, self.jobs.find(JobId(id.into_bytes()))).await {
            Ok(found) => found.map_err(|error| self.failed("find a job", &error)),
            Err(elapsed) => Err(self.failed("find a job", &elapsed)),
        }
    }

    /// Keeps the leases and forgets old answers, until `stop`.
    pub(crate) async fn keep(&self, stop: &CancellationToken) {
        let at_least = Duration::from_millis(10);
        let mut renewal = tokio::time::interval((self.limits.lease / 3).max(at_least));
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL.min(self.limits.retention).max(at_least));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = renewal.tick() => self.renew().await,
                _ = expiry.tick() => self.expire().await,
            }
        }
    }

    /// Gives the leases of jobs back that this process will not end.
    pub(crate) async fn release(&self) {
        let held = self.held_ids();
        if held.is_empty() {
            return;
        }
        match tokio::time::timeout(LAST_WORD, self.jobs.release(&held, &self.owner)).await {
            Ok(Ok(())) => {}
            // Their leases run out by themselves.
            Ok(Err(error)) => drop(self.failed("give jobs back", &error)),
            Err(elapsed) => drop(self.failed("give jobs back", &elapsed)),
        }
    }

    /// Returns how many jobs there were when they were last counted.
    pub(crate) fn totals(&self) -> JobTotals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(&self) {
        let held = self.held_ids();
        if !held.is_empty()
            && let Err(error) = self.jobs.renew(&held, self.lease()).await
        {
            self.failed("renew leases", &error);
        }
    }

    async fn expire(&self) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let retention_ms = u64::try_from(self.limits.retention.as_millis()).unwrap_or(u64::MAX);
        let kept = JobRetention {
            ended_after_ms: self.clock.unix_ms().saturating_sub(retention_ms),
            most: count(self.limits.max_finished),
            most_bytes: count(self.limits.max_finished_bytes),
        };
        let counted = async {
            self.jobs.expire(kept).await?;
            self.jobs.totals().await
        };
        match counted.await {
            Ok(totals) => *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals,
            Err(error) => drop::<ServiceError>(self.failed("forget old jobs", &error)),
        }
    }

    fn lease(&self) -> JobLease<'_> {
        let now_ms = self.clock.unix_ms();
        let lease_ms = u64::try_from(self.limits.lease.as_millis()).unwrap_or(u64::MAX);
        JobLease {
            owner: &self.owner,
            now_ms,
            until_ms: now_ms.saturating_add(lease_ms),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_ids(&self) -> Vec<JobId> {
        self.held().iter().map(|id| JobId(id.into_bytes())).collect()
    }

    /// Counts and logs a failure, and says it as clients are told.
    fn failed(&self, action: &'static str, error: &dyn std::error::Error) -> ServiceError {
        self.metrics.job_database_failed();
        tracing::error!(%error, action, "the database of jobs failed");
        ServiceError::new(
            Label::GatewayNotReachable,
            "the gateway cannot reach its database; make the request again in a moment",
        )
    }
}

/// What a record says about its job.
pub(crate) fn entry(record: JobRecord) -> Entry {
    use cipherloom_store::JobState;
    match record.state {
        JobState::Waiting => Entry::Unfinished {
            running: false,
            submitted_at_ms: record.submitted_at_ms,
        },
        JobState::Running => Entry::Unfinished {
            running: true,
            submitted_at_ms: record.submitted_at_ms,
        },
        JobState::Succeeded(bytes) => Entry::Ended(serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))),
        JobState::Failed(bytes) => Entry::Ended(Err(match serde_json::from_slice::<RecordedError>(&bytes) {
            Ok(error) => error.into(),
            Err(error) => unreadable(&error),
        })),
    }
}

/// Reads the request of a job that was taken up.
///
/// # Errors
/// If other software recorded it.
pub(crate) fn request(job: &ClaimedJob) -> Result<GatewayRequest, ServiceError> {
    serde_json::from_slice(&job.request).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> ServiceError {
    tracing::error!(%error, "a record in the database of jobs cannot be read");
    ServiceError::new(
        Label::InternalServerError,
        "the gateway's record of this job was made by other software; make the request again",
    )
}

/// A [`ServiceError`] in the database.
#[derive(Serialize, Deserialize)]
struct RecordedError {
    label: String,
    message: String,
    details: Vec<FieldIssue>,
    retry_after_ms: Option<u64>,
}

impl From<&ServiceError> for RecordedError {
    fn from(error: &ServiceError) -> Self {
        Self {
            label: error.label.as_str().to_owned(),
            message: error.message.clone(),
            details: error.details.clone(),
            retry_after_ms: error.retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<RecordedError> for ServiceError {
    fn from(error: RecordedError) -> Self {
        let label = Label::ALL.into_iter().find(|label| label.as_str() == error.label);
        Self {
            label: label.unwrap_or(Label::InternalServerError),
            message: error.message,
            details: error.details,
            retry_after: error.retry_after_ms.map(Duration::from_millis),
        }
    }
}

/// Returns whether a job succeeded, and the bytes of its end.
fn encode(outcome: &Result<Answer, ServiceError>) -> (bool, Vec<u8>) {
    let encoded = match outcome {
        Ok(answer) => serde_json::to_vec(answer),
        Err(error) => serde_json::to_vec(&RecordedError::from(error)),
    };
    match encoded {
        Ok(bytes) => (outcome.is_ok(), bytes),
        // It cannot happen with these types; if it does, clients that come later read an error.
        Err(error) => {
            tracing::error!(%error, "cannot encode the end of a job");
            (false, b"{}".to_vec())
        }
    }
}

/// Turns a failure of the database at the start into one of the gateway.
pub(crate) async fn check(jobs: &dyn GatewayJobs) -> Result<(), StoreError> {
    jobs.totals().await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::decryption::{PublicDecryptionAnswer, UserDecryptionShare};
    use cipherloom_store::JobState;

    use super::*;

    fn read_back(outcome: &Result<Answer, ServiceError>) -> Result<Answer, ServiceError> {
        let (succeeded, bytes) = encode(outcome);
        let state = if succeeded {
            JobState::Succeeded(bytes)
        } else {
            JobState::Failed(bytes)
        };
        let record = JobRecord {
            operation: "public-decrypt".to_owned(),
            digest: alloy_primitives::B256::ZERO,
            state,
            submitted_at_ms: 0,
        };
        match entry(record) {
            Entry::Ended(ended) => ended,
            Entry::Unfinished { .. } => panic!("it has ended"),
        }
    }

    #[test]
    fn every_end_of_a_job_is_read_back_as_it_was() {
        let bytes = |byte: u8| vec![byte; 70].into();
        let answers = [
            Answer::RejectedInput { extra_data: bytes(1) },
            Answer::Public(PublicDecryptionAnswer {
                decrypted_result: bytes(1),
                signatures: vec![bytes(2), bytes(3)],
                extra_data: bytes(4),
            }),
            Answer::User(vec![UserDecryptionShare {
                payload: bytes(1),
                signature: bytes(2),
                extra_data: bytes(3),
            }]),
        ];
        for answer in answers {
            let outcome = Ok(answer);
            assert_eq!(read_back(&outcome), outcome);
        }
        for label in Label::ALL {
            let error = ServiceError::new(label, "why").retry_after(Duration::from_secs(3));
            let outcome = Err(ServiceError {
                details: vec![FieldIssue::new("field", "issue")],
                ..error
            });
            assert_eq!(read_back(&outcome), outcome);
        }
    }

    #[test]
    fn records_of_other_software_are_errors() {
        for state in [JobState::Succeeded(b"{}".to_vec()), JobState::Failed(b"nonsense".to_vec())] {
            let record = JobRecord {
                operation: String::new(),
                digest: alloy_primitives::B256::ZERO,
                state,
                submitted_at_ms: 0,
            };
            assert!(matches!(entry(record), Entry::Ended(Err(error)) if error.label == Label::InternalServerError));
        }
    }
}
