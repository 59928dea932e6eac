//! The guest agent's socket, served by the test as dstack 0.5 serves it.

use cipherloom_attest::{
    AttestError, Attestor, DstackAttestor,
    event_log::{Event, register},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// Answers each request with what `respond` says for its path and body, and closes.
async fn serve(listener: UnixListener, respond: impl Fn(&str, Value) -> (u16, String)) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (path, body) = read_request(&mut stream).await;
        let (status, answer) = respond(&path, body);
        let response = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

async fn read_request(stream: &mut UnixStream) -> (String, Value) {
    let mut received = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        received.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.split(' ').nth(1).unwrap().to_owned(), body);
        }
        assert_ne!(count, 0, "the request ended early: {text}");
    }
}

async fn with_agent<T>(respond: impl Fn(&str, Value) -> (u16, String), ask: impl AsyncFnOnce(DstackAttestor) -> T) -> T {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("dstack.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::select! {
        () = serve(listener, respond) => unreachable!("the agent runs until the test is done"),
        result = ask(DstackAttestor::new(socket)) => result,
    }
}

fn log(events: &[Event]) -> String {
    let entries: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({ "imr": 3, "event_type": 0x0800_0001, "digest": event.digest().to_string().trim_start_matches("0x"), "event": event.name,
                    "event_payload": event.payload.to_string().trim_start_matches("0x") })
        })
        .collect();
    json!(entries).to_string()
}

#[tokio::test]
async fn quotes_and_events_come_from_the_agent() {
    let events = vec![Event::new("app-id", vec![1; 20]), Event::new("system-ready", vec![])];
    let measured = register(&events);
    let respond = {
        let events = events.clone();
        move |path: &str, body: Value| {
            assert_eq!(path, "/GetQuote");
            assert_eq!(body["report_data"], "07".repeat(64));
            (
                200,
                json!({ "quote": "aabb", "event_log": log(&events), "report_data": "", "vm_config": "{}" }).to_string(),
            )
        }
    };
    let evidence = with_agent(respond, async |agent| agent.evidence([7; 64]).await.unwrap()).await;
    assert_eq!(evidence.quote, vec![0xaa, 0xbb]);
    assert_eq!(register(&evidence.events), measured);
}

#[tokio::test]
async fn sealing_keys_differ_by_purpose_and_come_again() {
    let respond = |path: &str, body: Value| {
        assert_eq!(path, "/GetKey");
        let digit = if body["path"].as_str().unwrap().ends_with("shares") {
            "1"
        } else {
            "2"
        };
        (200, json!({ "key": digit.repeat(64), "signature_chain": [] }).to_string())
    };
    with_agent(respond, async |agent| {
        let shares = agent.sealing_key("shares").await.unwrap();
        assert_eq!(*shares, *agent.sealing_key("shares").await.unwrap());
        assert_ne!(*shares, *agent.sealing_key("state").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_fails_is_named() {
    let failing: [(u16, &str); 4] = [
        (500, "{}"),
        (200, "not json"),
        (200, r#"{"quote":"zz","event_log":"[]"}"#),
        (200, "{}"),
    ];
    for (status, answer) in failing {
        let result = with_agent(|_, _| (status, answer.to_owned()), async |agent| agent.evidence([7; 64]).await).await;
        assert!(matches!(result, Err(AttestError::GuestAgent { .. })), "{answer}: {result:?}");
    }
    let nowhere = DstackAttestor::new("/nonexistent/dstack.sock").evidence([7; 64]).await;
    assert!(matches!(nowhere, Err(AttestError::GuestAgent { socket, .. }) if socket.contains("nonexistent")));
}
