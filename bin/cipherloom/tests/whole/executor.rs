//! The executor as a process: its command line, a block over gRPC, and its end.
#![cfg(feature = "insecure-development")]

use cipherloom_fhe::insecure_test_keys;
use cipherloom_primitives::{FheType, Handle, U256};
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    executor::{
        SyncComputation, SyncComputeRequest, SyncInput, fhevm_executor_client::FhevmExecutorClient, sync_compute_response::Resp,
        sync_input::Input,
    },
};
use serde_json::Value;

use crate::process;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A block that asks for one public value as a ciphertext.
fn block(handle: Handle) -> SyncComputeRequest {
    let scalar = |bytes: Vec<u8>| SyncInput {
        input: Some(Input::Scalar(bytes.into())),
    };
    SyncComputeRequest {
        computations: vec![SyncComputation {
            operation: FheOperation::FheTrivialEncrypt as i32,
            inputs: vec![scalar(vec![0x12, 0x34]), scalar(vec![handle.fhe_type().id()])],
            result_handles: vec![handle.as_slice().to_vec().into()],
        }],
        ..SyncComputeRequest::default()
    }
}

#[test]
fn a_node_gets_ciphertexts_from_the_process_and_sigterm_ends_it_well() {
    let keys = insecure_test_keys().unwrap();
    let directory = keys.directory().to_str().unwrap();
    let mut executor = process::Running::start(&[
        "executor",
        "--fhe-keys-directory",
        directory,
        "--insecure-keys",
        "--server-addr",
        "127.0.0.1:0",
        "--json",
    ]);
    let started: Value = serde_json::from_str(&executor.wait_for("address")).unwrap();
    assert_eq!(started["keySetId"], keys.manifest().id.to_string());
    assert_eq!(started["policy"], "BATCHED");
    let address = format!("http://{}", started["address"].as_str().unwrap());
    let mut bytes = [7; 32];
    bytes[30] = FheType::Uint16.id();
    bytes[31] = 0;
    let handle = Handle::try_from(bytes.as_slice()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        FhevmExecutorClient::new(channel)
            .sync_compute(block(handle))
            .await
            .unwrap()
            .into_inner()
    });
    let Some(Resp::ResultCiphertexts(results)) = answer.resp else {
        panic!("{answer:?}")
    };
    let value = keys
        .decryptor()
        .unwrap()
        .decrypt(FheType::Uint16, &results.ciphertexts[0].serialization)
        .unwrap();
    assert_eq!(value, U256::from(0x1234));
    assert!(executor.signal("-TERM"));
}

#[test]
fn keys_without_security_are_accepted_only_when_asked_for() {
    let keys = insecure_test_keys().unwrap();
    let output = process::run(&[
        "executor",
        "--keys",
        keys.directory().to_str().unwrap(),
        "--server-addr",
        "127.0.0.1:0",
    ]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("--insecure-keys"), "{}", text(&output.stderr));
}

#[test]
fn a_policy_that_does_not_exist_is_refused_with_the_names_there_are() {
    let output = process::cipherloom(&["executor", "--fhe-keys-directory", "nowhere"])
        .env("FHEVM_DF_SCHEDULE", "FASTEST")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let errors = text(&output.stderr);
    for name in ["FASTEST", "LOOP", "FINE_GRAIN", "MAX_PARALLELISM", "MAX_LOCALITY"] {
        assert!(errors.contains(name), "{errors}");
    }
}

#[test]
fn a_key_folder_of_the_older_generation_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["sks", "pks", "pp"] {
        std::fs::write(folder.path().join(file), b"an old key").unwrap();
    }
    let output = process::run(&["executor", "--fhe-keys-directory", folder.path().to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("0.6 generation"), "{}", text(&output.stderr));
}

#[test]
fn the_command_line_is_that_of_the_generation() {
    let help = text(&process::run(&["executor", "--help"]).stdout);
    for (option, default) in [
        ("--tokio-threads", "4"),
        ("--fhe-compute-threads", "8"),
        ("--policy-fhe-compute-threads", "8"),
        ("--server-addr", "127.0.0.1:50051"),
    ] {
        let described = help.split(option).nth(1).unwrap_or_else(|| panic!("{option} is not in {help}"));
        assert!(described.contains(&format!("[default: {default}]")), "{described}");
    }
    assert!(
        help.contains("--fhe-keys-directory") && help.contains("FHEVM_DF_SCHEDULE"),
        "{help}"
    );
}
