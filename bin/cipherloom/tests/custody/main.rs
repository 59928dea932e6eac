//! The commands for the shares of a committee, run against four nodes: deal, back up, rotate, replace, restore.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod ground;
mod resharing;

use std::time::Duration;

use cipherloom_chain::Call;
use cipherloom_kms_node::{party::RunningParty, public::documents::NodeState};
use cipherloom_primitives::{Address, B256};

use self::ground::{Ground, becomes, refused, run};

alloy::sol! {
    function defineNewKmsEpoch() external;
}

async fn serve_epoch(parties: &[RunningParty], epoch: B256) {
    for party in parties {
        let mut changes = party.changes();
        let serves =
            changes.wait_for(|now| now.state == NodeState::Serving && now.share.as_ref().is_some_and(|share| share.epoch == epoch));
        let found = tokio::time::timeout(Duration::from_secs(60), serves).await;
        assert!(found.is_ok(), "{:?}", party.state());
    }
}

fn epoch_of(outcome: &serde_json::Value) -> B256 {
    assert_eq!(outcome["notActivated"], serde_json::json!([]), "{outcome}");
    outcome["epoch"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_dealt_backed_up_rotated_passed_on_and_restored_from_the_command_line() {
    let mut ground = Ground::new().await;
    ground.recovery_key(2, 3).await;
    let mut parties = Vec::new();
    for number in 1..=4 {
        parties.push(ground.start(number).await);
    }
    let signers: Vec<Address> = parties.iter().map(RunningParty::signer).collect();
    ground.register(signers.clone()).await;
    for party in &parties {
        becomes(party, NodeState::AwaitingCeremony).await;
    }

    // Without all nodes nothing is dealt, and the command says who is missing.
    let keys = ground.path("keys");
    let some = ground.nodes(&parties[..3]);
    let message = refused(&ground.kms("ceremony", &some, &["--insecure-keys", "--output", &keys])).await;
    assert!(message.contains(&signers[3].to_string()), "{message}");

    let all = ground.nodes(&parties);
    let dealt = run(&ground.kms("ceremony", &all, &["--insecure-keys", "--output", &keys, "--json"])).await;
    let first = epoch_of(&dealt);
    serve_epoch(&parties, first).await;
    let record = cipherloom_ceremony::Record::from_json(&std::fs::read(dealt["record"].as_str().unwrap()).unwrap()).unwrap();
    record.check().unwrap();
    for material in &record.core.material {
        let length = std::fs::metadata(ground.directory.path().join("keys").join(&material.name))
            .unwrap()
            .len();
        assert_eq!(length, material.size_bytes, "{}", material.name);
    }
    assert!(!ground.directory.path().join("keys/secret_key.bin").exists());

    // A backup of the first epoch, then new shares for everybody.
    let backups = ground.path("backups");
    let made = run(&ground.kms("backup", &all, &["--output", &backups, "--json"])).await;
    assert_eq!(made["backups"].as_array().unwrap().len(), 4);
    let old_backup = made["backups"][0]["file"].as_str().unwrap().to_owned();
    let records = ground.path("records");
    let rotated = run(&ground.kms("rotate", &all, &["--output", &records, "--json"])).await;
    let second = epoch_of(&rotated);
    assert!(second > first);
    begin_epoch(&ground).await;
    serve_epoch(&parties, second).await;
    // Delivered again, it changes nothing.
    let file = rotated["record"].as_str().unwrap();
    run(&ground.kms("activate", &all, &["--record", file, "--json"])).await;

    // The fourth machine is gone; a fifth takes its place.
    parties.pop().unwrap().shutdown(Duration::from_secs(5)).await;
    let fifth = ground.start(5).await;
    let message = refused(&ground.kms("replace-party", &ground.nodes(&parties), &["--output", &records])).await;
    assert!(message.contains("no node answers for"), "{message}");
    ground.register(vec![signers[0], signers[1], signers[2], fifth.signer()]).await;
    becomes(&fifth, NodeState::AwaitingCeremony).await;
    parties.push(fifth);
    let all = ground.nodes(&parties);
    let message = refused(&ground.kms("rotate", &all, &["--output", &records])).await;
    assert!(message.contains("kms reshare"), "{message}");
    let replaced = run(&ground.kms("replace-party", &all, &["--output", &records, "--json"])).await;
    let third = epoch_of(&replaced);
    assert!(third > second);
    serve_epoch(&parties, third).await;

    // The first machine is lost for good, and comes back from its backup on another one; the old backup is of no use.
    let made = run(&ground.kms("backup", &all, &["--output", &backups, "--json"])).await;
    let is_of_first = |backup: &&serde_json::Value| backup["signer"].as_str().unwrap().parse::<Address>().unwrap() == signers[0];
    let backup = made["backups"].as_array().unwrap().iter().find(is_of_first);
    let backup = backup.unwrap()["file"].as_str().unwrap();
    parties.remove(0).shutdown(Duration::from_secs(5)).await;
    let (new, card) = (ground.path("party-6"), ground.path("card.json"));
    let message = refused(&ground.recover("begin", &["--party-dir", &new, "--backup", &old_backup, "--card", &card])).await;
    assert!(message.contains("is over"), "{message}");
    ground
        .done("begin", &["--party-dir", &new, "--backup", backup, "--card", &card])
        .await;
    let mut pieces = Vec::new();
    for number in [1, 3] {
        let (piece, sealed) = (
            ground.path(&format!("recovery/piece-{number}.json")),
            ground.path(&format!("sealed-{number}.json")),
        );
        ground
            .done("piece", &["--card", &card, "--piece", &piece, "--output", &sealed])
            .await;
        pieces.push(sealed);
    }
    let message = refused(&ground.recover("finish", &["--party-dir", &new, "--backup", backup, "--piece", &pieces[0]])).await;
    assert!(message.contains("2 are needed"), "{message}");
    ground
        .done(
            "finish",
            &[
                "--party-dir",
                &new,
                "--backup",
                backup,
                "--piece",
                &pieces[0],
                "--piece",
                &pieces[1],
            ],
        )
        .await;
    let restored = ground.start(6).await;
    assert_eq!(restored.signer(), signers[0]);
    serve_epoch(&[restored], third).await;
}

async fn begin_epoch(ground: &Ground) {
    use alloy::sol_types::SolCall as _;
    let call = Call {
        name: "begin an epoch".to_owned(),
        to: Some(ground.host.addresses().protocol_config),
        data: defineNewKmsEpochCall {}.abi_encode().into(),
    };
    ground.send(&call).await;
}
