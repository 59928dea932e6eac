//! The table of jobs: which requests are waiting, running or answered in this process.
//!
//! A state machine without tasks and clocks: callers bring the time. Finished jobs are bounded by number, bytes and age; those that are not
//! finished by whoever adds them. A request equal to one that is waiting, running or was answered shares its job; a failed job is kept for
//! those who poll it, but the next equal request starts anew.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{B256, Bytes};
use cipherloom_primitives::{
    Handle,
    decryption::{PublicDecryptionAnswer, UserDecryptionShare},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    config::JobLimits,
    requests::OperationKind,
    services::{AdmittedInput, Progress, ServiceError},
};

/// How long what is known about a job's progress is taken for new. Shorter jobs never ask.
const PROGRESS_AGE: Duration = Duration::from_secs(1);

/// What a service answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Input(AdmittedInput),
    RejectedInput { extra_data: Bytes },
    Public(PublicDecryptionAnswer),
    User(Vec<UserDecryptionShare>),
}

impl Answer {
    /// Returns about how much memory the answer holds.
    fn size_bytes(&self) -> usize {
        const ENTRY: usize = 128;
        match self {
            Self::Input(input) => ENTRY + input.handles.len() * 40 + input.signatures.len() * ENTRY,
            Self::RejectedInput { extra_data } => ENTRY + extra_data.len(),
            Self::Public(answer) => ENTRY + answer.decrypted_result.len() + answer.signatures.len() * ENTRY,
            Self::User(shares) => shares.iter().map(|share| 2 * ENTRY + share.payload.len()).sum(),
        }
    }
}

/// How a job ended.
pub(crate) type Outcome = Arc<Result<Answer, ServiceError>>;

/// A job to add.
#[derive(Clone, Debug)]
pub(crate) struct JobKey {
    pub(crate) id: Uuid,
    pub(crate) kind: OperationKind,
    pub(crate) digest: B256,
    /// What it decrypts.
    pub(crate) handles: Arc<[Handle]>,
    /// In milliseconds since the Unix epoch.
    pub(crate) submitted_at_ms: u64,
}

/// A job as its pollers and waiters see it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: JobKey,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    outcome: watch::Sender<Option<Outcome>>,
    running: AtomicBool,
    /// When somebody last asked how far it is, and what the answer was.
    progress: Mutex<(Duration, Option<Progress>)>,
}

impl Job {
    fn new(key: JobKey, now: Duration) -> Self {
        Self {
            key,
            state: Arc::new(State {
                outcome: watch::Sender::new(None),
                running: AtomicBool::new(false),
                progress: Mutex::new((now, None)),
            }),
        }
    }

    pub(crate) const fn id(&self) -> Uuid {
        self.key.id
    }

    /// Returns how the job ended, if it did.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.state.outcome.borrow().clone()
    }

    /// Waits until the job ends.
    pub(crate) async fn wait(&self) -> Option<Outcome> {
        let mut receiver = self.state.outcome.subscribe();
        receiver.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }

    /// Notes whether a service has it.
    pub(crate) fn set_running(&self, running: bool) {
        self.state.running.store(running, Ordering::Release);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state.running.load(Ordering::Acquire)
    }

    /// Returns what is known about how far it is, and whether it is time to ask again. Only one of those who ask is told so.
    pub(crate) fn progress(&self, now: Duration) -> (Option<Progress>, bool) {
        let mut progress = self.state.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = now.saturating_sub(progress.0) >= PROGRESS_AGE;
        if is_old {
            progress.0 = now;
        }
        (progress.1, is_old)
    }

    /// Notes how far it is.
    pub(crate) fn set_progress(&self, known: Option<Progress>, now: Duration) {
        *self.state.progress.lock().unwrap_or_else(PoisonError::into_inner) = (now, known);
    }
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobCounts {
    pub(crate) unfinished: usize,
    pub(crate) finished: usize,
}

/// All jobs of this process.
#[derive(Debug)]
pub(crate) struct JobTable {
    limits: JobLimits,
    by_id: HashMap<Uuid, Job>,
    by_content: HashMap<(OperationKind, B256), Uuid>,
    /// In the order of finishing, which is also that of expiry.
    finished: VecDeque<Finished>,
    finished_bytes: usize,
}

#[derive(Debug)]
struct Finished {
    id: Uuid,
    expires_at: Duration,
    size_bytes: usize,
}

impl JobTable {
    /// Makes an empty table.
    pub(crate) fn new(limits: JobLimits) -> Self {
        Self {
            limits,
            by_id: HashMap::new(),
            by_content: HashMap::new(),
            finished: VecDeque::new(),
            finished_bytes: 0,
        }
    }

    /// Finds the job of an equal request that did not fail.
    pub(crate) fn known(&mut self, kind: OperationKind, digest: B256, now: Duration) -> Option<Job> {
        self.expire(now);
        self.by_content.get(&(kind, digest)).and_then(|id| self.by_id.get(id)).cloned()
    }

    /// Adds a job that someone now has to run and finish; one of the same id is returned as it is.
    pub(crate) fn add(&mut self, key: JobKey, now: Duration) -> Job {
        let content = (key.kind, key.digest);
        let job = self.by_id.entry(key.id).or_insert_with(|| Job::new(key, now)).clone();
        self.by_content.insert(content, job.id());
        job
    }

    /// Returns a job, if it exists and was submitted as this kind.
    pub(crate) fn find(&mut self, kind: OperationKind, id: Uuid, now: Duration) -> Option<Job> {
        self.expire(now);
        self.by_id.get(&id).filter(|job| job.key.kind == kind).cloned()
    }

    /// Records how a job ended and tells those who wait.
    pub(crate) fn finish(&mut self, job: &Job, result: Result<Answer, ServiceError>, now: Duration) -> Outcome {
        let size_bytes = match &result {
            Ok(answer) => answer.size_bytes(),
            Err(error) => error.message.len(),
        };
        if result.is_err() {
            self.forget_content(job);
        }
        let outcome = Arc::new(result);
        job.state.outcome.send_replace(Some(Arc::clone(&outcome)));
        self.finished.push_back(Finished {
            id: job.id(),
            expires_at: now.saturating_add(self.limits.retention),
            size_bytes,
        });
        self.finished_bytes = self.finished_bytes.saturating_add(size_bytes);
        self.expire(now);
        outcome
    }

    /// Counts the jobs.
    pub(crate) fn counts(&self) -> JobCounts {
        JobCounts {
            unfinished: self.by_id.len().saturating_sub(self.finished.len()),
            finished: self.finished.len(),
        }
    }

    /// Forgets finished jobs that are too old or too many.
    fn expire(&mut self, now: Duration) {
        while let Some(oldest) = self.finished.front() {
            let crowded = self.finished.len() > self.limits.max_finished || self.finished_bytes > self.limits.max_finished_bytes;
            if oldest.expires_at > now && !crowded {
                return;
            }
            let Some(Finished { id, size_bytes, .. }) = self.finished.pop_front() else {
                return;
            };
            self.finished_bytes = self.finished_bytes.saturating_sub(size_bytes);
            if let Some(job) = self.by_id.remove(&id) {
                self.forget_content(&job);
            }
        }
    }

    /// Lets the next equal request start a new job, unless one already did.
    fn forget_content(&mut self, job: &Job) {
        let content = (job.key.kind, job.key.digest);
        if self.by_content.get(&content) == Some(&job.id()) {
            self.by_content.remove(&content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Label;

    const KIND: OperationKind = OperationKind::PublicDecrypt;
    const START: Duration = Duration::ZERO;

    fn table() -> JobTable {
        JobTable::new(JobLimits {
            max_finished: 3,
            max_finished_bytes: 4000,
            retention: Duration::from_secs(10),
            ..JobLimits::default()
        })
    }

    fn digest(number: u8) -> B256 {
        B256::repeat_byte(number)
    }

    fn add(table: &mut JobTable, number: u8, now: Duration) -> Job {
        assert!(table.known(KIND, digest(number), now).is_none(), "{number} has a job");
        let key = JobKey {
            id: Uuid::new_v4(),
            kind: KIND,
            digest: digest(number),
            handles: Arc::default(),
            submitted_at_ms: 0,
        };
        table.add(key, now)
    }

    fn known(table: &mut JobTable, number: u8, now: Duration) -> Option<Uuid> {
        table.known(KIND, digest(number), now).map(|job| job.id())
    }

    fn answer(size: usize) -> Result<Answer, ServiceError> {
        let decrypted_result = vec![0; size].into();
        Ok(Answer::Public(PublicDecryptionAnswer {
            decrypted_result,
            signatures: vec![],
            extra_data: [0].into(),
        }))
    }

    fn failure() -> Result<Answer, ServiceError> {
        Err(ServiceError::new(Label::NotReadyForDecryption, "not yet"))
    }

    #[test]
    fn equal_requests_share_a_job_while_it_runs_and_after_success() {
        let mut table = table();
        let job = add(&mut table, 1, START);
        assert_eq!(known(&mut table, 1, START), Some(job.id()));
        table.finish(&job, answer(1), START);
        assert_eq!(known(&mut table, 1, START), Some(job.id()));
        assert_ne!(add(&mut table, 2, START).id(), job.id());
        assert!(table.known(OperationKind::UserDecrypt, digest(1), START).is_none());
    }

    #[test]
    fn a_failed_job_can_be_polled_and_does_not_block_the_next_attempt() {
        let mut table = table();
        let failed = add(&mut table, 1, START);
        table.finish(&failed, failure(), START);
        let second = add(&mut table, 1, START);
        assert_ne!(second.id(), failed.id());
        assert!(table.find(KIND, failed.id(), START).unwrap().outcome().unwrap().is_err());
        // The expiry of the failed job must not make the table forget its successor.
        table.finish(&second, answer(1), Duration::from_secs(5));
        assert!(table.find(KIND, failed.id(), Duration::from_secs(10)).is_none());
        assert_eq!(known(&mut table, 1, Duration::from_secs(10)), Some(second.id()));
    }

    #[test]
    fn jobs_are_found_only_under_their_own_operation() {
        let mut table = table();
        let job = add(&mut table, 1, START);
        assert!(table.find(KIND, job.id(), START).is_some());
        assert!(table.find(OperationKind::InputProof, job.id(), START).is_none());
        assert!(table.find(KIND, Uuid::nil(), START).is_none());
    }

    #[test]
    fn unfinished_jobs_never_expire_and_are_added_once() {
        let mut table = table();
        let first = add(&mut table, 1, START);
        let later = Duration::from_secs(1_000_000);
        assert!(table.find(KIND, first.id(), later).is_some());
        table.add(first.key.clone(), later);
        assert_eq!(table.counts().unfinished, 1);
    }

    #[test]
    fn one_of_those_who_ask_is_told_to_find_out_how_far_a_job_is() {
        let mut table = table();
        let job = add(&mut table, 1, START);
        assert_eq!(job.progress(START), (None, false), "it may be done before anybody asks");
        assert_eq!(
            (job.progress(PROGRESS_AGE), job.progress(PROGRESS_AGE)),
            ((None, true), (None, false))
        );
        let known = Progress {
            pending_handles: 1,
            pending_computations: Some(7),
        };
        job.set_progress(Some(known), PROGRESS_AGE);
        assert_eq!(job.progress(PROGRESS_AGE), (Some(known), false));
        assert_eq!(job.progress(PROGRESS_AGE * 2), (Some(known), true));
    }

    #[test]
    fn finished_jobs_expire_by_age_number_and_size() {
        let mut table = table();
        let job = add(&mut table, 1, START);
        table.finish(&job, answer(1), START);
        assert!(table.find(KIND, job.id(), Duration::from_millis(9_999)).is_some());
        assert!(table.find(KIND, job.id(), Duration::from_secs(10)).is_none());

        let ids = (1..=4).map(|number| {
            let job = add(&mut table, number, START);
            table.finish(&job, answer(1), START);
            job.id()
        });
        let ids = ids.collect::<Vec<_>>();
        assert_eq!(
            table.counts(),
            JobCounts {
                unfinished: 0,
                finished: 3
            }
        );
        assert!(table.find(KIND, ids[0], START).is_none());

        let big = add(&mut table, 9, START);
        table.finish(&big, answer(3800), START);
        assert_eq!(table.counts().finished, 1);
        assert!(table.find(KIND, big.id(), START).is_some());
        assert_eq!((table.by_id.len(), table.by_content.len()), (1, 1));
    }

    #[tokio::test]
    async fn waiters_are_told_even_if_they_come_late() {
        let mut table = table();
        let job = add(&mut table, 1, START);
        let early = tokio::spawn({
            let job = job.clone();
            async move { job.wait().await.is_some() }
        });
        tokio::task::yield_now().await;
        table.finish(&job, failure(), START);
        assert!(early.await.unwrap());
        assert!(job.wait().await.unwrap().is_err());
    }
}
