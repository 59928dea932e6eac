//! A committee of four gives its key to one of seven, from the command line; and an auditor follows the key back to where it was made.

use std::fs;

use cipherloom_kms_node::{party::RunningParty, public::documents::NodeState};
use cipherloom_primitives::Address;

use crate::{
    epoch_of,
    ground::{Ground, becomes, execute, refused, run},
    serve_epoch,
};

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Drafts the auditor's policy from what nodes are, which is nothing but simulated.
async fn policy_of(ground: &Ground, parties: &[RunningParty]) -> String {
    let file = ground.path("policy.json");
    let mut line: Vec<String> = ["kms", "policy", "make", "--name=test", "--allow-simulated", "--output", &file]
        .map(str::to_owned)
        .to_vec();
    line.extend(parties.iter().map(|party| format!("--node=http://{}", party.public_address())));
    let made = execute(&line).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_give_their_key_to_seven_and_auditors_follow_it_back() {
    let ground = Ground::new().await;
    let mut parties = Vec::new();
    for number in 1..=4 {
        parties.push(ground.start(number).await);
    }
    let four: Vec<Address> = parties.iter().map(RunningParty::signer).collect();
    ground.register(four.clone()).await;
    for party in &parties {
        becomes(party, NodeState::AwaitingCeremony).await;
    }
    let keys = ground.path("keys");
    let dealt = run(&ground.kms(
        "ceremony",
        &ground.nodes(&parties),
        &["--insecure-keys", "--output", &keys, "--json"],
    ))
    .await;
    let first = epoch_of(&dealt);
    serve_epoch(&parties, first).await;
    let origin = text(&dealt["record"]);

    // Three of the four stay, in other places; one leaves, and four come.
    for number in 5..=8 {
        parties.push(ground.start(number).await);
    }
    let seven: Vec<Address> = parties[1..].iter().rev().map(RunningParty::signer).collect();
    ground.register(seven.clone()).await;
    let records = ground.path("records");
    let as_jsons = ["--output", records.as_str(), "--json"];
    // The new ones alone cannot: two of the old ones that answer are too few.
    let message = refused(&ground.kms("reshare", &ground.nodes(&parties[2..]), &as_jsons)).await;
    assert!(message.contains(&seven[6].to_string()), "{message}");
    let message = refused(&ground.kms("rotate", &ground.nodes(&parties), &as_jsons)).await;
    assert!(message.contains("kms reshare"), "{message}");
    let message = refused(&ground.kms("replace-party", &ground.nodes(&parties), &as_jsons)).await;
    assert!(message.contains("kms reshare"), "{message}");
    serve_epoch_still(&parties[1..4]);
    let reshared = run(&ground.kms("reshare", &ground.nodes(&parties), &as_jsons)).await;
    let second = epoch_of(&reshared);
    assert!(second > first);
    assert_eq!(reshared["keySetId"], dealt["keySetId"], "the key is the same");
    assert_eq!(reshared["threshold"], 2);
    assert_eq!(reshared["members"], serde_json::json!(seven));
    serve_epoch(&parties[1..], second).await;
    // Whoever left has no file of a share any more.
    let files = fs::read_dir(ground.directory.path().join("party-1")).unwrap();
    let names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with("share-")), "{names:?}");

    // New shares once more, so that there are two steps back to the ceremony.
    let parties = parties.split_off(1);
    let between = text(&reshared["record"]);
    let rotated = run(&ground.kms("rotate", &ground.nodes(&parties), &as_jsons)).await;
    let third = epoch_of(&rotated);
    crate::begin_epoch(&ground).await;
    serve_epoch(&parties, third).await;

    let policy = policy_of(&ground, &parties).await;
    let unknown = "NOT CHECKED: where the key comes from";
    let made = "the key was made in the hardware of the dealer";
    for (earlier, found, not_found) in [
        (vec![], unknown, made),
        // A step is missing, on either side.
        (vec![between.as_str()], unknown, made),
        (vec![origin.as_str()], unknown, made),
        (vec![origin.as_str(), between.as_str()], made, unknown),
    ] {
        let (code, said) = ground.verify(&policy, &parties, &earlier).await;
        // What clients encrypt to is not looked at, for want of a gateway.
        assert_eq!(code, Some(1), "{earlier:?}: {said}");
        assert!(said.contains("all 7 members signed it"), "{said}");
        assert!(said.contains("all 7 registered signers were looked at"), "{said}");
        assert!(said.contains(found) && !said.contains(not_found), "{earlier:?}: {said}");
    }
    // An earlier record that somebody has changed is none that the newest one names, or does not hold.
    let changed = fs::read_to_string(&origin)
        .unwrap()
        .replacen(&format!("{first}"), &format!("{second}"), 1);
    let forged = ground.path("forged.json");
    fs::write(&forged, changed).unwrap();
    let (code, said) = ground.verify(&policy, &parties, &[&forged, &between]).await;
    assert!(matches!(code, Some(1 | 2)) && !said.contains(made), "{said}");
    fs::write(&forged, "{}").unwrap();
    let (code, said) = ground.verify(&policy, &parties, &[&forged]).await;
    assert_eq!(code, Some(2), "{said}");
}

/// A resharing that failed has changed nothing.
fn serve_epoch_still(parties: &[RunningParty]) {
    for party in parties {
        assert!(party.state().share.is_some(), "{:?}", party.state());
    }
}
