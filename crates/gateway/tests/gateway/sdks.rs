//! Requests as published SDKs sent them, and the shapes of answers that those SDKs accepted (`sdk-exchanges.json`).
//!
//! Keys and signatures were made for the recording. Long byte strings are shortened there and filled up here; signatures over them
//! are made anew.

use alloy::primitives::{Bytes, hex};
use cipherloom_primitives::{Handle, decryption::PublicDecryptionRequest, eip712::recover_signer};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::{ORIGIN, Response},
    services::{Stack, domains, handle, public_body, signed, user_body},
};

const RECORDED: &str = include_str!("sdk-exchanges.json");

#[derive(Deserialize)]
struct Session {
    sdk: String,
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exchange {
    method: String,
    path: String,
    headers: serde_json::Map<String, Value>,
    body: Option<Value>,
    status: u16,
    retry_after: Option<String>,
    answer: Option<Value>,
}

#[tokio::test]
async fn recorded_sdk_sessions_get_answers_of_the_shapes_they_accepted() {
    let sessions: Vec<Session> = serde_json::from_str(RECORDED).unwrap();
    assert_eq!(sessions.len(), 4);
    for session in sessions {
        let stack = Stack::start().await;
        let mut client = stack.client().await;
        let mut job = String::new();
        for exchange in session.exchanges {
            let Exchange {
                method,
                path,
                headers,
                body,
                status,
                retry_after,
                answer,
            } = exchange;
            let context = format!("{}: {method} {path}", session.sdk);
            let headers = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect::<Vec<_>>();
            let body = body.map(restored);
            if method == "POST" {
                publish(&stack, body.as_ref().unwrap());
            }
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            let path = path
                .rsplit_once("/job-")
                .map_or(path.clone(), |(route, _)| format!("{route}/{job}"));
            let response = match (method.as_str(), status) {
                // Whether a job is still running when it is polled is chance; jobs.rs holds one there.
                ("GET", 202) => continue,
                ("GET", 200) if path.contains(&job) && !job.is_empty() => stack.poll(&path).await,
                _ => client.send(&method, &path, &headers, body.as_bytes()).await,
            };
            if method == "OPTIONS" {
                assert_preflight(&response, &headers, &context);
                continue;
            }
            assert_eq!(response.status, status, "{context}: {}", response.json());
            assert_eq!(response.header("retry-after"), retry_after.as_deref(), "{context}");
            // Polls go out as they are, without what was recorded.
            let polled = method == "GET" && status == 200 && path.contains(&job) && !job.is_empty();
            let origin = if polled { ORIGIN } else { origin(&headers) };
            assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{context}");
            assert_eq!(shape(&response.json()), shape(&without_server_key(answer.unwrap())), "{context}");
            if let Some(id) = response.json()["result"]["jobId"].as_str() {
                id.clone_into(&mut job);
            }
        }
        stack.gateway.shutdown().await;
    }
}

#[tokio::test]
async fn a_job_that_is_not_finished_reads_queued() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let submitted = client.post("/v2/public-decrypt", &public_body(&[handle(1)])).await;
    let job = submitted.json()["result"]["jobId"].as_str().unwrap().to_owned();
    let response = client.get(&format!("/v2/public-decrypt/{job}")).await;
    assert_eq!((response.status, response.header("retry-after")), (202, Some("1")));
    // Without this a page of another origin does not see the header, and its SDK waits for longer.
    assert!(response.header("access-control-expose-headers").unwrap().contains("retry-after"));
    let mut body = response.json();
    // Beside what SDKs demand, which is the rest.
    assert!(body.as_object_mut().unwrap().remove("progress").is_some());
    assert_eq!(shape(&body), json!({ "status": "queued", "requestId": "text" }));
}

#[tokio::test]
async fn signatures_arrive_as_the_services_made_them() {
    let stack = Stack::start().await;
    stack.backend.publish(handle(1), 42);
    let mut client = stack.client().await;

    let body = client.post("/v1/input-proof", &crate::services::input_body()).await.json();
    let handles: Vec<Handle> = serde_json::from_value(body["response"]["handles"].clone()).unwrap();
    let signature: Bytes = serde_json::from_value(body["response"]["signatures"][0].clone()).unwrap();
    let digest = domains().input_digest(&handles, crate::services::signer(3).address(), crate::services::CONTRACT, &[0]);
    assert_eq!(recover_signer(digest, &signature), Some(stack.backend.coprocessor.address()));

    let body = client.post("/v1/public-decrypt", &public_body(&[handle(1)])).await.json();
    let answer = &body["response"][0];
    let value = bytes(&answer["decrypted_value"]);
    let request = PublicDecryptionRequest {
        handles: vec![handle(1)],
        extra_data: [0].into(),
    };
    let digest = domains().public_decryption_digest(&request.handles, &value, &request.extra_data);
    assert_eq!(
        recover_signer(digest, &bytes(&answer["signatures"][0])),
        Some(stack.backend.kms.address())
    );
    assert_eq!(value.last(), Some(&42));

    let body = client.post("/v1/user-decrypt", &user_body()).await.json();
    let share = &body["response"][0];
    let digest = domains().user_decryption_answer_digest(&[0xab; 869], &[handle(1)], &bytes(&share["payload"]), &[0]);
    assert_eq!(
        recover_signer(digest, &bytes(&share["signature"])),
        Some(stack.backend.kms.address())
    );
    assert_eq!(share["extraData"], "0x00");
}

#[tokio::test]
async fn a_rejected_input_reads_as_each_version_can_say_it() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let mut body = crate::services::input_body();
    body["ciphertextWithInputVerification"] = json!("01ff");
    let submitted = client.post("/v2/input-proof", &body).await.json();
    let response = stack
        .poll(&format!("/v2/input-proof/{}", submitted["result"]["jobId"].as_str().unwrap()))
        .await;
    assert_eq!(
        (response.status, &response.json()["result"]),
        (200, &json!({ "accepted": false, "extraData": "0x00" }))
    );
    let response = client.post("/v1/input-proof", &body).await;
    assert_eq!((response.status, response.label().as_str()), (400, "request_error"));
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// Fills up shortened strings, and makes signatures over them valid again.
fn restored(mut body: Value) -> Value {
    for value in body.as_object_mut().unwrap().values_mut() {
        if let Some((head, rest)) = value.as_str().and_then(|text| text.split_once("…(")) {
            let (total, tail) = rest.split_once(" chars total)…").unwrap();
            let missing = total.parse::<usize>().unwrap() - head.len() - tail.len();
            *value = json!(format!("{head}{}{tail}", "0".repeat(missing)));
        }
    }
    if body.get("publicKey").is_some() { signed(body) } else { body }
}

/// Makes known what the request asks for.
fn publish(stack: &Stack, body: &Value) {
    let pairs = body["handleContractPairs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| &pair["handle"]);
    for text in body["ciphertextHandles"].as_array().into_iter().flatten().chain(pairs) {
        stack.backend.publish(text.as_str().unwrap().parse().unwrap(), 1);
    }
}

/// Where the page is from that sends these headers.
fn origin<'a>(headers: &[(&str, &'a str)]) -> &'a str {
    headers
        .iter()
        .find(|(name, _)| *name == "origin")
        .map_or(ORIGIN, |(_, origin)| origin)
}

#[tokio::test]
async fn pages_may_ask_with_credentials_and_a_csrf_token_as_one_sdk_does() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let asked = [
        ("origin", "https://wallet.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "content-type,x-csrf-token,zama-sdk-name,zama-sdk-version",
        ),
    ];
    let preflight = client.send("OPTIONS", "/v2/user-decrypt", &asked, b"").await;
    assert_preflight(&preflight, &asked, "with credentials");
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
    let sent = client
        .send(
            "GET",
            "/v2/keyurl",
            &[("origin", "https://wallet.example"), ("cookie", "session=1")],
            b"",
        )
        .await;
    assert_eq!(sent.header("access-control-allow-origin"), Some("https://wallet.example"));
    assert_eq!(sent.header("access-control-allow-credentials"), Some("true"));
    assert!(sent.header("vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("origin")));
    // No cookie makes a difference, and none is set: a page has no more power over its visitor's gateway than over its own.
    assert_eq!(sent.json(), client.get("/v2/keyurl").await.json());
    assert_eq!(sent.header("set-cookie"), None);
}

fn assert_preflight(response: &Response, headers: &[(&str, &str)], context: &str) {
    assert_eq!(response.status, 200, "{context}");
    assert_eq!(response.header("access-control-allow-origin"), Some(origin(headers)), "{context}");
    let allowed = response.header("access-control-allow-headers").unwrap();
    let asked = |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).unwrap();
    for name in asked("access-control-request-headers").split(',') {
        assert!(allowed.split(',').any(|it| it == name), "{context}: {name} is not in {allowed}");
    }
    let methods = response.header("access-control-allow-methods").unwrap();
    assert!(
        methods.split(',').any(|it| it == asked("access-control-request-method")),
        "{context}: {methods}"
    );
}

/// Drops the server key, which clients do not use and we do not publish.
fn without_server_key(mut answer: Value) -> Value {
    if let Some(info) = answer.pointer_mut("/response/fhe_key_info/0").and_then(Value::as_object_mut) {
        info.remove("fhe_server_key");
    }
    answer
}

/// Replaces what differs from run to run: texts by their kind, lists by the kinds of entries in them.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(text) if matches!(text.as_str(), "queued" | "succeeded" | "success" | "failed") => value.clone(),
        Value::String(text) if text.starts_with("0x") => json!("0x"),
        Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => json!("hex"),
        Value::String(_) => json!("text"),
        Value::Array(entries) => {
            let mut shapes = entries.iter().map(shape).collect::<Vec<_>>();
            shapes.dedup();
            json!(shapes)
        }
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        other => other.clone(),
    }
}
