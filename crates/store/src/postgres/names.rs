//! Names of handles.

use cipherloom_primitives::Handle;
use sqlx::{PgConnection, Row};

use super::PostgresStore;
use crate::{NamedHandle, StoreError, TenantId, columns::handle as read_handle};

pub(super) async fn add(store: &PostgresStore, names: &[NamedHandle]) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    insert(&mut transaction, store, names).await?;
    transaction.commit().await?;
    Ok(())
}

/// Inserts names within a transaction of the caller's.
pub(super) async fn insert(connection: &mut PgConnection, store: &PostgresStore, names: &[NamedHandle]) -> Result<(), StoreError> {
    for named in names {
        named.check()?;
        store.require(named.handle.chain_id())?;
    }
    if names.is_empty() {
        return Ok(());
    }
    // In one order everywhere: two processes that insert the same names wait for each other in that order, not in a circle.
    let mut sorted: Vec<&NamedHandle> = names.iter().collect();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    let columns = || {
        (
            sorted.iter().map(|named| named.name.as_slice()).collect::<Vec<_>>(),
            sorted.iter().map(|named| named.handle.as_slice()).collect::<Vec<_>>(),
        )
    };
    let (texts, handles) = columns();
    let inserted = sqlx::query(
        "INSERT INTO handle_names (tenant_id, name, handle) SELECT $1, * FROM unnest($2::BYTEA[], $3::BYTEA[]) ON CONFLICT DO NOTHING",
    )
    .bind(store.tenant.0)
    .bind(texts)
    .bind(handles)
    .execute(&mut *connection)
    .await?;
    if usize::try_from(inserted.rows_affected()).ok() == Some(names.len()) {
        return Ok(());
    }
    let (texts, handles) = columns();
    let taken = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT handle FROM (
            SELECT w.handle AS wanted, (SELECT n.handle FROM handle_names n WHERE n.tenant_id = $1 AND n.name = w.name) AS handle
            FROM unnest($2::BYTEA[], $3::BYTEA[]) AS w (name, handle)) AS found
         WHERE handle <> wanted LIMIT 1",
    )
    .bind(store.tenant.0)
    .bind(texts)
    .bind(handles)
    .fetch_optional(connection)
    .await?;
    match taken {
        Some(handle) => Err(StoreError::NameTaken(read_handle(&handle)?)),
        None => Ok(()),
    }
}

pub(super) async fn handles(store: &PostgresStore, names: &[Vec<u8>]) -> Result<Vec<Option<Handle>>, StoreError> {
    let mut found = vec![None; names.len()];
    if names.is_empty() {
        return Ok(found);
    }
    for row in find(store, store.tenant, names).await? {
        let place = usize::try_from(row.try_get::<i64, _>("place")?).unwrap_or_default();
        if let Some(found) = place.checked_sub(1).and_then(|place| found.get_mut(place)) {
            *found = Some(read_handle(row.try_get("handle")?)?);
        }
    }
    Ok(found)
}

async fn find(store: &PostgresStore, tenant: TenantId, names: &[Vec<u8>]) -> Result<Vec<sqlx::postgres::PgRow>, StoreError> {
    Ok(sqlx::query(
        "SELECT place, handle FROM (
            SELECT w.place, (SELECT n.handle FROM handle_names n WHERE n.tenant_id = $1 AND n.name = w.name) AS handle
            FROM unnest($2::BYTEA[]) WITH ORDINALITY AS w (name, place)) AS found
         WHERE handle IS NOT NULL",
    )
    .bind(tenant.0)
    .bind(names)
    .fetch_all(store.pool())
    .await?)
}
