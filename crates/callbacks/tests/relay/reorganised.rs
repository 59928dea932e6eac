//! Chains that take blocks back: requests, deliveries, and both.

use std::time::Duration;

use cipherloom_callbacks::RelayConfig;
use cipherloom_primitives::U256;
use cipherloom_store::CallbackState;

use crate::scene::{Scene, config, eventually, record, store, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_taken_back_is_sent_again_as_it_was() {
    let scene = Scene::embedded().await;
    let store = store().await;
    let careful = RelayConfig {
        finality_depth: 3,
        ..config()
    };
    let relay = scene.relay(0, "one", &store, careful);
    scene.ask().await;
    assert!(
        store.totals().await.unwrap().iter().all(|(_, count)| *count == 0),
        "it is not final"
    );
    scene.chain().mine(3).unwrap();
    eventually("it is included", async || scene.taken().await == 1).await;
    let sent = store.open_attempts().await.unwrap();
    assert_eq!(
        (sent.len(), record(&store, 0).await.state),
        (1, CallbackState::Sent),
        "a delivery that is not final does not count"
    );
    scene.chain().reorganize(1).unwrap();
    assert_eq!(scene.taken().await, 0);
    eventually("it is included again", async || scene.taken().await == 1).await;
    scene.chain().mine(3).unwrap();
    until(&store, CallbackState::Fulfilled, 1).await;
    let (_, attempts) = store.find(0).await.unwrap().unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.hash).collect::<Vec<_>>(), [sent[0].hash]);
    assert_eq!(scene.paid_by(0).await, 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_taken_back_with_its_delivery_gives_its_number_to_another() {
    let scene = Scene::embedded().await;
    let store = store().await;
    let relay = scene.relay(0, "one", &store, config());
    scene.ask().await;
    until(&store, CallbackState::Fulfilled, 1).await;
    let before = record(&store, 0).await.request;
    let height = scene.chain().block_number().unwrap();
    scene.chain().reorganize(height + 1 - before.block).unwrap();
    eventually("it is withdrawn", async || store.find(0).await.unwrap().is_none()).await;
    scene.forget_nonces().await;
    scene.ask().await;
    until(&store, CallbackState::Fulfilled, 1).await;
    let after = record(&store, 0).await.request;
    assert_ne!(before.handles, after.handles);
    assert_eq!(scene.announced().await, [(0, vec![true])].into());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_of_anvil_ends_with_one_delivery() {
    let scene = Scene::anvil().await;
    let store = store().await;
    let relay = scene.relay(0, "one", &store, config());
    scene.ask().await;
    until(&store, CallbackState::Fulfilled, 1).await;
    // The block of the delivery goes, and that of the request with it.
    let none: Vec<U256> = Vec::new();
    scene.tell("anvil_reorg", (2_u64, none)).await;
    scene.forget_nonces().await;
    eventually("what was taken back is withdrawn", async || store.find(0).await.unwrap().is_none()).await;
    scene.ask().await;
    scene.ask().await;
    until(&store, CallbackState::Fulfilled, 2).await;
    let announced = scene.announced().await;
    assert_eq!(announced, [(0, vec![true]), (1, vec![true])].into());
    tokio::time::timeout(Duration::from_secs(20), relay.stop()).await.unwrap();
}
