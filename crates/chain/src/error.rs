//! What can go wrong with a host chain.

use std::{path::PathBuf, time::Duration};

use alloy::transports::{RpcError, TransportErrorKind};
use cipherloom_primitives::{Address, B256, Handle, ciphertext_state::StoredError};

use crate::light::LightError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The URL of the node is not one.
    #[error("{0:?} is no HTTP or WebSocket URL of a JSON-RPC node")]
    Url(String),
    /// There must be a node to ask, and not too many.
    #[error("a chain has 1 to {most} nodes, not {found}")]
    NoNodes {
        /// How many URLs there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// More nodes must agree than there are, or none.
    #[error("{needed} of {nodes} nodes cannot be asked to agree")]
    Quorum {
        /// How many must agree.
        needed: usize,
        /// How many there are.
        nodes: usize,
    },
    /// Nodes say different things, and none of them often enough.
    #[error("{method}: {needed} nodes must agree; the answers were given by {answers:?} nodes each")]
    Disagreement {
        /// What was asked.
        method: &'static str,
        /// How many must agree.
        needed: usize,
        /// How many gave each answer.
        answers: Vec<usize>,
    },
    /// The newest block is older than may be: its nodes are frozen, or the chain is.
    #[error("block {number} is {age_s} s old; at most {limit_s} s are allowed")]
    StaleHead {
        /// The block.
        number: u64,
        /// Its age in seconds.
        age_s: u64,
        /// The greatest age in seconds.
        limit_s: u64,
    },
    /// A node's answers contradict each other, or the question.
    #[error("{method}: the chain's node {node} contradicts itself: {reason}")]
    Contradiction {
        /// What was asked.
        method: &'static str,
        /// The node, as it may be logged.
        node: String,
        /// What does not fit.
        reason: String,
    },
    /// A storage proof proves nothing.
    #[error("the storage proof of {contract} is not valid: {reason}")]
    Proof {
        /// The contract.
        contract: Address,
        /// What is wrong with it.
        reason: String,
    },
    /// A node shows a block of a native chain that its validators did not certify, as far as they are known.
    #[error("the chain's node {node} shows a block that does not count: {source}")]
    Certificate {
        /// The node, as it may be logged.
        node: String,
        /// What is wrong.
        source: LightError,
    },
    /// Validators of a native chain signed two histories. Nothing is believed until somebody has looked into it.
    #[error(
        "validators of the chain signed two histories; it was seen at block {number}. Nothing of this chain is believed any more: find out which validators \
         signed twice, then start again from a genesis or a trusted set that you know to be right"
    )]
    Forked {
        /// Where it was seen.
        number: u64,
    },
    /// It is proven that something is stored for a handle which is no ciphertext of its type.
    #[error("what the chain has stored for handle {handle} is no ciphertext: {source}")]
    StoredCiphertext {
        /// The handle.
        handle: Handle,
        /// What is wrong with it.
        source: StoredError,
    },
    /// Something cannot be proven, and one node is not believed.
    #[error("{what} cannot be proven, and a single node is not believed: let two nodes or more agree")]
    Unproven {
        /// What was asked.
        what: &'static str,
    },
    /// A file about a native chain cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    NativeFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The chain contradicts a block that is final.
    #[error(
        "the chain's node {node} says that block {number} or one below is another one than recorded, though blocks up to {final_block} are final; \
         nothing is withdrawn. If the chain did change so far back, let the tenant's blocks be read again"
    )]
    FinalityBroken {
        /// The node, as it may be logged.
        node: String,
        /// The lowest block that would have to be withdrawn.
        number: u64,
        /// The highest final block.
        final_block: u64,
    },
    /// The system has no certificates of authorities, without which no server can be trusted.
    #[error("no connection over TLS is possible: {0}")]
    Tls(std::io::Error),
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
    /// Another transaction of the account was included with the nonce of one of ours.
    #[error("account {account} used nonce {nonce} for another transaction meanwhile; nothing else may send from it now")]
    NonceUsed {
        /// The account.
        account: Address,
        /// The nonce.
        nonce: u64,
    },
    /// The chain asks for more than the user wants to pay.
    #[error("{name}: the chain asks for {needed_gwei} gwei per unit of gas, more than the limit of {limit_gwei} gwei")]
    FeesAboveLimit {
        /// What the transaction was for.
        name: String,
        /// What the chain asks for.
        needed_gwei: String,
        /// The limit.
        limit_gwei: String,
    },
    /// A file about a deployment cannot be read or written.
    #[error("deployment file {}: {reason}", .path.display())]
    DeploymentFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A block explorer refused or did not answer.
    #[error("block explorer: {what}: {reason}")]
    Explorer {
        /// What was asked.
        what: &'static str,
        /// What it said.
        reason: String,
        /// Whether asking again may help.
        is_retryable: bool,
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
            Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::BlockGone(_)
            | Self::NotIncluded { .. }
            | Self::Contradiction { .. }
            | Self::Disagreement { .. }
            | Self::StaleHead { .. }
            | Self::Certificate { .. }
            | Self::Proof { .. }
            | Self::Explorer { .. } => Fault::Node,
            Self::Url(_)
            | Self::NoNodes { .. }
            | Self::Quorum { .. }
            | Self::FinalityBroken { .. }
            | Self::Forked { .. }
            | Self::StoredCiphertext { .. }
            | Self::Unproven { .. }
            | Self::NativeFile { .. }
            | Self::Tls(_)
            | Self::Contract { .. }
            | Self::WrongChain { .. }
            | Self::Inconsistent { .. }
            | Self::DeploymentFile { .. }
            | Self::DeployerUsed { .. } => Fault::Configuration,
            Self::Refused { .. }
            | Self::TransactionFailed { .. }
            | Self::Signing { .. }
            | Self::NonceUsed { .. }
            | Self::FeesAboveLimit { .. } => Fault::Request,
        }
    }

    /// Says whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            // -32005 is the usual "limit exceeded" of providers (EIP-1474); the other codes judge the request. So does this one where it is
            // about the size of the answer.
            Self::Refused { code, message, .. } => (*code == -32005 || *code == 429) && !crate::ranges::is_about_size(message),
            Self::Explorer { is_retryable, .. } => *is_retryable,
            other => matches!(other.fault(), Fault::Node),
        }
    }

    /// Says whether a call was executed and the contract refused it.
    #[must_use]
    pub fn is_revert(&self) -> bool {
        // Geth and what follows it use 3; others have codes of their own and say it in words.
        matches!(self, Self::Refused { code, message, .. } if *code == 3 || message.to_ascii_lowercase().contains("revert"))
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
