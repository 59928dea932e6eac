//! Hints that another process changed something: PostgreSQL's notifications.

use std::{collections::VecDeque, time::Duration};

use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::{
    PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use crate::{StoreError, TenantId};

/// The channel, with the name that it has in the 0.6 generation. The payload is the tenant's number.
pub(super) const CHANNEL: &str = "work_available";

/// The pause before the next attempt to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells all processes that something changed for a tenant, once the transaction commits.
pub(super) async fn announce(connection: &mut PgConnection, tenant: TenantId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(tenant.0.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Listens on a connection of its own, connecting again whenever it is lost. After each new connection there is one hint for every tenant,
/// for what may have been missed.
pub(super) fn listen(options: &PgConnectOptions) -> BoxStream<'static, TenantId> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let start = (None::<PgListener>, VecDeque::new());
    stream::unfold(start, move |(mut listener, mut missed)| {
        let pool = pool.clone();
        async move {
            loop {
                if let Some(tenant) = missed.pop_front() {
                    return Some((tenant, (listener, missed)));
                }
                let Some(connected) = &mut listener else {
                    match connect(&pool).await {
                        Ok((connected, tenants)) => (listener, missed) = (Some(connected), tenants),
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                    continue;
                };
                match connected.try_recv().await {
                    // What is not a number was not sent by this software.
                    Ok(Some(notification)) => missed.extend(notification.payload().parse().map(TenantId)),
                    Ok(None) | Err(_) => {
                        listener = None;
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    })
    .boxed()
}

/// Starts to listen, and then lists all tenants.
async fn connect(pool: &sqlx::PgPool) -> Result<(PgListener, VecDeque<TenantId>), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    let tenants = sqlx::query_scalar::<_, i32>("SELECT tenant_id FROM tenants ORDER BY tenant_id")
        .fetch_all(&mut listener)
        .await?;
    Ok((listener, tenants.into_iter().map(TenantId).collect()))
}
