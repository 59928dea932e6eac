//! Everything a dApp does, on two chains through one gateway.

use std::time::Instant;

use cipherloom_chain::profile::{DEVELOPMENT, END_TO_END};
use serde_json::Value;

use crate::{
    deployment::{Deployment, Part, is_full, report, text},
    process::cipherloom,
    token::Bank,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_serves_two_chains_whose_parts_are_processes() {
    let mut deployment = Deployment::start(&[DEVELOPMENT, END_TO_END]).await;
    let version: Value = get_json(&format!("{}/version", deployment.gateway_url())).await;
    assert_eq!(version["chainIds"], serde_json::json!([31337, 12345]));

    let bank = Bank::open(&deployment.chains[0], &deployment.gateway_url()).await;
    let start = Instant::now();
    bank.mint(0, 1000).await;
    bank.transfer(0, 1, 250).await;
    assert_eq!(bank.balance(0, 0).await.unwrap(), 750);
    assert_eq!(bank.balance(1, 1).await.unwrap(), 250);
    assert_eq!(bank.publish_supply().await, 1000);
    let backend = if is_full() { "cpu" } else { "clear" };
    report(
        "encrypt, transfer, decrypt through processes",
        &format!("{:.1} s, {backend}", start.elapsed().as_secs_f64()),
    );

    // Who may not read is told so, in the words of the KMS.
    let refusal = bank.balance(0, 1).await.unwrap_err();
    assert_eq!(refusal.label(), Some("not_allowed_on_host_acl"), "{refusal}");
    let private = bank.balance_handle(0).await;
    let refusal = bank.client.public_decrypt(&[private]).await.unwrap_err();
    assert_eq!(refusal.label(), Some("not_allowed_on_host_acl"), "{refusal}");

    // The other chain has inputs of its own, signed for its own contracts.
    let other = &deployment.chains[1];
    let config = cipherloom_client::ClientConfig::new(other.profile.addresses(), other.profile.domains).trusting(match is_full() {
        true => cipherloom_client::KeyTrust::AnySecure,
        false => cipherloom_client::KeyTrust::InsecureAny,
    });
    let client = cipherloom_client::Client::connect(&deployment.gateway_url(), &other.anvil.http_url(), config)
        .await
        .unwrap();
    let input = client.encrypt(bank.token, bank.address(2)).add64(5).encrypt().await.unwrap();
    assert_eq!(input.handles[0].chain_id(), 12345);

    // Everything checks out from outside, too: keys hide nothing here, which was said explicitly.
    for arguments in [deployment.arguments(Part::Gateway), deployment.arguments(Part::Kms)] {
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.push("--check");
        let output = cipherloom(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["level"], "ok", "{report}");
    }
    let (gateway, kms) = (deployment.path("gateway.toml"), deployment.path("kms.toml"));
    let output = cipherloom(&["doctor", "--gateway-config", &gateway, "--kms-config", &kms, "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    // Every decryption stands in the audit log of its chain, the refused ones do not.
    let log = std::fs::read_to_string(deployment.file("audit/audit-31337.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
    for part in [Part::Gateway, Part::Kms, Part::Coprocessor] {
        assert!(deployment.stop(part), "{part:?} stops in order");
    }
}

async fn get_json(url: &str) -> Value {
    reqwest::get(url).await.unwrap().json().await.unwrap()
}
