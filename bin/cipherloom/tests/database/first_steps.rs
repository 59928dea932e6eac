//! The five minutes of the guide for operators (docs/coprocessor.md), on both kinds of database: the same commands, the same requests.

use std::time::{Duration, Instant};

use cipherloom_rpc::fhevm::{
    common::FheOperation,
    coprocessor::{
        AsyncComputation, AsyncComputationInput, AsyncComputeRequest, GetCiphertextBatch, TrivialEncryptBatch, TrivialEncryptRequestSingle,
        async_computation_input::Input, fhevm_coprocessor_client::FhevmCoprocessorClient,
    },
};
use serde_json::Value;
use tonic::{Request, transport::Channel};

use crate::{
    computations::wait,
    doctor::Visit,
    operators::json,
    process::Running,
    tenants::{add, clear_keys, databases},
};

/// The guide's handles.
const ENCRYPTED: &[u8] = &[1, 2, 3];
const SUM: &[u8] = &[4, 5, 6];

/// How long a sum may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Adds the API key to a request, as `grpcurl -H` does.
fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("bearer {key}").parse().unwrap());
    request
}

/// Encrypts 42, adds 1, and waits for the sum.
async fn compute(address: &str, key: &str) {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = FhevmCoprocessorClient::new(channel);
    let values = vec![TrivialEncryptRequestSingle {
        handle: ENCRYPTED.to_vec().into(),
        be_value: vec![42].into(),
        output_type: 5,
    }];
    client
        .trivial_encrypt_ciphertexts(with_key(key, TrivialEncryptBatch { values }))
        .await
        .unwrap();
    let operand = |input| AsyncComputationInput { input: Some(input) };
    let computations = vec![AsyncComputation {
        operation: FheOperation::FheAdd as i32,
        output_handle: SUM.to_vec().into(),
        inputs: vec![
            operand(Input::InputHandle(ENCRYPTED.to_vec().into())),
            operand(Input::Scalar(vec![1].into())),
        ],
    }];
    client
        .async_compute(with_key(key, AsyncComputeRequest { computations }))
        .await
        .unwrap();
    let start = Instant::now();
    loop {
        let batch = GetCiphertextBatch {
            handles: vec![SUM.to_vec().into()],
        };
        let answer = client.get_ciphertexts(with_key(key, batch)).await.unwrap().into_inner();
        if answer.responses[0].ciphertext.is_some() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the sum was not computed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn the_guides_first_request_is_computed_and_the_doctor_finds_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let keys = clear_keys(&directory.path().join("keys"));
    let signing_key = directory.path().join("coprocessor.key").to_str().unwrap().to_owned();
    json(&["keys", "signing-key", &signing_key, "--json"]);
    for url in databases(directory.path()) {
        let added = add(&url, "shop", "12345", &["--keys", &keys]);
        let common = [
            "--insecure-keys",
            "--run-server",
            "--run-bg-worker",
            "--coprocessor-private-key",
            &signing_key,
        ];
        let addresses = ["--server-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"];
        let arguments = [&["coprocessor", "--json", "--database-url", &url], common.as_slice(), &addresses].concat();
        let mut coprocessor = Running::start(&arguments);
        let started: Value = serde_json::from_str(&coprocessor.wait_for("serverAddress")).unwrap();
        let server = started["serverAddress"].as_str().unwrap();
        wait(compute(server, added["apiKey"].as_str().unwrap()));

        let (server, metrics) = (
            format!("http://{server}"),
            format!("http://{}", started["metricsAddress"].as_str().unwrap()),
        );
        let visit = Visit::to(
            &url,
            &[common.as_slice(), &["--server-url", &server, "--metrics-url", &metrics]].concat(),
        );
        visit.has_none("fail");
        visit.expect("ok", "serves fhevm.coprocessor.FhevmCoprocessor");
        visit.expect("ok", "describes its services by reflection");
        visit.expect("ok", "alive and ready");
        if url.starts_with("sqlite") {
            visit.expect("warn", "in use by another process");
        } else {
            visit.expect("ok", "nothing is pending");
            visit.expect("ok", "have their digests");
        }
        assert!(coprocessor.signal("-TERM"), "it drains and ends well");
        let listed = json(&["computations", "list", "--state", "done", "--json", "--database-url", &url]);
        assert_eq!(listed["transactions"].as_array().unwrap().len(), 1, "{listed}");
        // By the name that the node gave the sum.
        let shown = json(&["computations", "show", "0x040506", "--json", "--database-url", &url]);
        assert_eq!(
            (&shown["hash"], &shown["outputs"][0]["stored"]),
            (&listed["transactions"][0]["hash"], &Value::Bool(true))
        );
        // Whoever asks afterwards hears that nobody serves.
        let visit = Visit::to(
            &url,
            &[common.as_slice(), &["--server-url", &server, "--metrics-url", &metrics]].concat(),
        );
        visit.expect("fail", "cannot be reached");
        visit.expect("fail", "nothing answers");
    }
}
