//! Public values, squashed before somebody asks.
//!
//! What a contract makes public will be asked for within moments, and then somebody waits for seconds. So an operator may have such values squashed as soon as they
//! are computed. It is the same work, done earlier; values that nobody asks for after all are squashed in vain.

use std::time::Duration;

use cipherloom_store::Tenant;
use tokio_util::sync::CancellationToken;

use crate::{Coprocessor, CoprocessorError, HandleStatus, Tenancy};

/// How many of the newest blocks are looked at. What became public before is squashed when it is asked for.
const BLOCKS: u64 = 256;

/// How many values of a tenant are looked for at a time.
const VALUES: u32 = 32;

/// How often tenants are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Squashes public values of all tenants of a database until it is told to stop. One process of a database should: several would do the same.
///
/// Its owner spawns [`SquashingAhead::run`] and awaits it after cancelling the token.
pub struct SquashingAhead {
    tenancy: Tenancy,
}

impl SquashingAhead {
    /// Puts it together; nothing happens yet.
    #[must_use]
    pub const fn new(tenancy: Tenancy) -> Self {
        Self { tenancy }
    }

    /// Looks for public values until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.round()).await.is_some() {
            if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Begins to squash what tenants have made public and computed.
    async fn round(&self) {
        let tenants = match self.tenancy.database().tenants().await {
            Ok(tenants) => tenants,
            Err(error) => return tracing::warn!(%error, "tenants could not be read; public values are squashed when they are asked for"),
        };
        for tenant in tenants.iter().filter(|tenant| !tenant.disabled) {
            if let Err(error) = self.look(tenant).await {
                tracing::debug!(tenant = tenant.name, %error, "public values are squashed when they are asked for");
            }
        }
    }

    async fn look(&self, tenant: &Tenant) -> Result<(), CoprocessorError> {
        if !self.tenancy.keys_of(tenant).await?.can_squash_noise() {
            return Ok(());
        }
        let store = self.tenancy.database().store(tenant);
        let public = store.public_without_list(tenant.chain_id, BLOCKS, VALUES).await?;
        if public.is_empty() {
            return Ok(());
        }
        let coprocessor = self.tenancy.coprocessor(tenant).await?;
        for handle in public {
            match coprocessor.begin_squashing(handle).await {
                // Those that wait come first; the others are found again.
                Err(CoprocessorError::SquashingBusy) => return Ok(()),
                Err(error) => tracing::debug!(%handle, %error, "a public value is squashed when it is asked for"),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

impl Coprocessor {
    /// Has a computed value squashed without waiting for it.
    async fn begin_squashing(&self, handle: cipherloom_primitives::Handle) -> Result<(), CoprocessorError> {
        match self.signed_squashed(handle, Duration::ZERO).await {
            Ok(_) | Err(CoprocessorError::NotComputed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has a value squashed that was just computed and is public, if that is wanted here.
    pub(crate) async fn squash_public(&self, handle: cipherloom_primitives::Handle) {
        let wanted = self.squashing().is_some_and(|(squashing, _)| squashing.options().public_ahead);
        if !wanted || !matches!(self.handle_status(handle).await, Ok(HandleStatus::Computed)) {
            return;
        }
        if let Err(error) = self.begin_squashing(handle).await {
            tracing::debug!(%handle, %error, "a public value is squashed when it is asked for");
        }
    }
}
