//! What was published to a mirror.

use cipherloom_primitives::Handle;

use super::PostgresStore;
use crate::{
    PublicationRequest, Publications, PublishedCiphertext, StoreError, StoreFuture,
    columns::{handle as read_handle, integer, text},
};

impl Publications for PostgresStore {
    fn ciphertexts_to_publish<'a>(&'a self, request: &'a PublicationRequest) -> StoreFuture<'a, Vec<Handle>> {
        Box::pin(list(self, request))
    }

    fn mark_published<'a>(&'a self, published: &'a [PublishedCiphertext]) -> StoreFuture<'a, ()> {
        Box::pin(mark(self, published))
    }

    fn publish_again(&self, chain_id: u64) -> StoreFuture<'_, u64> {
        Box::pin(forget(self, chain_id))
    }

    fn claim_publishing<'a>(&'a self, chain_id: u64, owner: &'a str, now_ms: u64, until_ms: u64) -> StoreFuture<'a, bool> {
        Box::pin(claim(self, chain_id, owner, now_ms, until_ms))
    }
}

async fn list(store: &PostgresStore, request: &PublicationRequest) -> Result<Vec<Handle>, StoreError> {
    if !store.serves(request.chain_id)? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT handle FROM ciphertexts
         WHERE tenant_id = $1 AND handle > $2 AND packed_digest IS NOT NULL AND NOT published
         ORDER BY handle LIMIT $3",
    )
    .bind(store.tenant.0)
    .bind(request.after_bytes())
    .bind(i64::from(request.limit))
    .fetch_all(store.pool())
    .await?;
    rows.iter().map(|bytes| read_handle(bytes)).collect()
}

async fn mark(store: &PostgresStore, published: &[PublishedCiphertext]) -> Result<(), StoreError> {
    // In the order in which other statements lock rows of this table.
    let mut sorted: Vec<&PublishedCiphertext> = published.iter().collect();
    sorted.sort_by_key(|published| published.handle);
    sqlx::query(
        "UPDATE ciphertexts c SET published = TRUE
         FROM unnest($2::BYTEA[], $3::BYTEA[]) AS p (handle, digest)
         WHERE c.tenant_id = $1 AND c.handle = p.handle AND c.packed_digest = p.digest AND NOT c.published",
    )
    .bind(store.tenant.0)
    .bind(sorted.iter().map(|published| published.handle.as_slice()).collect::<Vec<_>>())
    .bind(sorted.iter().map(|published| published.digest.as_slice()).collect::<Vec<_>>())
    .execute(store.pool())
    .await?;
    Ok(())
}

async fn forget(store: &PostgresStore, chain_id: u64) -> Result<u64, StoreError> {
    if !store.serves(chain_id)? {
        return Ok(0);
    }
    let forgotten = sqlx::query("UPDATE ciphertexts SET published = FALSE WHERE tenant_id = $1 AND published")
        .bind(store.tenant.0)
        .execute(store.pool())
        .await?;
    Ok(forgotten.rows_affected())
}

async fn claim(store: &PostgresStore, chain_id: u64, owner: &str, now_ms: u64, until_ms: u64) -> Result<bool, StoreError> {
    store.require(chain_id)?;
    let claimed = sqlx::query(
        "INSERT INTO publishers (tenant_id, owner, claimed_until_ms) VALUES ($1, $2, $4)
         ON CONFLICT (tenant_id) DO UPDATE SET owner = excluded.owner, claimed_until_ms = excluded.claimed_until_ms
         WHERE publishers.owner = excluded.owner OR publishers.claimed_until_ms <= $3",
    )
    .bind(store.tenant.0)
    .bind(text(owner))
    .bind(integer("time", now_ms)?)
    .bind(integer("claim end", until_ms)?)
    .execute(store.pool())
    .await?;
    Ok(claimed.rows_affected() == 1)
}
