//! A database with all its tenants, as workers and servers of several tenants see it.

use std::sync::Arc;

use futures_util::stream::BoxStream;

use crate::{CallbackSite, Callbacks, GatewayJobs, Inspection, Store, StoreFuture, Tenant, TenantId, Tenants};

/// A database of several tenants.
///
/// Every method fails with [`crate::StoreError::Database`] if the database does.
pub trait Database: Tenants {
    /// Returns a tenant's part of the database. It costs nothing.
    fn store(&self, tenant: &Tenant) -> Arc<dyn Store>;

    /// Returns what operators see of a tenant's part. It costs nothing.
    fn inspection(&self, tenant: &Tenant) -> Arc<dyn Inspection>;

    /// Returns the jobs of a deployment's gateways, under a name of 1 to 128 characters that all of them use. It costs nothing.
    fn gateway_jobs(&self, deployment: &str) -> Arc<dyn GatewayJobs>;

    /// Returns the callbacks of a site: the gateway contract of one chain, under a name that all processes use that serve it. It costs nothing.
    fn callbacks(&self, site: &str) -> Arc<dyn Callbacks>;

    /// Lists the sites that somebody has served callbacks of.
    fn callback_sites(&self) -> StoreFuture<'_, Vec<CallbackSite>>;

    /// Lists those of some tenants that have a transaction to run now, in the order in which a worker should serve them: those with the
    /// fewest live leases first, and among equals the next after the one it served last. So every tenant gets its share of the workers
    /// while it has work, and one with little work does not wait behind one with much. A tenant that has as many live leases as
    /// [`crate::TenantLimits::max_concurrent_transactions`] allows is left out, and so is a disabled one.
    fn tenants_by_turn<'a>(&'a self, among: &'a [TenantId], served_last: Option<TenantId>, now_ms: u64) -> StoreFuture<'a, Vec<TenantId>>;

    /// Returns hints that something changed for a tenant: see [`Store::changes`]. The stream does not end.
    fn changes(&self) -> BoxStream<'static, TenantId>;

    /// Says whether the database answers.
    fn ping(&self) -> StoreFuture<'_, ()>;

    /// Says whether the schema is still the one of this software. One that nobody else can change is.
    ///
    /// # Errors
    /// [`crate::StoreError::OlderSchema`] and the like also if the database answers.
    fn check_schema(&self) -> StoreFuture<'_, ()> {
        self.ping()
    }
}
