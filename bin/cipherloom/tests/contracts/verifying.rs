//! What `verify` finds, and `status` shows.

use alloy::primitives::{Address, Bytes, U256};
use cipherloom_chain::proxy::{BEACON_SLOT, IMPLEMENTATION_SLOT};
use cipherloom_contracts::HostContract;
use serde_json::Value;

use crate::ground::{Ground, contracts, json, refused};

/// Returns what `verify` finds wrong, as "contract: what".
fn problems(ground: &Ground) -> Vec<String> {
    let output = ground.contracts(&["verify"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), report["ok"].as_bool().unwrap());
    let findings = report["findings"].as_array().unwrap();
    let wrong = findings.iter().filter(|finding| finding["ok"] == false);
    wrong
        .map(|finding| {
            format!(
                "{}: {}",
                finding["contract"].as_str().unwrap_or("deployment"),
                finding["what"].as_str().unwrap()
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_deployment_is_right_in_everything() {
    let ground = Ground::deployed().await;
    assert_eq!(problems(&ground), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_code_is_found_wherever_it_is() {
    let ground = Ground::deployed().await;
    let record = ground.record();
    let chain = ground.node.chain();
    let implementation = record.implementations[&HostContract::FhevmExecutor].address;
    let mut code = ground.host().code(implementation).await.unwrap().to_vec();
    let last = code.len() - 1;
    code[last] ^= 1;
    chain.set_code(implementation, code.into()).unwrap();
    assert_eq!(problems(&ground), ["FHEVMExecutor: code"]);

    chain
        .set_code(record.contracts.pauser_set, Bytes::from_static(&[0x60, 0x00]))
        .unwrap();
    assert!(problems(&ground).contains(&"PauserSet: code".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_our_proxies_do_not_use_must_be_empty_and_the_used_one_as_recorded() {
    let ground = Ground::deployed().await;
    let record = ground.record();
    let chain = ground.node.chain();
    let proxy = record.contracts.input_verifier;
    chain.set_storage(proxy, BEACON_SLOT.into(), U256::ONE).unwrap();
    assert_eq!(problems(&ground), ["InputVerifier: no beacon"]);
    chain.set_storage(proxy, BEACON_SLOT.into(), U256::ZERO).unwrap();

    // The same code elsewhere is still not where the file says; its own immutable tells too.
    let elsewhere = Address::repeat_byte(0x77);
    let code = ground
        .host()
        .code(record.implementations[&HostContract::InputVerifier].address)
        .await
        .unwrap();
    chain.set_code(elsewhere, code).unwrap();
    chain
        .set_storage(proxy, IMPLEMENTATION_SLOT.into(), U256::from_be_bytes(elsewhere.into_word().0))
        .unwrap();
    let found = problems(&ground);
    for expected in [
        "InputVerifier: code",
        "InputVerifier: implementation",
        "InputVerifier: implementation locked",
    ] {
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_a_deployment_from_none() {
    let ground = Ground::bare(31337).await;
    let status = json(ground.contracts(&["status"]));
    assert_eq!(status["deployed"], false);
    assert!(
        status["contracts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|contract| contract["code"] == "missing")
    );
    ground.deploy(&[]);
    let status = json(ground.contracts(&["status"]));
    assert_eq!((status["deployed"].as_bool(), status["face"].as_str()), (Some(true), Some("0.12")));
    let contracts = status["contracts"].as_array().unwrap();
    assert!(contracts.iter().all(|contract| contract["code"] == "this build"));
    assert_eq!(contracts[0]["version"], "ACL v0.3.0");
    assert_eq!(status["state"]["isPaused"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_for_people_names_everything() {
    let ground = Ground::deployed().await;
    for command in ["status", "verify"] {
        let output = contracts(&[command, "--rpc", &ground.node.rpc_url()])
            .current_dir(ground.directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for contract in HostContract::ALL {
            assert!(text.contains(contract.name()), "{text}");
        }
        assert!(text.contains("KMS"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_that_nothing_tells_of_are_asked_for() {
    let ground = Ground::bare(777).await;
    let errors = refused(ground.contracts(&["status"]));
    assert!(errors.contains("--deployment") && errors.contains("--deployer"), "{errors}");
    let errors = refused(contracts(&["status"]));
    assert!(errors.contains("--rpc"), "{errors}");
}
