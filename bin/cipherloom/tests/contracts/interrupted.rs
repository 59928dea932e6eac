//! Deployments that are stopped, and go on.

use std::fs;

use alloy::signers::local::PrivateKeySigner;
use cipherloom_chain::{HostChain, LocalProfile, SendOptions, TransactionSender, deploy_steps, profile};
use cipherloom_contracts::{SignerSet, deployment_steps};

use crate::ground::{COPROCESSOR, Ground, KMS, json};

fn deployer() -> PrivateKeySigner {
    profile::DEVELOPMENT.insecure_deployer().unwrap()
}

fn chain(ground: &Ground) -> HostChain {
    HostChain::connect(&ground.node.rpc_url(), profile::DEVELOPMENT.addresses()).unwrap()
}

fn steps() -> Vec<cipherloom_contracts::DeploymentStep> {
    let profile: LocalProfile = profile::DEVELOPMENT;
    deployment_steps(&profile.deployment(SignerSet::single(COPROCESSOR), SignerSet::single(KMS)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_goes_on_after_any_step_with_or_without_its_file() {
    let ground = Ground::bare(31337).await;
    let steps = steps();
    let blank = ground.node.chain().snapshot().unwrap();
    let mut snapshot = blank;
    for done in 1..steps.len() {
        assert!(ground.node.chain().revert(snapshot).unwrap());
        snapshot = ground.node.chain().snapshot().unwrap();
        let _ = fs::remove_file(ground.file());
        let mut sender = TransactionSender::new(&chain(&ground), deployer(), SendOptions::default())
            .await
            .unwrap();
        deploy_steps(&chain(&ground), &steps[..done], &mut sender, &mut |_| {})
            .await
            .unwrap();
        // Every third time the whole way, since the binary takes a moment each.
        if done % 3 == 0 {
            let summary = ground.deploy(&[]);
            assert_eq!(summary["sent"], steps.len() - done);
            let record = ground.record();
            assert_eq!(record.steps.len(), steps.len());
            assert_eq!(record.first_block, Some(1));
            assert_eq!(json(ground.contracts(&["verify"]))["ok"], true, "after {done} steps");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_is_made_again() {
    let ground = Ground::deployed().await;
    let before = ground.record();
    fs::remove_file(ground.file()).unwrap();
    assert_eq!(ground.deploy(&[])["sent"], 0);
    let after = ground.record();
    assert_eq!(after.implementations, before.implementations);
    assert_eq!((after.complete, after.first_block), (true, Some(1)));
    assert_eq!(json(ground.contracts(&["verify"]))["ok"], true);
}
