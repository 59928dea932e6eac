//! A node's consensus as others see it: started, asked how it is, stopped.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    application::{Application, ApplicationError},
    config::NodeConfig,
    core::CoreError,
    engine::Engine,
    gossip,
    log::LogError,
    network::{Network, Received},
    status::{Counters, NodeStatus},
};

/// Transactions of peers that wait to be looked at; more are dropped.
const TRANSACTIONS_WAITING: usize = 1_024;

/// Why consensus stopped, or did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The application cannot go on.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// An invariant of the algorithm is broken: going on could contradict earlier votes.
    #[error("consensus cannot go on: {0}")]
    Core(String),
    /// Two quorums decided differently: a third of the voting power lied.
    #[error("validators decided two blocks at height {height}: {here} here and {there} elsewhere")]
    Forked {
        /// The height.
        height: u64,
        /// The block decided here.
        here: alloy::primitives::B256,
        /// The other one.
        there: alloy::primitives::B256,
    },
    /// A part of the node panicked.
    #[error("a task of consensus panicked: {0}")]
    Panicked(String),
}

impl From<CoreError> for ConsensusError {
    fn from(error: CoreError) -> Self {
        Self::Core(error.0)
    }
}

/// A node's consensus, running. It ends when this is dropped; [`Node::shutdown`] waits for the end.
#[derive(Debug)]
pub struct Node {
    status: watch::Receiver<NodeStatus>,
    counters: Arc<Counters>,
    stop: DropGuard,
    stopped: CancellationToken,
    engine: JoinHandle<Result<(), ConsensusError>>,
    gossip: JoinHandle<()>,
}

impl Node {
    /// Starts over a network, whose messages come through `received`.
    ///
    /// # Errors
    /// [`LogError`] if the log is damaged or held by another process, [`ApplicationError`] if the application cannot say who the validators are.
    pub async fn start(
        config: NodeConfig,
        application: Arc<dyn Application>,
        network: Arc<dyn Network>,
        received: mpsc::Receiver<Received>,
    ) -> Result<Self, ConsensusError> {
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let counters = Arc::new(Counters::default());
        let (transactions, waiting) = mpsc::channel(TRANSACTIONS_WAITING);
        let (engine, status) = Engine::open(
            config,
            Arc::clone(&application),
            Arc::clone(&network),
            Arc::clone(&counters),
            transactions,
        )
        .await?;
        let gossip = gossip::run(application, network, Arc::clone(&counters), waiting, stop.clone());
        let run = {
            let (stop, stopped) = (stop.clone(), stopped.clone().drop_guard());
            async move {
                let result = Box::pin(engine.run(received, stop)).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "consensus stopped");
                }
                drop(stopped);
                result
            }
        };
        Ok(Self {
            status,
            counters,
            stop: stop.drop_guard(),
            stopped,
            engine: tokio::spawn(run),
            gossip: tokio::spawn(gossip),
        })
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// Hears of every change of [`Node::status`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// What happened since the start, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.counters.to_text(&self.status.borrow())
    }

    /// Waits until consensus stopped by itself; [`Node::shutdown`] then tells why.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Stops, letting a block that is being committed be finished.
    ///
    /// # Errors
    /// Why consensus stopped, if it had stopped by itself.
    pub async fn shutdown(self) -> Result<(), ConsensusError> {
        drop(self.stop);
        // It ends with the token, and has nothing to tell.
        let _ = self.gossip.await;
        self.engine.await.map_err(|error| ConsensusError::Panicked(error.to_string()))?
    }
}
