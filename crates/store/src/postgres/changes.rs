//! Hints that another process changed something: PostgreSQL's notifications.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::{
    PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use crate::{StoreError, TenantId};

/// The channel, with the name that it has in the 0.6 generation. The payload is the tenant's number.
const CHANNEL: &str = "work_available";

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

/// Listens on a connection of its own, connecting again whenever it is lost. After each new connection there is one hint for what may have
/// been missed.
pub(super) fn listen(options: &PgConnectOptions, tenant: TenantId) -> BoxStream<'static, ()> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let own = tenant.0.to_string();
    stream::unfold(None::<PgListener>, move |mut listener| {
        let (pool, own) = (pool.clone(), own.clone());
        async move {
            loop {
                let Some(connected) = &mut listener else {
                    match connect(&pool).await {
                        Ok(connected) => return Some(((), Some(connected))),
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                    continue;
                };
                match connected.try_recv().await {
                    Ok(Some(notification)) if notification.payload() == own => return Some(((), listener)),
                    Ok(Some(_)) => {}
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

async fn connect(pool: &sqlx::PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
