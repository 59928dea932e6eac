//! Deployment on a chain, and what is written down about it.

use std::fs;

use alloy::primitives::{Address, U256};
use cipherloom_chain::LocalProfile;
use cipherloom_contracts::{Face, HostContract, development};

use crate::ground::{COPROCESSOR, Ground, KMS, json, refused, signer};

#[tokio::test(flavor = "multi_thread")]
async fn precomputed_addresses_are_the_deployed_ones_on_both_local_chains() {
    for profile in LocalProfile::ALL {
        let ground = Ground::bare(profile.chain_id()).await;
        let summary = ground.deploy(&[]);
        let record = ground.record();
        assert!(record.complete && record.first_block == Some(1), "{record:?}");
        assert_eq!(record.addresses(), profile.addresses());
        for contract in HostContract::ALL {
            let address = contract.address(&profile.addresses());
            assert_eq!(summary["contracts"][contract.name()], address.to_checksum(None));
            assert!(!ground.host().code(address).await.unwrap().is_empty(), "{contract}");
        }
        assert!(
            record
                .steps
                .iter()
                .all(|step| step.transaction.is_some() && step.gas_used.is_some())
        );
        assert_eq!(ground.host().signing_domains().await.unwrap(), profile.domains);
        let coprocessors = ground.host().coprocessor_signers().await.unwrap();
        assert_eq!(
            (coprocessors.signers.as_slice(), coprocessors.threshold),
            (&[COPROCESSOR][..], U256::ONE)
        );
        assert_eq!(ground.host().kms_signers().await.unwrap().signers, [KMS]);
        let env = fs::read_to_string(ground.directory.path().join("addresses/.env.acl")).unwrap();
        assert_eq!(env, format!("ACL_CONTRACT_ADDRESS={}\n", profile.addresses().acl));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_deployment_is_left_alone_and_another_plan_is_refused() {
    let ground = Ground::deployed().await;
    let before = ground.record();
    let again = ground.deploy(&[]);
    assert_eq!(again["sent"], 0);
    assert_eq!(ground.record(), before);
    // Nothing needs to be said twice: the file says it.
    assert_eq!(json(ground.contracts(&["deploy"]))["sent"], 0);
    let errors = refused(ground.contracts(&["deploy", "--coprocessor", &signer(9)]));
    assert!(errors.contains("differs in the coprocessors"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_costs_what_the_deployment_then_costs_and_sends_nothing() {
    let ground = Ground::bare(31337).await;
    let dry = json(ground.deployment(&["--dry-run"]));
    assert_eq!(ground.node.chain().block_number().unwrap(), 0);
    assert!(!ground.file().exists());
    assert_eq!(dry["cost"]["isAffordable"], true);
    let (simulated, node) = (&dry["cost"]["nextStep"]["simulatedGas"], &dry["cost"]["nextStep"]["nodeEstimate"]);
    assert!(node.as_u64().unwrap() >= simulated.as_u64().unwrap(), "{simulated} {node}");
    let deployed = ground.deploy(&[]);
    assert_eq!(dry["gas"], deployed["gasUsed"]);
    assert_eq!(dry["steps"].as_array().unwrap().len(), ground.record().steps.len());
    assert_eq!(dry["contracts"], deployed["contracts"]);
}

#[test]
fn a_dry_run_needs_neither_a_node_nor_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let account = Address::repeat_byte(0x42).to_string();
    let mut command = crate::ground::contracts(&["deploy", "--dry-run", "--json", "--chain-id", "11155111", "--deployer", &account]);
    command
        .args(["--coprocessor", &COPROCESSOR.to_string(), "--kms-signer", &KMS.to_string()])
        .current_dir(directory.path());
    let dry = json(command);
    assert!(dry["gas"].as_u64().unwrap() > 1_000_000 && dry["cost"].is_null(), "{dry}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_signers_thresholds_pausers_face_and_domains_are_as_asked() {
    let ground = Ground::bare(31337).await;
    let more: Vec<String> = (1..=4).map(signer).collect();
    let owner = signer(0xaa);
    let mut arguments = vec![
        "--owner",
        &owner,
        "--face",
        "0.14",
        "--gateway-chain-id",
        "77",
        "--hcu-per-transaction",
        "6000000",
    ];
    for signer in &more {
        arguments.extend(["--kms-signer", signer.as_str()]);
    }
    ground.deploy(&arguments);
    let kms = ground.host().kms_signers().await.unwrap();
    assert_eq!((kms.signers.len(), kms.threshold), (5, U256::from(2)));
    assert_eq!(ground.host().signing_domains().await.unwrap().gateway_chain_id, 77);
    assert_eq!(ground.record().face, Face::V0_14);
    let status = json(ground.contracts(&["status"]));
    assert_eq!(status["face"], "0.14");
    assert_eq!(status["state"]["pendingOwner"], owner);
    assert_eq!(status["state"]["owner"], development::DEPLOYER.to_checksum(None));
    assert_eq!(status["state"]["hcuLimits"]["perTransactionHcu"], 6_000_000);
    // An owner that has not accepted yet is no finding.
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_deployer_of_its_own_deploys_the_gateway_contract() {
    let ground = Ground::bare(31337).await;
    let key = ground.directory.path().join("gateway.key");
    fs::write(&key, ground.node.accounts()[3].insecure_private_key_hex()).unwrap();
    ground.deploy(&["--gateway-deployer-key-file", key.to_str().unwrap()]);
    let account = ground.node.accounts()[3].address();
    assert_eq!(ground.record().contracts.gateway_contract, account.create(1));
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
    assert_eq!(json(ground.contracts(&["deploy"]))["sent"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_anything_is_sent() {
    let ground = Ground::bare(31337).await;
    let errors = refused(ground.contracts(&["deploy"]));
    assert!(errors.contains("--coprocessor"), "{errors}");
    let errors = refused(ground.deployment(&["--kms-threshold", "2"]));
    assert!(errors.contains("impossible"), "{errors}");
    let errors = refused(ground.deployment(&["--hcu-depth", "30000000"]));
    assert!(errors.contains("the contracts refuse"), "{errors}");
    let errors = refused(ground.deployment(&["--profile", "end-to-end"]));
    assert!(errors.contains("12345"), "{errors}");
    ground.node.chain().set_balance(development::DEPLOYER, U256::from(1)).unwrap();
    let errors = refused(ground.deployment(&[]));
    assert!(errors.contains("ether"), "{errors}");
    ground
        .node
        .chain()
        .set_balance(development::DEPLOYER, U256::from(u128::MAX))
        .unwrap();
    ground.node.chain().set_nonce(development::DEPLOYER, 1).unwrap();
    let errors = refused(ground.deployment(&[]));
    assert!(errors.contains("already sent"), "{errors}");
    assert!(!ground.file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn ether_that_is_worth_something_is_not_spent_without_being_asked() {
    let ground = Ground::bare(11_155_111).await;
    let key = ground.directory.path().join("key");
    fs::write(&key, ground.node.accounts()[0].insecure_private_key_hex()).unwrap();
    let arguments = ["--key-file", key.to_str().unwrap(), "--confirmations", "1"];
    let errors = refused(ground.deployment(&arguments));
    assert!(errors.contains("--yes"), "{errors}");
    assert_eq!(ground.node.chain().block_number().unwrap(), 0);
    ground.deploy(&[&arguments[..], &["--yes"]].concat());
    assert_eq!(
        ground.host().signing_domains().await.unwrap(),
        LocalProfile::of_new_chain(11_155_111)
    );
}
