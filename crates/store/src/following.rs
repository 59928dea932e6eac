//! Which tenants' chains are followed, by whom now, and how far.
//!
//! Whether a chain is followed is part of its tenant, so that every process on a database knows. One process at a time does it: it claims the chain until a
//! time and renews its claim, and says with it how far it is; when it is gone, the claim ends by itself and another process takes over. Nothing goes wrong
//! if two follow at the same time, since blocks are recorded only after the one they continue.

use std::fmt;

use cipherloom_primitives::Address;

use crate::{StoreFuture, Tenant, TenantId};

/// How a tenant's chain is followed.
#[derive(Clone, PartialEq, Eq)]
pub struct FollowedChain {
    /// The URLs of its nodes, the preferred one first. Providers put keys into them: they are secret.
    pub urls: Vec<String>,
    /// The contract that takes the operations of dApps. The access-control contract is the tenant's.
    pub executor: Address,
    /// Where following begins: the block of the host contracts' deployment or earlier.
    pub first_block: u64,
    /// How many blocks at the head may still be reorganised; those below are final.
    pub finality_depth: u64,
    /// Whether all logs are checked against receipts.
    pub checks_receipts: bool,
}

impl fmt::Debug for FollowedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowedChain")
            .field("urls", &self.urls.len())
            .field("executor", &self.executor)
            .field("first_block", &self.first_block)
            .field("finality_depth", &self.finality_depth)
            .field("checks_receipts", &self.checks_receipts)
            .finish()
    }
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowProgress {
    /// The chain's newest block, when it was last reached.
    pub head: Option<u64>,
    /// The newest block that is recorded.
    pub recorded: Option<u64>,
    /// The highest block that is final and recorded.
    pub final_block: Option<u64>,
    /// When the chain was last reached, in milliseconds since the Unix epoch.
    pub reached_at_ms: Option<u64>,
}

/// Who follows a chain, and how far that process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowState {
    /// The process that follows, or followed last.
    pub owner: String,
    /// Until when it claimed to, in milliseconds since the Unix epoch.
    pub claimed_until_ms: u64,
    /// How far it is.
    pub progress: FollowProgress,
}

/// A claim to follow a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowClaim<'a> {
    /// The name of the process.
    pub owner: &'a str,
    /// The time now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Until when it wants to follow; now or earlier gives the claim up.
    pub until_ms: u64,
    /// How far it is.
    pub progress: FollowProgress,
}

/// The followed chains of a deployment.
///
/// Every method fails with [`crate::StoreError::Database`] if the database does; other errors are listed per method.
pub trait Following: Send + Sync + 'static {
    /// Has a tenant's chain followed in this way, or in another way than before.
    ///
    /// # Errors
    /// [`crate::StoreError::UnknownTenant`]; [`crate::StoreError::OutOfRange`] for numbers a database integer cannot hold.
    fn follow<'a>(&'a self, tenant: TenantId, chain: &'a FollowedChain) -> StoreFuture<'a, ()>;

    /// Ends the following of a tenant's chain, and says whether it was followed. What is recorded stays.
    fn unfollow(&self, tenant: TenantId) -> StoreFuture<'_, bool>;

    /// Lists the tenants whose chains are followed, by number, disabled ones included.
    fn followed(&self) -> StoreFuture<'_, Vec<(Tenant, FollowedChain)>>;

    /// Claims a chain for one process or renews its claim, and says whether it has it: not if another one has, or the chain is not followed.
    fn claim_following<'a>(&'a self, tenant: TenantId, claim: FollowClaim<'a>) -> StoreFuture<'a, bool>;

    /// Says who follows a tenant's chain, or did last, and how far; nothing if nobody ever did.
    fn follow_state(&self, tenant: TenantId) -> StoreFuture<'_, Option<FollowState>>;
}
