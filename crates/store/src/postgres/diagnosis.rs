//! What an operator has to know about a PostgreSQL server before it is relied on.

use sqlx::Row;

use super::PostgresDatabase;
use crate::StoreError;

/// What a server says about itself and about this connection. Nothing of it changes anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresDiagnosis {
    /// The version as a number: 150007 for 15.7.
    pub version_number: i32,
    /// The version as text.
    pub version: String,
    /// The clock of the server, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// How many connections the server takes, those for its administrators excepted.
    pub max_connections: i64,
    /// How many connections there are, to all databases of the server.
    pub connections: i64,
    /// How many of them are of this software, to this database.
    pub own_connections: i64,
    /// Whether the server only follows another one, or refuses to write for another reason.
    pub is_read_only: bool,
    /// Whether the user may make tables in the current schema.
    pub may_create: bool,
    /// The tables of the schema that the user may not read and write.
    pub forbidden_tables: Vec<String>,
    /// Whether this connection is encrypted.
    pub is_encrypted: bool,
    /// Whether this connection stays on this machine.
    pub is_local: bool,
    /// The setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// The size of the database, in bytes.
    pub size_bytes: i64,
}

/// The rights that are needed on every table.
const FORBIDDEN_TABLES: &str = "SELECT c.relname::TEXT FROM pg_catalog.pg_class c
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
       AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
            AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
     ORDER BY 1";

const FACTS: &str = "SELECT current_setting('server_version_num')::INT AS version_number,
            current_setting('server_version') AS version,
            (extract(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS now_ms,
            current_setting('max_connections')::BIGINT - current_setting('superuser_reserved_connections')::BIGINT AS max_connections,
            (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') AS connections,
            (SELECT count(*) FROM pg_catalog.pg_stat_activity
              WHERE datname = current_database() AND application_name = 'cipherloom') AS own_connections,
            pg_is_in_recovery() OR current_setting('transaction_read_only')::BOOLEAN AS is_read_only,
            has_schema_privilege(current_schema(), 'CREATE') AS may_create,
            coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()), FALSE) AS is_encrypted,
            coalesce(inet_client_addr() = inet_server_addr(), TRUE) AS is_local,
            current_setting('synchronous_commit') AS synchronous_commit,
            pg_database_size(current_database()) AS size_bytes";

impl PostgresDatabase {
    /// Asks the server about itself.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it does not answer.
    pub async fn diagnosis(&self) -> Result<PostgresDiagnosis, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let row = sqlx::query(FACTS).fetch_one(&mut *connection).await?;
        let forbidden = sqlx::query(FORBIDDEN_TABLES).fetch_all(&mut *connection).await?;
        Ok(PostgresDiagnosis {
            version_number: row.try_get("version_number")?,
            version: row.try_get("version")?,
            now_ms: u64::try_from(row.try_get::<i64, _>("now_ms")?).unwrap_or_default(),
            max_connections: row.try_get("max_connections")?,
            connections: row.try_get("connections")?,
            own_connections: row.try_get("own_connections")?,
            is_read_only: row.try_get("is_read_only")?,
            may_create: row.try_get::<Option<bool>, _>("may_create")?.unwrap_or(false),
            forbidden_tables: forbidden.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
            is_encrypted: row.try_get("is_encrypted")?,
            is_local: row.try_get("is_local")?,
            synchronous_commit: row.try_get("synchronous_commit")?,
            size_bytes: row.try_get("size_bytes")?,
        })
    }
}
