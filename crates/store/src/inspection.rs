//! What operators see of a tenant's transactions, and the one thing they change: trying again what failed.

use cipherloom_primitives::{B256, Computation, Handle};

use crate::{StoreFuture, TransactionNumber};

/// A tenant's transactions, for operators.
///
/// Every method fails with [`crate::StoreError::Database`] if the database does.
pub trait Inspection: Send + Sync + 'static {
    /// Lists transactions, newest first.
    fn list_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> StoreFuture<'a, Vec<TransactionSummary>>;

    /// Finds a transaction. If several have the hash or publish the handle, it is the newest.
    fn transaction<'a>(&'a self, key: &'a TransactionKey) -> StoreFuture<'a, Option<TransactionDetail>>;

    /// Makes poisoned transactions pending again, and those that failed because of them. Their attempts are counted anew and their outputs
    /// lose the failure; what needs these waits for them again. Returns how many there were.
    fn retry<'a>(&'a self, request: &'a RetryRequest) -> StoreFuture<'a, u64>;

    /// Counts what is to be done.
    fn backlog(&self, now_ms: u64) -> StoreFuture<'_, Backlog>;
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// It is to be computed, or is being computed.
    Pending,
    /// It was computed.
    Done,
    /// An output of it can never be computed.
    Poisoned,
}

impl TransactionState {
    /// The name, as the database has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Poisoned => "poisoned",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Done, Self::Poisoned]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// Where a transaction is in its tenant's blocks; in this order they were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionPosition {
    /// The number of the block.
    pub block_number: u64,
    /// The position in the block.
    pub index: u64,
}

/// Which transactions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Only those in this state.
    pub state: Option<TransactionState>,
    /// Only those that publish this handle.
    pub handle: Option<Handle>,
    /// Only those before this position: the last one of the page before.
    pub before: Option<TransactionPosition>,
    /// The most to return.
    pub limit: u32,
}

/// A live or expired lease, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSummary {
    /// The name the worker gave.
    pub owner: String,
    /// When it ends unless it is renewed, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// A transaction of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSummary {
    /// The store's number.
    pub number: TransactionNumber,
    /// Where it is.
    pub position: TransactionPosition,
    /// The time of its block, or when the request came, in seconds since the Unix epoch.
    pub recorded_at_s: u64,
    /// Its hash.
    pub hash: B256,
    /// Where it stands.
    pub state: TransactionState,
    /// How many outputs it has.
    pub outputs: u64,
    /// The failure of the first output that has one.
    pub failure: Option<String>,
    /// Whether it waits for an earlier transaction.
    pub waits: bool,
    /// The lease on it.
    pub lease: Option<LeaseSummary>,
    /// How often it was leased and not released.
    pub attempts: u32,
}

/// An output of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSummary {
    /// The handle.
    pub handle: Handle,
    /// Whether its ciphertext is stored.
    pub stored: bool,
    /// Why this transaction cannot compute it.
    pub failure: Option<String>,
}

/// What a transaction waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitSummary {
    /// The handle.
    pub handle: Handle,
    /// The newest transaction before it that is pending and publishes the handle.
    pub transaction: B256,
}

/// Everything about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDetail {
    /// What a list says.
    pub summary: TransactionSummary,
    /// Its computations, in event order.
    pub computations: Vec<Computation>,
    /// Its outputs, by handle.
    pub outputs: Vec<OutputSummary>,
    /// What it waits for, by handle.
    pub waits_for: Vec<WaitSummary>,
}

/// How to find a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionKey {
    /// By its hash.
    Hash(B256),
    /// By a handle it publishes.
    Handle(Handle),
}

/// Which poisoned transactions to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRequest {
    /// All of them.
    All,
    /// One.
    One(TransactionKey),
}

/// What is to be done, at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Transactions that are not finished.
    pub pending: u64,
    /// Those of them that wait for nothing, leased ones included.
    pub runnable: u64,
    /// Those with a live lease.
    pub leased: u64,
    /// Transactions that are finished and have an output that can never be computed.
    pub poisoned: u64,
    /// How long ago the block of the oldest pending one was recorded, in milliseconds.
    pub oldest_pending_age_ms: Option<u64>,
    /// How many blocks the oldest pending one is behind the newest recorded block.
    pub oldest_pending_blocks: Option<u64>,
}
