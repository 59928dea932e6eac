//! Everything that can be wrong with a request, on every route that takes one.

use cipherloom_gateway::RateLimit;
use serde_json::{Value, json};

use crate::{
    client::{Client, ORIGIN, Response},
    services::{Stack, handle, public_body, valid_bodies},
};

/// The routes that take each operation.
fn routes(operation: &str) -> Vec<String> {
    let versions = if operation == "delegated-user-decrypt" {
        &["v2"][..]
    } else {
        &["v1", "v2"]
    };
    versions.iter().map(|version| format!("/{version}/{operation}")).collect()
}

fn assert_refused(response: &Response, status: u16, label: &str, context: &str) {
    let body = response.json();
    assert_eq!(
        (response.status, body["error"]["label"].as_str()),
        (status, Some(label)),
        "{context}: {body}"
    );
    assert_eq!(body["status"], "failed", "{context}");
    assert!(body["requestId"].as_str().is_some_and(|id| id.len() == 36), "{context}");
    assert!(!body["error"]["message"].as_str().unwrap().is_empty(), "{context}");
    let details = body["error"]["details"].as_array();
    let wanted = matches!(label, "missing_fields" | "validation_failed");
    assert_eq!(details.is_some_and(|details| !details.is_empty()), wanted, "{context}: {body}");
    assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN), "{context}");
    assert_eq!(response.header("content-type"), Some("application/json"), "{context}");
}

fn fields(response: &Response) -> Vec<String> {
    let body = response.json();
    body["error"]["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| issue["field"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn bodies_that_are_not_json_objects_are_malformed() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let deep = "{\"a\":".to_owned() + &"[".repeat(100_000);
    let bodies = [
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"{}\"",
        "{}x",
        "{\"extraData\":\"0x00\",\"extraData\":\"0x00\"}",
        "{\"a\":\u{7f}}",
        &deep,
    ];
    for (operation, _) in valid_bodies() {
        for route in routes(operation) {
            for body in bodies {
                let response = client.send("POST", &route, &[], body.as_bytes()).await;
                assert_refused(
                    &response,
                    400,
                    "malformed_json",
                    &format!("{route} {}", &body[..body.len().min(20)]),
                );
            }
            let response = client.send("POST", &route, &[], b"{\"extraData\":\"\xff\"}").await;
            assert_refused(&response, 400, "malformed_json", &format!("{route} with bytes that are not UTF-8"));
        }
    }
}

#[tokio::test]
async fn missing_fields_are_all_named() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    for (operation, valid) in valid_bodies() {
        for route in routes(operation) {
            let names = valid.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            for name in &names {
                for absent in [None, Some(Value::Null)] {
                    let mut body = valid.clone();
                    body.as_object_mut().unwrap().remove(name);
                    if let Some(null) = absent {
                        body[name] = null;
                    }
                    let response = client.post(&route, &body).await;
                    assert_refused(&response, 400, "missing_fields", &format!("{route} without {name}"));
                    assert_eq!(fields(&response), [name.as_str()]);
                }
            }
            let response = client.post(&route, &json!({})).await;
            assert_refused(&response, 400, "missing_fields", &route);
            let mut named = fields(&response);
            named.sort();
            assert_eq!(named, names, "{route}");
        }
    }
    let mut body = crate::services::user_body();
    body["requestValidity"] = json!({});
    let response = client.post("/v2/user-decrypt", &body).await;
    assert_eq!(
        fields(&response),
        ["requestValidity.startTimestamp", "requestValidity.durationDays"]
    );
}

/// Wrong contents: where to put what, and which field is to be named.
fn wrong_contents(operation: &str) -> Vec<(&'static str, Value, &'static str)> {
    let long = |digits: usize| json!("a".repeat(digits));
    let other_chain = json!(format!("0x{}ff00000000000000010500", "22".repeat(21)));
    let mut cases = Vec::new();
    let mut all = |pointer: &'static str, field: &'static str, values: Vec<Value>| {
        cases.extend(values.into_iter().map(|value| (pointer, value, field)));
    };
    let addresses = || {
        let mut bad = vec![
            json!("0x"),
            json!("12"),
            json!(format!("0x{}", "g".repeat(40))),
            json!("aa".repeat(20)),
            json!("0x0x"),
            json!(""),
        ];
        bad.extend([json!(format!("0x{}", "aa".repeat(21))), json!(format!("0X{}", "aa".repeat(20)))]);
        bad.extend([json!(1), json!(true), json!([]), json!({})]);
        bad
    };
    let handles = || {
        let mut bad = vec![
            json!("0x22"),
            json!("22".repeat(32)),
            json!(format!("0x{}", "22".repeat(33))),
            json!(7),
            json!([]),
        ];
        // An unknown version, an unknown type.
        bad.extend([
            json!(format!("0x{}0501", "22".repeat(30))),
            json!(format!("0x{}ff00", "22".repeat(30))),
        ]);
        bad
    };
    let lists = || vec![json!([]), json!({}), json!("0x00"), json!(1)];
    let chains = || {
        vec![
            json!("0x1"),
            json!("1"),
            json!(""),
            json!("0x"),
            json!("-1"),
            json!("0xffffffffffffffffff"),
            json!(31337),
        ]
    };
    let numbers = || {
        vec![
            json!(""),
            json!("-1"),
            json!("1.5"),
            json!("0x5"),
            json!("99999999999999999999999"),
            json!("1e9"),
            json!(5),
        ]
    };
    all(
        "/extraData",
        "extraData",
        vec![
            json!("00"),
            json!("0x0"),
            json!("0xzz"),
            json!(format!("0x{}", "00".repeat(66))),
            json!(0),
            json!([]),
        ],
    );
    match operation {
        "input-proof" => {
            all("/contractAddress", "contractAddress", addresses());
            all("/userAddress", "userAddress", addresses());
            all("/contractChainId", "contractChainId", chains());
            let lists = vec![
                json!(""),
                json!("0x0102"),
                json!("123"),
                json!("12g4"),
                long((1 << 21) + 2),
                json!(12),
            ];
            all("/ciphertextWithInputVerification", "ciphertextWithInputVerification", lists);
        }
        "public-decrypt" => {
            all(
                "/extraData",
                "extraData",
                vec![json!("0x0101"), json!("0x0300"), json!(format!("0x02{}", "00".repeat(63)))],
            );
            all("/ciphertextHandles", "ciphertextHandles", lists());
            all("/ciphertextHandles/0", "ciphertextHandles[0]", handles());
            let too_many = public_body(&vec![handle(1); 1025])["ciphertextHandles"].clone();
            let too_many_bits = public_body(&vec![handle(1); 33])["ciphertextHandles"].clone();
            all(
                "/ciphertextHandles",
                "ciphertextHandles",
                vec![too_many, too_many_bits, json!([other_chain])],
            );
        }
        _ => {
            all("/contractsChainId", "contractsChainId", chains());
            all("/contractAddresses", "contractAddresses", lists());
            all(
                "/contractAddresses",
                "contractAddresses",
                vec![json!(vec![crate::services::CONTRACT; 11])],
            );
            all("/contractAddresses/0", "contractAddresses[0]", addresses());
            all(
                "/contractAddresses/0",
                "handleContractPairs",
                vec![json!(format!("0x{}", "11".repeat(20)))],
            );
            all("/handleContractPairs", "handleContractPairs", lists());
            all(
                "/handleContractPairs/0",
                "handleContractPairs[0]",
                vec![json!([]), json!("0x"), json!(1)],
            );
            all("/handleContractPairs/0/handle", "handleContractPairs[0].handle", handles());
            all("/handleContractPairs/0/handle", "handleContractPairs", vec![other_chain]);
            all(
                "/handleContractPairs/0/contractAddress",
                "handleContractPairs[0].contractAddress",
                addresses(),
            );
            all(
                "/signature",
                "signature",
                vec![
                    json!(""),
                    json!(format!("0x{}", "ab".repeat(65))),
                    json!("abc"),
                    long(8194),
                    json!(1),
                ],
            );
            let keys = vec![
                json!(""),
                json!(format!("0x{}", "ab".repeat(869))),
                json!("ab".repeat(868)),
                json!("ab".repeat(870)),
            ];
            all("/publicKey", "publicKey", keys);
        }
    }
    match operation {
        "user-decrypt" => {
            all("/userAddress", "userAddress", addresses());
            all("/userAddress", "handleContractPairs", vec![json!(crate::services::CONTRACT)]);
            all("/requestValidity", "requestValidity", vec![json!([]), json!("5"), json!(5)]);
            all("/requestValidity/startTimestamp", "requestValidity.startTimestamp", numbers());
            all("/requestValidity/durationDays", "requestValidity.durationDays", numbers());
            all("/requestValidity/durationDays", "durationDays", vec![json!("0"), json!("366")]);
        }
        "delegated-user-decrypt" => {
            all("/delegateAddress", "delegateAddress", addresses());
            all("/delegatorAddress", "delegatorAddress", addresses());
            all("/delegatorAddress", "handleContractPairs", vec![json!(crate::services::CONTRACT)]);
            all("/startTimestamp", "startTimestamp", numbers());
            all("/durationDays", "durationDays", numbers());
            all(
                "/durationDays",
                "durationDays",
                vec![json!("0"), json!("366"), json!("9007199254740991")],
            );
        }
        _ => (),
    }
    cases
}

#[tokio::test]
async fn wrong_contents_are_named_by_field() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    for (operation, valid) in valid_bodies() {
        for (pointer, value, field) in wrong_contents(operation) {
            let mut body = valid.clone();
            *body.pointer_mut(pointer).unwrap_or_else(|| panic!("{operation} has no {pointer}")) = value.clone();
            for route in routes(operation) {
                let response = client.post(&route, &body).await;
                let context = format!("{route} {pointer} = {}", &value.to_string()[..value.to_string().len().min(60)]);
                assert_refused(&response, 400, "validation_failed", &context);
                assert_eq!(fields(&response), [field], "{context}");
            }
        }
    }
    assert_eq!(stack.backend.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn unknown_fields_and_content_types_are_tolerated() {
    let stack = Stack::start_with(crate::services::Backend::refusing(), |_| ()).await;
    let mut client = stack.client().await;
    for (operation, mut body) in valid_bodies() {
        body["somethingNew"] = json!({ "from": ["the", "future"] });
        for content_type in ["text/plain", "application/json; charset=utf-8", "nonsense"] {
            let route = format!("/v2/{operation}");
            let response = client
                .send("POST", &route, &[("content-type", content_type)], body.to_string().as_bytes())
                .await;
            assert_eq!(response.status, 202, "{route} as {content_type}: {}", response.json());
        }
    }
}

#[tokio::test]
async fn oversized_bodies_are_refused_with_an_answer() {
    let stack = Stack::start().await;
    for (operation, _) in valid_bodies() {
        let limit = if operation == "input-proof" { 4 << 20 } else { 256 << 10 };
        let mut client = stack.client().await;
        let route = format!("/v2/{operation}");
        let response = client.send("POST", &route, &[], &vec![b' '; limit + 1]).await;
        assert_refused(&response, 400, "request_error", &route);
        // Exactly at the limit the size is no objection.
        let response = stack.client().await.send("POST", &route, &[], &vec![b' '; limit]).await;
        assert_refused(&response, 400, "malformed_json", &route);

        let mut client = stack.client().await;
        let chunks = (0..limit / 65_536 + 1)
            .map(|_| format!("10000\r\n{}\r\n", " ".repeat(65_536)))
            .collect::<String>();
        let request =
            format!("POST {route} HTTP/1.1\r\nhost: x\r\norigin: {ORIGIN}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(client.stream.get_mut(), request.as_bytes())
            .await
            .unwrap();
        assert_refused(
            &client.read("POST").await.unwrap(),
            400,
            "request_error",
            &format!("{route} in chunks"),
        );
    }
}

#[tokio::test]
async fn unknown_jobs_routes_and_methods_are_refused() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    stack.backend.publish(handle(1), 1);
    let submitted = client.post("/v2/public-decrypt", &public_body(&[handle(1)])).await.json();
    let job = submitted["result"]["jobId"].as_str().unwrap();
    for (operation, _) in valid_bodies() {
        let unknown = client.get(&format!("/v2/{operation}/00000000-0000-4000-8000-000000000000")).await;
        assert_refused(&unknown, 404, "not_found", operation);
        for malformed in ["1", "job-1", "%ff", "..", "00000000-0000-4000-8000-00000000000g"] {
            let response = client.get(&format!("/v2/{operation}/{malformed}")).await;
            assert_refused(&response, 400, "validation_failed", &format!("{operation}/{malformed}"));
        }
        if operation != "public-decrypt" {
            assert_refused(&client.get(&format!("/v2/{operation}/{job}")).await, 404, "not_found", operation);
        }
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let response = client.send(method, &format!("/v2/{operation}"), &[], b"").await;
            assert_refused(&response, 405, "request_error", &format!("{method} {operation}"));
            assert_eq!(response.header("allow"), Some("POST"));
        }
    }
    for path in [
        "/v2",
        "/v2/",
        "/v2/input-proof/",
        "/v1/delegated-user-decrypt",
        "/v2/keys/server-key/key-1",
        "/admin/config",
        "/%00",
    ] {
        assert_refused(&client.send("POST", path, &[], b"{}").await, 404, "not_found", path);
    }
}

#[tokio::test]
async fn a_client_that_posts_too_fast_is_told_when_to_come_back() {
    let stack = Stack::start_with(crate::services::Backend::new(), |config| {
        config.rate_limit = Some(RateLimit { burst: 2, per_second: 1 });
    })
    .await;
    let mut client = stack.client().await;
    let post = async |client: &mut Client| client.post("/v2/public-decrypt", &public_body(&[handle(1)])).await;
    assert_eq!(post(&mut client).await.status, 202);
    assert_eq!(post(&mut client).await.status, 202);
    let response = post(&mut client).await;
    assert_refused(&response, 429, "rate_limited", "third request");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(client.get("/v2/keyurl").await.status, 200);
    stack.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(post(&mut client).await.status, 202);
}
