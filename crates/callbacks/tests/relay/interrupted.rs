//! Relays that are killed, replaced, or not alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cipherloom_callbacks::Condition;
use cipherloom_private_postgres::shared;
use cipherloom_store::{CallbackState, Callbacks, Database, PostgresConfig, PostgresDatabase};

use crate::scene::{SITE, Scene, config, eventually, store, until};

/// How many requests come while relays are killed.
const REQUESTS: u64 = 40;

/// Random numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

async fn in_postgresql() -> Arc<dyn Callbacks> {
    let url = shared().create_database().unwrap();
    let database = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap();
    database.callbacks(SITE)
}

/// Kills a relay again and again, each time somewhere else, while requests come.
async fn kill_while_requests_come(scene: &Scene, store: &Arc<dyn Callbacks>, seed: u64) {
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let asked_all = AtomicBool::new(false);
    let asking = async {
        for _ in 0..REQUESTS {
            scene.ask().await;
        }
        asked_all.store(true, Ordering::SeqCst);
    };
    let killing = async {
        let mut round = 0;
        while !asked_all.load(Ordering::SeqCst) || round < 12 {
            let owner = format!("relay {round}");
            let relay = scene.relay(0, &owner, store, config());
            eventually("it serves", async || {
                relay.condition() != Condition::StandingBy && relay.condition() != Condition::Starting
            })
            .await;
            tokio::time::sleep(Duration::from_millis(random.below(150))).await;
            relay.kill().await;
            round += 1;
        }
    };
    tokio::join!(asking, killing);
    let relay = scene.relay(0, "the last", store, config());
    until(store, CallbackState::Fulfilled, REQUESTS).await;
    eventually("all nonces are settled", async || store.open_attempts().await.unwrap().is_empty()).await;
    relay.stop().await;
    let announced = scene.announced().await;
    assert_eq!(announced.len() as u64, REQUESTS);
    assert!(announced.values().all(|outcomes| outcomes == &[true]), "{announced:?}");
    assert_eq!(
        (scene.taken().await, scene.paid_by(0).await),
        (REQUESTS, REQUESTS),
        "nothing is paid twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_anywhere_delivers_once() {
    kill_while_requests_come(&Scene::embedded().await, &store().await, 20_241).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_anywhere_delivers_once_with_postgresql_and_anvil() {
    kill_while_requests_come(&Scene::anvil().await, &in_postgresql().await, 77).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_on_one_database_one_serves_and_the_other_takes_over() {
    let scene = Scene::embedded().await;
    let store = in_postgresql().await;
    let first = scene.relay(0, "first", &store, config());
    eventually("the first serves", async || first.condition() == Condition::Well).await;
    let second = scene.relay(1, "second", &store, config());
    for _ in 0..5 {
        scene.ask().await;
    }
    until(&store, CallbackState::Fulfilled, 5).await;
    assert_eq!(second.condition(), Condition::StandingBy);
    assert_eq!((scene.paid_by(0).await, scene.paid_by(1).await), (5, 0));
    first.kill().await;
    for _ in 0..5 {
        scene.ask().await;
    }
    until(&store, CallbackState::Fulfilled, 10).await;
    assert_eq!((scene.paid_by(0).await, scene.paid_by(1).await, scene.taken().await), (5, 5, 10));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_relay_left_out_is_taken_over_by_one_with_another_account() {
    let scene = Scene::embedded().await;
    let store = store().await;
    scene.ask().await;
    scene.chain().set_automine(false).unwrap();
    let first = scene.relay(0, "first", &store, config());
    eventually("it is sent", async || !store.open_attempts().await.unwrap().is_empty()).await;
    first.kill().await;
    let impatient = cipherloom_callbacks::RelayConfig {
        stuck_after: Duration::from_millis(500),
        ..config()
    };
    let second = scene.relay(1, "second", &store, impatient);
    eventually("the other account has sent it too", async || {
        let attempts = store.open_attempts().await.unwrap();
        attempts.iter().any(|attempt| attempt.account == crate::scene::relayer(1).address())
    })
    .await;
    scene.chain().set_automine(true).unwrap();
    scene.chain().mine(1).unwrap();
    until(&store, CallbackState::Fulfilled, 1).await;
    eventually("both nonces are settled", async || store.open_attempts().await.unwrap().is_empty()).await;
    assert_eq!(scene.announced().await, [(0, vec![true])].into());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_on_two_databases_the_chain_decides_and_both_know() {
    let scene = Scene::embedded().await;
    let (one, other) = (store().await, store().await);
    let first = scene.relay(0, "first", &one, config());
    let second = scene.relay(1, "second", &other, config());
    for _ in 0..20 {
        scene.ask().await;
    }
    until(&one, CallbackState::Fulfilled, 20).await;
    until(&other, CallbackState::Fulfilled, 20).await;
    for store in [&one, &other] {
        eventually("all nonces are settled", async || store.open_attempts().await.unwrap().is_empty()).await;
    }
    let announced = scene.announced().await;
    assert_eq!((announced.len(), scene.taken().await), (20, 20));
    assert!(announced.values().all(|outcomes| outcomes == &[true]));
    first.stop().await;
    second.stop().await;
}
