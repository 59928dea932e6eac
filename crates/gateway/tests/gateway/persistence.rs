//! Jobs in a database: they outlive a gateway, and several gateways share them. Everything is checked on both databases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cipherloom_gateway::Services;
use cipherloom_primitives::Handle;
use cipherloom_private_postgres::shared;
use cipherloom_store::{
    ClaimedJob, Database, GatewayJobs, JobEnd, JobId, JobLease, JobRecord, JobRetention, JobTotals, NewJob, PostgresConfig,
    PostgresDatabase, SqliteStore, StoreError, StoreFuture, SubmittedJob,
};

use crate::{
    client::Response,
    services::{Backend, Stack, handle, public_body, user_body},
};

async fn sqlite() -> (Arc<dyn GatewayJobs>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("jobs.sqlite")).await.unwrap();
    (store.gateway_jobs("tests"), directory)
}

async fn postgresql() -> (Arc<dyn GatewayJobs>, ()) {
    let url = shared().create_database().unwrap();
    let database = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap();
    (Database::gateway_jobs(&database, "tests"), ())
}

macro_rules! on_both_databases {
    ($($behaviour:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let (jobs, _directory) = super::sqlite().await;
                    super::$behaviour(jobs).await;
                }
            )*
        }
        mod on_postgresql {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let (jobs, ()) = super::postgresql().await;
                    super::$behaviour(jobs).await;
                }
            )*
        }
    };
}

on_both_databases!(
    a_job_goes_on_after_a_restart,
    gateways_on_one_database_share_jobs,
    a_job_whose_gateway_is_gone_is_taken_up,
    an_error_is_kept_and_the_next_attempt_is_new,
    old_answers_are_forgotten,
    what_is_accepted_is_answered_although_the_database_fails,
    a_job_that_ends_its_gateway_again_and_again_is_given_up,
);

async fn start(backend: &Arc<Backend>, jobs: &Arc<dyn GatewayJobs>) -> Stack {
    start_with(backend, jobs, Duration::from_secs(10)).await
}

async fn start_with(backend: &Arc<Backend>, jobs: &Arc<dyn GatewayJobs>, lease: Duration) -> Stack {
    let equip = |services: &mut Services| services.jobs = Some(Arc::clone(jobs));
    Stack::start_before(Arc::clone(backend), equip, |config| config.jobs.lease = lease).await
}

async fn submit(stack: &Stack, handles: &[Handle]) -> Response {
    stack.client().await.post("/v2/public-decrypt", &public_body(handles)).await
}

fn job(response: &Response) -> String {
    assert_eq!(response.status, 202, "{}", response.json());
    format!("/v2/public-decrypt/{}", response.json()["result"]["jobId"].as_str().unwrap())
}

async fn a_job_goes_on_after_a_restart(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::new());
    let first = start(&backend, &jobs).await;
    let path = job(&submit(&first, &[handle(1)]).await);
    backend.until_running(1).await;
    first.gateway.shutdown().await;
    assert_eq!(backend.dropped.load(Ordering::SeqCst), 1);

    let second = start(&backend, &jobs).await;
    assert_eq!(second.client().await.get(&path).await.status, 202);
    // The same request has the same job, which is running again.
    assert_eq!(job(&submit(&second, &[handle(1)]).await), path);
    backend.publish(handle(1), 5);
    let answer = second.poll(&path).await;
    assert_eq!(answer.status, 200);
    second.gateway.shutdown().await;

    let third = start(&backend, &jobs).await;
    let kept = third.client().await.get(&path).await;
    assert_eq!((kept.status, &kept.json()["result"]), (200, &answer.json()["result"]));
    assert_eq!(job(&submit(&third, &[handle(1)]).await), path);
    assert_eq!(
        backend.calls.load(Ordering::SeqCst),
        2,
        "one call before the restart and one after it"
    );
    let other_operation = path.replace("public-decrypt", "user-decrypt");
    assert_eq!(third.client().await.get(&other_operation).await.status, 404);
}

async fn gateways_on_one_database_share_jobs(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::new());
    let (one, two) = (start(&backend, &jobs).await, start(&backend, &jobs).await);
    let path = job(&submit(&one, &[handle(1)]).await);
    assert_eq!(job(&submit(&two, &[handle(1)]).await), path);
    let waiting = two.client().await.get(&path).await;
    assert_eq!((waiting.status, &waiting.json()["progress"]["phase"]), (202, &"running".into()));
    let synchronous = tokio::spawn({
        let mut client = two.client().await;
        async move { client.post("/v1/public-decrypt", &public_body(&[handle(1)])).await }
    });
    backend.publish(handle(1), 5);
    let (here, there) = (one.poll(&path).await, two.poll(&path).await);
    assert_eq!((here.status, there.status), (200, 200));
    assert_eq!(here.json()["result"], there.json()["result"]);
    assert_eq!(synchronous.await.unwrap().status, 200);
    assert_eq!(backend.calls.load(Ordering::SeqCst), 1);
    assert_eq!(two.metric("cipherloom_gateway_jobs_started_total").await, 0);
}

async fn a_job_whose_gateway_is_gone_is_taken_up(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::new());
    let lease = Duration::from_millis(300);
    // A gateway whose every word to the database after the first is lost, as if its process had been stopped.
    let cut_off = Arc::new(Faulty::new(Arc::clone(&jobs)));
    let first = start_with(&backend, &(Arc::clone(&cut_off) as Arc<dyn GatewayJobs>), lease).await;
    let path = job(&submit(&first, &[handle(1)]).await);
    cut_off.set_failing(true);
    let second = start_with(&backend, &jobs, lease).await;
    // Both run it now; the answer of either is as good.
    backend.until_running(2).await;
    backend.publish(handle(1), 5);
    assert_eq!(second.poll(&path).await.status, 200);
    assert_eq!(second.metric("cipherloom_gateway_jobs_taken_up_total").await, 1);
    assert_eq!(
        first.client().await.get(&path).await.status,
        200,
        "those who wait there are told there"
    );
}

async fn an_error_is_kept_and_the_next_attempt_is_new(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::refusing());
    let (one, two) = (start(&backend, &jobs).await, start(&backend, &jobs).await);
    let path = job(&submit(&one, &[handle(1)]).await);
    for stack in [&one, &two] {
        let refused = stack.poll(&path).await;
        assert_eq!((refused.status, refused.label().as_str()), (400, "not_allowed_on_host_acl"));
    }
    let forged = {
        let mut body = user_body();
        body["signature"] = serde_json::json!("11".repeat(65));
        two.client().await.post("/v1/user-decrypt", &body).await
    };
    assert_eq!((forged.status, forged.label().as_str()), (400, "request_error"));
    backend.publish(handle(1), 5);
    let again = job(&submit(&two, &[handle(1)]).await);
    assert_ne!(again, path);
    assert_eq!(one.poll(&again).await.status, 200);
    assert_eq!(two.client().await.post("/v1/user-decrypt", &user_body()).await.status, 200);
}

async fn old_answers_are_forgotten(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::new());
    backend.publish(handle(1), 5);
    let equip = |services: &mut Services| services.jobs = Some(Arc::clone(&jobs));
    let retention = Duration::from_millis(200);
    let stack = Stack::start_before(Arc::clone(&backend), equip, |config| config.jobs.retention = retention).await;
    let path = job(&submit(&stack, &[handle(1)]).await);
    assert_eq!(stack.poll(&path).await.status, 200);
    stack.clock.advance(retention);
    while stack.client().await.get(&path).await.status != 404 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(job(&submit(&stack, &[handle(1)]).await), path);
}

async fn what_is_accepted_is_answered_although_the_database_fails(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::new());
    let faulty = Arc::new(Faulty::new(Arc::clone(&jobs)));
    let stack = start(&backend, &(Arc::clone(&faulty) as Arc<dyn GatewayJobs>)).await;
    let path = job(&submit(&stack, &[handle(1)]).await);
    faulty.set_failing(true);
    let refused = submit(&stack, &[handle(2)]).await;
    assert_eq!((refused.status, refused.label().as_str()), (503, "gateway_not_reachable"));
    let unknown = "/v2/public-decrypt/00000000-0000-4000-8000-000000000000";
    assert_eq!(
        stack.client().await.get(unknown).await.status,
        202,
        "nobody can say that it is not there"
    );
    backend.publish(handle(1), 5);
    assert_eq!(stack.poll(&path).await.status, 200, "the answer does not wait for the database");
    assert!(stack.metric("cipherloom_gateway_job_database_errors_total").await >= 2);
    faulty.set_failing(false);
    // What could not be recorded is, as soon as it can.
    while jobs.totals().await.unwrap().finished == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stack.client().await.get(unknown).await.status, 404);
    let other = start(&backend, &jobs).await;
    assert_eq!(other.client().await.get(&path).await.status, 200);
}

async fn a_job_that_ends_its_gateway_again_and_again_is_given_up(jobs: Arc<dyn GatewayJobs>) {
    let backend = Arc::new(Backend::new());
    let first = start(&backend, &jobs).await;
    let path = job(&submit(&first, &[handle(1)]).await);
    first.gateway.shutdown().await;
    // Processes that begin it and are gone.
    for attempt in 0..5 {
        let gone = JobLease {
            owner: &format!("gone {attempt}"),
            now_ms: attempt,
            until_ms: attempt,
        };
        assert_eq!(jobs.claim(gone, 1).await.unwrap().len(), 1);
    }
    let last = start(&backend, &jobs).await;
    let given_up = last.poll(&path).await;
    assert_eq!((given_up.status, given_up.label().as_str()), (500, "internal_server_error"));
    // Whoever asks again gets another chance.
    backend.publish(handle(1), 5);
    let again = job(&submit(&last, &[handle(1)]).await);
    assert_eq!(last.poll(&again).await.status, 200);
}

/// A database that fails when a test wants it to.
struct Faulty {
    inner: Arc<dyn GatewayJobs>,
    failing: AtomicBool,
}

impl Faulty {
    fn new(inner: Arc<dyn GatewayJobs>) -> Self {
        Self {
            inner,
            failing: AtomicBool::new(false),
        }
    }

    fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn unless_failing<'a, T: Send + 'a>(&'a self, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            if self.failing.load(Ordering::SeqCst) {
                return Err(StoreError::UnknownTenant("this error is made".to_owned()));
            }
            call.await
        })
    }
}

impl GatewayJobs for Faulty {
    fn submit<'a>(&'a self, job: &'a NewJob<'a>, lease: JobLease<'a>) -> StoreFuture<'a, SubmittedJob> {
        self.unless_failing(self.inner.submit(job, lease))
    }

    fn claim<'a>(&'a self, lease: JobLease<'a>, limit: u32) -> StoreFuture<'a, Vec<ClaimedJob>> {
        self.unless_failing(self.inner.claim(lease, limit))
    }

    fn renew<'a>(&'a self, jobs: &'a [JobId], lease: JobLease<'a>) -> StoreFuture<'a, ()> {
        self.unless_failing(self.inner.renew(jobs, lease))
    }

    fn release<'a>(&'a self, jobs: &'a [JobId], owner: &'a str) -> StoreFuture<'a, ()> {
        self.unless_failing(self.inner.release(jobs, owner))
    }

    fn finish<'a>(&'a self, job: JobId, owner: &'a str, end: JobEnd<'a>, now_ms: u64) -> StoreFuture<'a, bool> {
        self.unless_failing(self.inner.finish(job, owner, end, now_ms))
    }

    fn find(&self, job: JobId) -> StoreFuture<'_, Option<JobRecord>> {
        self.unless_failing(self.inner.find(job))
    }

    fn expire(&self, kept: JobRetention) -> StoreFuture<'_, u64> {
        self.unless_failing(self.inner.expire(kept))
    }

    fn totals(&self) -> StoreFuture<'_, JobTotals> {
        self.unless_failing(self.inner.totals())
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        self.unless_failing(self.inner.clear())
    }
}
