//! The task that mines at intervals.

use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::B256;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chain::DevChain;
use crate::chain::interval::MiningInterval;
use crate::error::{NodeError, Result};

/// Mines a block after each pause, for as long as somebody wants that, until the server stops.
pub(super) async fn mine(chain: DevChain, mut changes: watch::Receiver<Option<MiningInterval>>, stop: CancellationToken) {
    loop {
        let interval = *changes.borrow_and_update();
        let pause = async {
            match interval {
                Some(interval) => tokio::time::sleep(Duration::from_millis(interval.pause_ms(&head(&chain)))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            // The chain, which this task holds, has the other end.
            _ = changes.changed() => continue,
            () = pause => {}
        }
        let miner = chain.clone();
        let mined = tokio::task::spawn_blocking(move || miner.mine(1)).await;
        if let Err(error) = mined.unwrap_or_else(|panic| Err(NodeError::Internal(panic.to_string()))) {
            tracing::error!(%error, "no block could be mined, and no more are mined by themselves");
            chain.stop_interval_mining();
        }
    }
}

fn head(chain: &DevChain) -> B256 {
    let head: Result<_> = chain.block(BlockId::latest());
    head.ok().flatten().map_or(B256::ZERO, |block| block.hash)
}
