//! What the coprocessor must not forget: followed blocks, recorded transactions, leases, inputs and ciphertexts.
//!
//! [`Store`] is the seam. [`SqliteStore`] is the embedded implementation, for one process; [`PostgresStore`] is the shared one, for many.
//! All methods are named by what the coprocessor does, and each is one atomic step: after a crash at any instant it has happened or it
//! has not. [`Tenants`] is whom the deployment works for; [`GatewayJobs`] is
//! what the clients of its gateways asked for.
//!
//! **Flow.** The recorder writes blocks ([`Store::record_blocks`]) and withdraws them when the chain reorganises
//! ([`Store::remove_blocks_from`]). Workers lease transactions ([`Store::lease_transactions`]), read what they need,
//! compute *without* holding anything of the store, and publish with [`Store::finish_transaction`].
//!
//! **Two promises every implementation keeps**, and the behaviour suite checks:
//!
//! * There are never two live leases on one transaction. A lease ends when it is finished or released or when its time
//!   is up; from the moment another worker has it, everything the former owner tries fails with
//!   [`StoreError::LeaseLost`].
//! * A value is written once. A second result for a handle is ignored, whoever computed it. Which result is the first follows from
//!   the chain alone: transactions that publish the same handle run in their order on the chain, and what a withdrawn block
//!   published is withdrawn with it. The bytes of the value change once more, from raw to packed form
//!   ([`Store::cool_ciphertext`]).
//!
//! **Restart.** [`SqliteStore::open`] takes the data file for itself and ends the leases of the process that had it
//! before, so recorded work continues at once. Implementations shared between processes rely on expiry instead.
//!
//! Time is an argument everywhere: milliseconds since the Unix epoch.

pub mod callbacks;
mod columns;
pub mod database;
mod encoding;
pub mod error;
pub mod following;
pub mod gateway_jobs;
pub mod inspection;
mod key_part_cache;
pub mod model;
pub mod objects;
mod postgres;
pub mod publications;
pub mod pushed;
mod sqlite;
pub mod squashed;
pub mod tenants;

use cipherloom_primitives::Handle;
use futures_util::{future::BoxFuture, stream::BoxStream};

pub use callbacks::{
    CallbackAttempt, CallbackClaim, CallbackCursor, CallbackDelivery, CallbackFilter, CallbackProgress, CallbackRecord, CallbackReport,
    CallbackRequest, CallbackSite, CallbackState, Callbacks,
};
pub use database::Database;
pub use error::StoreError;
pub use following::{FollowClaim, FollowProgress, FollowState, FollowedChain, Following};
pub use gateway_jobs::{
    ClaimedJob, GatewayJobs, JobEnd, JobId, JobLease, JobRecord, JobRetention, JobState, JobTotals, NewJob, SubmittedJob,
};
pub use inspection::{
    Backlog, Inspection, LeaseSummary, OutputSummary, RetryRequest, TransactionDetail, TransactionFilter, TransactionKey,
    TransactionPosition, TransactionState, TransactionSummary, WaitSummary,
};
pub use model::{
    AdmittedInput, BlockRef, CiphertextHead, CoolingRequest, Delegation, Finished, Grant, Grantee, HandleState, InputKey, Lease,
    LeaseRequest, LeasedTransaction, OutputFailure, RecordedBlock, RecordedTransaction, StoredCiphertext, TransactionNumber,
};
pub use objects::{
    CiphertextDirectory, CiphertextObjects, CloudObjects, ObjectLimits, ObjectsUrl, PublicPlace, WebMirror, object_digest, object_name,
    read_checked,
};
pub use postgres::{Connections, MigrationState, MigrationStatus, PostgresConfig, PostgresDatabase, PostgresDiagnosis, PostgresStore};
pub use publications::{PublicationRequest, Publications, PublishedCiphertext};
pub use pushed::{MAX_HANDLE_NAME_BYTES, NamedHandle, PushedWork};
pub use sqlite::SqliteStore;
pub use squashed::{ATTESTATION_BYTES, Squashed, SquashedList};
pub use tenants::{ApiKey, ApiKeyDigest, KeyPartRecord, KeySetRecord, NewTenant, Tenant, TenantId, TenantLimits, Tenants};

/// What a [`Store`] method returns.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The memory of a coprocessor; see the module's documentation for the flow and the promises.
///
/// Every method fails with [`StoreError::Database`] if the database does; other errors are listed per method.
pub trait Store: Publications + Squashed + Send + Sync + 'static {
    /// Returns the newest recorded blocks of a chain, newest first, at most `limit`. The first is where following resumes.
    fn recent_blocks(&self, chain_id: u64, limit: u32) -> StoreFuture<'_, Vec<BlockRef>>;

    /// Records blocks with everything their transactions asked for, all or nothing.
    ///
    /// Blocks come in ascending order. Numbers may be skipped (blocks in which nothing happened), but a block directly
    /// after a recorded one must name it as its parent. Transactions with nothing to compute are recorded as done.
    ///
    /// # Errors
    /// [`StoreError::NotAChild`] if a block does not continue what is recorded; [`StoreError::OutOfRange`] for numbers a
    /// database integer cannot hold; [`StoreError::PushedTo`] if work was pushed.
    fn record_blocks<'a>(&'a self, chain_id: u64, blocks: &'a [RecordedBlock]) -> StoreFuture<'a, ()>;

    /// Records what a node asked for as the next block of the tenant's own numbering, all or nothing. Work without transactions makes no
    /// block. What is checked is checked in the same step: two calls that push the same output at the same time cannot both succeed.
    ///
    /// # Errors
    /// [`StoreError::UnknownHandles`] if a handle of a boundary is not known and no earlier transaction of this work publishes it;
    /// [`StoreError::KnownHandles`] if an output is known already or is there twice; [`StoreError::Backlog`] beyond
    /// [`PushedWork::max_pending`]; [`StoreError::Followed`] if the chain is followed; and those of [`Store::add_names`].
    fn record_pushed<'a>(&'a self, chain_id: u64, work: &'a PushedWork) -> StoreFuture<'a, ()>;

    /// Remembers what handles names stand for. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] if a name stands for another handle, [`StoreError::HandleName`] if it is empty or too long; then none is
    /// added.
    fn add_names<'a>(&'a self, names: &'a [NamedHandle]) -> StoreFuture<'a, ()>;

    /// Returns the handles that names stand for, in the order of the names.
    fn handles_of_names<'a>(&'a self, names: &'a [Vec<u8>]) -> StoreFuture<'a, Vec<Option<Handle>>>;

    /// Withdraws the blocks from this number on: their grants, delegations and transactions, and the ciphertexts these published.
    /// Leases on those transactions are lost. Ciphertexts go too because their bytes belong to the transaction that computed them: if
    /// another one computes the same handle on the new branch, all coprocessors must have its bytes. They are kept aside for a while, under
    /// the hashes of their blocks: if a block comes back, [`Store::record_blocks`] takes its results up again, and its transactions with all
    /// results are done.
    ///
    /// # Errors
    /// [`StoreError::PushedTo`] if work was pushed: no chain can withdraw it.
    fn remove_blocks_from(&self, chain_id: u64, first_removed: u64) -> StoreFuture<'_, ()>;

    /// Leases transactions that can run now: first those of [`LeaseRequest::first`], then the oldest. A tenant never has more live leases
    /// than [`TenantLimits::max_concurrent_transactions`].
    ///
    /// A transaction can run if no earlier transaction that is still pending produces a ciphertext it needs, or one that it
    /// publishes too. Whether a ciphertext it needs then exists is for the worker to find out: if not, it never will.
    fn lease_transactions<'a>(&'a self, request: &'a LeaseRequest) -> StoreFuture<'a, Vec<LeasedTransaction>>;

    /// Extends a lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if it is no longer this one.
    fn renew_lease<'a>(&'a self, lease: &'a Lease, expires_at_ms: u64) -> StoreFuture<'a, ()>;

    /// Gives a transaction back unfinished, as an orderly shutdown does; the attempt is not counted. A lost lease is
    /// not an error.
    fn release_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, ()>;

    /// Publishes the results of a transaction and ends its lease, in one step. Returns the transactions that waited for it and can run
    /// now, oldest first.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if the lease is no longer this one; then nothing is written.
    fn finish_transaction<'a>(&'a self, lease: &'a Lease, finished: &'a Finished) -> StoreFuture<'a, Vec<TransactionNumber>>;

    /// Remembers an input list whose proof was verified, with the handles of its values. Repeating it changes nothing.
    fn admit_input<'a>(&'a self, input: &'a AdmittedInput, handles: &'a [Handle], now_ms: u64) -> StoreFuture<'a, ()>;

    /// Finds an admitted input list.
    fn admitted_input(&self, key: InputKey) -> StoreFuture<'_, Option<AdmittedInput>>;

    /// Returns the ciphertext of a handle, in the form that is stored.
    fn ciphertext(&self, handle: Handle) -> StoreFuture<'_, Option<StoredCiphertext>> {
        Box::pin(async move { Ok(self.ciphertexts(&[handle]).await?.pop().flatten()) })
    }

    /// Returns the ciphertexts of handles in their order, in the form that is stored.
    fn ciphertexts<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<Option<StoredCiphertext>>>;

    /// Returns what is known about the ciphertexts of handles, in their order, without reading the bytes.
    fn ciphertext_heads<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<Option<CiphertextHead>>>;

    /// Stores ciphertexts outside of a transaction (expanded inputs, trivial encryptions), in either form; one whose handle has a
    /// ciphertext is ignored. They have no block, so they are never among [`Store::ciphertexts_to_cool`].
    fn add_ciphertexts<'a>(&'a self, ciphertexts: &'a [StoredCiphertext]) -> StoreFuture<'a, ()>;

    /// Lists published ciphertexts stored in raw form that no transaction can read in that form any more, oldest first.
    ///
    /// That is so if window and margin together lie between the block that created the ciphertext and the newest recorded block,
    /// and the window alone between it and the first block with a pending transaction.
    fn ciphertexts_to_cool<'a>(&'a self, request: &'a CoolingRequest) -> StoreFuture<'a, Vec<Handle>>;

    /// Replaces the raw bytes of a ciphertext by these packed ones. Changes nothing if the ciphertext is gone, packed already, or has
    /// another raw digest, so that a repeated or late call does no harm.
    fn cool_ciphertext<'a>(&'a self, packed: &'a StoredCiphertext) -> StoreFuture<'a, ()>;

    /// Says which handles are known, in their order: their ciphertext is stored, a recorded transaction publishes them or failed to, or
    /// they are values of an admitted input list.
    fn known_handles<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<bool>>;

    /// Says what is known about a handle.
    fn handle_state(&self, handle: Handle) -> StoreFuture<'_, HandleState>;

    /// Lists who may use or decrypt a handle, as the recorded blocks say.
    fn grants_of(&self, handle: Handle) -> StoreFuture<'_, Vec<Grantee>>;

    /// Counts the transactions of a chain that are recorded and not finished.
    fn pending_transactions(&self, chain_id: u64) -> StoreFuture<'_, u64>;

    /// Returns hints that something may have changed, in this process or another one: blocks recorded, results published, inputs admitted.
    /// A hint may come for nothing and may be missing, so whoever waits for a change also looks by itself now and then. The stream does not
    /// end.
    fn changes(&self) -> BoxStream<'static, ()>;
}
