//! Everything works, and goes on after a process was killed.

use std::time::Instant;

use cipherloom_client::ClientError;
use serde_json::Value;

use crate::{
    bank::Bank,
    network::{Network, eventually, exists, free_port, run},
    process::{self, Running},
};

/// Starts the KMS and the gateway of a chain, which read it through the full node.
fn start_kms_and_gateway(network: &Network, node: usize) -> [Running; 2] {
    let genesis = network.path("chain/genesis.json");
    assert!(exists(&genesis));
    let chain = format!(
        "insecure-keys = true\nmetrics-addr = \"127.0.0.1:0\"\n[[chain]]\nrpc-url = [\"{}\"]\nnative-genesis = \"{genesis}\"\n",
        network.rpc_url(node)
    );
    let kms = format!(
        "keys = \"{}\"\nsigning-key-file = \"{}\"\naudit-dir = \"{}\"\nserver-addr = \"127.0.0.1:{}\"\n{chain}",
        network.path("keys"),
        network.path("kms.key"),
        network.path("audit"),
        network.kms_port
    );
    let gateway = format!(
        "listen = \"127.0.0.1:{}\"\nkms-url = [\"http://127.0.0.1:{}\"]\nkeys = \"{}\"\njobs-in-memory = true\n{chain}",
        network.gateway_port,
        network.kms_port,
        network.path("keys")
    );
    let started = [("kms", kms), ("gateway", gateway)].map(|(name, config)| {
        let file = network.path(&format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        let config = format!("--config={file}");
        let command: &[&str] = if name == "kms" { &["kms", "node"] } else { &["gateway"] };
        Running::start(&[command, &[&config, "--json"]].concat())
    });
    let [mut kms, mut gateway] = started;
    kms.wait_for("ddress");
    gateway.wait_for("ddress");
    [kms, gateway]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_on_a_chain_of_processes_of_which_one_is_killed() {
    let mut network = Network::found(4, 1).await;
    network.start_all();
    let url = network.rpc_url(4);
    let bank = Bank::open(&url).await;
    let first = Instant::now();
    bank.mint(1, 1000).await;
    println!(
        "E2E native: a block with a mint, computed by four validators on one machine: {:.1} s",
        first.elapsed().as_secs_f64()
    );
    let _parts = start_kms_and_gateway(&network, 4);
    let client = bank.client(&format!("http://127.0.0.1:{}", network.gateway_port)).await;
    let block = bank.transfer(&client, 1, 2, 250).await;
    network.all_reach(&[0, 1, 2, 3, 4], block).await;
    assert_eq!(bank.balance(&client, 2, 2).await.unwrap(), 250);
    assert_eq!(bank.balance(&client, 1, 1).await.unwrap(), 750);
    let refused = bank.balance(&client, 2, 1).await;
    assert!(
        matches!(&refused, Err(ClientError::Server { label, .. }) if label == "not_allowed_on_host_acl"),
        "{refused:?}"
    );
    assert_eq!(bank.publish_supply(&client).await, 1000);

    network.kill(1);
    let block = bank.mint(1, 5).await;
    network.all_reach(&[0, 2, 3, 4], block).await;
    network.spawn(1, &["--embedded-executor"]);
    network.wait_for(1);
    network.all_reach(&[0, 1, 2, 3, 4], block + 1).await;
    assert_eq!(bank.balance(&client, 1, 1).await.unwrap(), 755);

    let url = network.rpc_url(1);
    eventually("the node that was killed is well", async || {
        process::run(&["node", "status", "--rpc-url", &url]).status.success()
    })
    .await;
    let told: Value = serde_json::from_slice(&run(&["node", "status", "--rpc-url", &url, "--json"])).unwrap();
    assert_eq!(told["troubles"], serde_json::json!([]), "{told}");
    // Whoever is told to stop stops well, and is back where it was.
    assert!(network.stop(1));
    network.spawn(1, &["--embedded-executor"]);
    network.wait_for(1);
    let block = bank.mint(1, 1).await;
    network.all_reach(&[0, 1, 2, 3, 4], block).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_wait_for_an_executor_that_was_killed() {
    let mut network = Network::found(4, 0).await;
    let address = format!("127.0.0.1:{}", free_port());
    let keys = network.path("keys");
    let executor = || {
        let mut running = Running::start(&["executor", "--keys", &keys, "--server-addr", &address, "--insecure-keys", "--json"]);
        running.wait_for("keySetId");
        running
    };
    let first = executor();
    let computing = format!("--executor-url=http://{address}");
    for number in 0..network.len() {
        network.spawn(number, &[&computing]);
    }
    for number in 0..network.len() {
        network.wait_for(number);
    }
    let bank = Bank::open(&network.rpc_url(0)).await;
    bank.mint(1, 1000).await;
    let before = bank.balance_handle(1).await;

    first.kill();
    bank.send_mint(1, 1).await;
    // Whatever blocks come meanwhile, none has the mint: its ciphertexts are missing.
    let height = network.height(0).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(bank.balance_handle(1).await, before, "a block was made without its ciphertexts");
    let _second = executor();
    eventually("the mint is in a block", async || bank.balance_handle(1).await != before).await;
    let now = network.height(0).await;
    assert!(now > height);
    network.all_reach(&[0, 1, 2, 3], now).await;
}
