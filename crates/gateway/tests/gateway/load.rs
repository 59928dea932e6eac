//! Many requests and many polls at the same time: nothing is lost, whatever the time it takes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cipherloom_gateway::{Config, Gateway};
use cipherloom_store::{Database, SqliteStore};

use crate::{
    client::Client,
    services::{CHAIN, public_body},
    steady::{self, decrypted_value, numbered},
};

/// How many clients decrypt at the same time.
const CLIENTS: u64 = 200;
/// How many connections poll beside them, each every 20 ms: 1,000 polls a second together.
const POLLERS: u64 = 20;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// What a decryption takes; as long as the decryption of some real values.
const LATENCY: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_concurrent_decryptions_while_polling_at_a_thousand_a_second_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("jobs.sqlite")).await.unwrap();
    let services = steady::services(LATENCY, Some(store.gateway_jobs("load")));
    let gateway = Gateway::start(Config::new(CHAIN), services).await.unwrap();
    let address = gateway.address();

    let mut first = Client::connect(address).await;
    let known = submit(&mut first, 0).await;
    let (stop, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let pollers: Vec<_> = (0..POLLERS)
        .map(|_| {
            let (known, stop, polls) = (known.clone(), Arc::clone(&stop), Arc::clone(&polls));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut ticks = tokio::time::interval(POLL_INTERVAL);
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let status = client.get(&known).await.status;
                    assert!([200, 202].contains(&status), "{status}");
                    polls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    for round in 1..=3 {
        let clients = (0..CLIENTS).map(|client| tokio::spawn(decrypt(address, round * CLIENTS + client)));
        for client in futures_util::future::join_all(clients).await {
            client.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for poller in pollers {
        poller.await.unwrap();
    }
    assert!(polls.load(Ordering::Relaxed) >= POLLERS * 3, "there were next to no polls");
    gateway.shutdown().await;
    let totals = store.gateway_jobs("load").totals().await.unwrap();
    assert_eq!(totals.finished, 3 * CLIENTS + 1, "every answer is recorded");
}

async fn submit(client: &mut Client, number: u64) -> String {
    let response = client.post("/v2/public-decrypt", &public_body(&[numbered(number)])).await;
    assert_eq!(response.status, 202, "{}", response.json());
    format!("/v2/public-decrypt/{}", response.json()["result"]["jobId"].as_str().unwrap())
}

/// Decrypts as an SDK does, but without its pauses of a second.
async fn decrypt(address: SocketAddr, number: u64) {
    let mut client = Client::connect(address).await;
    let path = submit(&mut client, number).await;
    loop {
        let response = client.get(&path).await;
        match response.status {
            202 => tokio::time::sleep(LATENCY).await,
            200 => {
                let value = response.json()["result"]["decryptedValue"].clone();
                assert_eq!(value.as_str(), Some(decrypted_value(numbered(number)).as_str()));
                return;
            }
            other => panic!("{other}: {}", response.json()),
        }
    }
}
