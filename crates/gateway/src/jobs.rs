//! The table of jobs: which requests are waiting, running or answered.
//!
//! A state machine without tasks and clocks: callers bring the time. It is bounded in every direction: jobs that are not finished
//! by number, finished ones by number, bytes and age. A request equal to one that is waiting, running or was answered shares its job;
//! a failed job is kept for those who poll it, but the next equal request starts anew.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::{B256, Bytes};
use cipherloom_primitives::decryption::{PublicDecryptionAnswer, UserDecryptionShare};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    config::JobLimits,
    requests::OperationKind,
    services::{AdmittedInput, ServiceError},
};

/// What a service answered.
#[derive(Debug)]
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

/// A job as its pollers and waiters see it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: Uuid,
    kind: OperationKind,
    digest: B256,
    outcome: Arc<watch::Sender<Option<Outcome>>>,
}

impl Job {
    /// Returns how the job ended, if it did.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }

    /// Waits until the job ends.
    pub(crate) async fn wait(&self) -> Option<Outcome> {
        let mut receiver = self.outcome.subscribe();
        receiver.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }
}

/// What became of a submission.
#[derive(Debug)]
pub(crate) enum Submission {
    /// A job that someone now has to run and finish.
    New(Job),
    /// The job of an equal request.
    Known(Job),
    /// There are too many jobs.
    Full,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobCounts {
    pub(crate) unfinished: usize,
    pub(crate) finished: usize,
}

/// All jobs.
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

    /// Finds the job of an equal request or makes one.
    pub(crate) fn submit(&mut self, kind: OperationKind, digest: B256, now: Duration) -> Submission {
        self.expire(now);
        if let Some(job) = self.by_content.get(&(kind, digest)).and_then(|id| self.by_id.get(id)) {
            return Submission::Known(job.clone());
        }
        if self.counts().unfinished >= self.limits.max_unfinished {
            return Submission::Full;
        }
        let job = Job {
            id: Uuid::new_v4(),
            kind,
            digest,
            outcome: Arc::new(watch::Sender::new(None)),
        };
        self.by_id.insert(job.id, job.clone());
        self.by_content.insert((kind, digest), job.id);
        Submission::New(job)
    }

    /// Returns a job, if it exists and was submitted as this kind.
    pub(crate) fn find(&mut self, kind: OperationKind, id: Uuid, now: Duration) -> Option<Job> {
        self.expire(now);
        self.by_id.get(&id).filter(|job| job.kind == kind).cloned()
    }

    /// Records how a job ended and tells those who wait.
    pub(crate) fn finish(&mut self, job: &Job, result: Result<Answer, ServiceError>, now: Duration) {
        let size_bytes = match &result {
            Ok(answer) => answer.size_bytes(),
            Err(error) => error.message.len(),
        };
        if result.is_err() {
            self.forget_content(job);
        }
        job.outcome.send_replace(Some(Arc::new(result)));
        self.finished.push_back(Finished {
            id: job.id,
            expires_at: now.saturating_add(self.limits.retention),
            size_bytes,
        });
        self.finished_bytes = self.finished_bytes.saturating_add(size_bytes);
        self.expire(now);
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
        let key = (job.kind, job.digest);
        if self.by_content.get(&key) == Some(&job.id) {
            self.by_content.remove(&key);
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
            max_unfinished: 2,
            max_finished: 3,
            max_finished_bytes: 4000,
            retention: Duration::from_secs(10),
            ..JobLimits::default()
        })
    }

    fn digest(number: u8) -> B256 {
        B256::repeat_byte(number)
    }

    fn submit(table: &mut JobTable, number: u8, now: Duration) -> Job {
        match table.submit(KIND, digest(number), now) {
            Submission::New(job) => job,
            other => panic!("expected a new job, got {other:?}"),
        }
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
        let job = submit(&mut table, 1, START);
        assert!(matches!(table.submit(KIND, digest(1), START), Submission::Known(same) if same.id == job.id));
        table.finish(&job, answer(1), START);
        assert!(matches!(table.submit(KIND, digest(1), START), Submission::Known(same) if same.id == job.id));
        assert_ne!(submit(&mut table, 2, START).id, job.id);
        assert!(matches!(
            table.submit(OperationKind::UserDecrypt, digest(1), START),
            Submission::New(_)
        ));
    }

    #[test]
    fn a_failed_job_can_be_polled_and_does_not_block_the_next_attempt() {
        let mut table = table();
        let failed = submit(&mut table, 1, START);
        table.finish(&failed, failure(), START);
        let second = submit(&mut table, 1, START);
        assert_ne!(second.id, failed.id);
        assert!(table.find(KIND, failed.id, START).unwrap().outcome().unwrap().is_err());
        // The expiry of the failed job must not make the table forget its successor.
        table.finish(&second, answer(1), Duration::from_secs(5));
        assert!(table.find(KIND, failed.id, Duration::from_secs(10)).is_none());
        assert!(matches!(table.submit(KIND, digest(1), Duration::from_secs(10)), Submission::Known(same) if same.id == second.id));
    }

    #[test]
    fn jobs_are_found_only_under_their_own_operation() {
        let mut table = table();
        let job = submit(&mut table, 1, START);
        assert!(table.find(KIND, job.id, START).is_some());
        assert!(table.find(OperationKind::InputProof, job.id, START).is_none());
        assert!(table.find(KIND, Uuid::nil(), START).is_none());
    }

    #[test]
    fn unfinished_jobs_are_bounded_and_never_expire() {
        let mut table = table();
        let first = submit(&mut table, 1, START);
        submit(&mut table, 2, START);
        let later = Duration::from_secs(1_000_000);
        assert!(matches!(table.submit(KIND, digest(3), later), Submission::Full));
        assert!(table.find(KIND, first.id, later).is_some());
        table.finish(&first, answer(1), later);
        submit(&mut table, 3, later);
    }

    #[test]
    fn finished_jobs_expire_by_age_number_and_size() {
        let mut table = table();
        let job = submit(&mut table, 1, START);
        table.finish(&job, answer(1), START);
        assert!(table.find(KIND, job.id, Duration::from_millis(9_999)).is_some());
        assert!(table.find(KIND, job.id, Duration::from_secs(10)).is_none());

        let ids = (1..=4).map(|number| {
            let job = submit(&mut table, number, START);
            table.finish(&job, answer(1), START);
            job.id
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

        let big = submit(&mut table, 9, START);
        table.finish(&big, answer(3800), START);
        assert_eq!(table.counts().finished, 1);
        assert!(table.find(KIND, big.id, START).is_some());
        assert_eq!((table.by_id.len(), table.by_content.len()), (1, 1));
    }

    #[tokio::test]
    async fn waiters_are_told_even_if_they_come_late() {
        let mut table = table();
        let job = submit(&mut table, 1, START);
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
