//! Contracts ask for decryptions and get each answer once, although the gateway that brings them is killed, and a validator too.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, U256, hex},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{Filter, TransactionRequest},
    signers::local::{MnemonicBuilder, PrivateKeySigner},
    sol,
    sol_types::{SolEvent, SolValue},
};
use cipherloom_contracts::{bindings::GatewayContract, development};
use cipherloom_node::{DEPLOYER_MNEMONIC, DEV_MNEMONIC};
use serde_json::Value;

use crate::{
    network::{Network, PATIENCE, eventually, is_full},
    parts::{Gateway, jobs_database, start_kms},
    process::{self, Running},
};

/// The chain whose host contracts the raffle's library knows.
const CHAIN_ID: u64 = 31_337;

const ARTIFACT: &str = include_str!("../../../../examples/raffle/artifacts/Raffle.json");

/// How often the gateway is killed.
const KILLS: u64 = 3;

/// How many answers are asked for while it runs, and how many while it does not, each time.
const ASKED: (u64, u64) = (2, 1);

sol! {
    #[sol(rpc)]
    interface Raffle {
        function join() external;
        function draw() external returns (uint256 round);
        function winnerOf(uint256 round) external view returns (address);
        function finishedRounds() external view returns (uint256);
    }
}

/// A chain with its KMS, and a gateway whose relay is paid by the contracts' owner.
struct Site {
    network: Network,
    _kms: Running,
}

impl Site {
    async fn start() -> Self {
        let mut network = Network::found_as(CHAIN_ID, 4, 0).await;
        network.start_all();
        let owner = account(DEPLOYER_MNEMONIC, development::DEPLOYER_INDEX);
        assert_eq!(owner.address(), development::DEPLOYER);
        std::fs::write(network.path("relayer.key"), hex::encode(owner.to_bytes())).unwrap();
        let kms = start_kms(&network);
        Self { network, _kms: kms }
    }

    /// Starts the gateway with what it has kept.
    fn gateway(&self) -> Gateway {
        let more = format!("callbacks-relayer-key-file = \"{}\"\n", self.network.path("relayer.key"));
        Gateway::start(&self.network, &more)
    }

    fn provider(&self) -> DynProvider {
        ProviderBuilder::new()
            .wallet(EthereumWallet::from(account(DEV_MNEMONIC, 1)))
            .connect_http(self.network.rpc_url(0).parse().unwrap())
            .erased()
    }
}

fn account(mnemonic: &str, index: u32) -> PrivateKeySigner {
    let builder = MnemonicBuilder::from_phrase(mnemonic);
    builder.index(index).unwrap().build().unwrap()
}

/// Joins a round and closes it, which asks for a decryption.
async fn ask(raffle: &Raffle::RaffleInstance<DynProvider>, times: u64) {
    for _ in 0..times {
        for call in [raffle.join().into_transaction_request(), raffle.draw().into_transaction_request()] {
            let sent = raffle.provider().send_transaction(call).await.unwrap();
            let receipt = sent.with_timeout(Some(PATIENCE)).get_receipt().await.unwrap();
            assert!(receipt.status());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_comes_once_although_the_gateway_and_a_validator_are_killed() {
    let mut site = Site::start().await;
    let mut gateway = site.gateway();
    let provider = site.provider();
    let contract = development::addresses().gateway_contract;
    let paid_before = provider.get_transaction_count(development::DEPLOYER).await.unwrap();
    let artifact: Value = serde_json::from_str(ARTIFACT).unwrap();
    let code = hex::decode(artifact["bytecode"].as_str().unwrap()).unwrap();
    let create = TransactionRequest::default().with_deploy_code([code, contract.abi_encode()].concat());
    let created = provider.send_transaction(create).await.unwrap();
    let created = created.with_timeout(Some(PATIENCE)).get_receipt().await.unwrap();
    let raffle = Raffle::new(created.contract_address.unwrap(), provider.clone());

    // On production parameters one kill is enough.
    let kills = if is_full() { 1 } else { KILLS };
    for kill in 0..kills {
        ask(&raffle, ASKED.0).await;
        gateway.kill();
        if kill + 1 == kills {
            site.network.kill(3);
        }
        // Asked while nobody serves.
        ask(&raffle, ASKED.1).await;
        gateway = site.gateway();
    }
    let rounds = kills * (ASKED.0 + ASKED.1);
    eventually("all rounds have winners", async || {
        raffle.finishedRounds().call().await.unwrap() == U256::from(rounds)
    })
    .await;
    let player = account(DEV_MNEMONIC, 1).address();
    for round in 0..rounds {
        let winner: Address = raffle.winnerOf(U256::from(round)).call().await.unwrap();
        assert_eq!(winner, player, "the only player of round {round}");
    }

    let delivered = Filter::new()
        .address(contract)
        .event_signature(GatewayContract::ResultCallback::SIGNATURE_HASH)
        .from_block(0);
    let mut requests: Vec<U256> = Vec::new();
    for log in provider.get_logs(&delivered).await.unwrap() {
        let delivered = GatewayContract::ResultCallback::decode_log(&log.inner).unwrap();
        assert!(delivered.success);
        requests.push(delivered.requestID);
    }
    requests.sort_unstable();
    assert_eq!(requests, (0..rounds).map(U256::from).collect::<Vec<_>>());
    // Nothing was paid twice: each transaction of the relay's has delivered something.
    let paid = provider.get_transaction_count(development::DEPLOYER).await.unwrap() - paid_before;
    assert_eq!(paid, rounds);

    // Whoever was away has all of it too.
    site.network.spawn(3, &["--embedded-executor"]);
    site.network.wait_for(3);
    let height = site.network.height(0).await;
    site.network.all_reach(&[0, 1, 2, 3], height).await;
    // What the chain says is noted a moment later.
    let noted = format!("cipherloom_callbacks_requests{{site=\"chain-{CHAIN_ID}\",state=\"fulfilled\"}} {rounds}");
    eventually("the gateway has noted all answers", async || gateway.counts(&noted).await).await;
    assert!(gateway.stop());
    let listed = process::run(&["callbacks", "list", "--json", "--database-url", &jobs_database(&site.network)]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["sites"][0]["name"], format!("chain-{CHAIN_ID}"), "{listed}");
    assert_eq!(listed["sites"][0]["requests"]["fulfilled"], rounds, "{listed}");
}
