//! What contracts ask for reaches them; what cannot or may not is noted with a reason.

use std::time::Duration;

use cipherloom_callbacks::{DecryptionFailure, RelayConfig};
use cipherloom_primitives::U256;
use cipherloom_store::CallbackState;

use crate::scene::{Scene, config, eventually, number_of, record, store, until};

#[tokio::test(flavor = "multi_thread")]
async fn values_reach_the_contract_that_asked_and_it_can_check_the_signatures() {
    let scene = Scene::embedded().await;
    let store = store().await;
    // Asked before anybody serves.
    scene.ask().await;
    let relay = scene.relay(0, "one", &store, config());
    until(&store, CallbackState::Fulfilled, 1).await;
    scene.ask_signed().await;
    until(&store, CallbackState::Fulfilled, 2).await;
    let contract = scene.contract();
    assert!(contract.wasSigned().call().await.unwrap());
    let record = record(&store, 1).await;
    assert_eq!(contract.number().call().await.unwrap(), number_of(record.request.handles[0]));
    assert_eq!(contract.answeredRequest().call().await.unwrap(), U256::from(1));
    assert!(record.delivered_by.is_some() && record.request.passes_signatures);
    assert_eq!(scene.paid_by(0).await, 2);
    assert!(store.open_attempts().await.unwrap().is_empty());
    assert!(relay.counted("transactions_settled_total{site=\"here\",outcome=\"included\"} 2"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_of_one_block_are_delivered_once_each() {
    let scene = Scene::embedded().await;
    let store = store().await;
    scene.chain().set_automine(false).unwrap();
    for _ in 0..100 {
        scene.ask().await;
    }
    scene.chain().mine(1).unwrap();
    scene.chain().set_automine(true).unwrap();
    let relay = scene.relay(0, "one", &store, config());
    until(&store, CallbackState::Fulfilled, 100).await;
    let first = record(&store, 0).await.request.block;
    assert_eq!(record(&store, 99).await.request.block, first);
    assert_eq!((scene.taken().await, scene.paid_by(0).await), (100, 100));
    assert!(scene.announced().await.values().all(|outcomes| outcomes == &[true]));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_reverts_is_noted_unpaid_and_can_be_tried_again() {
    let scene = Scene::embedded().await;
    let store = store().await;
    scene.behave(1).await;
    scene.ask().await;
    let relay = scene.relay(0, "one", &store, config());
    until(&store, CallbackState::Failed, 1).await;
    let reason = record(&store, 0).await.reason.unwrap();
    assert!(reason.contains("simulation") && reason.contains("revert"), "{reason}");
    assert_eq!(scene.paid_by(0).await, 0);
    scene.behave(0).await;
    assert_eq!(store.retry(Some(0)).await.unwrap(), 1);
    until(&store, CallbackState::Fulfilled, 1).await;
    assert_eq!(scene.paid_by(0).await, 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_gets_all_the_gas_that_it_burns_up_to_the_limit() {
    let scene = Scene::embedded().await;
    let store = store().await;
    let relay = scene.relay(0, "one", &store, config());
    // With the estimate of the whole transaction alone, this one would run out of gas, and count as delivered.
    scene.behave(2_500_000).await;
    scene.ask().await;
    until(&store, CallbackState::Fulfilled, 1).await;
    assert_eq!(scene.taken().await, 1);
    scene.behave(6_000_000).await;
    scene.ask().await;
    until(&store, CallbackState::Failed, 1).await;
    let reason = record(&store, 1).await.reason.unwrap();
    assert!(reason.contains("gas") && reason.contains("5000000"), "{reason}");
    assert_eq!(scene.paid_by(0).await, 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_tried_for_a_while_and_what_is_impossible_is_not() {
    let scene = Scene::embedded().await;
    let store = store().await;
    *scene.kms.failure.lock().unwrap() = Some(DecryptionFailure::Unavailable("the KMS is down".to_owned()));
    let relay = scene.relay(0, "one", &store, config());
    scene.ask().await;
    eventually("it is tried several times", async || {
        let found = store.find(0).await.unwrap();
        found.is_some_and(|(record, _)| record.tries >= 3 && record.state == CallbackState::Pending)
    })
    .await;
    *scene.kms.failure.lock().unwrap() = Some(DecryptionFailure::Refused("not on the access list".to_owned()));
    until(&store, CallbackState::Failed, 1).await;
    assert_eq!(record(&store, 0).await.reason.as_deref(), Some("not on the access list"));
    *scene.kms.failure.lock().unwrap() = Some(DecryptionFailure::Impossible("no such type".to_owned()));
    scene.ask().await;
    until(&store, CallbackState::Failed, 2).await;
    assert_eq!(record(&store, 1).await.tries, 0);
    *scene.kms.failure.lock().unwrap() = None;
    assert_eq!(store.retry(None).await.unwrap(), 2);
    until(&store, CallbackState::Fulfilled, 2).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_contracts_that_are_served_get_anything() {
    let scene = Scene::embedded().await;
    let store = store().await;
    let others = RelayConfig {
        callers: [cipherloom_primitives::Address::repeat_byte(1)].into(),
        ..config()
    };
    let relay = scene.relay(0, "one", &store, others);
    scene.ask().await;
    until(&store, CallbackState::Failed, 1).await;
    assert!(record(&store, 0).await.reason.unwrap().contains("not among those"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_time_is_not_sent() {
    let scene = Scene::embedded().await;
    let store = store().await;
    *scene.kms.failure.lock().unwrap() = Some(DecryptionFailure::Unavailable("not yet".to_owned()));
    let relay = scene.relay(0, "one", &store, config());
    scene.ask_within(600).await;
    until(&store, CallbackState::Pending, 1).await;
    scene.chain().increase_time(601).unwrap();
    scene.chain().mine(1).unwrap();
    until(&store, CallbackState::Expired, 1).await;
    *scene.kms.failure.lock().unwrap() = None;
    // The next one is in time.
    scene.ask().await;
    until(&store, CallbackState::Fulfilled, 1).await;
    assert_eq!(scene.paid_by(0).await, 1);
    tokio::time::timeout(Duration::from_secs(20), relay.stop()).await.unwrap();
}
