//! Why a decryption is refused or fails, and what to tell whom.

use std::path::PathBuf;

use cipherloom_fhe::FheError;
use cipherloom_primitives::{Address, B256, Handle, decryption::RequestError};
use cipherloom_signcryption::SigncryptionError;

use cipherloom_threshold::ThresholdError;

use crate::{
    audit::AuditError,
    budgets::BudgetExhausted,
    committee::RefusedBundle,
    legacy::LegacyError,
    ports::{ChainViewError, SourceError},
};

/// The label of [`KmsError::MoreSharesNeeded`], which gateways act on and pass to nobody.
pub const MORE_SHARES_NEEDED: &str = "more_shares_needed";

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// The request is outside the limits or its window, or contradicts itself.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The user's public key is no ML-KEM-512 key.
    #[error("{0}")]
    PublicKey(SigncryptionError),
    /// The permit is not signed by the account it names.
    #[error("the permit is not signed by {signer} for this chain, these contracts, this window and this public key")]
    PermitSignature {
        /// Who should have signed.
        signer: Address,
    },
    /// An account whose rights the permit uses has declared permits of this age invalid.
    #[error("{account} has invalidated permits that start before {before} (seconds since 1970)")]
    PermitInvalidated {
        /// The account: whoever signed the permit, or an owner for whom they read.
        account: Address,
        /// The time it declared.
        before: u64,
    },
    /// The request is for a KMS context that does not exist, or was destroyed.
    #[error("the chain knows no KMS context {requested}")]
    Context {
        /// The context in the extra data.
        requested: B256,
    },
    /// The request is for an epoch that the context does not have, or that was destroyed.
    #[error("the chain knows no epoch {requested} of KMS context {context}")]
    Epoch {
        /// The epoch in the extra data.
        requested: B256,
        /// The context in the extra data.
        context: B256,
    },
    /// The handle was not made public.
    #[error("handle {0} is not allowed for public decryption")]
    NotPublic(Handle),
    /// The account may not read the handle.
    #[error("account {account} is not allowed to read handle {handle}")]
    NotAllowed {
        /// The handle.
        handle: Handle,
        /// The user or contract without permission.
        account: Address,
    },
    /// The delegator has not delegated the handle.
    #[error("{delegator} has not delegated reading handle {handle} of contract {contract} to {delegate}")]
    NotDelegated {
        /// The handle.
        handle: Handle,
        /// Whose value it is.
        delegator: Address,
        /// Who asks.
        delegate: Address,
        /// Through which contract.
        contract: Address,
    },
    /// The ciphertext is not there yet.
    #[error("the ciphertext of handle {0} is not ready yet; try again")]
    NotReady(Handle),
    /// The ciphertext will not come, or its source does not answer.
    #[error("the ciphertext of handle {handle} is not available: {source}")]
    Ciphertext {
        /// The handle.
        handle: Handle,
        /// What the source says.
        source: SourceError,
    },
    /// The ciphertext is not what enough registered coprocessors vouch for.
    #[error("the ciphertext of handle {handle} is not trusted: {reason}")]
    Provenance {
        /// The handle.
        handle: Handle,
        /// What is wrong.
        reason: String,
    },
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainViewError),
    /// This node is not one of the registered KMS nodes, so nobody would accept its answers.
    #[error("this node ({address}) is not in the KMS context {}", .context.map_or_else(|| "that is current".to_owned(), |id| id.to_string()))]
    NotRegistered {
        /// The node's signer.
        address: Address,
        /// The context that was asked for, if it is not the current one.
        context: Option<B256>,
    },
    /// Too many requests are being answered.
    #[error("the KMS is answering as many requests as it can; try again")]
    Overloaded,
    /// Decrypting failed.
    #[error("decrypting handle {handle} failed: {source}")]
    Decryption {
        /// The handle.
        handle: Handle,
        /// What failed.
        source: FheError,
    },
    /// Making the answer failed.
    #[error("making the answer failed: {0}")]
    Sealing(SigncryptionError),
    /// The audit log could not be written; without it nothing is answered.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    /// A request of the 0.6 generation is refused.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// So much was decrypted lately that no more is, for now.
    #[error(transparent)]
    Budget(#[from] BudgetExhausted),
    /// The node of a committee has no share yet, or none any more.
    #[error("this node holds no share of the key; it awaits a ceremony")]
    NoShare,
    /// The chain has none of the epochs that this node holds shares of, or has destroyed them, so the shares must not be used.
    #[error("the chain knows no epoch {epoch} of KMS context {context}, which this node holds a share of")]
    EpochNotServed {
        /// The context of the newest share that could be meant.
        context: B256,
        /// Its epoch.
        epoch: B256,
    },
    /// The request is for a context that this node holds no share of.
    #[error("this node holds no share for KMS context {requested}")]
    ContextNotServed {
        /// The context in the extra data.
        requested: B256,
    },
    /// The chain names other nodes for the context than those the share was dealt to, or in another order.
    #[error("the committee of this node's share is not the one that the chain has for KMS context {context}")]
    CommitteeDiffers {
        /// The context.
        context: B256,
    },
    /// More bundles than a committee can send.
    #[error("{found} bundles of shares came with the request; at most {most} are looked at")]
    TooManyBundles {
        /// How many came.
        found: usize,
        /// Two for each party.
        most: usize,
    },
    /// The shares that came do not determine the values.
    #[error("more shares are needed: {source}{}", left_out(.refused))]
    MoreSharesNeeded {
        /// What reconstruction says.
        source: ThresholdError,
        /// The bundles that did not count.
        refused: Vec<RefusedBundle>,
    },
    /// The other parties' shares agree, and this node's own does not fit them. It signs nothing then: it is damaged, or too many others lie together.
    #[error("the other parties' shares agree on values that this node's own share contradicts")]
    OwnShareWrong,
    /// The keys that a node of a committee squashes ciphertexts of native chains with cannot be used.
    #[error("the keys of noise squashing cannot be used: {0}")]
    SquashingKeys(String),
    /// Computing with shares failed.
    #[error("threshold decryption failed: {0}")]
    Threshold(ThresholdError),
    /// A task ended without a result.
    #[error("an internal task ended without a result")]
    Task,
    /// The signing key cannot be read or made.
    #[error("signing key {path}: {reason}")]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl KmsError {
    /// Returns the protocol's label of the error (public protocol, section 4.2).
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Request(_)
            | Self::PublicKey(_)
            | Self::PermitSignature { .. }
            | Self::PermitInvalidated { .. }
            | Self::Context { .. }
            | Self::Epoch { .. }
            | Self::TooManyBundles { .. } => "validation_failed",
            Self::NotPublic(_) | Self::NotAllowed { .. } | Self::NotDelegated { .. } => "not_allowed_on_host_acl",
            Self::NotReady(_) => "not_ready_for_decryption",
            Self::Legacy(error) => error.label(),
            Self::Overloaded | Self::Budget(_) => "protocol_overload",
            // Between a node and a gateway only: the gateway has others to ask.
            Self::MoreSharesNeeded { .. } => MORE_SHARES_NEEDED,
            Self::Chain(_)
            | Self::Ciphertext {
                source: SourceError::Unavailable(_),
                ..
            } => "gateway_not_reachable",
            Self::Ciphertext { .. }
            | Self::Provenance { .. }
            | Self::NotRegistered { .. }
            | Self::Decryption { .. }
            | Self::Sealing(_)
            | Self::Audit(_)
            | Self::NoShare
            | Self::EpochNotServed { .. }
            | Self::ContextNotServed { .. }
            | Self::CommitteeDiffers { .. }
            | Self::OwnShareWrong
            | Self::SquashingKeys(_)
            | Self::Threshold(_)
            | Self::Task
            | Self::SigningKey { .. } => "internal_server_error",
        }
    }

    /// Returns which field of the request is wrong, for errors labelled `validation_failed`.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::Request(error) => Some(error.field()),
            Self::PublicKey(_) => Some("publicKey"),
            Self::PermitSignature { .. } => Some("signature"),
            Self::PermitInvalidated { .. } => Some("startTimestamp"),
            Self::Context { .. } | Self::Epoch { .. } => Some("extraData"),
            Self::TooManyBundles { .. } => Some("bundles"),
            _ => None,
        }
    }

    /// Says whether the requester asked for something wrong or forbidden.
    #[must_use]
    pub fn is_caller_fault(&self) -> bool {
        matches!(self.label(), "validation_failed" | "not_allowed_on_host_acl")
    }

    /// Says whether the same request may succeed later without anyone repairing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.label(),
            "not_ready_for_decryption" | "protocol_overload" | "gateway_not_reachable" | MORE_SHARES_NEEDED
        )
    }

    /// Returns after how many seconds the same request may succeed, where that is known.
    #[must_use]
    pub const fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Budget(exhausted) => Some(exhausted.retry_after_seconds),
            _ => None,
        }
    }
}

/// Says which bundles did not count, and why.
fn left_out(refused: &[RefusedBundle]) -> String {
    let reasons: Vec<String> = refused
        .iter()
        .map(|bundle| format!("bundle {}: {}", bundle.index, bundle.reason))
        .collect();
    if reasons.is_empty() {
        return String::new();
    }
    format!(" (left out: {})", reasons.join("; "))
}
