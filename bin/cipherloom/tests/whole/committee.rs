//! A development stack whose KMS is a committee of real threshold nodes, on toy parameters.

use std::collections::BTreeSet;

use cipherloom_client::{Client, ClientConfig, KeyTrust, PermitTerms};
use cipherloom_contracts::development;
use cipherloom_primitives::{Address, Handle, U256};
use serde_json::Value;

use crate::process::{self, Running};

alloy::sol! {
    #[sol(rpc)]
    interface Token {
        function balanceOf(address account) external view returns (bytes32);
    }
}

const COMMITTEE: [&str; 2] = ["--insecure-toy", "--kms-nodes"];

fn dev(data_dir: &str) -> (Running, Value) {
    let options = ["dev", "--json", "--data-dir", data_dir, "--rpc-port", "0", "--gateway-port", "0"];
    let mut dev = Running::start(&[&options[..], &COMMITTEE].concat());
    let summary = serde_json::from_str(&dev.wait_for("rpcUrl")).unwrap();
    (dev, summary)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn signers(summary: &Value) -> Vec<Address> {
    let nodes = summary["kmsNodes"].as_array().unwrap().iter();
    nodes.map(|node| text(&node["signer"]).parse().unwrap()).collect()
}

/// Lets Bob decrypt what the first token of the demo gave him.
async fn balance_of_bob(summary: &Value) -> U256 {
    let (rpc, gateway) = (text(&summary["rpcUrl"]), text(&summary["gatewayUrl"]));
    let config = ClientConfig::new(development::addresses(), development::signing_domains()).trusting(KeyTrust::InsecureAny);
    let client = Client::connect(gateway, rpc, config).await.unwrap();
    let alice: Address = text(&summary["accounts"][0]["address"]).parse().unwrap();
    let bob: alloy::signers::local::PrivateKeySigner = text(&summary["accounts"][1]["privateKey"]).parse().unwrap();
    let provider = alloy::providers::ProviderBuilder::new().connect_http(rpc.parse().unwrap());
    let token = Token::new(alice.create(0), provider);
    let handle = Handle::try_from(token.balanceOf(bob.address()).call().await.unwrap()).unwrap();
    let permit = client
        .permit(&bob, PermitTerms::starting_now(vec![*token.address()], 1))
        .await
        .unwrap();
    let values = client.user_decrypt(&[(handle, *token.address())], &permit).await.unwrap();
    values[0].1.to_u256()
}

#[test]
fn a_committee_decrypts_without_one_of_its_nodes_and_after_the_stack_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let summary = process::demo(directory.path(), &COMMITTEE);
    assert_eq!(summary["ok"], true, "{summary}");
    let steps: Vec<&str> = summary["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| text(&step["name"]))
        .collect();
    assert!(steps.contains(&"stop KMS node 4, and let Bob decrypt without"), "{steps:?}");

    let (dev_stack, first) = dev(data_dir);
    assert_eq!(signers(&first).iter().collect::<BTreeSet<_>>().len(), 4, "{first}");
    dev_stack.kill();

    let (dev_stack, second) = dev(data_dir);
    assert_eq!(signers(&second), signers(&first), "nodes keep their keys");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(balance_of_bob(&second)), U256::from(250));
    let metrics = runtime.block_on(async {
        let url = format!("{}/metrics", text(&second["gatewayUrl"]));
        reqwest::get(url).await.unwrap().text().await.unwrap()
    });
    for party in 1..=4 {
        let answered = format!("cipherloom_gateway_kms_node_calls_total{{party=\"{party}\",call=\"user_share\",outcome=\"answered\"}} 1");
        assert!(metrics.contains(&answered), "{metrics}");
    }
    assert!(dev_stack.interrupt(), "an interrupted stack stops in order");
}

#[test]
fn a_stack_with_one_kms_and_one_with_a_committee_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    assert_eq!(process::demo(directory.path(), &["--insecure-toy"])["ok"], true);
    let (dev_stack, summary) = dev(data_dir);
    assert_eq!(signers(&summary).len(), 4);
    assert!(dev_stack.interrupt());
    let options = ["dev", "--kms-nodes", "--insecure-clear", "--data-dir", data_dir];
    let refused = process::run(&options);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be used with"));
}
