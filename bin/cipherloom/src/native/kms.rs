//! The KMS of a native stack: one node that has the whole key, or a committee whose nodes squash what they decrypt themselves.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use cipherloom_chain::{HostChain, LightOptions, NativeGenesis};
use cipherloom_contracts::KmsConfig;
use cipherloom_fhe::KeySet;
use cipherloom_kms::{AuditLog, KmsLimits, KmsNode, KmsParts, NoCiphertexts, NodeKey};
use serde_json::{Value, json};

use crate::{
    stack::{
        NodeSummary,
        chain::kms_config,
        committee::{Computes, Founders, RunningCommittee, Surroundings, follow_native},
    },
    wiring::Kms,
};

/// The KMS before there is a chain: its signing keys.
pub(super) enum NativeFounders {
    /// One node.
    Node(NodeKey),
    /// The nodes of a committee.
    Committee(Founders),
}

/// The KMS while it runs.
pub(super) enum NativeKms {
    /// One node.
    Node(Arc<KmsNode>),
    /// A committee.
    Committee(Box<RunningCommittee>),
}

/// What is there when the KMS starts.
pub(super) struct Ground<'a> {
    pub(super) keys: &'a Arc<KeySet>,
    pub(super) genesis: &'a NativeGenesis,
    pub(super) host: &'a HostChain,
    /// The URLs of the nodes that the chain is read at.
    pub(super) rpcs: &'a [String],
    /// Where the KMS keeps what it needs.
    pub(super) directory: &'a Path,
}

impl NativeFounders {
    /// Opens the directory of the KMS, `kms` in the stack's place, or those of the nodes of a committee in it; what is missing is made.
    ///
    /// # Errors
    /// If one cannot be used.
    pub(super) async fn open(place: &Path, chain_id: u64, nodes: Option<u8>) -> Result<Self> {
        let directory = place.join("kms");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(match nodes {
            None => Self::Node(NodeKey::open_or_generate(&directory.join("signing-key"))?),
            Some(count) => Self::Committee(Box::pin(Founders::open(place, count, chain_id)).await?),
        })
    }

    /// Says what a new chain has registered: who signs, and how many of them must.
    pub(super) fn config(&self) -> KmsConfig {
        match self {
            Self::Node(key) => kms_config(vec![key.address()]),
            Self::Committee(founders) => kms_config(founders.signers()),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// If it is not the one that is registered on the chain, or cannot serve.
    pub(super) async fn start(self, ground: &Ground<'_>) -> Result<NativeKms> {
        let signing_key = match self {
            Self::Node(key) => key,
            Self::Committee(founders) => {
                let around = Surroundings {
                    keys: ground.keys,
                    host: ground.host,
                    domains: ground.genesis.signing_domains(),
                    computes: Computes::Validators {
                        genesis: ground.genesis,
                        rpcs: ground.rpcs,
                    },
                };
                return Ok(NativeKms::Committee(Box::new(Box::pin(founders.start(&around)).await?)));
            }
        };
        let light = LightOptions {
            trusted_file: Some(ground.directory.join("validators.json")),
            ..LightOptions::default()
        };
        let followed = follow_native(ground.rpcs, ground.genesis, light)?;
        let node = KmsNode::new(KmsParts {
            decrypt: ground.keys.decryptor()?,
            key_set_id: ground.genesis.key_set_id,
            signing_key,
            domains: ground.genesis.signing_domains(),
            chain: Arc::new(followed),
            ciphertexts: Arc::new(NoCiphertexts),
            audit: AuditLog::open(&ground.directory.join("audit.jsonl"))?,
            clock: Arc::new(cipherloom_kms::SystemClock),
            limits: KmsLimits::default(),
        });
        node.check_registration().await.context("the KMS is not the one of the genesis")?;
        Ok(NativeKms::Node(Arc::new(node)))
    }
}

impl NativeKms {
    /// Returns it as requests for decryptions see it.
    pub(super) fn asked(&self) -> Arc<dyn Kms> {
        match self {
            Self::Node(node) => Arc::clone(node) as _,
            Self::Committee(committee) => Arc::clone(committee.connected()) as _,
        }
    }

    /// Returns the nodes of the committee, if it is one.
    pub(super) fn committee(&self) -> &[NodeSummary] {
        match self {
            Self::Node(_) => &[],
            Self::Committee(committee) => committee.nodes(),
        }
    }

    /// Describes the nodes of the committee as `dev` prints them.
    pub(super) fn summary(&self) -> Vec<Value> {
        let describe = |node: &NodeSummary| {
            json!({
                "party": node.party,
                "signer": node.signer.to_checksum(None),
                "attestedAddress": node.attested.to_string(),
                "publicUrl": format!("http://{}", node.public),
            })
        };
        self.committee().iter().map(describe).collect()
    }

    /// Stops a node of the committee, if it is one.
    pub(super) async fn stop_node(&self, party: u32) {
        if let Self::Committee(committee) = self {
            committee.stop(party).await;
        }
    }

    /// Stops it.
    pub(super) async fn shutdown(self) {
        if let Self::Committee(committee) = self {
            Box::pin(committee.shutdown()).await;
        }
    }
}
