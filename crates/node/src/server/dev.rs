//! The development chain's server, with the task that mines at intervals.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Server, interval};
use crate::accounts::DevAccount;
use crate::chain::DevChain;
use crate::config::DevChainConfig;
use crate::error::{NodeError, Result};

/// A running server and its chain. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct DevChainHandle {
    chain: DevChain,
    server: Server,
}

impl DevChain {
    /// Creates (or restores) a chain and serves it at [`DevChainConfig::listen`].
    ///
    /// # Errors
    ///
    /// As [`DevChain::new`], and [`NodeError::Listen`] if the address is not available.
    pub async fn start(config: DevChainConfig) -> Result<DevChainHandle> {
        let listen = config.listen;
        // Restoring a long journal executes many transactions.
        let chain = tokio::task::spawn_blocking(move || Self::new(config))
            .await
            .map_err(|error| NodeError::Internal(format!("opening the chain: {error}")))??;
        chain.serve(listen).await
    }

    /// Serves this chain at `listen`.
    ///
    /// # Errors
    ///
    /// [`NodeError::Listen`] if the address is not available.
    pub async fn serve(&self, listen: SocketAddr) -> Result<DevChainHandle> {
        let server = Server::start(Arc::new(self.clone()), listen).await?;
        if let Some(changes) = self.first_to_hear_intervals() {
            server.tasks().spawn(interval::mine(self.clone(), changes, server.stopped()));
        }
        Ok(DevChainHandle {
            chain: self.clone(),
            server,
        })
    }
}

impl DevChainHandle {
    /// Returns the chain itself, for use within the process.
    pub fn chain(&self) -> &DevChain {
        &self.chain
    }

    /// Returns the address to connect to: the listening one, with loopback for an unspecified one.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the URL for JSON-RPC over HTTP.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns the URL for JSON-RPC over WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// Returns the funded development accounts, without the deployer.
    pub fn accounts(&self) -> &[DevAccount] {
        self.chain.accounts()
    }

    /// Returns the funded account that deploys the host contracts, if configured.
    pub fn deployer(&self) -> Option<&DevAccount> {
        self.chain.deployer()
    }

    /// Stops the server, waits up to two seconds for open connections to end, puts the journal on the
    /// disk and gives up the data directory, as [`DevChain::close`] does.
    pub async fn shutdown(mut self) {
        self.server.shutdown().await;
        // A cut connection may still hold the chain for a moment; the data directory must be free now.
        if let Err(error) = self.chain.close() {
            tracing::error!(%error, "the journal could not be put on the disk");
        }
    }
}
