//! A stack that ends and comes back, and a chain that does.

use alloy::{primitives::Address, providers::Provider};
use cipherloom_client::{Client, ClientConfig, KeyTrust, PermitTerms};
use cipherloom_contracts::development;
use cipherloom_primitives::{Handle, U256};
use cipherloom_private_anvil::AnvilOptions;
use serde_json::Value;

use crate::foreign_chain::{ForeignChain, errors};

alloy::sol! {
    #[sol(rpc)]
    interface Token {
        function balanceOf(address account) external view returns (bytes32);
    }
}

#[test]
fn a_killed_stack_comes_back_with_its_contracts_and_values() {
    let chain = ForeignChain::start(31337);
    // The token that Alice deploys with her first transaction of the demo, once the deployer has its ether from her.
    let nonce = |chain: &ForeignChain| chain.nonce(development::DEPLOYER);
    let (dev, before) = chain.dev(&[]);
    dev.kill();
    let steps = nonce(&chain);
    let alice: Address = before["accounts"][0]["address"].as_str().unwrap().parse().unwrap();
    let first = chain.nonce(alice);
    chain.successful_demo("after a kill", &[]);

    let (dev, after) = chain.dev(&[]);
    assert_eq!(before["contracts"], after["contracts"]);
    assert_eq!(nonce(&chain), steps, "nothing is deployed again");
    let balance = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(balance_of(&after, alice.create(first)));
    assert_eq!(balance, U256::from(750), "what an earlier process recorded is still there");
    assert!(dev.interrupt());
}

#[test]
fn a_chain_that_begins_anew_gets_its_contracts_again() {
    let mut chain = ForeignChain::start(31337);
    chain.successful_demo("first", &[]);
    let port = chain.anvil.port();
    chain.begin_anew(AnvilOptions {
        chain_id: 31337,
        port,
        ..AnvilOptions::default()
    });
    chain.successful_demo("on a chain that began anew", &[]);
}

#[test]
fn a_stack_on_blocks_that_must_be_final_waits_for_them() {
    let chain = ForeignChain::with(AnvilOptions {
        chain_id: 31337,
        block_time_s: Some(1),
        ..AnvilOptions::default()
    });
    chain.successful_demo("with a finality of 2 blocks", &["--finality", "2"]);
}

#[test]
fn a_websocket_is_as_good() {
    let chain = ForeignChain::start(31337);
    let mut arguments = chain.arguments("demo", &[]);
    arguments[3] = chain.anvil.ws_url();
    let output = crate::foreign_chain::run(&arguments);
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn a_node_that_is_gone_is_replaced_by_the_next() {
    let chain = ForeignChain::start(31337);
    let mut arguments = chain.arguments("demo", &["--rpc", &chain.url()]);
    arguments[3] = "http://127.0.0.1:1".to_owned();
    let output = crate::foreign_chain::run(&arguments);
    assert!(output.status.success(), "{}", errors(&output));
}

/// Lets the first development account decrypt its balance.
async fn balance_of(summary: &Value, token: Address) -> U256 {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (rpc, gateway) = (text(&summary["rpcUrl"]), text(&summary["gatewayUrl"]));
    let config = ClientConfig::new(development::addresses(), development::signing_domains()).trusting(KeyTrust::InsecureAny);
    let client = Client::connect(&gateway, &rpc, config).await.unwrap();
    let owner: alloy::signers::local::PrivateKeySigner = text(&summary["accounts"][0]["privateKey"]).parse().unwrap();
    let provider = alloy::providers::ProviderBuilder::new().connect_http(rpc.parse().unwrap()).erased();
    let handle = Token::new(token, provider).balanceOf(owner.address()).call().await.unwrap();
    let permit = client.permit(&owner, PermitTerms::starting_now(vec![token], 1)).await.unwrap();
    let values = client
        .user_decrypt(&[(Handle::try_from(handle).unwrap(), token)], &permit)
        .await
        .unwrap();
    values[0].1.to_u256()
}
