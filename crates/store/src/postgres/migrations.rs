//! The schema's versions.
//!
//! A migration is numbered, runs once, and is recorded with the checksum of its text in the same transaction. An advisory lock makes
//! processes that start together take turns.

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, Row};

use crate::StoreError;

/// The migrations, oldest first; the position plus one is the version. Only ever appended to.
const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "initial",
        sql: include_str!("0001_initial.sql"),
    },
    Migration {
        name: "pushed work",
        sql: include_str!("0002_pushed_work.sql"),
    },
    Migration {
        name: "time of recording",
        sql: include_str!("0003_time_of_recording.sql"),
    },
    Migration {
        name: "mirror",
        sql: include_str!("0004_mirror.sql"),
    },
    Migration {
        name: "following",
        sql: include_str!("0005_following.sql"),
    },
    Migration {
        name: "gateway jobs",
        sql: include_str!("0006_gateway_jobs.sql"),
    },
    Migration {
        name: "callbacks",
        sql: include_str!("0007_callbacks.sql"),
    },
    Migration {
        name: "squashed",
        sql: include_str!("0008_squashed.sql"),
    },
];

/// The key of the advisory lock: the first bytes of "cipherloom migrations", read as a number.
const LOCK: i64 = 0x6369_7068_6572_6c6f;

struct Migration {
    name: &'static str,
    sql: &'static str,
}

impl Migration {
    fn checksum(&self) -> Vec<u8> {
        Sha256::digest(self.sql).to_vec()
    }
}

/// A version of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The number, from 1.
    pub version: i64,
    /// What it is called.
    pub name: String,
    /// Where it stands.
    pub state: MigrationState,
}

/// Where a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationState {
    /// The database has it.
    Applied,
    /// The database does not have it yet.
    Missing,
    /// The database has one of this number with another text.
    Changed,
    /// The database has it and this software does not know it.
    Unknown,
}

/// A row of the table of applied migrations.
struct Applied {
    version: i64,
    name: String,
    checksum: Vec<u8>,
}

pub(super) async fn status(pool: &PgPool) -> Result<Vec<MigrationStatus>, StoreError> {
    let mut connection = pool.acquire().await?;
    let applied = applied(&mut connection).await?;
    let known = (1i64..).zip(MIGRATIONS).map(|(version, migration)| MigrationStatus {
        version,
        name: migration.name.to_owned(),
        state: match applied.iter().find(|applied| applied.version == version) {
            None => MigrationState::Missing,
            Some(applied) if applied.checksum == migration.checksum() => MigrationState::Applied,
            Some(_) => MigrationState::Changed,
        },
    });
    let unknown = applied
        .iter()
        .filter(|applied| applied.version > newest())
        .map(|applied| MigrationStatus {
            version: applied.version,
            name: applied.name.clone(),
            state: MigrationState::Unknown,
        });
    Ok(known.chain(unknown).collect())
}

/// Fails unless the schema is the newest one this software knows.
pub(super) async fn check(pool: &PgPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    let found = version(&applied(&mut connection).await?)?;
    if found < newest() {
        return Err(StoreError::OlderSchema { found, known: newest() });
    }
    Ok(())
}

pub(super) async fn run(pool: &PgPool) -> Result<Vec<&'static str>, StoreError> {
    let mut transaction = pool.begin().await?;
    // Waiting for another process that migrates may take longer than the other locks.
    sqlx::raw_sql("SET LOCAL lock_timeout = '10min'").execute(&mut *transaction).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await?;
    let found = version(&applied(&mut transaction).await?)?;
    let missing: Vec<(i64, &Migration)> = (1i64..).zip(MIGRATIONS).filter(|(version, _)| *version > found).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS cipherloom_migrations (
            version    BIGINT PRIMARY KEY,
            name       TEXT   NOT NULL,
            checksum   BYTEA  NOT NULL, -- SHA-256 of the migration's text
            applied_at TIMESTAMPTZ NOT NULL DEFAULT now())",
    )
    .execute(&mut *transaction)
    .await?;
    for (version, migration) in &missing {
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO cipherloom_migrations (version, name, checksum) VALUES ($1, $2, $3)")
            .bind(version)
            .bind(migration.name)
            .bind(migration.checksum())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(missing.iter().map(|(_, migration)| migration.name).collect())
}

/// Returns the version of the schema, if every migration of it is one this software knows.
fn version(applied: &[Applied]) -> Result<i64, StoreError> {
    let found = applied.last().map_or(0, |newest| newest.version);
    if found > newest() {
        return Err(StoreError::NewerSchema { found, known: newest() });
    }
    let changed = applied.iter().find(|applied| {
        let known = usize::try_from(applied.version - 1).ok().and_then(|index| MIGRATIONS.get(index));
        known.is_none_or(|known| known.checksum() != applied.checksum)
    });
    match changed {
        Some(changed) => Err(StoreError::ChangedMigration {
            version: changed.version,
            name: changed.name.clone(),
        }),
        None => Ok(found),
    }
}

fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Lists what the database has, oldest first.
async fn applied(connection: &mut PgConnection) -> Result<Vec<Applied>, StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('cipherloom_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("SELECT version, name, checksum FROM cipherloom_migrations ORDER BY version")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Applied {
                version: row.try_get("version")?,
                name: row.try_get("name")?,
                checksum: row.try_get("checksum")?,
            })
        })
        .collect()
}
