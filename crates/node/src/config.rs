//! What a development chain is started with.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use alloy::primitives::{Address, U256};

use crate::accounts::DEV_MNEMONIC;
use crate::clock::{Clock, SystemClock};

/// Wei in one ether.
const ETHER: u64 = 1_000_000_000_000_000_000;

/// Settings of a development chain.
#[derive(Clone)]
pub struct DevChainConfig {
    /// EIP-155 chain id; 31337 by default.
    pub chain_id: u64,
    /// Accounts that hold ether from the first block on.
    pub accounts: AccountsConfig,
    /// Address of the JSON-RPC server; port 0 picks a free one. Loopback by default: the chain
    /// signs for its development accounts on request, so it must not be reachable by strangers.
    pub listen: SocketAddr,
    /// Directory that keeps the chain across restarts; `None` keeps it in memory only.
    ///
    /// The directory holds the journal (`chain.journal`) and a lock file against a second process.
    /// Every block is written before it becomes visible, so a killed process loses nothing that a
    /// client has seen; the file is not synced per block, so a power failure may lose the last ones.
    pub data_dir: Option<PathBuf>,
    /// Source of block timestamps.
    pub clock: Arc<dyn Clock>,
    /// Gas limit of every block, and of `eth_call` and `eth_estimateGas`.
    pub block_gas_limit: u64,
    /// Receiver of priority fees.
    pub coinbase: Address,
    /// Bounds on what clients can ask for.
    pub limits: Limits,
}

impl Default for DevChainConfig {
    fn default() -> Self {
        Self {
            chain_id: 31337,
            accounts: AccountsConfig::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data_dir: None,
            clock: Arc::new(SystemClock),
            block_gas_limit: 60_000_000,
            coinbase: Address::ZERO,
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for DevChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChainConfig")
            .field("chain_id", &self.chain_id)
            .field("listen", &self.listen)
            .field("data_dir", &self.data_dir)
            .field("block_gas_limit", &self.block_gas_limit)
            .finish_non_exhaustive()
    }
}

/// The accounts funded in the first block.
#[derive(Clone)]
pub struct AccountsConfig {
    /// BIP-39 phrase of the development accounts (path `m/44'/60'/0'/0/index`).
    pub mnemonic: String,
    /// How many accounts to derive from [`Self::mnemonic`]; at most 1000.
    pub count: u32,
    /// Balance of every funded account, in wei.
    pub balance_wei: U256,
    /// Whether to fund and unlock the account that deploys the host contracts at their published
    /// addresses ([`crate::DEPLOYER_MNEMONIC`]).
    pub fund_deployer: bool,
    /// More addresses to fund with [`Self::balance_wei`]; the chain cannot sign for them.
    pub extra_funded: Vec<Address>,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            mnemonic: DEV_MNEMONIC.to_owned(),
            count: 10,
            balance_wei: U256::from(10_000) * U256::from(ETHER),
            fund_deployer: true,
            extra_funded: Vec::new(),
        }
    }
}

/// Bounds on memory, time and message sizes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many recent blocks keep their state for historical queries. On a native chain with a data directory, older blocks leave memory.
    pub state_history_blocks: usize,
    /// Transactions that may wait for a nonce gap or for manual mining.
    pub pool_transactions: usize,
    /// Waiting transactions of one sender.
    pub pool_transactions_per_sender: usize,
    /// Largest accepted transaction, in bytes of its signed encoding.
    pub transaction_size_bytes: usize,
    /// Most logs that one query returns.
    pub logs_per_query: usize,
    /// Most blocks that are not in memory any more in one query of logs or in one poll of a filter.
    pub old_blocks_per_query: u64,
    /// Most addresses, and most alternatives per topic, in one log filter.
    pub filter_alternatives: usize,
    /// Filters installed at one time; the least recently polled one makes room.
    pub filters: usize,
    /// Snapshots kept at one time.
    pub snapshots: usize,
    /// Largest JSON-RPC request over HTTP, and largest WebSocket message, in bytes.
    pub request_size_bytes: usize,
    /// Calls in one JSON-RPC batch.
    pub batch_calls: usize,
    /// Largest response to one request or batch, in bytes.
    pub response_size_bytes: usize,
    /// Requests that may execute at the same time; others wait.
    pub concurrent_requests: usize,
    /// Longest time one HTTP request or WebSocket message may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// WebSocket connections at one time.
    pub websocket_connections: usize,
    /// Subscriptions of one WebSocket connection.
    pub subscriptions_per_connection: usize,
    /// Blocks that one `anvil_mine` call may mine.
    pub mine_blocks_per_call: u64,
    /// Largest gas limit that `evm_setBlockGasLimit` accepts. A call runs for as long as its gas lasts.
    pub block_gas_limit: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            state_history_blocks: 8192,
            pool_transactions: 4096,
            pool_transactions_per_sender: 256,
            transaction_size_bytes: 512 * 1024,
            logs_per_query: 10_000,
            old_blocks_per_query: 65_536,
            filter_alternatives: 1000,
            filters: 1000,
            snapshots: 256,
            request_size_bytes: 5 * 1024 * 1024,
            batch_calls: 1000,
            response_size_bytes: 25 * 1024 * 1024,
            concurrent_requests: 64,
            request_timeout_ms: 30_000,
            websocket_connections: 256,
            subscriptions_per_connection: 128,
            mine_blocks_per_call: 65_536,
            block_gas_limit: 1_000_000_000,
        }
    }
}
