//! The light client: which block counts now.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::{consensus::Header, eips::BlockNumberOrTag, primitives::U64};
use cipherloom_primitives::{
    B256,
    quorum::{CertifiedHeader, ValidatorChange},
};

use super::{
    genesis::NativeGenesis,
    pinned::PinnedNative,
    trusted::{LightError, TrustedState},
};
use crate::{
    acl_check::AclSource,
    error::ChainError,
    evidence::AclEvidence,
    host_chain::{CallLimits, HostChain},
    pinned::PinnedChain,
    quorum::{Quorum, Witness},
    witnessed::SealedHeader,
};

/// How much later than the first answers a node may say how far the chain is.
const GRACE: Duration = Duration::from_millis(300);
/// How many pages of changes are read before a node that has still more is left.
const MAX_PAGES: usize = 4096;
/// The most changes of a page that are looked at.
const MAX_CHANGES_PER_PAGE: usize = 256;
/// How many headers are remembered, for evidence that others bring.
const RECENT_HEADERS: usize = 64;
/// After how many blocks the file is written although the set did not change.
const SAVE_EVERY: u64 = 300;
/// How long all nodes may be behind what one of them showed before it is worth a line: they are a block apart now and then.
const BEHIND_FOR: Duration = Duration::from_secs(30);

/// How a native chain is read.
#[derive(Clone, Debug)]
pub struct LightOptions {
    /// How old the newest block may be, by its own time. A chain that stands still is refused then.
    pub max_age: Option<Duration>,
    /// How many nodes must agree on what has no proof.
    pub quorum: usize,
    /// How many blocks below the newest one evidence may be that others bring.
    pub max_evidence_lag: u64,
    /// Where the newest trusted set is kept. Without it a restart begins at the genesis.
    pub trusted_file: Option<PathBuf>,
}

impl Default for LightOptions {
    fn default() -> Self {
        Self {
            max_age: Some(Duration::from_secs(300)),
            quorum: 1,
            max_evidence_lag: 16,
            trusted_file: None,
        }
    }
}

/// A native chain behind nodes that may lie. Clones share what they know.
#[derive(Clone, Debug)]
pub struct LightClient {
    quorum: Quorum,
    options: LightOptions,
    key_set_id: B256,
    known: Arc<Mutex<Known>>,
    /// Whoever follows the chain; others wait, and find that there is nothing left to do.
    following: Arc<tokio::sync::Mutex<()>>,
}

/// What is known.
#[derive(Debug)]
struct Known {
    trusted: TrustedState,
    /// The headers that were taken, the newest one last.
    recent: VecDeque<(B256, Header)>,
    /// The chain is not to be believed any more.
    forked: Option<u64>,
    /// The height in the file.
    saved: u64,
    behind: Behind,
}

/// For how long no node had the newest block that was taken.
#[derive(Debug, Default)]
struct Behind {
    since: Option<Instant>,
}

impl Behind {
    /// Takes note of whether all were behind; says whether it lasts, once in a while.
    fn lasts(&mut self, all_are: bool, now: Instant) -> bool {
        if !all_are {
            self.since = None;
            return false;
        }
        let lasts = now.saturating_duration_since(*self.since.get_or_insert(now)) >= BEHIND_FOR;
        if lasts {
            self.since = Some(now);
        }
        lasts
    }
}

impl LightClient {
    /// Sets up calls to these nodes; nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Url`], [`ChainError::Tls`] and [`ChainError::Quorum`] as for [`crate::WitnessedChain::connect`]; [`ChainError::NativeFile`] if the
    /// trusted set that was kept cannot be used.
    pub fn connect(
        urls: &[impl AsRef<str>],
        genesis: &NativeGenesis,
        limits: CallLimits,
        options: LightOptions,
    ) -> Result<Self, ChainError> {
        let witness = |url: &str| {
            let host = HostChain::connect_all(&[url], genesis.contracts, limits, Some(genesis.chain_id))?;
            Ok(Witness::new(host, url))
        };
        let witnesses = urls.iter().map(|url| witness(url.as_ref())).collect::<Result<_, ChainError>>()?;
        let quorum = Quorum::new(witnesses, options.quorum)?;
        let kept = match &options.trusted_file {
            Some(path) => TrustedState::open(path, genesis.consensus_domain())?,
            None => None,
        };
        let trusted = kept.unwrap_or_else(|| genesis.trusted());
        let saved = trusted.height();
        tracing::info!(chain = genesis.chain_id, block = saved, hash = %trusted.hash(), "following a native chain from a block that is trusted");
        Ok(Self {
            quorum,
            options,
            key_set_id: genesis.key_set_id,
            known: Arc::new(Mutex::new(Known {
                trusted,
                recent: VecDeque::new(),
                forked: None,
                saved,
                behind: Behind::default(),
            })),
            following: Arc::default(),
        })
    }

    /// Returns what is known now, without asking anybody.
    #[must_use]
    pub fn trusted(&self) -> TrustedState {
        self.with_known(|known| known.trusted.clone())
    }

    /// Chooses the newest certified block, at which everything about one request is read.
    ///
    /// Evidence is used if it is of a block that was taken, not too far below; otherwise it is left aside, and proofs are fetched.
    ///
    /// # Errors
    /// As all reads; [`ChainError::Certificate`] if no node has a newer block whose certificate holds; [`ChainError::StaleHead`] if it is too old;
    /// [`ChainError::Forked`] from the moment on that validators were seen to sign two histories.
    pub async fn pin(&self, now_seconds: u64, evidence: Option<AclEvidence>) -> Result<PinnedNative, ChainError> {
        let (hash, header) = self.newest().await?;
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
        let usable = evidence.filter(|evidence| self.is_usable(&header, evidence));
        let (hash, header) = match &usable {
            Some(evidence) => (evidence.block_hash(), evidence.header().clone()),
            None => (hash, header),
        };
        let sealed = SealedHeader {
            number: header.number,
            timestamp: header.timestamp,
            hash,
            header: Some(header.clone()),
        };
        let chain = PinnedChain::new(self.quorum.clone(), AclSource::Proof, sealed, usable);
        Ok(PinnedNative::new(chain, self.quorum.clone(), header, hash, self.key_set_id))
    }

    fn is_usable(&self, head: &Header, evidence: &AclEvidence) -> bool {
        let is_near = evidence.number() <= head.number && head.number - evidence.number() <= self.options.max_evidence_lag;
        is_near && self.with_known(|known| known.recent.iter().any(|(hash, _)| *hash == evidence.block_hash()))
    }

    /// Returns the newest header that can be had, not older than any that was returned before.
    async fn newest(&self) -> Result<(B256, Header), ChainError> {
        let mut shown = self
            .quorum
            .survey(GRACE, |host| async move {
                let certified = newest_of(&host).await?;
                Ok((host, certified))
            })
            .await?;
        shown.sort_by_key(|(_, certified)| std::cmp::Reverse(certified.certificate.height));
        let _turn = self.following.lock().await;
        let mut failure = ChainError::BlockGone(0);
        for (host, certified) in &shown {
            match self.follow(host, certified).await {
                Ok(found) => {
                    self.with_known(|known| known.behind.lasts(false, Instant::now()));
                    return Ok(found);
                }
                Err(ChainError::Forked { number }) => return Err(ChainError::Forked { number }),
                Err(error) => {
                    if is_behind(&error) {
                        tracing::debug!(node = host.node_label(), %error, "a node is behind");
                    } else {
                        tracing::warn!(node = host.node_label(), %error, "a node shows a block that does not count");
                    }
                    failure = error;
                }
            }
        }
        // The last one that was tried shows the oldest block.
        if self.with_known(|known| known.behind.lasts(is_behind(&failure), Instant::now())) {
            tracing::warn!(error = %failure, "no node has the block any more that was taken before; they are behind, or show an old state");
        }
        // All are behind or lie; what was taken before still counts, as long as it is not too old.
        match self.with_known(|known| known.recent.back().cloned()) {
            Some(found) => Ok(found),
            None => Err(failure),
        }
    }

    /// Takes what one node shows, if it holds.
    async fn follow(&self, host: &HostChain, shown: &CertifiedHeader) -> Result<(B256, Header), ChainError> {
        let (mut trusted, forked) = self.with_known(|known| (known.trusted.clone(), known.forked));
        if let Some(number) = forked {
            return Err(ChainError::Forked { number });
        }
        // Most of the time there is nothing new.
        if shown.certificate.block_hash == trusted.hash() {
            let known = self.with_known(|known| known.recent.back().cloned());
            if let Some(found) = known.filter(|(hash, _)| *hash == trusted.hash()) {
                return Ok(found);
            }
            let header = TrustedState::read(&shown.header, &shown.certificate).map_err(|source| refused(host, source))?;
            return Ok(self.remember(trusted, header, false));
        }
        let before = trusted.validators().clone();
        let taken = match trusted.take_header(shown) {
            // Somebody else signs now, or from now on.
            Err(LightError::Quorum { .. } | LightError::OtherSet { .. }) => follow_changes(host, &mut trusted, shown).await,
            other => other.map_err(|source| refused(host, source)),
        };
        match taken {
            Ok(header) => {
                let changed = *trusted.validators() != before;
                Ok(self.remember(trusted, header, changed))
            }
            Err(ChainError::Certificate {
                source: LightError::Forked { number },
                ..
            }) => {
                tracing::error!(
                    number,
                    node = host.node_label(),
                    "validators signed two histories; nothing of this chain is believed any more"
                );
                self.with_known(|known| known.forked = Some(number));
                Err(ChainError::Forked { number })
            }
            Err(error) => Err(error),
        }
    }

    fn remember(&self, trusted: TrustedState, header: Header, changed: bool) -> (B256, Header) {
        let found = (trusted.hash(), header);
        let write = self.with_known(|known| {
            let due = changed || trusted.height() >= known.saved + SAVE_EVERY;
            known.trusted = trusted.clone();
            known.recent.push_back(found.clone());
            if known.recent.len() > RECENT_HEADERS {
                known.recent.pop_front();
            }
            if due {
                known.saved = trusted.height();
            }
            due
        });
        if let (true, Some(path)) = (write, &self.options.trusted_file) {
            tracing::info!(
                block = trusted.height(),
                validators = trusted.validators().len(),
                changed,
                "keeping the validators that are trusted"
            );
            if let Err(error) = trusted.save(path) {
                // It is needed after a restart only.
                tracing::error!(%error, "the trusted validators cannot be kept");
            }
        }
        found
    }

    fn with_known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Follows the changes of the set up to the block that is shown, and takes that.
async fn follow_changes(host: &HostChain, trusted: &mut TrustedState, shown: &CertifiedHeader) -> Result<Header, ChainError> {
    let goal = shown.certificate.height;
    for _ in 0..MAX_PAGES {
        let from = trusted.height() + 1;
        let changes: Vec<ValidatorChange> = host.request("cipherloom_validatorChanges", (U64::from(from),)).await?;
        let before = trusted.height();
        for change in changes.iter().take(MAX_CHANGES_PER_PAGE) {
            if change.certificate.height > goal {
                break;
            }
            let header = trusted.take_change(change).map_err(|source| refused(host, source))?;
            if header.number == goal {
                // Certified as the one that is shown, or it is another history.
                return match trusted.hash() == shown.certificate.block_hash {
                    true => Ok(header),
                    false => Err(refused(host, LightError::OtherSet { number: goal })),
                };
            }
        }
        // The node has no more changes up to the goal, so that the set is the one that signed it.
        if trusted.height() == before {
            break;
        }
    }
    trusted.take_header(shown).map_err(|source| refused(host, source))
}

/// Whether a node shows an older block than the one that was taken, which may be honest.
const fn is_behind(error: &ChainError) -> bool {
    matches!(
        error,
        ChainError::Certificate {
            source: LightError::NotNewer { .. },
            ..
        }
    )
}

async fn newest_of(host: &HostChain) -> Result<CertifiedHeader, ChainError> {
    let found: Option<CertifiedHeader> = host.request("cipherloom_getCertificate", (BlockNumberOrTag::Latest,)).await?;
    found.ok_or(ChainError::BlockGone(0))
}

fn refused(host: &HostChain, source: LightError) -> ChainError {
    ChainError::Certificate {
        node: host.node_label().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn being_behind_is_told_when_it_lasts_and_then_once_in_a_while() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut behind = Behind::default();
        let told: Vec<u64> = (0..=100).filter(|second| behind.lasts(true, at(*second))).collect();
        assert_eq!(told, [30, 60, 90]);
        // A block's time apart is nothing.
        for second in (100..300).step_by(2) {
            assert!(!behind.lasts(false, at(second)) && !behind.lasts(true, at(second + 1)));
        }
    }
}
