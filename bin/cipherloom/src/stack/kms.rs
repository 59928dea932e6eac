//! The KMS of a stack: one node that has the whole key, or a committee.

use std::{path::Path, sync::Arc};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail};
use cipherloom_chain::{WitnessOptions, WitnessedChain};
use cipherloom_kms::{AuditLog, KmsLimits, KmsNode, KmsParts, NodeKey};

use super::committee::{self, Computes, Founders, NodeSummary, RunningCommittee, Surroundings};
use crate::wiring::{CoprocessorCiphertexts, Kms};

/// The KMS before there is a chain: its signing keys.
pub(super) enum KmsFounders {
    /// One node.
    Node(NodeKey),
    /// The nodes of a committee.
    Committee(Founders),
}

/// The KMS while it runs.
pub(super) enum StackKms {
    /// One node.
    Node(Arc<KmsNode>),
    /// A committee.
    Committee(Box<RunningCommittee>),
}

impl KmsFounders {
    /// Opens the directory of the KMS, or those of the nodes of a committee; what is missing is made.
    ///
    /// # Errors
    /// If one cannot be used.
    pub(super) async fn open(state: &Path, nodes: Option<u8>, chain_id: u64) -> Result<Self> {
        Ok(match nodes {
            None => Self::Node(NodeKey::open_or_generate(&state.join("kms").join("signing-key"))?),
            Some(count) => Self::Committee(Box::pin(Founders::open(state, count, chain_id)).await?),
        })
    }

    /// Returns the addresses that answers are signed with, party 1 first.
    pub(super) fn signers(&self) -> Vec<Address> {
        match self {
            Self::Node(key) => vec![key.address()],
            Self::Committee(founders) => founders.signers(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// If it is not the one that is registered on the chain, or cannot serve.
    pub(super) async fn start(self, around: &Surroundings<'_>, state: &Path) -> Result<StackKms> {
        let signing_key = match self {
            Self::Node(key) => key,
            Self::Committee(founders) => return Ok(StackKms::Committee(Box::new(Box::pin(founders.start(around)).await?))),
        };
        let Computes::Coprocessor(coprocessor) = around.computes else {
            bail!("a stack with a coprocessor has one node that asks it")
        };
        let node = KmsNode::new(KmsParts {
            decrypt: around.keys.decryptor()?,
            key_set_id: committee::key_set_id(around.keys),
            signing_key,
            domains: around.domains,
            chain: Arc::new(WitnessedChain::over(vec![around.host.clone()], WitnessOptions::default())?),
            ciphertexts: Arc::new(CoprocessorCiphertexts(coprocessor.clone())),
            audit: AuditLog::open(&state.join("kms").join("audit.jsonl"))?,
            clock: Arc::new(cipherloom_kms::SystemClock),
            limits: KmsLimits::default(),
        });
        node.check_registration()
            .await
            .context("the KMS is not the one registered on the chain")?;
        Ok(StackKms::Node(Arc::new(node)))
    }
}

impl StackKms {
    /// Returns it as requests for decryptions see it.
    pub(super) fn asked(&self) -> Arc<dyn Kms> {
        match self {
            Self::Node(node) => Arc::clone(node) as _,
            Self::Committee(committee) => Arc::clone(committee.connected()) as _,
        }
    }

    /// Returns the node, if it is one.
    pub(super) fn node(&self) -> Option<&KmsNode> {
        match self {
            Self::Node(node) => Some(node),
            Self::Committee(_) => None,
        }
    }

    /// Returns the nodes of the committee, if it is one.
    pub(super) fn committee(&self) -> &[NodeSummary] {
        match self {
            Self::Node(_) => &[],
            Self::Committee(committee) => committee.nodes(),
        }
    }

    /// Stops a node of the committee, if it is one.
    pub(super) async fn stop_node(&self, party: u32) {
        if let Self::Committee(committee) = self {
            committee.stop(party).await;
        }
    }

    /// Returns what writes the metrics of calls to its nodes.
    pub(super) fn metrics(&self) -> Box<dyn Fn() -> String + Send + Sync> {
        match self {
            Self::Node(_) => Box::new(String::new),
            Self::Committee(committee) => {
                let connected = Arc::clone(committee.connected());
                Box::new(move || connected.render())
            }
        }
    }

    /// Stops it.
    pub(super) async fn shutdown(self) {
        if let Self::Committee(committee) = self {
            Box::pin(committee.shutdown()).await;
        }
    }
}
