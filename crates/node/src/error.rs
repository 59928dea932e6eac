//! What can go wrong, and how JSON-RPC tells it.

use std::io;
use std::path::PathBuf;

use alloy::primitives::{Address, B256, Bytes, U256};

use crate::native::FheGasExceeded;

/// Result of the node's operations.
pub type Result<T, E = NodeError> = std::result::Result<T, E>;

/// Everything that can go wrong in a chain.
///
/// The texts of transaction errors start with the words that Ethereum clients look for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The request body is not JSON.
    #[error("parse error: {0}")]
    Parse(String),
    /// The request is JSON but not a JSON-RPC 2.0 call.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// No such JSON-RPC method.
    #[error("the method {0} does not exist/is not available")]
    MethodNotFound(String),
    /// A parameter is missing, superfluous or malformed.
    #[error("invalid params: {0}")]
    InvalidParams(String),
    /// A configured limit would be exceeded.
    #[error("{0}")]
    LimitExceeded(String),
    /// A request took longer than the configured limit.
    #[error("request timed out")]
    TimedOut,
    /// No block has this hash or number.
    #[error("header not found: {0}")]
    UnknownBlock(String),
    /// No block has a transaction with this hash.
    #[error("transaction {0} not found")]
    UnknownTransaction(B256),
    /// The block exists, but its state has been discarded.
    #[error("missing trie node: state of block {number} is no longer available, the oldest kept state is that of block {oldest}")]
    StatePruned {
        /// The block asked for.
        number: u64,
        /// The oldest block whose state is kept.
        oldest: u64,
    },
    /// No filter or subscription has this id.
    #[error("filter not found")]
    UnknownFilter,
    /// The sender is neither a development account nor impersonated.
    #[error("unknown account {0}: not a development account and not impersonated")]
    UnknownAccount(Address),
    /// The bytes are not a signed transaction that this chain accepts.
    #[error("{0}")]
    InvalidTransaction(String),
    /// The nonce was used already.
    #[error("nonce too low: address {sender}, tx: {nonce} state: {expected}")]
    NonceTooLow {
        /// The sender.
        sender: Address,
        /// The transaction's nonce.
        nonce: u64,
        /// The sender's next nonce.
        expected: u64,
    },
    /// The sender cannot pay for value and gas.
    #[error("insufficient funds for gas * price + value: address {sender} have {balance} want {cost}")]
    InsufficientFunds {
        /// The sender.
        sender: Address,
        /// Balance, in wei.
        balance: U256,
        /// Most that the transaction may cost, in wei.
        cost: U256,
    },
    /// The offered fee is below the base fee of the next block.
    #[error("max fee per gas less than block base fee: address {sender}, maxFeePerGas: {max_fee}, baseFee: {base_fee}")]
    FeeTooLow {
        /// The sender.
        sender: Address,
        /// Fee offered, in wei per gas.
        max_fee: u128,
        /// Base fee required, in wei per gas.
        base_fee: u64,
    },
    /// A transaction with this hash is already in the pool or mined.
    #[error("already known")]
    AlreadyKnown,
    /// A transaction with this nonce waits already and the new one does not pay 10 % more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The transaction pool is full.
    #[error("txpool is full")]
    PoolFull,
    /// The call reverted.
    #[error("{message}")]
    Reverted {
        /// `execution reverted`, with the reason where it can be decoded.
        message: String,
        /// The returned data.
        data: Bytes,
    },
    /// The call stopped without returning data (out of gas, invalid opcode and the like).
    #[error("{0}")]
    Halted(String),
    /// A simulation cannot go on; it has error codes of its own.
    #[error("{message}")]
    Simulation {
        /// The JSON-RPC error code.
        code: i64,
        /// What is wrong.
        message: String,
    },
    /// The mnemonic, path or key of an account is not usable.
    #[error("development accounts: {0}")]
    Accounts(String),
    /// A setting has a value that cannot work.
    #[error("configuration: {0}")]
    InvalidConfig(String),
    /// A file of the data directory cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The server cannot listen on the configured address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The chain was shut down and has given up its data directory.
    #[error("the chain was shut down")]
    ShutDown,
    /// Another process uses the data directory.
    #[error("{0} is in use by another process")]
    DataDirLocked(PathBuf),
    /// The journal was written for different settings.
    #[error("{path} belongs to a different chain: {reason}; use another data directory or remove it")]
    JournalOfOtherChain {
        /// The journal file.
        path: PathBuf,
        /// Which setting differs.
        reason: String,
    },
    /// The journal is damaged before its end.
    #[error("{path}, record {record}: {reason}")]
    JournalCorrupt {
        /// The journal file.
        path: PathBuf,
        /// Number of the damaged record, from 1.
        record: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// What is known of blocks on the disk is damaged. The blocks are not: the next start makes it again from them.
    #[error("{path} is damaged ({reason}); start the node again to have it made again from the blocks")]
    IndexDamaged {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A block hash of the journal does not come out again.
    #[error(
        "executing block {number} of the journal gives hash {actual}, recorded was {recorded}; it was probably written by another version of this program"
    )]
    ReplayMismatch {
        /// The block.
        number: u64,
        /// The recorded hash.
        recorded: B256,
        /// The recomputed hash.
        actual: B256,
    },
    /// A genesis file describes no chain that can be.
    #[error("genesis file: {0}")]
    Genesis(String),
    /// No executor computed a block in time.
    #[error("{0}")]
    ExecutorUnavailable(String),
    /// Nobody who follows the rules takes this block, or what came along with it.
    #[error("the block is refused: {0}")]
    BlockRefused(String),
    /// A block to be committed is none that was executed here.
    #[error("block {0} was neither proposed nor validated by this node")]
    UnknownCandidate(B256),
    /// A block of the data directory does not come out again.
    #[error("block {number} of the data directory: {reason}; it was probably written by another version of this program")]
    ReplayRefused {
        /// The block.
        number: u64,
        /// What is wrong.
        reason: String,
    },
    /// A transaction needs more gas than is left in the block.
    #[error("the transaction may use {needed} gas; {left} is left in the block")]
    BlockGasExceeded {
        /// The transaction's gas limit.
        needed: u64,
        /// What is left.
        left: u64,
    },
    /// A transaction asks for more homomorphic work than is left in the block of a native chain.
    #[error("the transaction needs {needed_hcu} HCU of FHE gas; {left_hcu} of {limit_hcu} are left in the block")]
    FheGasExceeded {
        /// What the transaction needs.
        needed_hcu: u64,
        /// What is left.
        left_hcu: u64,
        /// What a block has. A transaction that needs more never fits.
        limit_hcu: u64,
    },
    /// Ciphertexts are not those that a block of a native chain asks for.
    #[error("ciphertexts of the block: {0}")]
    Ciphertexts(String),
    /// A bug in this crate: something believed impossible happened.
    #[error("internal error: {0}")]
    Internal(String),
}

impl NodeError {
    /// Returns the JSON-RPC error code.
    pub fn code(&self) -> i64 {
        match self {
            Self::Parse(_) => -32700,
            Self::InvalidRequest(_) => -32600,
            Self::MethodNotFound(_) => -32601,
            Self::InvalidParams(_) => -32602,
            Self::Internal(_) => -32603,
            Self::TimedOut => -32002,
            Self::LimitExceeded(_) => -32005,
            Self::Reverted { .. } => 3,
            Self::Simulation { code, .. } => *code,
            _ => -32000,
        }
    }

    /// Returns the JSON-RPC error data: what a reverted call returned.
    pub fn data(&self) -> Option<&Bytes> {
        match self {
            Self::Reverted { data, .. } => Some(data),
            _ => None,
        }
    }

    /// Tells whether the caller, rather than this process or its environment, must change something.
    pub fn is_callers_fault(&self) -> bool {
        !matches!(
            self,
            Self::TimedOut
                | Self::PoolFull
                | Self::Io { .. }
                | Self::Listen { .. }
                | Self::DataDirLocked(_)
                | Self::JournalCorrupt { .. }
                | Self::IndexDamaged { .. }
                | Self::ReplayMismatch { .. }
                | Self::ReplayRefused { .. }
                | Self::ExecutorUnavailable(_)
                | Self::Internal(_)
        )
    }

    /// Tells whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TimedOut
            | Self::PoolFull
            | Self::DataDirLocked(_)
            | Self::FeeTooLow { .. }
            | Self::BlockGasExceeded { .. }
            | Self::ExecutorUnavailable(_) => true,
            Self::FheGasExceeded { needed_hcu, limit_hcu, .. } => needed_hcu <= limit_hcu,
            _ => false,
        }
    }
}

impl From<FheGasExceeded> for NodeError {
    fn from(exceeded: FheGasExceeded) -> Self {
        let FheGasExceeded {
            needed_hcu,
            left_hcu,
            limit_hcu,
        } = exceeded;
        Self::FheGasExceeded {
            needed_hcu,
            left_hcu,
            limit_hcu,
        }
    }
}
