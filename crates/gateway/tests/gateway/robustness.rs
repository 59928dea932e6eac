//! Whatever is sent, the answer is typed: a known status, a JSON error with a known label, no panic, no hang.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use cipherloom_gateway::{Label, Services, routes::ROUTES};
use cipherloom_store::{Database, SqliteStore};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    client::Client,
    services::{Backend, Stack, valid_bodies},
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static STACK: LazyLock<Stack> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        // With a database, so that whatever passes the checks is also recorded and read back.
        let jobs = SqliteStore::in_memory().await.unwrap().gateway_jobs("robustness");
        let equip = |services: &mut Services| services.jobs = Some(jobs);
        Stack::start_before(Arc::new(Backend::refusing()), equip, |config| config.jobs.max_unfinished = 100_000).await
    })
});

/// A request with anything in it that still is HTTP: what is not gets an empty 400 from the HTTP library.
#[derive(Clone, Debug)]
struct Arbitrary {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn json_value() -> impl Strategy<Value = Value> {
    let hex = prop::collection::vec(any::<u8>(), 0..80).prop_map(alloy::primitives::hex::encode);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        hex.clone().prop_map(Value::from),
        hex.prop_map(|digits| Value::from(format!("0x{digits}"))),
        "[0-9]{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z]{0,12}", inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// A valid body with a few things replaced or removed anywhere in it.
fn damaged_body() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), prop::option::of(json_value()));
    (0..4usize, prop::collection::vec(change, 0..3)).prop_map(|(operation, changes)| {
        let (_, mut body) = valid_bodies()[operation].clone();
        for (place, value) in changes {
            let mut pointers = Vec::new();
            collect_pointers(&body, String::new(), &mut pointers);
            if pointers.is_empty() {
                continue;
            }
            let pointer = place.get(&pointers).clone();
            match value {
                Some(value) => *body.pointer_mut(&pointer).unwrap() = value,
                None => {
                    let (parent, key) = pointer.rsplit_once('/').unwrap();
                    match body.pointer_mut(parent).unwrap() {
                        Value::Object(fields) => drop(fields.remove(key)),
                        Value::Array(entries) => drop(entries.remove(key.parse().unwrap())),
                        _ => unreachable!("a parent is an object or an array"),
                    }
                }
            }
        }
        body.to_string().into_bytes()
    })
}

fn collect_pointers(value: &Value, at: String, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        // Names that a JSON pointer would have to escape are left alone.
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !name.contains(['~', '/']))
            .map(|(name, it)| (name.clone(), it))
            .collect(),
        Value::Array(entries) => entries.iter().enumerate().map(|(index, it)| (index.to_string(), it)).collect(),
        _ => return,
    };
    for (name, child) in children {
        let pointer = format!("{at}/{name}");
        found.push(pointer.clone());
        collect_pointers(child, pointer, found);
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let cut = (damaged_body(), any::<prop::sample::Index>()).prop_map(|(mut body, at)| {
        body.truncate(at.index(body.len().max(1)));
        body
    });
    let flipped = (damaged_body(), any::<prop::sample::Index>(), 0..8u32).prop_map(|(mut body, at, bit)| {
        let at = at.index(body.len().max(1));
        body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        body
    });
    prop_oneof![
        4 => damaged_body(),
        1 => cut,
        1 => flipped,
        1 => json_value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let parameter = prop_oneof![
        Just("00000000-0000-4000-8000-000000000000".to_owned()),
        Just("key-1".to_owned()),
        "[A-Za-z0-9._~!$&'()*+,;=:@%-]{0,40}"
    ];
    let known = (0..ROUTES.len(), parameter).prop_map(|(route, parameter)| {
        let path = ROUTES[route].path;
        path.split_once('{')
            .map_or(path.to_owned(), |(head, _)| format!("{head}{parameter}"))
    });
    prop_oneof![6 => known, 1 => "/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,60}", 1 => "(/v[0-9]|/[a-z-]{1,12}|/%[0-9a-f]{2}|//|/\\.\\.){1,5}"]
}

fn request() -> impl Strategy<Value = Arbitrary> {
    let method = prop::sample::select(vec![
        "GET", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE",
    ]);
    let name = prop::sample::select(vec![
        "content-type",
        "range",
        "if-none-match",
        "if-range",
        "origin",
        "accept",
        "host",
        "x-api-key",
        "cookie",
    ]);
    let value = prop_oneof!["[ -~]{0,40}", "bytes=[0-9]{0,8}-[0-9]{0,8}", Just("application/json".to_owned())];
    let headers = prop::collection::vec((name, value), 0..4).prop_map(|mut headers| {
        // Two hosts are not HTTP, and the server's own answer to that has no body.
        headers.sort_by_key(|(name, _)| *name);
        headers.dedup_by_key(|(name, _)| *name);
        headers
    });
    (method, path(), headers, body()).prop_map(|(method, path, headers, body)| Arbitrary {
        method,
        path,
        headers,
        body,
    })
}

#[test]
fn any_request_gets_a_typed_answer() {
    let stack = &*STACK;
    let mut seen = BTreeSet::new();
    let seen_here = RefCell::new(&mut seen);
    let exchange = async |request: Arbitrary| {
        let mut client = Client::connect(stack.gateway.address()).await;
        let headers = request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect::<Vec<_>>();
        let response = client.send(request.method, &request.path, &headers, &request.body).await;
        prop_assert!(
            [200, 202, 206, 304, 400, 404, 405, 416, 503].contains(&response.status),
            "{}",
            response.status
        );
        if response.status >= 400 && response.status != 416 && request.method != "HEAD" {
            let body = response.json();
            prop_assert_eq!(&body["status"], "failed");
            let label = body["error"]["label"].as_str().unwrap_or_default();
            prop_assert!(Label::ALL.iter().any(|known| known.as_str() == label), "{}", body);
            prop_assert!(body["requestId"].is_string() && body["error"]["message"].is_string(), "{}", body);
            seen_here.borrow_mut().insert(label.to_owned());
        }
        prop_assert_eq!(stack.metric("cipherloom_gateway_panics_total").await, 0);
        prop_assert_eq!(stack.metric("cipherloom_gateway_job_database_errors_total").await, 0);
        seen_here.borrow_mut().insert(response.status.to_string());
        Ok(())
    };
    TestRunner::new(config())
        .run(&request(), |request| RUNTIME.block_on(exchange(request)))
        .unwrap_or_else(|error| panic!("{error}"));
    // The generator must reach past the first checks, or the test shows nothing.
    for wanted in ["200", "202", "404", "405", "malformed_json", "missing_fields", "validation_failed"] {
        assert!(seen.contains(wanted), "{wanted} is not among {seen:?}");
    }
}

#[test]
fn bytes_that_are_not_http_end_the_connection_and_nothing_else() {
    let stack = &*STACK;
    let exchange = async |bytes: Vec<u8>| {
        let mut client = Client::connect(stack.gateway.address()).await;
        let stream = client.stream.get_mut();
        // The server may have closed the connection before all is written.
        let _ = tokio::io::AsyncWriteExt::write_all(stream, &bytes).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
        let closed = tokio::time::timeout(std::time::Duration::from_secs(10), client.closed()).await;
        prop_assert!(closed.is_ok(), "the connection hangs");
        prop_assert_eq!(stack.metric("cipherloom_gateway_panics_total").await, 0);
        Ok(())
    };
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    TestRunner::new(config())
        .run(&bytes, |bytes| RUNTIME.block_on(exchange(bytes)))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// A failure prints the smallest request that fails; nothing is written to disk.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
