//! One process on an embedded database, killed and started again.

use std::time::Duration;

use cipherloom_load::{Process, Random, Role};

use crate::{
    ground::{Ground, Source},
    scale,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_on_an_embedded_database_goes_on_where_it_was() {
    let seed = scale::seed();
    let mut random = Random::from_seed(seed);
    let (kills, transactions) = scale::of((20, 300), (3, 60));
    let ground = Ground::embedded(2);
    let mut process = ground.deployment.start(Role::Both, &[]).unwrap();
    let address = process.server_address().unwrap();
    let mut sources: Vec<Source> = (0..2).map(|tenant| ground.source(tenant, &process, seed)).collect();
    for source in &mut sources {
        source.open(&ground.clear.keys).await.unwrap();
    }
    for _ in 0..kills {
        // Requests that the kill interrupts are repeated until the next process answers them.
        let fed = async {
            for source in &mut sources {
                source.feed(transactions).await.unwrap();
            }
        };
        let after = Duration::from_millis(10 + u64::try_from(random.below(300)).unwrap());
        let killed = async {
            tokio::time::sleep(after).await;
            process.kill().unwrap();
            start_again(&ground, &address)
        };
        ((), process) = tokio::join!(fed, killed);
    }
    for source in &mut sources {
        source.await_all().await.unwrap();
    }
    process.terminate(Duration::from_secs(60)).unwrap();
    let process = start_again(&ground, &address);
    let mut results = 0;
    for source in &mut sources {
        source.check_again().await.unwrap();
        results += source.ledger.values().len();
    }
    process.terminate(Duration::from_secs(60)).unwrap();
    scale::report(
        "embedded database",
        &format!("{results} results, {kills} kills: all present, right, once"),
    );
}

fn start_again(ground: &Ground, address: &str) -> Process {
    ground.deployment.start(Role::Both, &["--server-addr", address]).unwrap()
}
