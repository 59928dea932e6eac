//! Reads what the 0.6 generation's executor asks for, and hands it to the coprocessor, as the nodes of that generation do from inside.
//!
//! A computation that is asked for again changes nothing, so it keeps no state: it begins at the first block at every start. Handles do not depend
//! on blocks, so a reorganisation leaves nothing behind that would be wrong; what it withdrew was computed for nothing.

use std::{collections::HashSet, time::Duration};

use alloy::{
    primitives::Address,
    providers::{Provider, RootProvider},
    rpc::types::{Filter, Log},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{coprocessor::CoprocessorClient, events};

/// How often new blocks are looked for.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many blocks are read at a time.
const BLOCKS: u64 = 1000;

/// Follows the executor of a chain.
pub(super) struct Feeder {
    provider: RootProvider,
    executor: Address,
    coprocessor: CoprocessorClient,
    next_block: u64,
}

impl Feeder {
    pub(super) const fn new(provider: RootProvider, executor: Address, coprocessor: CoprocessorClient) -> Self {
        Self {
            provider,
            executor,
            coprocessor,
            next_block: 0,
        }
    }

    /// Follows until it is told to stop. What fails is tried again.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut told = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.advance().await {
                Ok(()) => told.clear(),
                Err(error) => {
                    let error = format!("{error:#}");
                    if error != told {
                        tracing::warn!(
                            error,
                            "cannot hand on what the executor of the 0.6 generation asks for; trying again"
                        );
                        told = error;
                    }
                }
            }
        }
    }

    async fn advance(&mut self) -> anyhow::Result<()> {
        let head = self.provider.get_block_number().await?;
        while self.next_block <= head {
            let last = head.min(self.next_block.saturating_add(BLOCKS - 1));
            let filter = Filter::new().address(self.executor).from_block(self.next_block).to_block(last);
            let logs = self.provider.get_logs(&filter).await?;
            // A transaction at a time, so that one that cannot be computed keeps none of the others from it.
            for transaction in logs.chunk_by(|first, second| first.transaction_hash == second.transaction_hash) {
                self.hand_on(transaction).await?;
            }
            self.next_block = last + 1;
        }
        Ok(())
    }

    async fn hand_on(&self, transaction: &[Log]) -> anyhow::Result<()> {
        let mut computations: Vec<_> = transaction.iter().filter_map(events::computation).collect();
        // Handles do not depend on where an operation stands, so a transaction that asks twice asks for the same.
        let mut results = HashSet::new();
        computations.retain(|computation| results.insert(computation.output_handle.clone()));
        if computations.is_empty() {
            return Ok(());
        }
        match self.coprocessor.compute(computations).await {
            Ok(()) => Ok(()),
            // Asking again would not help: a type that is not computed with here, or an input that nobody brought.
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition) => {
                let transaction = transaction.first().and_then(|log| log.transaction_hash);
                tracing::warn!(
                    ?transaction,
                    reason = status.message(),
                    "a transaction of the 0.6 generation is not computed"
                );
                Ok(())
            }
            Err(status) => anyhow::bail!("the coprocessor answers {:?}: {}", status.code(), status.message()),
        }
    }
}
