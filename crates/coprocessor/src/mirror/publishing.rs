//! Publishing for all tenants of a database, in the background.

use std::{sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_primitives::Address;
use cipherloom_store::{Database, PublicPlace, Tenant};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{MirrorError, Publisher};
use crate::Clock;

/// How many batches of a tenant are published before others get their turn.
const BATCHES: usize = 4;

/// For how many tenants this process publishes at a time.
const CONCURRENT_TENANTS: usize = 2;

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Publishes the ciphertexts of all tenants of a database until it is told to stop.
///
/// Its owner spawns [`Publishing::run`] and awaits it after cancelling the token.
#[derive(Clone)]
pub struct Publishing {
    database: Arc<dyn Database>,
    place: Arc<dyn PublicPlace>,
    signer: PrivateKeySigner,
    owner: String,
    interval: Duration,
    clock: Clock,
}

impl Publishing {
    /// Puts it together; nothing happens yet. `owner` is a name of the process for operators, and `interval` how often it looks for
    /// ciphertexts that became ready.
    #[must_use]
    pub fn new(
        database: Arc<dyn Database>,
        place: Arc<dyn PublicPlace>,
        signer: PrivateKeySigner,
        owner: &str,
        interval: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            database,
            place,
            signer,
            owner: format!("{owner}-{}", uuid::Uuid::new_v4()),
            interval,
            clock,
        }
    }

    /// Returns the address it signs with.
    #[must_use]
    pub fn signer_address(&self) -> Address {
        self.signer.address()
    }

    /// Publishes until told to stop: what there is, then what becomes ready. A place that fails is tried again, after growing pauses.
    pub async fn run(&self, stop: CancellationToken) {
        let mut pause = self.interval;
        while !stop.is_cancelled() {
            let round = tokio::select! {
                () = stop.cancelled() => break,
                round = self.round() => round,
            };
            pause = match round {
                Ok(true) => continue,
                Ok(false) => self.interval,
                Err(error) => {
                    tracing::warn!(%error, "publishing ciphertexts failed, trying again");
                    pause.saturating_mul(2).min(LONGEST_PAUSE.max(self.interval))
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        for tenant in self.database.tenants().await.unwrap_or_default() {
            if let Err(error) = self.publisher(&tenant).release().await {
                tracing::debug!(tenant = tenant.name, %error, "the claim on publishing ends by its time");
            }
        }
    }

    /// Publishes some of what every tenant has, and says whether there may be more.
    ///
    /// # Errors
    /// The first error of a tenant, after the others had their turn.
    pub async fn round(&self) -> Result<bool, MirrorError> {
        let tenants = self.database.tenants().await?;
        let rounds: Vec<Result<bool, MirrorError>> = stream::iter(tenants.into_iter().map(|tenant| self.publish(tenant)))
            .buffer_unordered(CONCURRENT_TENANTS)
            .collect()
            .await;
        let more = rounds.iter().any(|round| matches!(round, Ok(true)));
        match rounds.into_iter().find_map(Result::err) {
            Some(error) => Err(error),
            None => Ok(more),
        }
    }

    async fn publish(&self, tenant: Tenant) -> Result<bool, MirrorError> {
        let published = self.publisher(&tenant).publish(BATCHES).await?;
        if published.values > 0 {
            tracing::info!(tenant = tenant.name, values = published.values, "published ciphertexts");
        }
        Ok(published.more)
    }

    fn publisher(&self, tenant: &Tenant) -> Publisher {
        Publisher::new(
            tenant.chain_id,
            self.database.store(tenant),
            Arc::clone(&self.place),
            self.signer.clone(),
            self.owner.clone(),
            Arc::clone(&self.clock),
        )
    }
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishing")
            .field("signer", &self.signer.address())
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
