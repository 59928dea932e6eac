//! Upgrades that keep what is stored, and those that would not.

use std::{fs, path::Path};

use cipherloom_contracts::{Face, HostContract, development};
use serde_json::Value;

use crate::ground::{COPROCESSOR, Ground, KMS, json, refused, signer};

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../contracts")
        .join(path)
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_face_upgrades_what_speaks_of_it_and_keeps_everything() {
    let ground = Ground::deployed().await;
    json(ground.contracts(&["signers", "add", "coprocessor", &signer(1)]));
    let before = json(ground.contracts(&["status"]));
    let dry = json(ground.contracts(&["upgrade", "--face", "0.14", "--dry-run"]));
    let report = json(ground.contracts(&["upgrade", "--face", "0.14"]));
    let upgraded = report["upgraded"].as_array().unwrap();
    assert_eq!(upgraded.len(), dry["upgrades"].as_array().unwrap().len());
    let names: Vec<_> = upgraded.iter().map(|upgrade| upgrade["contract"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"ACL") && names.contains(&"KMSVerifier") && !names.contains(&"InputVerifier"),
        "{names:?}"
    );
    assert!(
        upgraded
            .iter()
            .all(|upgrade| upgrade["changedWords"].as_array().unwrap().is_empty()),
        "{report}"
    );

    let after = json(ground.contracts(&["status"]));
    assert_eq!((after["face"].as_str(), &after["state"]), (Some("0.14"), &before["state"]));
    let record = ground.record();
    assert_eq!((record.face, record.upgrades.len()), (Face::V0_14, names.len()));
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
    // Nothing is left to do, and the way back is open.
    assert_eq!(json(ground.contracts(&["upgrade"]))["upgraded"].as_array().unwrap().len(), 0);
    json(ground.contracts(&["upgrade", "--face", "0.12"]));
    assert_eq!(json(ground.contracts(&["status"]))["face"], "0.12");
    // A stack that starts on an upgraded chain sends nothing of the deployment again.
    assert_eq!(
        json(ground.contracts(&["deploy", "--deployment", ground.file().to_str().unwrap()]))["sent"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_implementation_of_ones_own_is_checked_against_what_is_stored() {
    let ground = Ground::deployed().await;
    let artifact = repository("artifacts/ACL.json");
    let layout = repository("snapshots/storage/ACL.json");
    let upgrade = |layout: &str| ground.contracts(&["upgrade", "ACL", "--artifact", &artifact, "--storage-layout", layout]);

    let mut doctored: Value = serde_json::from_slice(&fs::read(&layout).unwrap()).unwrap();
    let namespace = doctored["namespaces"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|namespace| !namespace["members"].as_array().unwrap().is_empty());
    namespace.unwrap()["members"][0]["label"] = "somethingElse".into();
    let path = ground.directory.path().join("doctored.json");
    fs::write(&path, doctored.to_string()).unwrap();
    let errors = refused(upgrade(path.to_str().unwrap()));
    assert!(errors.contains("misread") && errors.contains("somethingElse"), "{errors}");
    let errors = refused(ground.contracts(&["upgrade", "ACL", "--artifact", &artifact]));
    assert!(errors.contains("--storage-layout"), "{errors}");
    let errors = refused(ground.contracts(&["upgrade", "--artifact", &artifact]));
    assert!(errors.contains("name it"), "{errors}");

    let before = ground.record().implementations[&HostContract::Acl].address;
    json(upgrade(&layout));
    let record = ground.record();
    assert_ne!(record.implementations[&HostContract::Acl].address, before);
    assert_eq!(record.upgrades[0].from, before);
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pauser_set_and_strangers_cannot_be_upgraded_or_upgrade() {
    let ground = Ground::deployed().await;
    let errors = refused(ground.contracts(&["upgrade", "PauserSet", "--force"]));
    assert!(errors.contains("brake"), "{errors}");
    let key = ground.directory.path().join("stranger");
    fs::write(&key, ground.node.accounts()[0].insecure_private_key_hex()).unwrap();
    let key = key.to_str().unwrap();
    let errors = refused(ground.contracts(&["upgrade", "ACL", "--force", "--key-file", key]));
    assert!(errors.contains("the owner of the contracts"), "{errors}");
    // A stranger may create the implementation, and the owner sends the rest.
    let printed = json(ground.contracts(&["upgrade", "ACL", "--force", "--key-file", key, "--print-calls"]));
    assert_eq!(printed["owner"], development::DEPLOYER.to_checksum(None));
    assert_eq!(printed["calls"][0]["to"], ground.record().contracts.acl.to_checksum(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_an_unknown_layout_is_upgraded_only_at_the_users_risk() {
    let ground = Ground::deployed().await;
    let implementation = ground.record().implementations[&HostContract::HcuLimit].address;
    let mut code = ground.host().code(implementation).await.unwrap().to_vec();
    code.push(0);
    ground.node.chain().set_code(implementation, code.into()).unwrap();
    let errors = refused(ground.contracts(&["upgrade", "HCULimit"]));
    assert!(errors.contains("--insecure-skip-storage-check"), "{errors}");
    json(ground.contracts(&["upgrade", "HCULimit", "--insecure-skip-storage-check"]));
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
    assert_eq!(ground.host().coprocessor_signers().await.unwrap().signers, [COPROCESSOR]);
    assert_eq!(ground.host().kms_signers().await.unwrap().signers, [KMS]);
}
