//! Callbacks in SQLite.

use sqlx::{SqlitePool, sqlite::SqliteRow};

use super::{SqliteStore, begin};
use crate::callbacks::step::implement_callbacks;

/// The callbacks of one site.
pub(super) struct SqliteCallbacks {
    writer: SqlitePool,
    readers: SqlitePool,
    site: String,
}

impl SqliteCallbacks {
    pub(super) fn new(store: &SqliteStore, site: &str) -> Self {
        Self {
            writer: store.writer.clone(),
            readers: store.readers.clone(),
            site: site.to_owned(),
        }
    }
}

/// Lists all sites.
pub(super) async fn sites(store: &SqliteStore) -> Result<Vec<CallbackSite>, StoreError> {
    let rows = sqlx::query(sql::SITES).fetch_all(&store.readers).await?;
    rows.iter().map(site).collect()
}

/// Ends the claims of the process that had the file before.
pub(super) async fn end_claims(writer: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query("UPDATE callback_sites SET claimed_until_ms = 0")
        .execute(writer)
        .await?;
    Ok(())
}

implement_callbacks!(SqliteCallbacks, SqliteRow, begin);
