//! Whose signatures the contracts accept.

use alloy::primitives::U256;
use cipherloom_contracts::development;

use crate::ground::{COPROCESSOR, Ground, KMS, json, refused, signer};

#[tokio::test(flavor = "multi_thread")]
async fn coprocessors_are_added_and_removed_and_thresholds_changed() {
    let ground = Ground::deployed().await;
    let (one, two) = (signer(1), signer(2));
    json(ground.contracts(&["signers", "add", "coprocessor", &one, &two, "--threshold", "2"]));
    let set = ground.host().coprocessor_signers().await.unwrap();
    assert_eq!((set.signers.len(), set.threshold), (3, U256::from(2)));
    assert_eq!(ground.record().coprocessors.threshold, 2);

    json(ground.contracts(&["signers", "threshold", "coprocessor", "--threshold", "3"]));
    assert_eq!(ground.host().coprocessor_signers().await.unwrap().threshold, U256::from(3));
    // Two cannot give three signatures.
    let errors = refused(ground.contracts(&["signers", "remove", "coprocessor", &one]));
    assert!(errors.contains("--threshold"), "{errors}");
    json(ground.contracts(&["signers", "remove", "coprocessor", &one, &two, "--threshold", "1"]));
    assert_eq!(ground.host().coprocessor_signers().await.unwrap().signers, [COPROCESSOR]);
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_nodes_change_with_a_context() {
    let ground = Ground::deployed().await;
    let before = ground.host().kms_context_id().await.unwrap();
    let others: Vec<String> = (1..=3).map(signer).collect();
    let add: Vec<&str> = ["signers", "add", "kms"]
        .into_iter()
        .chain(others.iter().map(String::as_str))
        .collect();
    json(
        ground.contracts(
            &[
                &add[..],
                &["--threshold", "2", "--user-decryption-threshold", "3", "--mpc-threshold", "1"],
            ]
            .concat(),
        ),
    );
    assert_eq!(ground.host().kms_context_id().await.unwrap(), before + U256::ONE);
    let listed = json(ground.contracts(&["signers", "list"]));
    assert_eq!(listed["kms"]["signers"].as_array().unwrap().len(), 4);
    assert_eq!(
        (
            &listed["kms"]["threshold"],
            &listed["userDecryptionThreshold"],
            &listed["mpcThreshold"]
        ),
        (&2.into(), &"3".into(), &"1".into())
    );
    assert_eq!(ground.record().kms.user_decryption_threshold, 3);
    json(ground.contracts(&["signers", "remove", "kms", &KMS.to_string(), "--threshold", "1"]));
    assert_eq!(ground.host().kms_signers().await.unwrap().signers.len(), 3);
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_changes_and_strangers_are_refused() {
    let ground = Ground::deployed().await;
    let errors = refused(ground.contracts(&["signers", "add", "coprocessor", &COPROCESSOR.to_string()]));
    assert!(errors.contains("signs already"), "{errors}");
    let errors = refused(ground.contracts(&["signers", "remove", "kms", &signer(5)]));
    assert!(errors.contains("signers list"), "{errors}");
    let errors = refused(ground.contracts(&["signers", "threshold", "kms"]));
    assert!(errors.contains("no threshold"), "{errors}");
    let key = ground.directory.path().join("stranger");
    std::fs::write(&key, ground.node.accounts()[0].insecure_private_key_hex()).unwrap();
    let errors = refused(ground.contracts(&["signers", "add", "coprocessor", &signer(5), "--key-file", key.to_str().unwrap()]));
    assert!(errors.contains("the owner of the contracts"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_printed_calls_send_nothing() {
    let ground = Ground::deployed().await;
    let block = ground.node.chain().block_number().unwrap();
    let dry = json(ground.contracts(&["signers", "add", "coprocessor", &signer(1), "--dry-run"]));
    assert!(dry["gas"].as_u64().unwrap() > 21_000);
    let printed = json(ground.contracts(&["signers", "add", "coprocessor", &signer(1), "--print-calls"]));
    assert_eq!(printed["owner"], development::DEPLOYER.to_checksum(None));
    assert_eq!(
        printed["calls"][0]["to"],
        ground.record().contracts.input_verifier.to_checksum(None)
    );
    assert_eq!(printed["calls"][0]["data"], dry["call"]["data"]);
    assert_eq!(ground.node.chain().block_number().unwrap(), block);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ownership_changes_in_two_steps() {
    let ground = Ground::deployed().await;
    let account = &ground.node.accounts()[0];
    let key = ground.directory.path().join("owner.key");
    std::fs::write(&key, account.insecure_private_key_hex()).unwrap();
    let key = key.to_str().unwrap();
    let new_owner = account.address().to_checksum(None);
    let errors = refused(ground.contracts(&["owner", "accept", "--key-file", key]));
    assert!(errors.contains("nobody"), "{errors}");
    json(ground.contracts(&["owner", "offer", &new_owner]));
    assert_eq!(json(ground.contracts(&["status"]))["state"]["pendingOwner"], new_owner);
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
    json(ground.contracts(&["owner", "accept", "--key-file", key]));
    assert_eq!(json(ground.contracts(&["status"]))["state"]["owner"], new_owner);
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
    // The former owner's key is of no use any more.
    let errors = refused(ground.contracts(&["signers", "add", "coprocessor", &signer(1)]));
    assert!(errors.contains("the owner of the contracts"), "{errors}");
    json(ground.contracts(&["signers", "add", "coprocessor", &signer(1), "--key-file", key]));
}
