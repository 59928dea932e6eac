//! Addresses before anything is sent.

use std::fs;

use cipherloom_contracts::{HostAddresses, HostContract, development};

use crate::ground::{contracts, json, refused};

/// The key of the public mnemonic's index 5.
const KEY: &str = "7697c90f7863e6057fbe25674464e14b57f2c670b1a8ee0f60fb87eb9b615c4d";

fn acl_of(arguments: &[&str]) -> String {
    json(contracts(&[&["addresses", "--json"], arguments].concat()))["ACL"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn the_published_plans_come_out_with_checksums() {
    for (profile, acl, executor, config) in [
        (
            "31337",
            "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D",
            "0xe3a9105a3a932253A70F126eb1E3b589C643dD24",
            None,
        ),
        (
            "end-to-end",
            "0x05fD9B5EFE0a996095f42Ed7e77c390810CF660c",
            "0xcCAe95fF1d11656358E782570dF0418F59fA40e1",
            Some("0x52054F36036811ca418be59e41Fc6DD1b9e4F4c8"),
        ),
    ] {
        let addresses = json(contracts(&["addresses", "--profile", profile, "--json"]));
        assert_eq!(
            (addresses["ACL"].as_str(), addresses["FHEVMExecutor"].as_str()),
            (Some(acl), Some(executor))
        );
        if let Some(config) = config {
            assert_eq!(addresses["ProtocolConfig"], config);
        }
        assert_eq!(addresses.as_object().unwrap().len(), HostContract::ALL.len());
    }
}

#[test]
fn an_address_a_key_file_a_mnemonic_and_the_environment_give_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (key, words) = (directory.path().join("key"), directory.path().join("words"));
    fs::write(&key, format!("0x{KEY}\n")).unwrap();
    fs::write(&words, development::INSECURE_DEPLOYER_MNEMONIC).unwrap();
    let expected = "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D";
    assert_eq!(acl_of(&["--deployer", &development::DEPLOYER.to_string()]), expected);
    assert_eq!(acl_of(&["--key-file", key.to_str().unwrap()]), expected);
    assert_eq!(
        acl_of(&["--mnemonic-file", words.to_str().unwrap(), "--mnemonic-index", "5"]),
        expected
    );
    let mut command = contracts(&["addresses", "--json"]);
    command.env("PRIVATE_KEY_FHEVM_DEPLOYER", KEY);
    assert_eq!(json(command)["ACL"], expected);
}

#[test]
fn a_key_on_the_command_line_is_warned_of_and_not_repeated() {
    let output = contracts(&["addresses", "--insecure-key", KEY]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success());
    assert!(errors.contains("list of processes") && !errors.contains(KEY), "{errors}");
}

#[test]
fn without_an_account_nothing_is_guessed() {
    let errors = refused(contracts(&["addresses"]));
    assert!(errors.contains("--deployer") && errors.contains("--key-file"), "{errors}");
}

#[test]
fn the_files_of_the_earlier_generation_hold_the_same_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let variables = directory.path().join(".env");
    let gateway = development::DEPLOYER; // Of the same account here; only its nonce counts.
    fs::write(
        &variables,
        format!("PRIVATE_KEY_FHEVM_DEPLOYER=\"{KEY}\"\nPRIVATE_KEY_GATEWAY_DEPLOYER={KEY}\nADDRESS_COPROCESSOR=0xc9990FEfE0c27D31D0C2aa36196b085c0c4d456c\n"),
    )
    .unwrap();
    let out = directory.path().join("out");
    let addresses = json(contracts(&[
        "addresses",
        "--json",
        "--env-file",
        variables.to_str().unwrap(),
        "--write-env",
        out.to_str().unwrap(),
    ]));
    let expected = HostAddresses::of_deployers(development::DEPLOYER, gateway);
    assert_eq!(addresses["GatewayContract"], expected.gateway_contract.to_checksum(None));
    for (file, line) in [
        ("addresses/.env.acl", format!("ACL_CONTRACT_ADDRESS={}\n", expected.acl)),
        (
            "addresses/.env.exec",
            format!("TFHE_EXECUTOR_CONTRACT_ADDRESS={}\n", expected.executor),
        ),
        (
            "addresses/.env.kmsverifier",
            format!("KMS_VERIFIER_CONTRACT_ADDRESS={}\n", expected.kms_verifier),
        ),
        (
            "addresses/.env.inputverifier",
            format!("INPUT_VERIFIER_CONTRACT_ADDRESS={}\n", expected.input_verifier),
        ),
        (
            "addresses/.env.fhegaslimit",
            format!("FHE_PAYMENT_CONTRACT_ADDRESS={}\n", expected.hcu_limit),
        ),
        (
            "gateway/.env.gateway",
            format!("GATEWAY_CONTRACT_PREDEPLOY_ADDRESS={}\n", expected.gateway_contract),
        ),
        (
            "addresses/.env.gateway",
            format!("GATEWAY_CONTRACT_PREDEPLOY_ADDRESS={}\n", expected.gateway_contract),
        ),
        (
            "addresses/.env.coprocessor",
            "COPROCESSOR_ADDRESS=0xc9990FEfE0c27D31D0C2aa36196b085c0c4d456c\n".to_owned(),
        ),
    ] {
        assert_eq!(fs::read_to_string(out.join(file)).unwrap(), line, "{file}");
    }
}
