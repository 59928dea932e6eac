//! What a client does when the server or the network fails.

use std::sync::atomic::Ordering;

use cipherloom_client::{Client, ClientError, ErrorKind, FieldIssue, PublicDecryption};
use cipherloom_primitives::{FheType, Handle, U256};

use crate::server::{Behaviour, Stack};

async fn ask(client: &Client, handle: Handle) -> Result<PublicDecryption, ClientError> {
    client.public_decrypt(&[handle]).await
}

#[tokio::test]
async fn failures_that_pass_are_waited_out() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    for (label, status, times, submissions) in [
        // A poll that is turned away says nothing about the job.
        ("rate_limited", 429, 3, 1),
        // A job that failed is submitted again.
        ("gateway_not_reachable", 503, 3, 4),
        ("response_timed_out", 503, 1, 2),
        // More often than the retries: a ciphertext takes the time it takes.
        ("not_ready_for_decryption", 400, 10, 11),
        // A gateway that restarted.
        ("not_found", 404, 1, 2),
    ] {
        stack.behave(Behaviour::Fails { label, status, times });
        ask(&client, handle).await.unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(stack.submissions.load(Ordering::SeqCst), submissions, "{label}");
    }
}

#[tokio::test]
async fn failures_that_do_not_pass_are_reported_with_their_label_at_once() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    for (label, status) in [
        ("not_allowed_on_host_acl", 400),
        ("validation_failed", 400),
        ("internal_server_error", 500),
        ("protocol_paused", 503),
        ("a_label_of_the_future", 400),
    ] {
        stack.behave(Behaviour::Refuses { label, status });
        let error = ask(&client, handle).await.unwrap_err();
        assert_eq!(error.label(), Some(label));
        assert!(!error.is_retryable());
        assert_eq!(stack.submissions.load(Ordering::SeqCst), 1, "{label}");
        let ClientError::Server {
            status: found,
            details,
            message,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((found, message), (status, format!("because {label}")));
        let issue = FieldIssue {
            field: "handles".into(),
            issue: "is wrong".into(),
        };
        assert_eq!(details, [issue]);
    }
}

#[tokio::test]
async fn repeating_ends() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    stack.behave(Behaviour::Refuses {
        label: "protocol_overload",
        status: 429,
    });
    assert_eq!(ask(&client, handle).await.unwrap_err().label(), Some("protocol_overload"));
    assert_eq!(stack.submissions.load(Ordering::SeqCst), 4, "once and three retries");
    for behaviour in [Behaviour::NeverEnds, Behaviour::Hangs] {
        stack.behave(behaviour);
        let error = ask(&client, handle).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Timeout { .. } | ClientError::Transport { .. }),
            "{behaviour:?}: {error}"
        );
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    for text in ["", "nonsense", "[]", "{}", "{\"result\":{}}", "{\"result\":{\"jobId\":7}}"] {
        stack.behave(Behaviour::Garbage(text));
        assert!(matches!(ask(&client, handle).await, Err(ClientError::Malformed { .. })), "{text:?}");
    }
    stack.behave(Behaviour::StrangeJobId);
    assert!(matches!(ask(&client, handle).await, Err(ClientError::Malformed { .. })));
    stack.behave(Behaviour::Endless);
    assert!(matches!(ask(&client, handle).await, Err(ClientError::TooLarge { .. })));
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_a_transport_error() {
    let (stack, _) = Stack::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let url = stack.url.lock().unwrap().clone();
    let config = stack.client().await.unwrap().config().clone();
    let client = Client::connect(&nobody, &format!("{url}/rpc"), config).await.unwrap();
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    let error = ask(&client, handle).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn servers_are_left_alone_as_long_as_they_ask_unless_it_is_too_long() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    stack.behave(Behaviour::Fails {
        label: "gateway_not_reachable",
        status: 503,
        times: 1,
    });
    *stack.retry_after.lock().unwrap() = Some(1);
    let start = std::time::Instant::now();
    ask(&client, handle).await.unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_secs(1));

    stack.behave(Behaviour::Refuses {
        label: "rate_limited",
        status: 429,
    });
    *stack.retry_after.lock().unwrap() = Some(3600);
    let error = ask(&client, handle).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(std::time::Duration::from_secs(3600)));
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(stack.submissions.load(Ordering::SeqCst), 1, "not repeated");
}

#[tokio::test]
async fn answers_that_break_off_or_drip_are_network_errors() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    for behaviour in [Behaviour::BreaksOff, Behaviour::Drips] {
        stack.behave(behaviour);
        let error = ask(&client, handle).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{behaviour:?}: {error}");
    }
}

#[tokio::test]
async fn dropping_the_future_ends_the_operation() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    stack.behave(Behaviour::NeverEnds);
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(200), ask(&client, handle)).await;
    assert!(dropped.is_err());
    // The client is as good as new.
    stack.behave(Behaviour::Honest);
    ask(&client, handle).await.unwrap();
}
