//! The public port.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{hex, primitives::B256, signers::local::PrivateKeySigner};
use cipherloom_attest::{
    AttestError, Attestor, CollateralStore, Evidence, Occasion, Policy, Role, SealingKey, Statement, TeeKind, Verifier,
    simulated::InsecureSimulatedAttestor,
};
use cipherloom_kms::audit::AuditHead;
use cipherloom_kms_node::public::{
    self, PublicLimits, PublicParts,
    documents::{Attestation, AuditHeads, Form, NodeState, NodeStatus, SIGNATURE_HEADER, document_signer},
};
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

const NOW: u64 = 1_800_000_000;

fn key() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap()
}

fn statement() -> Statement {
    Statement {
        role: Role::KmsNode,
        chain_id: 31337,
        context: B256::repeat_byte(1),
        party: 2,
        signer: key().address(),
    }
}

fn status() -> NodeStatus {
    NodeStatus {
        version: "1.2.3".into(),
        form: Form::Threshold,
        state: NodeState::AwaitingCeremony,
        detail: Some("no ceremony yet".into()),
        time: NOW,
        started: NOW - 60,
        chain_id: 31337,
        signer: key().address(),
        party: 2,
        parties: 4,
        threshold: 1,
        context: B256::repeat_byte(1),
        epoch: B256::repeat_byte(2),
        share: None,
        attestation: TeeKind::InsecureSimulated,
        policy: B256::repeat_byte(3),
        insecure_parameters: true,
    }
}

fn parts(limits: PublicLimits) -> PublicParts {
    PublicParts {
        attestor: Arc::new(InsecureSimulatedAttestor::new("node").unwrap()),
        signer: key(),
        statement: Box::new(statement),
        status: Box::new(status),
        manifest: Box::new(|| None),
        audit: Box::new(|| {
            let head = AuditHead {
                records: 5,
                hash: B256::repeat_byte(4),
            };
            vec![(31337, head)]
        }),
        clock: Box::new(|| NOW),
        limits,
    }
}

async fn serve(parts: PublicParts) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(public::serve(listener, parts, std::future::pending()));
    address
}

/// Asks; returns the status code, whose signature it is, and the body.
async fn ask(address: SocketAddr, route: &str, nonce: Option<B256>) -> (u16, Option<alloy::primitives::Address>, Vec<u8>) {
    let query = nonce.map_or_else(String::new, |nonce| format!("?nonce={nonce}"));
    let response = reqwest::get(format!("http://{address}{route}{query}")).await.unwrap();
    let status = response.status().as_u16();
    let signature = response
        .headers()
        .get(SIGNATURE_HEADER)
        .map(|value| hex::decode(value.as_bytes()).unwrap());
    let body = response.bytes().await.unwrap().to_vec();
    let signer = signature.and_then(|signature| document_signer(route, nonce, &body, &signature));
    (status, signer, body)
}

#[tokio::test]
async fn evidence_is_for_the_askers_nonce_and_about_the_signer() {
    let address = serve(parts(PublicLimits::default())).await;
    let nonce = B256::repeat_byte(9);
    let (code, signer, body) = ask(address, "/attestation", Some(nonce)).await;
    assert_eq!((code, signer), (200, Some(key().address())));
    let answer: Attestation = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer.statement, statement());
    let verifier = Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default())).unwrap();
    let verify = |nonce| verifier.verify(&answer.evidence, &answer.statement, &[], &Occasion::Challenge(nonce), NOW);
    assert_eq!(verify(nonce).unwrap().kind, TeeKind::InsecureSimulated);
    assert!(matches!(verify(B256::ZERO), Err(AttestError::Binding { .. })));
}

#[tokio::test]
async fn every_answer_is_signed_over_the_nonce() {
    let mut parts = parts(PublicLimits::default());
    parts.manifest = Box::new(|| Some(b"{\"a manifest\":1}".to_vec()));
    let address = serve(parts).await;
    for route in ["/status", "/manifest", "/audit/head"] {
        for nonce in [None, Some(B256::repeat_byte(1))] {
            let (code, signer, body) = ask(address, route, nonce).await;
            assert_eq!((code, signer), (200, Some(key().address())), "{route}");
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        }
    }
    let (_, _, body) = ask(address, "/status", None).await;
    assert_eq!(serde_json::from_slice::<NodeStatus>(&body).unwrap(), status());
    let (_, _, body) = ask(address, "/audit/head", None).await;
    let heads: AuditHeads = serde_json::from_slice(&body).unwrap();
    let [head] = heads.heads.as_slice() else { panic!("{heads:?}") };
    assert!(head.is_signed());
    assert_eq!(
        (head.chain_id, head.records, head.hash, head.time),
        (31337, 5, B256::repeat_byte(4), NOW)
    );
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let address = serve(parts(PublicLimits::default())).await;
    let cases = [
        ("/attestation", 400),
        ("/attestation?nonce=", 400),
        ("/attestation?nonce=0x12", 400),
        (
            "/attestation?nonce=1111111111111111111111111111111111111111111111111111111111111111",
            400,
        ),
        ("/status?nonce=0xzz", 400),
        ("/status?verbose=1", 400),
        ("/manifest", 404),
        ("/", 404),
        ("/audit", 404),
        ("/audit/head/../../etc/passwd", 404),
    ];
    for (path, expected) in cases {
        let response = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{path}");
        let error: serde_json::Value = response.json().await.unwrap();
        assert!(error.get("error").is_some_and(serde_json::Value::is_string), "{path}");
    }
    let long = format!("http://{address}/status?nonce=0x{}", "0".repeat(4000));
    assert_eq!(reqwest::get(long).await.unwrap().status().as_u16(), 400);
    let post = reqwest::Client::new()
        .post(format!("http://{address}/status"))
        .body(vec![0; 1 << 20])
        .send()
        .await;
    // Refused, by a status or by closing the connection on the body that nobody reads.
    assert!(post.is_err() || post.is_ok_and(|response| response.status().as_u16() == 405));
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let limits = PublicLimits {
        requests: 5,
        request_every: Duration::from_secs(3600),
        quotes: 2,
        quote_every: Duration::from_secs(3600),
        ..PublicLimits::default()
    };
    let address = serve(parts(limits)).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(ask(address, "/attestation", Some(B256::ZERO)).await.0);
    }
    assert_eq!(codes, [200, 200, 429], "quotes");
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(ask(address, "/status", None).await.0);
    }
    assert_eq!(codes, [200, 200, 429], "requests");
}

/// Hardware that makes a quote when it is told to, and counts how many are asked for at a time.
struct Slow {
    inner: InsecureSimulatedAttestor,
    go: Semaphore,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Attestor for Slow {
    fn kind(&self) -> TeeKind {
        self.inner.kind()
    }

    fn evidence(&self, report_data: [u8; 64]) -> BoxFuture<'_, Result<Evidence, AttestError>> {
        Box::pin(async move {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.go.acquire().await.unwrap().forget();
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.inner.make(report_data)
        })
    }

    fn sealing_key<'a>(&'a self, purpose: &'a str) -> BoxFuture<'a, Result<SealingKey, AttestError>> {
        self.inner.sealing_key(purpose)
    }
}

#[tokio::test]
async fn the_hardware_is_asked_for_few_quotes_at_a_time_and_the_rest_is_told_at_once() {
    let slow = Arc::new(Slow {
        inner: InsecureSimulatedAttestor::new("node").unwrap(),
        go: Semaphore::new(0),
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let limits = PublicLimits {
        quotes_at_a_time: 1,
        quotes_waiting: 2,
        quotes: 100,
        ..PublicLimits::default()
    };
    let mut parts = parts(limits);
    parts.attestor = Arc::clone(&slow) as _;
    let address = serve(parts).await;
    let (results, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..8u8 {
        let results = results.clone();
        tokio::spawn(async move {
            let (code, ..) = ask(address, "/attestation", Some(B256::repeat_byte(number))).await;
            results.send(code).unwrap();
        });
    }
    // Three have a place; the others need not wait for the hardware to be told so.
    for _ in 0..5 {
        assert_eq!(answers.recv().await, Some(503));
    }
    assert_eq!(ask(address, "/status", None).await.0, 200, "other questions do not wait for quotes");
    slow.go.add_permits(3);
    for _ in 0..3 {
        assert_eq!(answers.recv().await, Some(200));
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connections_are_few_and_none_lasts() {
    let limits = PublicLimits {
        connections: 2,
        connection_age: Duration::from_millis(300),
        ..PublicLimits::default()
    };
    let address = serve(parts(limits)).await;
    // Two that send a request's beginning and then nothing have all places.
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        idle.push(stream);
    }
    // A third one is served nevertheless, once they are too old.
    assert_eq!(ask(address, "/status", None).await.0, 200);
    for mut stream in idle {
        let mut rest = Vec::new();
        // Closed or reset: in any case over.
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is still open");
    }
}

#[tokio::test]
async fn answers_of_different_nodes_differ_in_their_signer() {
    let other = PrivateKeySigner::from_bytes(&B256::repeat_byte(8)).unwrap();
    let mut parts_of_other = parts(PublicLimits::default());
    parts_of_other.signer = other.clone();
    let addresses = [serve(parts(PublicLimits::default())).await, serve(parts_of_other).await];
    let mut signers = HashSet::new();
    for address in addresses {
        signers.insert(ask(address, "/status", Some(B256::ZERO)).await.1.unwrap());
    }
    assert_eq!(signers, HashSet::from([key().address(), other.address()]));
}
