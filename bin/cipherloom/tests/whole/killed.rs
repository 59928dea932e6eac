//! Real TFHE with production parameters: keys are generated, the demo is killed while it computes, and the next start finishes what was recorded.

use cipherloom_client::{Client, ClientConfig, PermitTerms};
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

#[test]
fn recorded_work_survives_a_kill_and_the_demo_succeeds_on_real_tfhe() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();

    let mut demo = Running::start(&["demo", "--data-dir", data_dir]);
    // The first operation of the transfer; deployment and mint have none that compares.
    let computing = demo.wait_for("computing fheLe");
    demo.kill();

    let mut dev = Running::start(&["dev", "--json", "--data-dir", data_dir, "--rpc-port", "0", "--gateway-port", "0"]);
    let summary: Value = serde_json::from_str(&dev.wait_for("rpcUrl")).unwrap();
    assert_eq!(summary["backend"], "cpu");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(balance_of(&summary, 0)), U256::from(750));
    assert_eq!(runtime.block_on(balance_of(&summary, 1)), U256::from(250));
    assert_explained(&computing, summary["rpcUrl"].as_str().unwrap(), directory.path());
    assert!(dev.interrupt(), "an interrupted stack stops in order");

    // The same directory again: keys, contracts and the first token are there, and a second token is transferred.
    let summary = process::demo(directory.path(), &[]);
    assert_eq!(
        (&summary["ok"], &summary["backend"]),
        (&Value::Bool(true), &Value::String("cpu".to_owned()))
    );
    assert_eq!(
        (summary["balances"]["alice"].as_u64(), summary["balances"]["bob"].as_u64()),
        (Some(750), Some(250))
    );
}

/// Lets one of the development accounts decrypt its balance of the token that the killed demo deployed.
async fn balance_of(summary: &Value, account: usize) -> U256 {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (rpc, gateway) = (text(&summary["rpcUrl"]), text(&summary["gatewayUrl"]));
    let config = ClientConfig::new(development::addresses(), development::signing_domains());
    let client = Client::connect(&gateway, &rpc, config).await.unwrap();

    let alice: Address = text(&summary["accounts"][0]["address"]).parse().unwrap();
    let owner: alloy::signers::local::PrivateKeySigner = text(&summary["accounts"][account]["privateKey"]).parse().unwrap();
    let provider = alloy::providers::ProviderBuilder::new().connect_http(rpc.parse().unwrap());
    let token = Token::new(alice.create(0), provider);
    let handle = Handle::try_from(token.balanceOf(owner.address()).call().await.unwrap()).unwrap();

    let permit = client
        .permit(&owner, PermitTerms::starting_now(vec![*token.address()], 1))
        .await
        .unwrap();
    let values = client.user_decrypt(&[(handle, *token.address())], &permit).await.unwrap();
    values[0].1.to_u256()
}

/// Has the transfer explained, whose hash stands in a line of the demo's story.
fn assert_explained(line: &str, rpc_url: &str, directory: &std::path::Path) {
    let hash = line.split([' ', ',', ':']).find(|word| word.starts_with("0x")).unwrap();
    let picture = directory.join("graph.dot");
    let output = process::run(&["graph", "explain", hash, "--rpc-url", rpc_url, "--dot", picture.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A comparison, a choice with zero and a subtraction on 64 bits, one bootstrap per block each. The addition to Bob's balance costs
    // nothing: it was never written, and the rules see that adding zero changes nothing.
    assert!(text.contains("96 with\n"), "{text}");
    assert!(text.contains("neutral-element"), "{text}");
    assert!(std::fs::read_to_string(picture).unwrap().starts_with("digraph"));

    let unknown = process::run(&["graph", "explain", &format!("0x{}", "11".repeat(32)), "--rpc-url", rpc_url]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("has no transaction"));
}
