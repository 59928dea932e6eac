//! API keys, limits of clients, and addresses behind proxies.

use std::{collections::BTreeSet, time::Duration};

use cipherloom_gateway::{ApiKey, ClientConfig, Config, MoreMetrics, Operation, RateLimit};
use serde_json::Value;

use crate::{
    client::Response,
    services::{Backend, Stack, handle, public_body, valid_bodies},
};

const DAPP: [u8; 32] = [1; 32];
const READER: [u8; 32] = [2; 32];

fn key(bytes: [u8; 32]) -> String {
    ApiKey::from_random(&bytes).expose().to_owned()
}

fn client(name: &str, bytes: [u8; 32]) -> ClientConfig {
    ClientConfig {
        name: name.to_owned(),
        key: ApiKey::from_random(&bytes).digest(),
        rate_limit: None,
        operations: None,
    }
}

async fn start(configure: impl FnOnce(&mut Config)) -> Stack {
    let backend = Backend::new();
    (1..=9).for_each(|number| backend.publish(handle(number), 1));
    Stack::start_with(backend, configure).await
}

async fn post(stack: &Stack, body: &Value, headers: &[(&str, &str)]) -> Response {
    let mut client = stack.client().await;
    client
        .send("POST", "/v2/public-decrypt", headers, body.to_string().as_bytes())
        .await
}

#[tokio::test]
async fn a_gateway_that_requires_keys_serves_jobs_to_those_who_have_one() {
    let stack = start(|config| {
        config.clients = vec![client("dapp", DAPP)];
        config.require_api_key = true;
    })
    .await;
    let body = public_body(&[handle(1)]);
    for headers in [&[][..], &[("x-api-key", "clk_wrong")], &[("cookie", key(DAPP).as_str())]] {
        let refused = post(&stack, &body, headers).await;
        // SDKs look at the status alone, and tell the page that its key is missing or invalid.
        assert_eq!((refused.status, refused.label().as_str()), (401, "unauthorized"));
    }
    let bearer = format!("Bearer {}", key(DAPP));
    for headers in [("x-api-key", key(DAPP)), ("authorization", bearer)] {
        let accepted = post(&stack, &body, &[(headers.0, &headers.1)]).await;
        assert_eq!(accepted.status, 202);
        let path = format!("/v2/public-decrypt/{}", accepted.json()["result"]["jobId"].as_str().unwrap());
        let mut polling = stack.client().await;
        assert_eq!(polling.get(&path).await.status, 401);
        let polled = polling.send("GET", &path, &[(headers.0, &headers.1)], b"").await;
        assert!([200, 202].contains(&polled.status), "{}", polled.status);
    }
    for version_1 in ["input-proof", "public-decrypt", "user-decrypt"] {
        assert_eq!(stack.client().await.post(&format!("/v1/{version_1}"), &body).await.status, 401);
    }
    // What tells nothing about anybody is open.
    for open in [
        "/v2/keyurl",
        "/v1/keyurl",
        "/v2/keys/public-key/key-1",
        "/liveness",
        "/version",
        "/openapi.json",
    ] {
        assert_eq!(stack.client().await.get(open).await.status, 200, "{open}");
    }
    let series = |client: &str, result: &str| {
        format!("cipherloom_gateway_client_requests_total{{client=\"{client}\",operation=\"public-decrypt\",result=\"{result}\"}}")
    };
    assert_eq!(stack.metric(&series("dapp", "admitted")).await, 2);
    assert_eq!(stack.metric(&series("", "unauthorized")).await, 4);
}

#[tokio::test]
async fn keys_are_ignored_while_nobody_has_one() {
    let stack = start(|_| ()).await;
    let accepted = post(&stack, &public_body(&[handle(1)]), &[("x-api-key", "for another gateway")]).await;
    assert_eq!(accepted.status, 202);
}

#[tokio::test]
async fn a_key_is_for_its_operations_alone() {
    let stack = start(|config| {
        let only = |operations: &[Operation]| Some(operations.iter().copied().collect::<BTreeSet<_>>());
        config.clients = vec![
            ClientConfig {
                operations: only(&[Operation::PublicDecrypt]),
                ..client("dapp", DAPP)
            },
            ClientConfig {
                operations: only(&[]),
                ..client("reader", READER)
            },
        ];
    })
    .await;
    for (operation, body) in valid_bodies() {
        let send = async |key: &str| {
            let body = body.to_string();
            let headers = [("x-api-key", key)];
            let mut client = stack.client().await;
            client
                .send("POST", &format!("/v2/{operation}"), &headers, body.as_bytes())
                .await
                .status
        };
        let allowed = if operation == "public-decrypt" { 202 } else { 401 };
        assert_eq!(send(&key(DAPP)).await, allowed, "{operation}");
        assert_eq!(send(&key(READER)).await, 401, "{operation}");
    }
    let job = post(&stack, &public_body(&[handle(2)]), &[("x-api-key", &key(DAPP))]).await.json()["result"]["jobId"].clone();
    let path = format!("/v2/public-decrypt/{}", job.as_str().unwrap());
    let read = stack.client().await.send("GET", &path, &[("x-api-key", &key(READER))], b"").await;
    assert!([200, 202].contains(&read.status));
}

#[tokio::test]
async fn limits_count_by_key_and_else_by_address() {
    let once = |burst| RateLimit { burst, per_second: 1 };
    let stack = start(|config| {
        config.rate_limit = Some(once(1));
        config.clients = vec![
            ClientConfig {
                rate_limit: Some(once(3)),
                ..client("dapp", DAPP)
            },
            client("reader", READER),
        ];
    })
    .await;
    let admitted = async |key: Option<String>| {
        let mut admitted = 0;
        for _ in 0..5 {
            let headers = key.as_deref().map(|key| ("x-api-key", key));
            let response = post(&stack, &public_body(&[handle(1)]), headers.as_slice()).await;
            match response.status {
                202 => admitted += 1,
                429 => assert_eq!(
                    (response.label().as_str(), response.header("retry-after")),
                    ("rate_limited", Some("1"))
                ),
                other => panic!("{other}"),
            }
        }
        admitted
    };
    assert_eq!(admitted(Some(key(DAPP))).await, 3);
    assert_eq!(admitted(Some(key(READER))).await, 1);
    assert_eq!(admitted(None).await, 1);
    // Trying keys costs as much as anything else from there.
    let guess = post(&stack, &public_body(&[handle(1)]), &[("x-api-key", "clk_guess")]).await;
    assert_eq!(guess.status, 429);
    stack.clock.advance(Duration::from_secs(1));
    let guess = post(&stack, &public_body(&[handle(1)]), &[("x-api-key", "clk_guess")]).await;
    assert_eq!(guess.status, 401);
    assert_eq!(admitted(None).await, 0);
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_have_limits_of_their_own() {
    let limit = Some(RateLimit { burst: 1, per_second: 1 });
    let trusting = start(|config| {
        config.rate_limit = limit;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let body = public_body(&[handle(1)]);
    for address in ["203.0.113.1", "203.0.113.2"] {
        let headers = [("x-forwarded-for", address)];
        assert_eq!(post(&trusting, &body, &headers).await.status, 202);
        assert_eq!(post(&trusting, &body, &headers).await.status, 429);
        // What a client writes itself stands before what the proxy adds.
        let claimed = format!("198.51.100.7, {address}");
        assert_eq!(post(&trusting, &body, &[("x-forwarded-for", &claimed)]).await.status, 429);
    }
    let wary = start(|config| config.rate_limit = limit).await;
    assert_eq!(post(&wary, &body, &[("x-forwarded-for", "203.0.113.1")]).await.status, 202);
    assert_eq!(post(&wary, &body, &[("x-forwarded-for", "203.0.113.2")]).await.status, 429);
}

#[tokio::test]
async fn metrics_of_other_parts_follow_the_gateways_own() {
    let stack = start(|config| config.more_metrics = Some(MoreMetrics::new(|| "another_part_total 7\n".to_owned()))).await;
    assert_eq!(stack.metric("another_part_total").await, 7);
    let text = String::from_utf8(stack.client().await.get("/metrics").await.body).unwrap();
    assert!(
        text.starts_with("# HELP cipherloom_gateway_") && text.ends_with("another_part_total 7\n"),
        "{text}"
    );
}
