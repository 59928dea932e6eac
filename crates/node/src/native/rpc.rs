//! The JSON-RPC methods of a native chain beside the standard ones, and its server.
//!
//! | method | parameters | answer |
//! |---|---|---|
//! | `cipherloom_getCertificate` | block number or tag | header (RLP) and certificate; null for block 0 and unknown blocks |
//! | `cipherloom_getValidatorSet` | block number, the next one by default | who signs that block |
//! | `cipherloom_validatorChanges` | first block number | headers and certificates of blocks after which others sign, at most 64 |
//! | `cipherloom_nodeStatus` | | what the node knows of itself and its peers |
//!
//! There is nothing for development here: no accounts that the node signs for, no time, mining or state to set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{B256, Bytes};
use cipherloom_primitives::quorum::{CertifiedHeader, ValidatorChange};
use serde_json::{Value, json};

use super::chain::NativeChain;
use crate::chain::{Chain, resolve};
use crate::error::{NodeError, Result};
use crate::rpc::convert::{self, json, quantity};
use crate::rpc::params::Params;
use crate::rpc::{self, Methods};
use crate::server::Server;

/// What `web3_clientVersion` reports.
const CLIENT_VERSION: &str = concat!("cipherloom-node/", env!("CARGO_PKG_VERSION"));

/// Most changes of validators in one answer.
const CHANGES_PER_PAGE: usize = 64;

/// Longest wait for a transaction to be in a block (EIP-7966), in milliseconds.
const MOST_WAIT_MS: u64 = 20_000;

/// Most clients that may wait so at one time: each takes up one of the threads that answer.
pub(super) const MOST_WAITING: usize = 8;

/// How often to look whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(25);

impl Methods for NativeChain {
    fn chain(&self) -> &Chain {
        self
    }

    fn own(&self, method: &str, params: &mut Params) -> Result<Option<Value>> {
        let value = match method {
            "web3_clientVersion" => {
                params.end()?;
                json!(CLIENT_VERSION)
            }
            "rpc_modules" => {
                params.end()?;
                json!({ "cipherloom": "1.0", "debug": "1.0", "eth": "1.0", "net": "1.0", "rpc": "1.0", "txpool": "1.0", "web3": "1.0" })
            }
            "net_peerCount" => {
                params.end()?;
                quantity(count(self.network_status().peers))
            }
            "eth_syncing" => {
                params.end()?;
                self.syncing()?
            }
            "eth_sendRawTransactionSync" => {
                let raw: Bytes = params.required("signed transaction")?;
                let wait_ms = params.optional_quantity("timeout")?.unwrap_or(MOST_WAIT_MS).min(MOST_WAIT_MS);
                params.end()?;
                let hash = self.send_raw_transaction(&raw)?;
                self.receipt_within(hash, Duration::from_millis(wait_ms))?
            }
            "cipherloom_getCertificate" => {
                let number = self.number(params)?;
                params.end()?;
                match number.map(|number| self.certified_header(number)).transpose()?.flatten() {
                    Some((header, certificate)) => json(CertifiedHeader { header, certificate })?,
                    None => Value::Null,
                }
            }
            "cipherloom_getValidatorSet" => {
                let next = self.head()?.number.saturating_add(1);
                let number = params.optional_quantity("block number")?.unwrap_or(next);
                params.end()?;
                json(self.validators_at(number)?)?
            }
            "cipherloom_validatorChanges" => {
                let from = params.quantity("first block number")?;
                params.end()?;
                json(self.validator_changes(from)?)?
            }
            "cipherloom_nodeStatus" => {
                params.end()?;
                self.status()?
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }
}

impl NativeChain {
    /// Answers a JSON-RPC request or batch; `None` if it holds only notifications.
    #[must_use]
    pub fn rpc(&self, request: &[u8]) -> Option<Vec<u8>> {
        rpc::answer(self, request, &mut |_| None)
    }

    /// Calls one JSON-RPC method with its parameters (an array, or null for none).
    ///
    /// # Errors
    ///
    /// Whatever the method reports; [`NodeError::MethodNotFound`] for an unknown one.
    pub fn rpc_call(&self, method: &str, params: Value) -> Result<Value> {
        rpc::call(self, method, params)
    }

    /// Serves JSON-RPC over HTTP and WebSocket at `listen`.
    ///
    /// # Errors
    ///
    /// [`NodeError::Listen`] if the address is not available.
    pub async fn serve(&self, listen: SocketAddr) -> Result<NativeChainHandle> {
        let server = Server::start(Arc::new(self.clone()), listen).await?;
        Ok(NativeChainHandle { server })
    }

    /// Headers and certificates of blocks from `from` on after which others sign.
    fn validator_changes(&self, from: u64) -> Result<Vec<ValidatorChange>> {
        let head = self.head()?.number;
        let changes = {
            let sets = self.sets();
            let changes = sets.changes(from).filter(|(number, _)| *number <= head);
            changes
                .take(CHANGES_PER_PAGE)
                .map(|(number, set)| (number, set.clone()))
                .collect::<Vec<_>>()
        };
        let change = |(number, validators)| {
            let (header, certificate) = self
                .certified_header(number)?
                .ok_or_else(|| NodeError::Internal(format!("block {number} without a certificate")))?;
            Ok(ValidatorChange {
                header,
                certificate,
                validators,
            })
        };
        changes.into_iter().map(change).collect()
    }

    /// Takes a block number or tag.
    fn number(&self, params: &mut Params) -> Result<Option<u64>> {
        let id: BlockNumberOrTag = params.required("block number")?;
        Ok(resolve(&*self.core()?, BlockId::Number(id)))
    }

    fn syncing(&self) -> Result<Value> {
        let (head, highest) = (self.head()?.number, self.network_status().highest);
        // Being one block behind is how things are while a block is on its way.
        if highest <= head.saturating_add(1) {
            return Ok(json!(false));
        }
        Ok(json!({ "startingBlock": quantity(0u64), "currentBlock": quantity(head), "highestBlock": quantity(highest) }))
    }

    fn status(&self) -> Result<Value> {
        let network = self.network_status();
        let (number, hash, timestamp) = {
            let core = self.core()?;
            let head = core.head();
            (head.header.number, head.hash, head.header.timestamp)
        };
        let validators = self.validators_at(number.saturating_add(1))?;
        let restored = self.restored();
        Ok(json!({
            "clientVersion": CLIENT_VERSION,
            "chainId": quantity(self.chain_id()),
            "genesisHash": json(self.domain().genesis_hash)?,
            "number": quantity(number),
            "hash": json(hash)?,
            "timestamp": quantity(timestamp),
            "peers": quantity(count(network.peers)),
            "highestKnown": quantity(network.highest.max(number)),
            "validatorSet": json(validators.digest())?,
            "validators": quantity(count(validators.len())),
            "stateKept": self.last_state_kept().map(quantity),
            "stateAtStart": restored.state.map(quantity),
            "executedAtStart": quantity(restored.executed),
        }))
    }

    /// Waits for a transaction's receipt.
    fn receipt_within(&self, hash: B256, wait: Duration) -> Result<Value> {
        let _waiting = self
            .waiting()
            .try_acquire()
            .map_err(|_| NodeError::LimitExceeded(format!("transaction {hash} was taken; too many clients wait for theirs already")))?;
        let until = Instant::now() + wait;
        loop {
            if let Some((block, index)) = self.recently_mined(&hash)? {
                return json(convert::receipt(&block, index));
            }
            if Instant::now() >= until {
                return Err(NodeError::TimedOut);
            }
            // This is one of the threads for work that blocks.
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A running server of a native chain. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct NativeChainHandle {
    server: Server,
}

impl NativeChainHandle {
    /// Returns the address to connect to: the listening one, with loopback for an unspecified one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the URL for JSON-RPC over HTTP.
    #[must_use]
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns the URL for JSON-RPC over WebSocket.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// Stops the server and waits up to two seconds for open connections to end. The chain stays open.
    pub async fn shutdown(mut self) {
        self.server.shutdown().await;
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
