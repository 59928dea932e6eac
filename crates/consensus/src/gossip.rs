//! Passes transactions on: those sent to this node, and those of peers that the application finds new and valid.

use std::sync::Arc;

use alloy::primitives::Bytes;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    application::{Application, ApplicationError},
    network::{Channel, Network, PeerId},
    status::{Counters, count},
};

/// Runs until it is told to stop.
pub(crate) async fn run(
    application: Arc<dyn Application>,
    network: Arc<dyn Network>,
    counters: Arc<Counters>,
    mut received: mpsc::Receiver<(PeerId, Bytes)>,
    stop: CancellationToken,
) {
    let mut own = application.new_transactions();
    let mut own_may_come = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            transaction = own.recv(), if own_may_come => match transaction {
                Ok(transaction) => network.broadcast(Channel::Transactions, transaction),
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "transactions came faster than they could be passed on"),
                Err(RecvError::Closed) => own_may_come = false,
            },
            Some((peer, transaction)) = received.recv() => take(&application, &network, &counters, peer, transaction).await,
        }
    }
}

async fn take(application: &Arc<dyn Application>, network: &Arc<dyn Network>, counters: &Counters, peer: PeerId, transaction: Bytes) {
    let judge = {
        let (application, transaction) = (Arc::clone(application), transaction.clone());
        move || application.add_transaction(transaction)
    };
    // Signatures are checked there, which would hold up other tasks.
    match tokio::task::spawn_blocking(judge).await {
        Ok(Ok(true)) => {
            count(&counters.transactions);
            network.relay(peer, Channel::Transactions, transaction);
        }
        Ok(Err(ApplicationError::Refused(reason))) => {
            count(&counters.punished);
            network.punish(peer, &reason);
        }
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a peer's transaction was not taken"),
        Err(error) => tracing::error!(%error, "looking at a peer's transaction failed"),
    }
}
