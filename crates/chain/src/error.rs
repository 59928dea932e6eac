//! What can go wrong with a host chain.

use std::time::Duration;

use alloy::transports::{RpcError, TransportErrorKind};
use cipherloom_primitives::{Address, B256};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The URL of the node is not one.
    #[error("{0:?} is not an HTTP URL of a JSON-RPC node")]
    Url(String),
    /// The node did not answer in time.
    #[error("{method}: no answer from the chain's node within {} ms", .limit.as_millis())]
    Timeout {
        /// What was asked.
        method: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The node cannot be reached or its answer cannot be read.
    #[error("{method}: {source}")]
    Transport {
        /// What was asked.
        method: &'static str,
        /// What went wrong.
        source: Box<RpcError<TransportErrorKind>>,
    },
    /// The node answered with an error.
    #[error("{method}: the chain's node answered with error {code}: {message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// A contract's answer is not of the expected form: it is another contract or none at all.
    #[error("{method}: {contract} does not answer as a host contract does: {reason}")]
    Contract {
        /// What was asked.
        method: &'static str,
        /// The address.
        contract: Address,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The node serves another chain.
    #[error("the node serves chain {found}, not {expected}")]
    WrongChain {
        /// The configured id.
        expected: u64,
        /// The id the node reports.
        found: u64,
    },
    /// Two sources about the deployment contradict each other.
    #[error("host contracts: {what} is {found}, expected {expected}")]
    Inconsistent {
        /// What differs.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What the chain says.
        found: String,
    },
    /// A block that was just reported is not there any more: the chain moved, or answers come from different nodes.
    #[error("block {0} is gone from the chain's node")]
    BlockGone(u64),
    /// A transaction was included and failed.
    #[error("{name}: transaction {hash} failed on chain")]
    TransactionFailed {
        /// What the transaction was for.
        name: String,
        /// Its hash.
        hash: B256,
    },
    /// A transaction was not included in time.
    #[error("{name}: transaction {hash} was not included within {} s", .limit.as_secs())]
    NotIncluded {
        /// What the transaction was for.
        name: String,
        /// Its hash.
        hash: B256,
        /// How long was waited.
        limit: Duration,
    },
    /// A transaction cannot be built or signed.
    #[error("{name}: {reason}")]
    Signing {
        /// What the transaction was for.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// The deploying account sent other transactions before.
    #[error("deployer {deployer} already sent {nonce} transactions and no host contracts are deployed at its addresses")]
    DeployerUsed {
        /// The account.
        deployer: Address,
        /// How many it sent.
        nonce: u64,
    },
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The chain's node or the way to it.
    Node,
    /// What we were told about the chain.
    Configuration,
    /// What we sent or asked.
    Request,
}

impl ChainError {
    /// Says whose fault the error is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Timeout { .. } | Self::Transport { .. } | Self::BlockGone(_) | Self::NotIncluded { .. } => Fault::Node,
            Self::Url(_) | Self::Contract { .. } | Self::WrongChain { .. } | Self::Inconsistent { .. } | Self::DeployerUsed { .. } => {
                Fault::Configuration
            }
            Self::Refused { .. } | Self::TransactionFailed { .. } | Self::Signing { .. } => Fault::Request,
        }
    }

    /// Says whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            // -32005 is the usual "limit exceeded" of providers (EIP-1474); the other codes judge the request.
            Self::Refused { code, .. } => *code == -32005 || *code == 429,
            other => matches!(other.fault(), Fault::Node),
        }
    }

    /// Sorts an error of the RPC client.
    pub(crate) fn rpc(method: &'static str, error: RpcError<TransportErrorKind>) -> Self {
        match error {
            RpcError::ErrorResp(payload) => Self::Refused {
                method,
                code: payload.code,
                message: payload.message.to_string(),
            },
            source => Self::Transport {
                method,
                source: Box::new(source),
            },
        }
    }
}
