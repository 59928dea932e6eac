//! A chain as somebody reads it who must not be lied to: through several nodes, at one block, with proofs where that is wanted.
//!
//! # What is believed
//! `quorum` of the nodes must name the same hash for a block ([`WitnessedChain::pin`]). From then on everything is read at that block. Rights come
//! from the access-control contract, by [`crate::AclSource`]: from its answers to calls, on which the quorum must agree; from its storage, proven against
//! the block's hash, for which one node is enough that may lie as it likes; or from both. What has no proof of a known form
//! (signers, and whether a wallet recognises a signature) is always read by calls of the quorum.
//!
//! # Which block
//! Each node says how far the chain is, by the configured [`Finality`]. The block is the highest that `quorum` nodes have reached; where they do not
//! agree on it, because one is behind or lies, some lower ones that were named are tried. A block that is older than `max_age` is refused:
//! otherwise nodes could be frozen in the past, where a right exists that was taken back since.

use std::{collections::BTreeSet, time::Duration};

use alloy::{consensus::Header, eips::BlockNumberOrTag};
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::B256;

use crate::{
    acl_check::{AclCheck, Finality},
    error::ChainError,
    evidence::AclEvidence,
    host_chain::{CallLimits, HostChain},
    pinned::PinnedChain,
    quorum::{Quorum, Witness},
};

/// How much later than enough others a node may say how far the chain is.
const GRACE: Duration = Duration::from_millis(300);

/// How far below the chosen block others are tried.
const MAX_STEP_BACK: u64 = 8;

/// How a chain is read.
#[derive(Clone, Copy, Debug)]
pub struct WitnessOptions {
    /// What is believed about rights, and which block counts.
    pub check: AclCheck,
    /// How many nodes must agree.
    pub quorum: usize,
    /// How old the block may be that counts, by its own time. Without it a chain that stands still can be read.
    pub max_age: Option<Duration>,
    /// How many blocks below the one that counts evidence may be that others bring. Older evidence is not used.
    pub max_evidence_lag: u64,
}

impl Default for WitnessOptions {
    fn default() -> Self {
        Self {
            check: AclCheck::default(),
            quorum: 1,
            max_age: None,
            max_evidence_lag: 16,
        }
    }
}

/// A host chain behind several nodes of which a quorum must agree.
#[derive(Clone, Debug)]
pub struct WitnessedChain {
    quorum: Quorum,
    options: WitnessOptions,
}

impl WitnessedChain {
    /// Sets up calls to these nodes; nothing is sent yet. Each is asked for its chain's id before it is used.
    ///
    /// # Errors
    /// [`ChainError::Url`] or [`ChainError::Tls`] if a URL cannot be used, [`ChainError::Quorum`] if there are fewer than must agree.
    pub fn connect(
        urls: &[impl AsRef<str>],
        addresses: HostAddresses,
        limits: CallLimits,
        chain_id: u64,
        options: WitnessOptions,
    ) -> Result<Self, ChainError> {
        let witness = |url: &str| {
            let host = HostChain::connect_all(&[url], addresses, limits, Some(chain_id))?;
            Ok(Witness::new(host, url))
        };
        let witnesses = urls.iter().map(|url| witness(url.as_ref())).collect::<Result<_, ChainError>>()?;
        Ok(Self {
            quorum: Quorum::new(witnesses, options.quorum)?,
            options,
        })
    }

    /// Reads through connections that exist, each of which counts as one node.
    ///
    /// # Errors
    /// [`ChainError::Quorum`] if there are fewer than must agree.
    pub fn over(hosts: Vec<HostChain>, options: WitnessOptions) -> Result<Self, ChainError> {
        let witnesses = hosts.into_iter().enumerate().map(|(index, host)| Witness {
            host,
            label: format!("node {index}"),
        });
        Ok(Self {
            quorum: Quorum::new(witnesses.collect(), options.quorum)?,
            options,
        })
    }

    /// Returns how the chain is read.
    #[must_use]
    pub const fn options(&self) -> &WitnessOptions {
        &self.options
    }

    /// Chooses the block at which everything about one request is read.
    ///
    /// Evidence is used if its block is not too far below the one that counts and the quorum knows it; otherwise it is left aside, and
    /// proofs that are needed are fetched from the nodes.
    ///
    /// # Errors
    /// As all reads; [`ChainError::Disagreement`] if the nodes do not agree on a block; [`ChainError::StaleHead`] if the one they agree on is too old.
    pub async fn pin(&self, now_seconds: u64, evidence: Option<AclEvidence>) -> Result<PinnedChain, ChainError> {
        let header = self.agreed_head().await?;
        if let Some(limit) = self.options.max_age {
            let age = now_seconds.saturating_sub(header.timestamp);
            if age > limit.as_secs() {
                return Err(ChainError::StaleHead {
                    number: header.number,
                    age_s: age,
                    limit_s: limit.as_secs(),
                });
            }
        }
        let usable = match evidence {
            Some(evidence) if self.options.check.by.needs_proofs() => self.usable(&header, evidence).await,
            _ => None,
        };
        let header = usable.as_ref().map_or(header, |evidence| SealedHeader {
            number: evidence.number(),
            timestamp: evidence.header().timestamp,
            hash: evidence.block_hash(),
            header: Some(evidence.header().clone()),
        });
        Ok(PinnedChain::new(self.quorum.clone(), self.options.check.by, header, usable))
    }

    /// Returns the evidence if it may be used with this block, and says why not otherwise.
    async fn usable(&self, head: &SealedHeader, evidence: AclEvidence) -> Option<AclEvidence> {
        let (number, hash) = (evidence.number(), evidence.block_hash());
        if hash == head.hash {
            return Some(evidence);
        }
        if number > head.number || head.number - number > self.options.max_evidence_lag {
            tracing::debug!(number, head = head.number, "evidence is of a block that does not count");
            return None;
        }
        match self.agreed_header(number).await {
            Ok(agreed) if agreed.hash == hash => Some(evidence),
            Ok(agreed) => {
                tracing::warn!(number, %hash, agreed = %agreed.hash, "evidence is of a block that is not the chain's");
                None
            }
            Err(error) => {
                tracing::debug!(number, %error, "evidence cannot be compared with the chain");
                None
            }
        }
    }

    async fn agreed_head(&self) -> Result<SealedHeader, ChainError> {
        let finality = self.options.check.finality;
        // One node agrees with itself, so its word about the block is the block.
        if let (1, Some(tag)) = (self.quorum.witnesses().len(), tag_of(finality)) {
            let header = self.quorum.agree("eth_getBlockByNumber", |host| self.header_at(host, tag));
            return header.await;
        }
        let mut heights = self.quorum.survey(GRACE, |host| height(host, finality)).await?;
        heights.sort_unstable_by(|one, other| other.cmp(one));
        let reached: Vec<u64> = heights.into_iter().skip(self.quorum.needed() - 1).collect();
        let lowest = reached.first().map_or(0, |first| first.saturating_sub(MAX_STEP_BACK));
        let candidates: BTreeSet<u64> = reached.into_iter().filter(|number| *number >= lowest).collect();
        let mut failure = ChainError::BlockGone(0);
        for number in candidates.into_iter().rev() {
            match self.agreed_header(number).await {
                Ok(header) => return Ok(header),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn agreed_header(&self, number: u64) -> Result<SealedHeader, ChainError> {
        self.quorum
            .agree("eth_getBlockByNumber", |host| self.header_at(host, number.into()))
            .await
    }

    /// Returns a node's header. With proofs its hash is computed, because they hang on its content.
    async fn header_at(&self, host: HostChain, block: BlockNumberOrTag) -> Result<SealedHeader, ChainError> {
        let gone = ChainError::BlockGone(block.as_number().unwrap_or(0));
        let header = host.header(block).await?.ok_or(gone)?;
        let proofs = self.options.check.by.needs_proofs();
        if proofs && header.inner.hash_slow() != header.hash {
            return Err(ChainError::Contradiction {
                method: "eth_getBlockByNumber",
                node: host.node_label().to_owned(),
                reason: "the header does not have the hash of the block".to_owned(),
            });
        }
        Ok(SealedHeader {
            number: header.inner.number,
            timestamp: header.inner.timestamp,
            hash: header.hash,
            header: proofs.then_some(header.inner),
        })
    }
}

/// A header that was agreed on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SealedHeader {
    pub(crate) number: u64,
    pub(crate) timestamp: u64,
    pub(crate) hash: B256,
    /// All of it, where its content counts.
    pub(crate) header: Option<Header>,
}

const fn tag_of(finality: Finality) -> Option<BlockNumberOrTag> {
    match finality {
        Finality::Latest => Some(BlockNumberOrTag::Latest),
        Finality::Safe => Some(BlockNumberOrTag::Safe),
        Finality::Finalized => Some(BlockNumberOrTag::Finalized),
        Finality::Depth(_) => None,
    }
}

/// Returns the number of the newest block that counts, as a node says.
async fn height(host: HostChain, finality: Finality) -> Result<u64, ChainError> {
    let tag = tag_of(finality).unwrap_or(BlockNumberOrTag::Latest);
    let newest = host.header(tag).await?.ok_or(ChainError::BlockGone(0))?.inner.number;
    match finality {
        Finality::Depth(blocks) => Ok(newest.saturating_sub(blocks)),
        _ => Ok(newest),
    }
}

impl AclEvidence {
    /// Has a node prove the answers to questions at the newest block that counts: what a gateway sends along with a request.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub async fn gather_at(
        host: &HostChain,
        finality: Finality,
        questions: &BTreeSet<cipherloom_primitives::AclQuestion>,
    ) -> Result<Self, ChainError> {
        let host = host.on_one_node();
        let block = match tag_of(finality) {
            Some(tag) => tag,
            None => height(host.clone(), finality).await?.into(),
        };
        let header = host.header(block).await?.ok_or(ChainError::BlockGone(0))?;
        Self::gather(&host, &header.inner, questions).await
    }
}
