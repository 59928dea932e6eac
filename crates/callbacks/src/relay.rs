//! The loop of one relay: claim, follow, settle, decrypt, deliver, report.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use alloy::{primitives::U256, signers::local::PrivateKeySigner};
use cipherloom_chain::{ChainError, FinalHead, GatewayReader, HostChain, TransactionSigner};
use cipherloom_primitives::B256;
use cipherloom_store::{CallbackClaim, CallbackReport, Callbacks};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{RelayConfig, milliseconds},
    error::RelayError,
    metrics::CallbackMetrics,
    services::{Clock, Decrypted, Decryption, DecryptionFailure},
    status::{Condition, RelayStatus},
};

/// How often the store hears how the relay is although nothing has changed.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How often what has ended long ago is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// What a relay is made of.
pub struct RelayParts {
    /// The chain and its gateway contract.
    pub chain: HostChain,
    /// The chain's id.
    pub chain_id: u64,
    /// The name of the contract in the store, the same for all processes that serve it.
    pub site: String,
    /// The name of this process, different from all others that ever serve the site.
    pub owner: String,
    /// The key of the account that pays.
    pub signer: PrivateKeySigner,
    /// Where progress is kept.
    pub store: Arc<dyn Callbacks>,
    /// The KMS's side.
    pub decryption: Arc<dyn Decryption>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Limits and intervals.
    pub config: RelayConfig,
    /// What is counted; relays of several sites can share one.
    pub metrics: CallbackMetrics,
}

/// A result of a decryption: the request's number, the hash of its block, and what came out.
pub(crate) type Outcome = (u64, B256, Result<Decrypted, DecryptionFailure>);

/// Values that are to be delivered.
pub(crate) struct Ready {
    /// The hash of the request's block: the same number on another branch is another request.
    pub(crate) block_hash: B256,
    pub(crate) decrypted: Decrypted,
    /// Since when they are there, in milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
}

/// Serves the gateway contract of one chain; see the crate's documentation.
pub struct Relay {
    pub(crate) chain: HostChain,
    pub(crate) site: String,
    owner: String,
    pub(crate) signer: TransactionSigner,
    pub(crate) store: Arc<dyn Callbacks>,
    pub(crate) decryption: Arc<dyn Decryption>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: RelayConfig,
    pub(crate) metrics: CallbackMetrics,
    pub(crate) reader: GatewayReader,
    pub(crate) status: RelayStatus,
    announced: watch::Receiver<u64>,
    /// Decryptions under way.
    pub(crate) decryptions: JoinSet<Outcome>,
    pub(crate) decrypting: HashMap<u64, B256>,
    pub(crate) ready: BTreeMap<u64, Ready>,
    /// When transactions of this account were offered last by this process, by nonce.
    pub(crate) offered_ms: HashMap<u64, u64>,
    /// Since when a nonce seems to be used by a transaction that is not ours.
    pub(crate) foreign_since_ms: HashMap<(alloy::primitives::Address, u64), u64>,
    /// Nonces of the account that attempts are open for, and the requests that these deliver.
    pub(crate) open_nonces: BTreeSet<u64>,
    pub(crate) open_requests: BTreeSet<u64>,
    /// Since when the chain is shorter than what was read.
    pub(crate) shorter_since_ms: Option<u64>,
    pub(crate) is_relayer: bool,
    reported: Option<(u64, RelayStatus)>,
    forgot_ms: u64,
    told: String,
}

impl Relay {
    /// Prepares to serve; nothing is asked yet.
    #[must_use]
    pub fn new(parts: RelayParts) -> Self {
        Self {
            announced: parts.chain.announced_blocks(),
            reader: GatewayReader::new(parts.chain.clone(), parts.config.longest_range),
            signer: TransactionSigner::new(parts.signer, parts.chain_id),
            chain: parts.chain,
            site: parts.site,
            owner: parts.owner,
            store: parts.store,
            decryption: parts.decryption,
            clock: parts.clock,
            config: parts.config,
            metrics: parts.metrics,
            status: RelayStatus::default(),
            decryptions: JoinSet::new(),
            decrypting: HashMap::new(),
            ready: BTreeMap::new(),
            offered_ms: HashMap::new(),
            foreign_since_ms: HashMap::new(),
            open_nonces: BTreeSet::new(),
            open_requests: BTreeSet::new(),
            shorter_since_ms: None,
            is_relayer: false,
            reported: None,
            forgot_ms: 0,
            told: String::new(),
        }
    }

    /// Serves until it is told to stop, and gives up the claim then. A transaction that is being sent is sent to its end.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let is_busy = match Box::pin(self.step()).await {
                Ok(is_busy) => {
                    self.told.clear();
                    is_busy
                }
                Err(error) => {
                    self.note(&error);
                    false
                }
            };
            self.metrics.set_status(&self.site, self.status);
            if is_busy {
                continue;
            }
            let pause = match self.chain.announces_blocks() {
                true => self.config.poll_interval.saturating_mul(4),
                false => self.config.poll_interval,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = self.decryptions.join_next() => self.decrypted(done.ok()).await,
                changed = self.announced.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep(pause).await;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.decryptions.shutdown().await;
        let now_ms = self.clock.now_ms();
        let claim = CallbackClaim {
            owner: &self.owner,
            now_ms,
        };
        if let Err(error) = self.store.claim(claim, now_ms).await {
            tracing::debug!(%error, site = self.site, "the claim could not be given up; it ends by itself");
        }
    }

    /// Does what can be done now, and says whether there is more to do at once.
    async fn step(&mut self) -> Result<bool, RelayError> {
        while let Some(done) = self.decryptions.try_join_next() {
            self.decrypted(done.ok()).await;
        }
        if !self.renew().await? {
            self.stand_by();
            return Ok(false);
        }
        let (head, is_behind) = self.follow().await?;
        self.settle().await?;
        self.status.balance = self.chain.balance(self.signer.account()).await?;
        let condition = self.condition(&head);
        let is_busy = Box::pin(self.deliver(&head, condition)).await?;
        self.report().await?;
        Ok(is_busy || is_behind)
    }

    /// Returns the claim under which things are written.
    pub(crate) fn claim(&self) -> CallbackClaim<'_> {
        CallbackClaim {
            owner: &self.owner,
            now_ms: self.clock.now_ms(),
        }
    }

    /// Claims the site, or renews the claim.
    pub(crate) async fn renew(&self) -> Result<bool, RelayError> {
        let claim = self.claim();
        let until = claim.now_ms.saturating_add(milliseconds(self.config.claim));
        Ok(self.store.claim(claim, until).await?)
    }

    /// Forgets what another process knows better now.
    fn stand_by(&mut self) {
        self.set_condition(Condition::StandingBy);
        self.decryptions.abort_all();
        self.decrypting.clear();
        self.ready.clear();
        self.offered_ms.clear();
        self.foreign_since_ms.clear();
    }

    /// Says what keeps the relay from sending, before fees are looked at.
    fn condition(&self, head: &FinalHead) -> Condition {
        if head.last_final.is_none() {
            Condition::NoContract
        } else if self.status.balance < self.config.min_balance {
            Condition::InsufficientBalance
        } else if self.status.balance < self.config.alarm_balance {
            Condition::LowBalance
        } else {
            Condition::Well
        }
    }

    /// Notes how the relay is, and tells the operator when that changes.
    pub(crate) fn set_condition(&mut self, condition: Condition) {
        let before = std::mem::replace(&mut self.status.condition, condition);
        if before == condition {
            return;
        }
        let (site, account) = (self.site.as_str(), self.signer.account());
        let balance = cipherloom_chain::fees::ether(self.status.balance.saturating_to());
        match condition {
            Condition::InsufficientBalance => {
                tracing::error!(site, %account, balance, "callbacks are not sent: insufficient_balance; send the relayer's account ether");
            }
            Condition::LowBalance => tracing::warn!(site, %account, balance, "the relayer's account is low on ether; send it some"),
            Condition::NotARelayer => {
                tracing::error!(site, %account, "callbacks are not sent: the gateway contract does not know the account; its owner adds it with addRelayer");
            }
            Condition::FeesAboveLimit => tracing::warn!(site, "callbacks wait: gas costs more than the limit"),
            Condition::NoContract => tracing::warn!(
                site,
                "there is no gateway contract, or the chain is still shorter than its finality"
            ),
            Condition::StandingBy => tracing::info!(site, "another process serves the callbacks; standing by"),
            Condition::Well => tracing::info!(site, %account, balance, "serving callbacks"),
            Condition::Starting | Condition::Unreachable => {}
        }
    }

    /// Notes an error of a step: once, for as long as it is the same.
    fn note(&mut self, error: &RelayError) {
        if error.is_claim_lost() {
            self.stand_by();
            return;
        }
        let part = match error {
            RelayError::Chain(_) => "chain",
            RelayError::Store(_) => "store",
        };
        self.metrics.count(&self.site, "failures_total", part);
        // The chain moved between two questions: nothing is wrong, and the next step sees it as it is.
        if matches!(error, RelayError::Chain(ChainError::BlockGone(_))) {
            return;
        }
        self.set_condition(Condition::Unreachable);
        let words = error.to_string();
        if words != self.told {
            tracing::warn!(%error, site = self.site, "callbacks wait; trying again");
            self.told = words;
        }
    }

    /// Tells the store and the metrics how things are, and forgets what ended long ago.
    async fn report(&mut self) -> Result<(), RelayError> {
        let now_ms = self.clock.now_ms();
        self.metrics.set_status(&self.site, self.status);
        let is_due = match &self.reported {
            None => true,
            Some((at, said)) => {
                now_ms.saturating_sub(*at) >= milliseconds(REPORT_EVERY)
                    || (said.condition, said.balance) != (self.status.condition, self.status.balance)
            }
        };
        if !is_due {
            return Ok(());
        }
        let report = CallbackReport {
            account: self.signer.account(),
            balance: self.status.balance,
            condition: self.status.condition.name().to_owned(),
        };
        self.store.report(self.claim(), &report).await?;
        self.metrics.set_totals(&self.site, &self.store.totals().await?);
        self.reported = Some((now_ms, self.status));
        if now_ms.saturating_sub(self.forgot_ms) >= milliseconds(FORGET_EVERY) {
            let before = now_ms.saturating_sub(milliseconds(self.config.retention));
            self.store.forget(self.claim(), before).await?;
            self.forgot_ms = now_ms;
        }
        Ok(())
    }

    /// Notes what something has cost.
    pub(crate) fn paid(&self, gas_used: u64, gas_price: u128) {
        let wei = U256::from(gas_used).saturating_mul(U256::from(gas_price));
        self.metrics.paid(&self.site, wei);
    }
}
