//! `cipherloom dev --native`: whatever happens to the process, everything is there when it is started again.

use std::path::Path;

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, U256, hex},
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    sol,
    sol_types::SolValue,
};
use cipherloom_client::{Client, KeyTrust};
use cipherloom_contracts::development;
use serde_json::Value;

use crate::{
    bank::Bank,
    network::{CHAIN_ID, PATIENCE, eventually, json},
    process::{self, Running},
};

const RAFFLE: &str = include_str!("../../../../examples/raffle/artifacts/Raffle.json");

sol! {
    #[sol(rpc)]
    interface Raffle {
        function join() external;
        function draw() external returns (uint256 round);
        function winnerOf(uint256 round) external view returns (address);
    }
}

/// Starts a stack on toy parameters, and returns what it says.
fn start(directory: &Path, chain_id: u64) -> (Running, Value) {
    let mut running = Running::start(&[
        "dev",
        "--native",
        "--chain-id",
        &chain_id.to_string(),
        "--insecure-toy",
        "--json",
        "--rpc-port",
        "0",
        "--gateway-port",
        "0",
        "--data-dir",
        directory.to_str().unwrap(),
    ]);
    let summary = serde_json::from_str(&running.wait_for("rpcUrl")).unwrap();
    (running, summary)
}

/// A client of a stack on toy parameters.
async fn client_of(bank: &Bank, summary: &Value) -> Client {
    let gateway = summary["gatewayUrl"].as_str().unwrap();
    bank.client_that_trusts(gateway, KeyTrust::InsecureAny).await
}

/// What `sdk-config` prints for it, without the addresses of this run.
fn sdk_config(summary: &Value) -> Value {
    let (rpc, gateway) = (summary["rpcUrl"].as_str().unwrap(), summary["gatewayUrl"].as_str().unwrap());
    let mut config = json(&["sdk-config", "--json", "--rpc", rpc, "--gateway", gateway]);
    assert_eq!(config["network"], rpc);
    config["network"] = Value::Null;
    config["relayerUrl"] = Value::Null;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_killed_or_stopped_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (running, first) = start(directory.path(), CHAIN_ID);
    let config = sdk_config(&first);
    assert_eq!(config["chainId"], CHAIN_ID);
    let bank = Bank::open(first["rpcUrl"].as_str().unwrap()).await;
    bank.mint(1, 1000).await;
    let client = client_of(&bank, &first).await;
    bank.transfer(&client, 1, 2, 250).await;
    assert_eq!(bank.balance(&client, 2, 2).await.unwrap(), 250);
    running.kill();

    let (running, second) = start(directory.path(), CHAIN_ID);
    for kept in [
        "chainId",
        "genesisHash",
        "contracts",
        "verifyingContracts",
        "accounts",
        "gatewayChainId",
    ] {
        assert_eq!(second[kept], first[kept], "{kept}");
    }
    assert_eq!(sdk_config(&second), config);
    let bank = bank.at(second["rpcUrl"].as_str().unwrap());
    let client = client_of(&bank, &second).await;
    assert_eq!(bank.balance(&client, 1, 1).await.unwrap(), 750);
    // What was computed before is computed with.
    bank.transfer(&client, 2, 3, 50).await;
    assert_eq!(bank.balance(&client, 2, 2).await.unwrap(), 200);
    assert!(running.interrupt(), "Ctrl-C stops it well");

    let (running, third) = start(directory.path(), CHAIN_ID);
    let bank = bank.at(third["rpcUrl"].as_str().unwrap());
    let client = client_of(&bank, &third).await;
    assert_eq!(bank.balance(&client, 3, 3).await.unwrap(), 50);
    assert_eq!(bank.publish_supply(&client).await, 1000);
    // A chain keeps the validators that it began with.
    let data_dir = directory.path().to_str().unwrap();
    let chain_id = CHAIN_ID.to_string();
    assert!(running.interrupt());
    let refused = process::run(&[
        "dev",
        "--native",
        "--chain-id",
        &chain_id,
        "--validators",
        "7",
        "--insecure-toy",
        "--rpc-port",
        "0",
        "--gateway-port",
        "0",
        "--data-dir",
        data_dir,
    ]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && errors.contains("4 validators"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_for_the_local_chain_work_unchanged_and_get_their_answers() {
    let directory = tempfile::tempdir().unwrap();
    // The raffle's library knows where host contracts are on the chain with this id.
    let (running, summary) = start(directory.path(), development::HOST_CHAIN_ID);
    let key = summary["accounts"][1]["privateKey"].as_str().unwrap();
    let player: alloy::signers::local::PrivateKeySigner = key.parse().unwrap();
    let address = player.address();
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(player))
        .connect_http(summary["rpcUrl"].as_str().unwrap().parse().unwrap());
    let artifact: Value = serde_json::from_str(RAFFLE).unwrap();
    let code = hex::decode(artifact["bytecode"].as_str().unwrap()).unwrap();
    let gateway: Address = summary["contracts"]["GatewayContract"].as_str().unwrap().parse().unwrap();
    let create = TransactionRequest::default().with_deploy_code([code, gateway.abi_encode()].concat());
    let created = provider.send_transaction(create).await.unwrap().with_timeout(Some(PATIENCE));
    let raffle = Raffle::new(created.get_receipt().await.unwrap().contract_address.unwrap(), &provider);
    for sent in [raffle.join().into_transaction_request(), raffle.draw().into_transaction_request()] {
        let pending = provider.send_transaction(sent).await.unwrap().with_timeout(Some(PATIENCE));
        assert!(pending.get_receipt().await.unwrap().status());
    }
    eventually("the round has a winner", async || {
        raffle.winnerOf(U256::ZERO).call().await.unwrap() == address
    })
    .await;
    let metrics = format!("{}/metrics", summary["gatewayUrl"].as_str().unwrap());
    let page = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let well = page
        .lines()
        .find(|line| line.starts_with("cipherloom_callbacks_condition") && line.contains("\"well\""));
    assert!(well.is_some_and(|line| line.ends_with(" 1")), "{page}");
    assert!(running.interrupt());
}
