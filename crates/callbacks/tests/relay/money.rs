//! What deliveries cost: balances, limits on fees, transactions that stay out.

use std::time::Duration;

use cipherloom_callbacks::{Condition, RelayConfig};
use cipherloom_primitives::U256;
use cipherloom_store::CallbackState;

use crate::scene::{Scene, config, eventually, relayer, store, until};

const ETHER: u64 = 1_000_000_000_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn without_money_requests_wait_until_there_is_some() {
    let scene = Scene::embedded().await;
    let store = store().await;
    scene.set_balance(relayer(0).address(), U256::from(ETHER / 1000)).await;
    let relay = scene.relay(0, "one", &store, config());
    for _ in 0..3 {
        scene.ask().await;
    }
    eventually("the alarm", async || relay.condition() == Condition::InsufficientBalance).await;
    until(&store, CallbackState::Pending, 3).await;
    let reported = async || store.site().await.unwrap().and_then(|site| site.report);
    eventually("the report", async || {
        reported()
            .await
            .is_some_and(|(report, _)| report.condition == "insufficient_balance")
    })
    .await;
    assert_eq!(scene.paid_by(0).await, 0);
    assert!(relay.counted("condition{site=\"here\",condition=\"insufficient_balance\"} 1"));
    scene.set_balance(relayer(0).address(), U256::from(ETHER / 10)).await;
    until(&store, CallbackState::Fulfilled, 3).await;
    eventually("a warning stays", async || relay.condition() == Condition::LowBalance).await;
    scene.set_balance(relayer(0).address(), U256::from(ETHER)).await;
    eventually("all is well", async || relay.condition() == Condition::Well).await;
    assert_eq!((scene.taken().await, scene.paid_by(0).await), (3, 3));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_the_contract_does_not_know_sends_nothing() {
    let scene = Scene::embedded().await;
    let store = store().await;
    scene.set_balance(relayer(7).address(), U256::from(ETHER)).await;
    let relay = scene.relay(7, "stranger", &store, config());
    scene.ask().await;
    eventually("it is noticed", async || relay.condition() == Condition::NotARelayer).await;
    assert_eq!(scene.paid_by(7).await, 0);
    relay.stop().await;
    // One that is known takes over what it decrypted.
    let relay = scene.relay(0, "known", &store, config());
    until(&store, CallbackState::Fulfilled, 1).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_out_is_paid_better_under_the_same_nonce() {
    let scene = Scene::embedded().await;
    let store = store().await;
    scene.ask().await;
    scene.chain().set_automine(false).unwrap();
    let impatient = RelayConfig {
        stuck_after: Duration::from_millis(300),
        ..config()
    };
    let relay = scene.relay(0, "one", &store, impatient);
    eventually("it is replaced twice", async || store.open_attempts().await.unwrap().len() >= 3).await;
    let attempts = store.open_attempts().await.unwrap();
    assert!(
        attempts.iter().all(|attempt| attempt.nonce == 0 && attempt.request == Some(0)),
        "{attempts:?}"
    );
    assert!(
        attempts
            .windows(2)
            .all(|pair| pair[1].max_fee >= pair[0].max_fee + pair[0].max_fee / 8),
        "{attempts:?}"
    );
    scene.chain().set_automine(true).unwrap();
    scene.chain().mine(1).unwrap();
    until(&store, CallbackState::Fulfilled, 1).await;
    eventually("the nonce is settled", async || store.open_attempts().await.unwrap().is_empty()).await;
    assert_eq!((scene.taken().await, scene.paid_by(0).await), (1, 1));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_gas_is_too_expensive_deliveries_wait() {
    let scene = Scene::anvil().await;
    let store = store().await;
    scene.tell("evm_setAutomine", (false,)).await;
    scene.ask().await;
    scene
        .tell("anvil_setNextBlockBaseFeePerGas", (U256::from(400_000_000_000_u64),))
        .await;
    scene.tell("anvil_mine", (U256::from(1),)).await;
    let relay = scene.relay(0, "one", &store, config());
    eventually("the limit is kept", async || relay.condition() == Condition::FeesAboveLimit).await;
    assert!(store.open_attempts().await.unwrap().is_empty());
    scene
        .tell("anvil_setNextBlockBaseFeePerGas", (U256::from(1_000_000_000_u64),))
        .await;
    scene.tell("anvil_mine", (U256::from(1),)).await;
    scene.tell("evm_setAutomine", (true,)).await;
    until(&store, CallbackState::Fulfilled, 1).await;
    assert_eq!((scene.taken().await, scene.paid_by(0).await), (1, 1));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_spike_leaves_behind_is_replaced() {
    let scene = Scene::anvil().await;
    let store = store().await;
    scene.ask().await;
    scene.tell("evm_setAutomine", (false,)).await;
    let impatient = RelayConfig {
        stuck_after: Duration::from_millis(500),
        ..config()
    };
    let relay = scene.relay(0, "one", &store, impatient);
    eventually("it is sent", async || !store.open_attempts().await.unwrap().is_empty()).await;
    let first = store.open_attempts().await.unwrap()[0].max_fee;
    // Blocks without it: the base fee is above what it offers.
    let spike = U256::from(first).saturating_mul(U256::from(4));
    scene.tell("anvil_setNextBlockBaseFeePerGas", (spike,)).await;
    scene.tell("anvil_mine", (U256::from(1),)).await;
    assert_eq!(scene.paid_by(0).await, 0);
    eventually("a better one is included", async || {
        scene.tell("anvil_mine", (U256::from(1),)).await;
        scene.paid_by(0).await == 1
    })
    .await;
    until(&store, CallbackState::Fulfilled, 1).await;
    assert_eq!((scene.taken().await, scene.paid_by(0).await), (1, 1));
    relay.stop().await;
}
