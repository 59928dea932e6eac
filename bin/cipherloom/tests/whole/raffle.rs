//! The raffle of `examples/raffle`: rounds whose deciding number comes back as a call, also from a stack that is killed again and again.

use std::time::{Duration, Instant};

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::Address,
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{Filter, TransactionRequest},
    signers::local::{MnemonicBuilder, PrivateKeySigner},
    sol,
    sol_types::{SolEvent, SolValue},
};
use cipherloom_contracts::{bindings::GatewayContract, development};
use cipherloom_primitives::U256;
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::Value;

use crate::{
    dapp::{Examples, Stack, sent},
    process::{self, Running},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many rounds are drawn while the stack is killed.
const ROUNDS: u64 = 24;

/// How often the stack is killed.
const KILLS: u64 = 5;

const ALICE: usize = 1;
const BOB: usize = 2;

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    interface Raffle {
        event Drawing(uint256 indexed round, uint256 indexed requestID);

        function join() external;
        function draw() external returns (uint256 round);
        function winnerOf(uint256 round) external view returns (address);
        function finishedRounds() external view returns (uint256);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_round_is_won_by_one_of_its_players() {
    let stack = Stack::start().await;
    let gateway = development::addresses().gateway_contract;
    let code = Examples::Ours.artifact("raffle", "Raffle");
    let raffle = stack.deploy(ALICE, &code, &gateway.abi_encode()).await;
    for round in 0..3 {
        let (alice, bob) = (Raffle::new(raffle, stack.provider(ALICE)), Raffle::new(raffle, stack.provider(BOB)));
        sent!(alice.join());
        sent!(bob.join());
        sent!(bob.draw());
        let start = Instant::now();
        let winner = loop {
            let winner = bob.winnerOf(U256::from(round)).call().await.unwrap();
            if winner != Address::ZERO {
                break winner;
            }
            assert!(start.elapsed() < PATIENCE, "round {round} has no winner");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!([stack.address(ALICE), stack.address(BOB)].contains(&winner));
    }
    let metrics = reqwest::get(format!("{}/metrics", stack.gateway_url()))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let well = metrics
        .lines()
        .find(|line| line.starts_with("cipherloom_callbacks_condition") && line.contains("\"well\""));
    assert!(well.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
}

/// A stack that is killed and started again on a chain that goes on.
struct Killed {
    anvil: PrivateAnvil,
    directory: tempfile::TempDir,
}

impl Killed {
    fn start(&self) -> Running {
        let (url, data_dir) = (self.anvil.http_url(), self.directory.path().to_str().unwrap());
        let mut running = Running::start(&[
            "dev",
            "--json",
            "--insecure-clear",
            "--gateway-port",
            "0",
            "--rpc",
            &url,
            "--data-dir",
            data_dir,
        ]);
        running.wait_for("rpcUrl");
        running
    }

    fn provider(&self) -> DynProvider {
        let signer: PrivateKeySigner = MnemonicBuilder::from_phrase("test test test test test test test test test test test junk")
            .index(5)
            .unwrap()
            .build()
            .unwrap();
        ProviderBuilder::new()
            .wallet(EthereumWallet::from(signer))
            .connect_http(self.anvil.http_url().parse().unwrap())
            .erased()
    }
}

/// Random numbers from a seed.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_killed_again_and_again_delivers_each_answer_once() {
    let mut seed = 0x5eed_2026_u64;
    eprintln!("seed {seed:#x}");
    let killed = Killed {
        anvil: PrivateAnvil::start(&AnvilOptions {
            chain_id: development::HOST_CHAIN_ID,
            ..AnvilOptions::default()
        })
        .unwrap(),
        directory: tempfile::tempdir().unwrap(),
    };
    let mut running = killed.start();
    let provider = killed.provider();
    let artifact: Value = serde_json::from_str(&Examples::Ours.artifact("raffle", "Raffle")).unwrap();
    let code = alloy::primitives::hex::decode(artifact["bytecode"].as_str().unwrap()).unwrap();
    let gateway = development::addresses().gateway_contract;
    let create = TransactionRequest::default().with_deploy_code([code, gateway.abi_encode()].concat());
    let created = provider.send_transaction(create).await.unwrap().get_receipt().await.unwrap();
    let raffle = Raffle::new(created.contract_address.unwrap(), provider.clone());

    for kill in 0..KILLS {
        for _ in 0..ROUNDS / KILLS {
            sent!(raffle.join());
            sent!(raffle.draw());
        }
        tokio::time::sleep(Duration::from_millis(next(&mut seed) % 1_500)).await;
        running.kill();
        if kill == 0 {
            // Asked while nobody serves.
            for _ in 0..ROUNDS % KILLS {
                sent!(raffle.join());
                sent!(raffle.draw());
            }
        }
        running = killed.start();
    }
    let start = Instant::now();
    while raffle.finishedRounds().call().await.unwrap() != U256::from(ROUNDS) {
        assert!(
            start.elapsed() < PATIENCE,
            "{} rounds ended",
            raffle.finishedRounds().call().await.unwrap()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let filter = Filter::new()
        .address(gateway)
        .event_signature(GatewayContract::ResultCallback::SIGNATURE_HASH)
        .from_block(0);
    let logs = provider.get_logs(&filter).await.unwrap();
    let mut requests: Vec<U256> = logs
        .iter()
        .map(|log| {
            let delivered = GatewayContract::ResultCallback::decode_log(&log.inner).unwrap();
            assert!(delivered.success);
            delivered.requestID
        })
        .collect();
    requests.sort_unstable();
    assert_eq!(requests, (0..ROUNDS).map(U256::from).collect::<Vec<_>>());
    // Nothing was paid twice: each transaction of the relayer's has delivered something.
    let relayer = provider
        .get_transaction_by_hash(logs[0].transaction_hash.unwrap())
        .await
        .unwrap()
        .unwrap();
    let relayer = alloy::network::TransactionResponse::from(&relayer);
    assert_eq!(provider.get_transaction_count(relayer).await.unwrap(), ROUNDS);
    assert!(running.interrupt());

    let database = killed
        .directory
        .path()
        .join(format!("clear/chain-{}/gateway-jobs.sqlite", development::HOST_CHAIN_ID));
    let url = format!("sqlite:{}", database.display());
    let output = process::run(&["callbacks", "list", "--json", "--database-url", &url]);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed["sites"][0]["requests"]["fulfilled"], ROUNDS);
    let shown = process::run(&["callbacks", "show", "3", "--database-url", &url]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("fulfilled") && shown.contains("delivered by transaction"), "{shown}");
    let retried = process::run(&["callbacks", "retry", "3", "--database-url", &url]);
    assert!(!retried.status.success());
    assert!(String::from_utf8_lossy(&retried.stderr).contains("delivers once"));
}
