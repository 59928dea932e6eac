//! How a coprocessor is set up.

use std::{sync::Arc, time::Duration};

use cipherloom_engine::GroupId;
use cipherloom_primitives::{Address, HotWindow, eip712::SigningDomains};
use cipherloom_store::{CoolingRequest, Tenant};

use crate::metrics::Metrics;

/// How many values are listed at a time to be packed.
pub(crate) const COOLING_BATCH: u32 = 32;

/// Tells the time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Returns the clock of the machine.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What one coprocessor serves, and with how much of the machine.
#[derive(Clone)]
pub struct CoprocessorConfig {
    /// What logs and metrics call the tenant.
    pub tenant: String,
    /// Whose transactions these are, for the engine, which shares its threads evenly among groups.
    pub group: GroupId,
    /// Where its signatures are valid; names the host chain too.
    pub domains: SigningDomains,
    /// The access-control contract of the host chain.
    pub acl: Address,
    /// How long computations read raw values; the key set's manifest says it. Results depend on it.
    pub hot_window: HotWindow,
    /// How many blocks beyond the window raw values are kept, for reorganisations of the chain. After a deeper one, values may be missing
    /// in the form that a transaction reads.
    pub reorganisation_margin_blocks: u64,
    /// How often old values are looked for, to be packed.
    pub cooling_interval: Duration,
    /// The name of this process among those that share a store, for operators. Leases do not rely on it being unique.
    pub owner: String,
    /// How many transactions are under way at the same time, at least 1. Their bootstraps are done together, in batches: more transactions
    /// fill batches better and take more memory, about half a megabyte per 64-bit value that they use.
    pub workers: usize,
    /// How long a lease lasts between renewals; a crashed worker's transactions wait this long on a shared store.
    pub lease_duration: Duration,
    /// How often idle workers look for work that another process recorded.
    pub idle_poll: Duration,
    /// How often a transaction is tried before it is given up, at least 1.
    pub max_attempts: u32,
    /// How many input proofs are checked at the same time, at least 1.
    pub concurrent_proofs: usize,
    /// How many input proofs may wait beyond that before [`crate::CoprocessorError::Busy`].
    pub waiting_proofs: usize,
    /// The clock that leases are measured with.
    pub clock: Clock,
    /// What is counted and measured. Coprocessors of one process share it.
    pub metrics: Metrics,
}

impl CoprocessorConfig {
    /// Builds the configuration of a coprocessor that has the machine for itself.
    #[must_use]
    pub fn new(domains: SigningDomains, acl: Address) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            tenant: "default".to_owned(),
            group: GroupId::default(),
            domains,
            acl,
            hot_window: HotWindow::DEFAULT,
            reorganisation_margin_blocks: 128,
            cooling_interval: Duration::from_secs(10),
            owner: format!("process-{}", std::process::id()),
            // A transfer often has two bootstraps at a time to offer, and a batch takes 16 or 32.
            workers: cores.saturating_mul(8).max(16),
            lease_duration: Duration::from_secs(60),
            idle_poll: Duration::from_millis(500),
            max_attempts: 5,
            concurrent_proofs: cores.div_ceil(4),
            waiting_proofs: 64,
            clock: system_clock(),
            metrics: Metrics::new(),
        }
    }

    /// Builds what the coprocessors of several tenants have in common. What is the tenant's is put in by [`Self::of_tenant`].
    #[must_use]
    pub fn for_tenants() -> Self {
        let nobody = SigningDomains {
            host_chain_id: 0,
            gateway_chain_id: 0,
            decryption: Address::ZERO,
            input_verification: Address::ZERO,
        };
        Self::new(nobody, Address::ZERO)
    }

    /// Returns this configuration for a tenant, whose key set has this window.
    #[must_use]
    pub fn of_tenant(&self, tenant: &Tenant, hot_window: HotWindow) -> Self {
        Self {
            tenant: tenant.name.clone(),
            group: GroupId(u64::from(tenant.id.number().unsigned_abs())),
            domains: SigningDomains {
                host_chain_id: tenant.chain_id,
                // In the 0.6 generation signatures of inputs are for the host chain itself.
                gateway_chain_id: tenant.chain_id,
                decryption: Address::ZERO,
                input_verification: tenant.input_verifier,
            },
            acl: tenant.acl,
            hot_window,
            ..self.clone()
        }
    }

    /// Asks for values that can be packed.
    pub(crate) const fn cooling_request(&self) -> CoolingRequest {
        CoolingRequest {
            chain_id: self.domains.host_chain_id,
            window: self.hot_window,
            margin_blocks: self.reorganisation_margin_blocks,
            limit: COOLING_BATCH,
        }
    }
}

impl std::fmt::Debug for CoprocessorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoprocessorConfig")
            .field("tenant", &self.tenant)
            .field("domains", &self.domains)
            .field("acl", &self.acl)
            .field("hot_window", &self.hot_window)
            .field("owner", &self.owner)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
