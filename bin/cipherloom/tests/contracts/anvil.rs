//! The whole command on a chain that is not ours.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use cipherloom_chain::{Deployment, LocalProfile};
use cipherloom_contracts::development;
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use tempfile::TempDir;

use crate::ground::{COPROCESSOR, KMS, contracts, json, signer};

/// Starts anvil with ether for the accounts of the published plans' mnemonic.
fn anvil(chain_id: u64, more: &[&str]) -> PrivateAnvil {
    let arguments = ["--mnemonic", development::INSECURE_DEPLOYER_MNEMONIC].iter().chain(more);
    PrivateAnvil::start(&AnvilOptions {
        chain_id,
        more: arguments.map(|argument| (*argument).to_owned()).collect(),
        ..AnvilOptions::default()
    })
    .unwrap()
}

fn on(anvil: &PrivateAnvil, directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = contracts(arguments);
    command.args(["--rpc", &anvil.http_url(), "--json"]).current_dir(directory.path());
    command
}

#[test]
fn deploy_verify_upgrade_and_change_signers_on_both_local_chains() {
    for profile in LocalProfile::ALL {
        let anvil = anvil(profile.chain_id(), &[]);
        let directory = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| json(on(&anvil, &directory, arguments));
        let (coprocessor, kms) = (COPROCESSOR.to_string(), KMS.to_string());
        let plan = ["deploy", "--coprocessor", &coprocessor, "--kms-signer", &kms];
        let dry = run(&[&plan[..], &["--dry-run"]].concat());
        let deployed = run(&plan);
        assert_eq!(
            deployed["contracts"],
            json(contracts(&["addresses", "--json", "--deployer", &profile.deployer.to_string()]))
        );
        assert_eq!(
            deployed["gasUsed"], dry["gas"],
            "what the simulation used is what another node's EVM uses"
        );
        assert_eq!(run(&plan)["sent"], 0);
        assert_eq!(run(&["verify"])["ok"], true);
        run(&["signers", "add", "coprocessor", &signer(1)]);
        let before = run(&["status"]);
        assert!(!run(&["upgrade", "--face", "0.14"])["upgraded"].as_array().unwrap().is_empty());
        let after = run(&["status"]);
        assert_eq!((after["face"].as_str(), &after["state"]), (Some("0.14"), &before["state"]));
        assert_eq!(run(&["verify"])["ok"], true);
    }
}

#[test]
fn a_deployment_that_is_killed_goes_on() {
    let anvil = anvil(31337, &["--block-time", "0.2"]);
    let directory = tempfile::tempdir().unwrap();
    let (coprocessor, kms) = (COPROCESSOR.to_string(), KMS.to_string());
    let plan = ["deploy", "--coprocessor", &coprocessor, "--kms-signer", &kms];
    // Progress for people tells when to strike: once between two steps' blocks, once among the implementations.
    for position in ["3/", "14/"] {
        let mut child = contracts(&plan)
            .args(["--rpc", &anvil.http_url()])
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let reached = lines.map_while(Result::ok).any(|line| line.trim_start().starts_with(position));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reached, "the deployment ended before step {position}");
    }
    let record = Deployment::read(&directory.path().join("deployment-31337.json")).unwrap();
    assert!(!record.complete && record.steps.len() >= 14, "{} steps", record.steps.len());
    let finished = json(on(&anvil, &directory, &plan));
    assert!(finished["sent"].as_u64().unwrap() > 0);
    let record = Deployment::read(&directory.path().join("deployment-31337.json")).unwrap();
    // No nonce was used twice or left out, and every transaction is known.
    assert!(
        record.complete
            && (0..)
                .zip(&record.steps)
                .all(|(nonce, step)| step.nonce == nonce && step.block.is_some())
    );
    assert_eq!(json(on(&anvil, &directory, &["verify"]))["ok"], true);
}

#[test]
fn legacy_transactions_and_blocks_that_take_their_time_work_too() {
    let anvil = anvil(31337, &["--block-time", "0.2"]);
    let directory = tempfile::tempdir().unwrap();
    let (coprocessor, kms) = (COPROCESSOR.to_string(), KMS.to_string());
    let plan = [
        "deploy",
        "--coprocessor",
        &coprocessor,
        "--kms-signer",
        &kms,
        "--legacy",
        "--confirmations",
        "2",
    ];
    json(on(&anvil, &directory, &plan));
    assert_eq!(json(on(&anvil, &directory, &["verify"]))["ok"], true);
}
