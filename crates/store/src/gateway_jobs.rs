//! Jobs of gateways: what clients asked for, until some time after it was answered.
//!
//! Gateways that serve the same clients share their jobs under the name of a *deployment*: any of them answers for all. A job is recorded
//! before its client is told that it was accepted, under a lease of the gateway that runs it; when that gateway is gone the lease runs out,
//! and another one takes the job up.
//!
//! **Two promises every implementation keeps**, and the behaviour suite checks:
//!
//! * Of equal requests, by operation and digest, at most one has a job that has not failed, however many gateways submit them at the same
//!   time.
//! * A job ends once. The first answer stays: every gateway's answer is as good. An error stays only if it comes from whoever has the
//!   lease, so
//!   that a gateway that was cut off cannot spoil what another one is about to answer.
//!
//! A request is kept until its job ends, and its answer until it expires. Neither holds a secret, but they tell who asked for what.

use std::fmt;

use cipherloom_primitives::B256;

use crate::StoreFuture;

/// The number of a job: random, and known to its clients alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub [u8; 16]);

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who runs a job, and until when nobody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLease<'a> {
    /// The process, by a name that no other one has.
    pub owner: &'a str,
    /// The time now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// When the lease ends unless it is renewed.
    pub until_ms: u64,
}

/// A job to record.
#[derive(Clone, Copy, Debug)]
pub struct NewJob<'a> {
    /// Its number.
    pub id: JobId,
    /// What is asked for.
    pub operation: &'a str,
    /// A digest that only equal requests for the same operation share.
    pub digest: B256,
    /// What whoever takes the job up needs.
    pub request: &'a [u8],
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmittedJob {
    /// It is recorded, and whoever submitted it has its lease.
    New,
    /// An equal request has this job.
    Known(JobId),
}

/// A job that was taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedJob {
    /// Its number.
    pub id: JobId,
    /// What is asked for.
    pub operation: String,
    /// The digest of the request.
    pub digest: B256,
    /// The request.
    pub request: Vec<u8>,
    /// How often it was begun, this time included.
    pub attempts: u32,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
}

/// How a job ended.
#[derive(Clone, Copy, Debug)]
pub enum JobEnd<'a> {
    /// With an answer.
    Succeeded(&'a [u8]),
    /// With an error.
    Failed(&'a [u8]),
}

/// A job as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// What is asked for.
    pub operation: String,
    /// The digest of the request.
    pub digest: B256,
    /// Where it stands.
    pub state: JobState,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Nobody runs it now.
    Waiting,
    /// Somebody runs it, or did and is gone.
    Running,
    /// It has an answer.
    Succeeded(Vec<u8>),
    /// It has an error.
    Failed(Vec<u8>),
}

/// Which ended jobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobRetention {
    /// Those that ended after this time, in milliseconds since the Unix epoch,
    pub ended_after_ms: u64,
    /// and of them the newest, up to this many,
    pub most: u64,
    /// and as long as their answers together have no more bytes than this.
    pub most_bytes: u64,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTotals {
    /// Those that have not ended.
    pub unfinished: u64,
    /// Those that have.
    pub finished: u64,
}

/// The jobs of a deployment's gateways.
///
/// Every method is one atomic step, and fails with [`crate::StoreError::Database`] if the database does.
pub trait GatewayJobs: Send + Sync + 'static {
    /// Records a job under a lease, unless an equal request has one that has not failed.
    fn submit<'a>(&'a self, job: &'a NewJob<'a>, lease: JobLease<'a>) -> StoreFuture<'a, SubmittedJob>;

    /// Takes up jobs that have not ended and that nobody has a lease on, at most so many, those without a lease for the longest time first.
    fn claim<'a>(&'a self, lease: JobLease<'a>, limit: u32) -> StoreFuture<'a, Vec<ClaimedJob>>;

    /// Renews leases that this owner still has. The others are somebody else's now, which does no harm.
    fn renew<'a>(&'a self, jobs: &'a [JobId], lease: JobLease<'a>) -> StoreFuture<'a, ()>;

    /// Gives leases that this owner still has back, as an orderly shutdown does. The attempts are not counted.
    fn release<'a>(&'a self, jobs: &'a [JobId], owner: &'a str) -> StoreFuture<'a, ()>;

    /// Records how a job ended, and says whether that stays: not if it has ended already or is gone, and an error only from the owner of
    /// the lease.
    fn finish<'a>(&'a self, job: JobId, owner: &'a str, end: JobEnd<'a>, now_ms: u64) -> StoreFuture<'a, bool>;

    /// Finds a job.
    fn find(&self, job: JobId) -> StoreFuture<'_, Option<JobRecord>>;

    /// Forgets ended jobs that are not to be kept, and says how many.
    fn expire(&self, kept: JobRetention) -> StoreFuture<'_, u64>;

    /// Counts the jobs.
    fn totals(&self) -> StoreFuture<'_, JobTotals>;

    /// Forgets all jobs.
    fn clear(&self) -> StoreFuture<'_, ()>;
}
