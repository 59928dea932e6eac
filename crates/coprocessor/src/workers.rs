//! Workers of all tenants of a database.
//!
//! **Any number of processes** may run them on one database. Each looks for work when the store hints at some, when something it finished made room, and
//! at an interval, in case a hint was missed.
//!
//! **Turns.** The store says which tenants have transactions that can run, those with the fewest live leases first, in all processes together. Within a
//! process each free slot goes to the tenant with the fewest under way ([`crate::turns`]), and a tenant with none never waits for one. The threads are
//! shared too: an engine serves the tenants of a key set evenly, and engines take turns batch by batch. So a tenant with little work does not wait
//! behind one with much, wherever it could.
//!
//! **Order within a tenant.** What can run because of something this process finished is leased first, because its operands are in memory; then the
//! oldest. A chain of dependent transactions so stays in one process while other work stays for others. In the engine earlier transactions go first, and of
//! all bootstraps that are ready those on which the longest chains wait: the critical path of a transaction sets its pace, and the rest fills the batches.
//!
//! **Stopping.** Nothing is leased any more; what is under way may end within [`WorkersOptions::drain`], and is then given back. A process may be killed at
//! any instant: its leases expire.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cipherloom_store::{LeasedTransaction, StoreError, Tenant, TenantId, TransactionNumber};
use futures_util::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Coprocessor, CoprocessorError, Tenancy,
    backoff::Backoff,
    config::COOLING_BATCH,
    metrics::{Retry, WorkMetrics},
    turns::Slots,
};

/// How long a process waits after it looked and found nothing. Hints come in bursts, and one look does for all.
const AFTER_NOTHING: Duration = Duration::from_millis(3);

/// How long a look for work may go on after workers were told to stop.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How many transactions to lease first are remembered for a tenant.
const MAX_NEXT: usize = 1024;

/// How workers share a process.
#[derive(Clone, Debug)]
pub struct WorkersOptions {
    /// How many transactions are under way at a time, at least 1, of all tenants together. A tenant that has none gets one more.
    pub concurrent: usize,
    /// How many transactions of a tenant are leased in one step, at least 1.
    pub batch: usize,
    /// How often work is looked for without a hint.
    pub polling_interval: Duration,
    /// How long transactions that are under way may go on after workers were told to stop.
    pub drain: Duration,
    /// Whether old values are packed too.
    pub packs_old_values: bool,
}

impl Default for WorkersOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            // A transfer often has two bootstraps at a time to offer, and a batch takes 16 or 32.
            concurrent: cores.saturating_mul(8).max(16),
            batch: 32,
            polling_interval: Duration::from_secs(1),
            drain: Duration::from_secs(20),
            packs_old_values: true,
        }
    }
}

/// What workers are at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkersStatistics {
    /// How many transactions are under way.
    pub under_way: usize,
    /// How many tenants are known.
    pub tenants: usize,
    /// How many transactions ended, in whatever way.
    pub ended: u64,
    /// Whether the last look for work reached the database.
    pub reached_database: bool,
}

/// Computes the transactions of all tenants that are recorded in a database.
#[derive(Clone)]
pub struct Workers {
    tenancy: Tenancy,
    options: Arc<WorkersOptions>,
    statistics: watch::Sender<WorkersStatistics>,
}

impl Workers {
    /// Makes workers. Nothing runs until [`Self::run`].
    #[must_use]
    pub fn new(tenancy: Tenancy, options: WorkersOptions) -> Self {
        Self {
            tenancy,
            options: Arc::new(options),
            statistics: watch::Sender::new(WorkersStatistics::default()),
        }
    }

    /// Subscribes to what the workers are at.
    #[must_use]
    pub fn statistics(&self) -> watch::Receiver<WorkersStatistics> {
        self.statistics.subscribe()
    }

    /// Works until told to stop, then drains: what is under way may end within the drain time, and is given back after it.
    pub async fn run(&self, stop: CancellationToken) {
        let cool = async {
            if self.options.packs_old_values {
                self.cool(&stop).await;
            }
        };
        tokio::join!(self.compute(&stop), cool);
    }

    async fn compute(&self, stop: &CancellationToken) {
        let hints = Hints::default();
        // Both go on at any time: listening may be in the middle of a call while work is looked for.
        tokio::select! {
            () = self.compute_on(&hints, stop) => {}
            () = hints.listen(self.tenancy.database().changes()) => {}
        }
    }

    async fn compute_on(&self, hints: &Hints, stop: &CancellationToken) {
        let mut floor = Floor::new(self);
        while !stop.is_cancelled() {
            let wait = tokio::select! {
                wait = floor.look() => wait,
                // What is being leased now would have to expire.
                () = stop_and(stop, LAST_LOOK) => break,
            };
            floor.publish_statistics();
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = floor.next_end() => event,
                () = hints.added.notified() => Event::Time,
                () = tokio::time::sleep_until(wait) => Event::Time,
            };
            floor.take(event);
            // Hints and ends come in bursts, and one look does for all.
            while let Some(event) = floor.try_next_end() {
                floor.take(event);
            }
            hints.take().into_iter().for_each(|tenant| floor.take(Event::Hint(tenant)));
        }
        floor.drain().await;
    }

    /// Packs old values of all tenants in turn until told to stop.
    async fn cool(&self, stop: &CancellationToken) {
        let interval = self.tenancy.options().coprocessors.cooling_interval;
        while !stop.is_cancelled() {
            if !self.cool_all(stop).await {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(interval) => {}
                }
            }
        }
    }

    /// Packs some old values of each tenant. Says whether there may be more.
    async fn cool_all(&self, stop: &CancellationToken) -> bool {
        let tenants = match self.tenancy.database().tenants().await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(%error, "old values could not be looked for");
                return false;
            }
        };
        let mut more = false;
        for tenant in tenants.iter().filter(|tenant| !tenant.disabled) {
            match self.tenancy.cool_some(tenant, stop).await {
                Ok(cooled) => more |= cooled == COOLING_BATCH as usize,
                // Told when their work is looked for.
                Err(CoprocessorError::NoKeys { .. } | CoprocessorError::KeysRefused { .. }) => {}
                Err(error) => tracing::warn!(%error, tenant = tenant.name, "packing old ciphertexts failed, trying again"),
            }
            if stop.is_cancelled() {
                return false;
            }
        }
        more
    }
}

/// The tenants that the store hinted at.
#[derive(Debug, Default)]
struct Hints {
    tenants: Mutex<HashSet<TenantId>>,
    added: Notify,
}

impl Hints {
    async fn listen(&self, mut changes: BoxStream<'static, TenantId>) {
        while let Some(tenant) = changes.next().await {
            self.lock().insert(tenant);
            self.added.notify_one();
        }
        // The stream does not end. If one did, work would be found at the polling interval.
        std::future::pending().await
    }

    fn take(&self) -> HashSet<TenantId> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<TenantId>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened.
enum Event {
    /// The store says that something changed for a tenant.
    Hint(TenantId),
    /// A transaction ended.
    Ended(TenantId, Vec<TransactionNumber>),
    /// The keys of a tenant were read, or could not be.
    Opened(TenantId, Result<Coprocessor, CoprocessorError>),
    /// It is time to look.
    Time,
}

/// Where the work of a process is done: what is under way, and for whom there is more.
struct Floor<'a> {
    workers: &'a Workers,
    slots: Slots<TenantId>,
    under_way: JoinSet<Vec<TransactionNumber>>,
    /// Whose transaction each task is.
    tenant_of: HashMap<Id, TenantId>,
    /// Tells transactions under way to stop.
    abort: CancellationToken,
    tenants: HashMap<TenantId, Tenant>,
    /// When the tenants are to be read again.
    tenants_until: Option<Instant>,
    /// Keys that are being read.
    opening: JoinSet<(TenantId, Result<Coprocessor, CoprocessorError>)>,
    opening_for: HashSet<TenantId>,
    /// Those of them that cannot be served before. Others are only looked at again.
    waiting: HashSet<TenantId>,
    /// Coprocessors that were opened for the next look.
    opened: HashMap<TenantId, Coprocessor>,
    /// Tenants whose keys could not be used, until they are tried again.
    barred: HashMap<TenantId, Instant>,
    /// What to lease first.
    next: HashMap<TenantId, Vec<TransactionNumber>>,
    served_last: Option<TenantId>,
    /// How many transactions of each tenant were begun, about.
    begun: HashMap<TenantId, u64>,
    /// Whether there is a reason to look, and whether a hint is one.
    due: Option<Reason>,
    /// No look before this time.
    quiet_until: Instant,
    /// When to look without a reason.
    poll_at: Instant,
    /// Whether all slots were taken after the last look, so that there may be more.
    more: bool,
    backoff: Backoff,
    ended: u64,
    reached: bool,
}

/// Why work is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Hint,
    Poll,
}

impl<'a> Floor<'a> {
    fn new(workers: &'a Workers) -> Self {
        let now = Instant::now();
        Self {
            slots: Slots::new(workers.options.concurrent),
            workers,
            under_way: JoinSet::new(),
            tenant_of: HashMap::new(),
            abort: CancellationToken::new(),
            tenants: HashMap::new(),
            tenants_until: None,
            opening: JoinSet::new(),
            opening_for: HashSet::new(),
            waiting: HashSet::new(),
            opened: HashMap::new(),
            barred: HashMap::new(),
            next: HashMap::new(),
            served_last: None,
            begun: HashMap::new(),
            due: Some(Reason::Poll),
            quiet_until: now,
            poll_at: now,
            more: false,
            backoff: Backoff::default(),
            ended: 0,
            reached: false,
        }
    }

    fn metrics(&self) -> &'a WorkMetrics {
        self.workers.tenancy.options().coprocessors.metrics.work()
    }

    /// Looks for work if there is a reason to, and begins what it finds. Returns when to look again without another reason.
    async fn look(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.poll_at {
            self.due = self.due.or(Some(Reason::Poll));
        }
        let Some(reason) = self.due else { return self.poll_at };
        if now < self.quiet_until {
            return self.quiet_until;
        }
        self.due = None;
        let begun = Box::pin(self.begin_work()).await;
        let now = Instant::now();
        self.poll_at = now + self.workers.options.polling_interval;
        self.reached = begun.is_ok();
        match begun {
            Ok(begun) => {
                self.backoff.reset();
                self.metrics().polled(reason == Reason::Hint, begun);
                if begun == 0 {
                    self.quiet_until = now + AFTER_NOTHING;
                }
            }
            Err(error) => {
                let pause = self.backoff.next();
                self.metrics().worker_failed();
                self.metrics().retried(Retry::Store);
                tracing::error!(%error, pause_ms = pause.as_millis(), "work could not be looked for, trying again");
                self.quiet_until = now + pause;
                self.due = Some(reason);
                return self.quiet_until;
            }
        }
        self.metrics().set_under_way(self.slots.total());
        self.poll_at
    }

    /// Leases transactions in turn until all slots are taken or no tenant has any. Returns how many.
    async fn begin_work(&mut self) -> Result<usize, StoreError> {
        self.refresh_tenants().await?;
        let tenancy = self.workers.tenancy.clone();
        let mut begun = 0;
        loop {
            let among = self.served_now();
            if among.is_empty() {
                break;
            }
            let now_ms = (tenancy.options().coprocessors.clock)();
            let turns = tenancy.database().tenants_by_turn(&among, self.served_last, now_ms).await?;
            let mut shares = self.slots.shares(&turns, self.workers.options.batch.max(1));
            self.order_by_begun(&mut shares);
            let mut leased_now = 0;
            for (tenant, share) in shares {
                let Some(coprocessor) = self.coprocessor(tenant) else { continue };
                let first = self.next.remove(&tenant).unwrap_or_default();
                let leased = coprocessor.lease(share, first).await?;
                if !leased.is_empty() {
                    self.served_last = Some(tenant);
                }
                leased_now += leased.len();
                leased
                    .into_iter()
                    .for_each(|transaction| self.begin(tenant, &coprocessor, transaction));
            }
            begun += leased_now;
            if leased_now == 0 || self.slots.is_full() {
                break;
            }
        }
        self.more = self.slots.is_full();
        self.opened.clear();
        Ok(begun)
    }

    /// Lets those begin first of whom fewer transactions were begun. Short transactions that are begun first end before the next look, so that without this
    /// one tenant can be ahead in every look and get more done in the same number of slots.
    fn order_by_begun(&mut self, shares: &mut [(TenantId, usize)]) {
        let begun = |tenant: &TenantId| self.begun.get(tenant).copied().unwrap_or_default();
        let most = shares.iter().map(|(tenant, _)| begun(tenant)).max().unwrap_or_default();
        // Who had no work for a while does not make up for it.
        let least = most.saturating_sub(self.workers.options.concurrent as u64);
        for (tenant, _) in shares.iter() {
            let begun = self.begun.entry(*tenant).or_default();
            *begun = (*begun).max(least);
        }
        shares.sort_by_key(|(tenant, _)| self.begun.get(tenant).copied());
    }

    fn begin(&mut self, tenant: TenantId, coprocessor: &Coprocessor, transaction: LeasedTransaction) {
        *self.begun.entry(tenant).or_default() += 1;
        let (coprocessor, abort) = (coprocessor.clone(), self.abort.clone());
        let task = self.under_way.spawn(async move { coprocessor.process(transaction, &abort).await });
        self.tenant_of.insert(task.id(), tenant);
        self.slots.begin(tenant);
    }

    /// Returns the tenants whose work may be looked for now.
    fn served_now(&mut self) -> Vec<TenantId> {
        let now = Instant::now();
        self.barred.retain(|_, until| *until > now);
        let served = self.tenants.values().filter(|tenant| !tenant.disabled).map(|tenant| tenant.id);
        served
            .filter(|tenant| !self.barred.contains_key(tenant) && !self.waiting.contains(tenant))
            .collect()
    }

    /// Returns the coprocessor of a tenant if its keys are in memory. Else they are read meanwhile.
    fn coprocessor(&mut self, id: TenantId) -> Option<Coprocessor> {
        let tenant = self.tenants.get(&id)?;
        if let Some(opened) = self.opened.get(&id) {
            return Some(opened.clone());
        }
        let tenancy = &self.workers.tenancy;
        let ready = tenancy.coprocessor_now(tenant);
        if (ready.is_none() || tenancy.keys_are_due(tenant)) && self.opening_for.insert(id) {
            let (tenancy, tenant) = (tenancy.clone(), tenant.clone());
            self.opening.spawn(async move { (id, tenancy.coprocessor(&tenant).await) });
        }
        if ready.is_none() {
            self.waiting.insert(id);
        }
        ready
    }

    /// Reads the tenants if it is time, or if one was hinted at that is not known.
    async fn refresh_tenants(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.tenants_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let tenants = self.workers.tenancy.database().tenants().await?;
        self.workers.tenancy.retain(&tenants);
        for gone in self
            .tenants
            .values()
            .filter(|known| !tenants.iter().any(|tenant| tenant.id == known.id))
        {
            self.workers.tenancy.options().coprocessors.metrics.forget_tenant(&gone.name);
        }
        self.tenants = tenants.into_iter().map(|tenant| (tenant.id, tenant)).collect();
        self.begun.retain(|tenant, _| self.tenants.contains_key(tenant));
        self.tenants_until = Some(now + self.workers.options.polling_interval);
        Ok(())
    }

    /// Waits for something under way to end.
    async fn next_end(&mut self) -> Event {
        tokio::select! {
            Some(ended) = self.under_way.join_next_with_id() => self.ended(ended),
            Some(opened) = self.opening.join_next() => opened.map_or(Event::Time, |(tenant, opened)| Event::Opened(tenant, opened)),
            else => std::future::pending().await,
        }
    }

    /// Returns something else that ended meanwhile.
    fn try_next_end(&mut self) -> Option<Event> {
        self.under_way.try_join_next_with_id().map(|ended| self.ended(ended))
    }

    /// A panic outside of the computing threads ends the transaction alone, whose lease expires.
    fn ended(&mut self, ended: Result<(Id, Vec<TransactionNumber>), JoinError>) -> Event {
        let (id, next) = ended.unwrap_or_else(|error| {
            self.metrics().worker_failed();
            tracing::error!(%error, "work on a transaction panicked; it is tried again when its lease is over");
            (error.id(), Vec::new())
        });
        match self.tenant_of.remove(&id) {
            Some(tenant) => Event::Ended(tenant, next),
            None => Event::Time,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Time => {}
            Event::Hint(tenant) => {
                if self.slots.is_full() && self.slots.has(tenant) {
                    // Looked for when something ends.
                    self.more = true;
                    return;
                }
                if !self.tenants.contains_key(&tenant) {
                    self.tenants_until = None;
                }
                self.due = Some(Reason::Hint);
            }
            Event::Ended(tenant, mut next) => {
                self.ended += 1;
                self.slots.end(tenant);
                if self.more || !next.is_empty() {
                    self.due = self.due.or(Some(Reason::Hint));
                    // It is known that there is work, so there is nothing to wait for.
                    self.quiet_until = Instant::now();
                }
                let remembered = self.next.entry(tenant).or_default();
                // The newest last: its operands are the most certain to be in memory.
                remembered.append(&mut next);
                let old = remembered.len().saturating_sub(MAX_NEXT);
                remembered.drain(..old);
                if remembered.is_empty() {
                    self.next.remove(&tenant);
                }
            }
            Event::Opened(tenant, opened) => {
                self.opening_for.remove(&tenant);
                let waited = self.waiting.remove(&tenant);
                match opened {
                    // It may be of other keys than before.
                    Ok(coprocessor) => {
                        self.opened.insert(tenant, coprocessor);
                    }
                    Err(error) => self.bar(tenant, &error),
                }
                if waited {
                    self.due = self.due.or(Some(Reason::Hint));
                    self.quiet_until = Instant::now();
                }
            }
        }
    }

    /// Leaves a tenant alone for a while.
    fn bar(&mut self, tenant: TenantId, error: &CoprocessorError) {
        let options = self.workers.tenancy.options();
        let pause = match error {
            // Told by the tenancy.
            CoprocessorError::NoKeys { .. } | CoprocessorError::KeysRefused { .. } => options.key_check_interval,
            error => {
                self.metrics().worker_failed();
                tracing::error!(%error, "a tenant's keys could not be read, trying again");
                self.backoff.next()
            }
        };
        self.barred.insert(tenant, Instant::now() + pause);
    }

    /// Lets what is under way end, and gives back what does not in time.
    async fn drain(mut self) {
        self.opening.shutdown().await;
        let under_way = self.slots.total();
        if under_way > 0 {
            tracing::info!(
                under_way,
                drain_s = self.workers.options.drain.as_secs(),
                "stopping: transactions under way may end"
            );
        }
        let deadline = Instant::now() + self.workers.options.drain;
        while !self.under_way.is_empty() {
            tokio::select! {
                Some(ended) = self.under_way.join_next_with_id() => {
                    let event = self.ended(ended);
                    self.take(event);
                }
                () = tokio::time::sleep_until(deadline), if !self.abort.is_cancelled() => {
                    tracing::info!(transactions = self.slots.total(), "stopping: giving back what did not end in time");
                    self.abort.cancel();
                }
            }
            self.publish_statistics();
        }
        self.metrics().set_under_way(0);
    }

    fn publish_statistics(&self) {
        self.workers.statistics.send_replace(WorkersStatistics {
            under_way: self.slots.total(),
            tenants: self.tenants.len(),
            ended: self.ended,
            reached_database: self.reached,
        });
    }
}

/// Waits until workers are told to stop, and this long.
async fn stop_and(stop: &CancellationToken, longer: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(longer).await;
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("options", &self.options)
            .field("statistics", &*self.statistics.borrow())
            .finish_non_exhaustive()
    }
}
