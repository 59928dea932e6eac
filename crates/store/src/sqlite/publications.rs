//! What was published to a mirror.

use cipherloom_primitives::Handle;

use super::{SqliteStore, begin};
use crate::{
    PublicationRequest, Publications, PublishedCiphertext, StoreError, StoreFuture,
    columns::{handle as read_handle, integer},
};

impl Publications for SqliteStore {
    fn ciphertexts_to_publish<'a>(&'a self, request: &'a PublicationRequest) -> StoreFuture<'a, Vec<Handle>> {
        Box::pin(list(self, request))
    }

    fn mark_published<'a>(&'a self, published: &'a [PublishedCiphertext]) -> StoreFuture<'a, ()> {
        Box::pin(mark(self, published))
    }

    fn publish_again(&self, chain_id: u64) -> StoreFuture<'_, u64> {
        Box::pin(forget(self, chain_id))
    }

    fn claim_publishing<'a>(&'a self, _: u64, _: &'a str, _: u64, _: u64) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(true) })
    }
}

async fn list(store: &SqliteStore, request: &PublicationRequest) -> Result<Vec<Handle>, StoreError> {
    let rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT handle FROM ciphertexts
         WHERE chain_id = ? AND handle > ? AND packed_digest IS NOT NULL AND published = 0
         ORDER BY handle LIMIT ?",
    )
    .bind(integer("chain id", request.chain_id)?)
    .bind(request.after_bytes())
    .bind(i64::from(request.limit))
    .fetch_all(&store.readers)
    .await?;
    rows.iter().map(|bytes| read_handle(bytes)).collect()
}

async fn mark(store: &SqliteStore, published: &[PublishedCiphertext]) -> Result<(), StoreError> {
    let mut transaction = begin(&store.writer).await?;
    for published in published {
        sqlx::query("UPDATE ciphertexts SET published = 1 WHERE chain_id = ? AND handle = ? AND packed_digest = ?")
            .bind(integer("chain id", published.handle.chain_id())?)
            .bind(published.handle.as_slice())
            .bind(published.digest.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn forget(store: &SqliteStore, chain_id: u64) -> Result<u64, StoreError> {
    let forgotten = sqlx::query("UPDATE ciphertexts SET published = 0 WHERE chain_id = ? AND published = 1")
        .bind(integer("chain id", chain_id)?)
        .execute(&store.writer)
        .await?;
    Ok(forgotten.rows_affected())
}
