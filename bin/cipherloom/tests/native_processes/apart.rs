//! A chain whose validators are parted.

use std::time::Duration;

use crate::{bank::Bank, network::Network};

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_decide_nothing_apart_and_go_on_together() {
    let mut network = Network::found(4, 0).await;
    network.start_all();
    let bank = Bank::open(&network.rpc_url(0)).await;
    let block = bank.mint(1, 1000).await;
    network.all_reach(&[0, 1, 2, 3], block).await;

    network.set_partition(2, true);
    // What was decided before may still arrive.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut before = Vec::new();
    for number in 0..4 {
        before.push(network.height(number).await);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (number, height) in before.iter().enumerate() {
        assert_eq!(network.height(number).await, *height, "node {number} went on without a quorum");
    }

    network.set_partition(2, false);
    let other = bank.at(&network.rpc_url(3));
    let block = other.mint(1, 1).await;
    network.all_reach(&[0, 1, 2, 3], block).await;
    assert_eq!(bank.balance_handle(1).await, other.balance_handle(1).await);
}
