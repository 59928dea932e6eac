//! Jobs from outside: shared, bounded, forgotten, ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cipherloom_gateway::{ComputationProgress, Config, Label, Progress, ServiceError, Services, services::Decryption};
use cipherloom_primitives::{
    Handle,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
};
use futures_util::future::BoxFuture;

use crate::{
    client::Response,
    services::{Backend, Stack, handle, poison, public_body, user_body},
};

async fn submit(stack: &Stack, handles: &[Handle]) -> Response {
    stack.client().await.post("/v2/public-decrypt", &public_body(handles)).await
}

fn job(response: &Response) -> String {
    assert_eq!(response.status, 202, "{}", response.json());
    format!("/v2/public-decrypt/{}", response.json()["result"]["jobId"].as_str().unwrap())
}

#[tokio::test]
async fn equal_requests_share_one_job_across_versions() {
    let stack = Stack::start().await;
    let first = job(&submit(&stack, &[handle(1)]).await);
    assert_eq!(job(&submit(&stack, &[handle(1)]).await), first);
    assert_ne!(job(&submit(&stack, &[handle(1), handle(1)]).await), first);
    stack.backend.publish(handle(1), 5);
    assert_eq!(stack.poll(&first).await.status, 200);
    assert_eq!(job(&submit(&stack, &[handle(1)]).await), first);
    let body = public_body(&[handle(1)]);
    assert_eq!(stack.client().await.post("/v1/public-decrypt", &body).await.status, 200);
    assert_eq!(stack.backend.calls.load(Ordering::SeqCst), 2);
    assert_eq!(stack.metric("cipherloom_gateway_jobs_started_total").await, 2);
    assert_eq!(stack.metric("cipherloom_gateway_jobs_shared_total").await, 3);
}

#[tokio::test]
async fn finished_jobs_are_forgotten_after_their_time() {
    let stack = Stack::start().await;
    stack.backend.publish(handle(1), 5);
    let path = job(&submit(&stack, &[handle(1)]).await);
    assert_eq!(stack.poll(&path).await.status, 200);
    stack.clock.advance(Duration::from_secs(3599));
    assert_eq!(stack.poll(&path).await.status, 200);
    stack.clock.advance(Duration::from_secs(1));
    let response = stack.poll(&path).await;
    assert_eq!((response.status, response.label().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn no_more_jobs_run_than_allowed_and_inputs_have_their_own_slots() {
    let stack = Stack::start_with(Backend::new(), |config| config.jobs.max_running_decryptions = 2).await;
    let mut paths = Vec::new();
    for number in 1..=6 {
        paths.push(job(&submit(&stack, &[handle(number)]).await));
    }
    stack.backend.until_running(2).await;
    let input = stack.client().await.post("/v1/input-proof", &crate::services::input_body()).await;
    assert_eq!(input.status, 200);
    (1..=6).for_each(|number| stack.backend.publish(handle(number), 1));
    for path in paths {
        assert_eq!(stack.poll(&path).await.status, 200);
    }
    assert_eq!(stack.backend.most_running.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn too_many_waiting_jobs_are_an_overload_and_known_ones_are_not() {
    let stack = Stack::start_with(Backend::new(), |config| config.jobs.max_unfinished = 2).await;
    let first = job(&submit(&stack, &[handle(1)]).await);
    let second = job(&submit(&stack, &[handle(2)]).await);
    let refused = submit(&stack, &[handle(3)]).await;
    assert_eq!(
        (refused.status, refused.label().as_str(), refused.header("retry-after")),
        (429, "protocol_overload", Some("1"))
    );
    assert_eq!(job(&submit(&stack, &[handle(2)]).await), second);
    stack.backend.publish(handle(1), 1);
    assert_eq!(stack.poll(&first).await.status, 200);
    assert_eq!(submit(&stack, &[handle(3)]).await.status, 202);
}

#[tokio::test]
async fn bodies_of_waiting_jobs_count_until_the_jobs_end() {
    let stack = Stack::start_with(Backend::new(), |config| config.max_held_body_bytes = 250).await;
    let first = job(&submit(&stack, &[handle(1)]).await);
    let refused = submit(&stack, &[handle(2), handle(3)]).await;
    assert_eq!((refused.status, refused.label().as_str()), (429, "protocol_overload"));
    stack.backend.publish(handle(1), 1);
    assert_eq!(stack.poll(&first).await.status, 200);
    assert_eq!(submit(&stack, &[handle(2), handle(3)]).await.status, 202);
}

#[tokio::test]
async fn a_job_that_takes_too_long_times_out_and_is_dropped() {
    let stack = Stack::start_with(Backend::new(), |config| config.jobs.deadline = Duration::from_millis(20)).await;
    let path = job(&submit(&stack, &[handle(1)]).await);
    let response = stack.poll(&path).await;
    assert_eq!((response.status, response.label().as_str()), (503, "response_timed_out"));
    assert_eq!(stack.backend.dropped.load(Ordering::SeqCst), 1);
    // The next attempt is a new job and succeeds.
    stack.backend.publish(handle(1), 1);
    let again = job(&submit(&stack, &[handle(1)]).await);
    assert_ne!(again, path);
    assert_eq!(stack.poll(&again).await.status, 200);
}

#[tokio::test]
async fn a_service_that_refuses_is_quoted_and_can_be_asked_again() {
    let stack = Stack::start_with(Backend::refusing(), |_| ()).await;
    let path = job(&submit(&stack, &[handle(1)]).await);
    let response = stack.poll(&path).await;
    assert_eq!((response.status, response.label().as_str()), (400, "not_allowed_on_host_acl"));
    let mut forged = user_body();
    forged["signature"] = serde_json::json!("11".repeat(65));
    let response = stack.client().await.post("/v1/user-decrypt", &forged).await;
    assert_eq!((response.status, response.label().as_str()), (400, "request_error"));
    stack.backend.publish(handle(1), 1);
    let again = job(&submit(&stack, &[handle(1)]).await);
    assert_eq!(stack.poll(&again).await.status, 200);
}

#[tokio::test]
async fn a_panic_in_a_service_is_that_jobs_error_alone() {
    let stack = Stack::start().await;
    stack.backend.publish(poison(), 1);
    stack.backend.publish(handle(1), 1);
    let bad = job(&submit(&stack, &[poison()]).await);
    let good = job(&submit(&stack, &[handle(1)]).await);
    let response = stack.poll(&bad).await;
    assert_eq!((response.status, response.label().as_str()), (500, "internal_server_error"));
    assert_eq!(stack.poll(&good).await.status, 200);
    assert_eq!(stack.metric("cipherloom_gateway_panics_total").await, 1);
}

#[tokio::test]
async fn shutdown_ends_jobs_answers_those_who_wait_and_frees_the_port() {
    let stack = Stack::start().await;
    let address = stack.gateway.address();
    let mut waiting = stack.client().await;
    waiting
        .write("POST", "/v1/public-decrypt", &[], public_body(&[handle(1)]).to_string().as_bytes())
        .await
        .unwrap();
    stack.backend.until_running(1).await;
    let answer = tokio::spawn(async move { waiting.read("POST").await.unwrap() });
    let mut idle = crate::client::Client::connect(address).await;
    assert_eq!(idle.get("/liveness").await.status, 200);

    let dropped = std::sync::Arc::clone(&stack.backend.dropped);
    tokio::time::timeout(Duration::from_secs(4), stack.gateway.shutdown())
        .await
        .expect("the default grace is not needed");
    let answer = answer.await.unwrap();
    assert_eq!((answer.status, answer.label().as_str()), (503, "gateway_not_reachable"));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    idle.closed().await;
    tokio::net::TcpListener::bind(address).await.expect("the port is free again");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_client_that_does_not_finish_its_request() {
    let stack = Stack::start_with(Backend::new(), |config| config.shutdown_grace = Duration::from_millis(50)).await;
    let mut client = stack.client().await;
    let head = "POST /v2/public-decrypt HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(client.stream.get_mut(), head.as_bytes())
        .await
        .unwrap();
    while stack.metric("cipherloom_gateway_connections_total").await < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(3), stack.gateway.shutdown())
        .await
        .unwrap();
    client.closed().await;
}

/// Says that half of the handles are not computed, and counts how often it is asked.
struct HalfDone(AtomicUsize);

impl ComputationProgress for HalfDone {
    fn progress(&self, handles: Arc<[Handle]>) -> BoxFuture<'static, Option<Progress>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let pending_handles = u64::try_from(handles.len() / 2).unwrap();
        Box::pin(async move {
            Some(Progress {
                pending_handles,
                pending_computations: Some(17),
            })
        })
    }
}

#[tokio::test]
async fn a_long_job_tells_how_far_it_is_beside_what_sdks_read() {
    let source = Arc::new(HalfDone(AtomicUsize::new(0)));
    let equip = |services: &mut Services| services.progress = Some(Arc::clone(&source) as _);
    let stack = Stack::start_before(Arc::new(Backend::new()), equip, |config| config.jobs.max_running_decryptions = 1).await;
    let running = job(&submit(&stack, &[handle(1), handle(2)]).await);
    stack.backend.until_running(1).await;
    let waiting = job(&submit(&stack, &[handle(3)]).await);
    let mut client = stack.client().await;

    let early = client.get(&running).await;
    assert_eq!(early.json()["progress"]["phase"], "running");
    assert_eq!(source.0.load(Ordering::SeqCst), 0, "short jobs ask nobody");
    stack.clock.advance(Duration::from_secs(1));
    for _ in 0..10 {
        let polled = client.get(&running).await;
        // What SDKs demand of this answer: the status, these two fields, and a time to wait.
        assert_eq!((polled.status, polled.header("retry-after")), (202, Some("1")));
        let body = polled.json();
        assert_eq!(body["status"], "queued");
        assert!(body["requestId"].is_string());
        let progress = &body["progress"];
        assert_eq!((&progress["phase"], &progress["pendingHandles"]), (&"computing".into(), &1.into()));
        assert_eq!(progress["pendingComputations"], 17);
        assert!(progress["elapsedMs"].is_u64());
    }
    assert_eq!(source.0.load(Ordering::SeqCst), 1, "however often it is polled");
    assert_eq!(client.get(&waiting).await.json()["progress"]["phase"], "waiting");
    (1..=3).for_each(|number| stack.backend.publish(handle(number), 1));
    let done = stack.poll(&running).await;
    assert_eq!((done.status, done.json().get("progress")), (200, None));
    assert_eq!(stack.poll(&waiting).await.status, 200);
}

/// A service that cannot be reached for a while, like one that is being restarted.
struct Restarting {
    inner: Arc<dyn Decryption>,
    failures: AtomicUsize,
}

impl Decryption for Restarting {
    fn public_decrypt(&self, request: PublicDecryptionRequest) -> BoxFuture<'static, Result<PublicDecryptionAnswer, ServiceError>> {
        let is_down = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok();
        if is_down {
            return Box::pin(async { Err(ServiceError::new(Label::GatewayNotReachable, "down")) });
        }
        self.inner.public_decrypt(request)
    }

    fn user_decrypt(&self, request: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>> {
        self.inner.user_decrypt(request)
    }
}

#[tokio::test]
async fn a_service_that_is_being_restarted_is_not_the_end_of_a_job() {
    for (patience, expected) in [(Duration::from_secs(60), 200), (Duration::ZERO, 503)] {
        let equip = |services: &mut Services| {
            services.decryption = Arc::new(Restarting {
                inner: Arc::clone(&services.decryption),
                failures: AtomicUsize::new(3),
            });
        };
        let configure = |config: &mut Config| config.jobs.retry_unreachable = patience;
        let stack = Stack::start_before(Arc::new(Backend::new()), equip, configure).await;
        stack.backend.publish(handle(1), 1);
        let path = job(&submit(&stack, &[handle(1)]).await);
        assert_eq!(stack.poll(&path).await.status, expected);
    }
}
