//! Callbacks in PostgreSQL.

use sqlx::{PgPool, Postgres, Transaction, postgres::PgRow};

use super::PostgresDatabase;
use crate::callbacks::step::implement_callbacks;

/// The callbacks of one site.
pub(super) struct PostgresCallbacks {
    writer: PgPool,
    readers: PgPool,
    site: String,
}

impl PostgresCallbacks {
    pub(super) fn new(database: &PostgresDatabase, site: &str) -> Self {
        Self {
            writer: database.pool.clone(),
            readers: database.pool.clone(),
            site: site.to_owned(),
        }
    }
}

/// Lists all sites.
pub(super) async fn sites(database: &PostgresDatabase) -> Result<Vec<CallbackSite>, StoreError> {
    let rows = sqlx::query(sql::SITES).fetch_all(&database.pool).await?;
    rows.iter().map(site).collect()
}

async fn begin(pool: &PgPool) -> Result<Transaction<'_, Postgres>, StoreError> {
    Ok(pool.begin().await?)
}

implement_callbacks!(PostgresCallbacks, PgRow, begin);
