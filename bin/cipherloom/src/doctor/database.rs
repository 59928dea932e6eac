//! The database: reachable, of the right version, with the rights, connections and clock that are needed.

use std::{path::Path, sync::Arc, time::Instant};

use cipherloom_coprocessor::system_clock;
use cipherloom_service::report::{Level, Report};
use cipherloom_store::{
    Database, MigrationState, ObjectsUrl, PostgresConfig, PostgresDatabase, PostgresDiagnosis, SqliteStore, StoreError,
};

use super::{PATIENCE, ciphertexts::missing_directory};
use crate::coprocessor::CoprocessorOptions;

const AREA: &str = "database";

/// The oldest PostgreSQL that the schema works on.
const OLDEST_VERSION: i32 = 140_000;

/// Clocks that differ by more make leases end early or late.
const CLOCK_WARNING_MS: u64 = 1_000;
const CLOCK_FAILURE_MS: u64 = 15_000;

/// An answer that takes longer slows every request down.
const SLOW_MS: u128 = 20;

/// How many connections a process has besides its pool: those that listen.
const LISTENING: i64 = 2;

/// Looks at the database and opens it if it can be used.
pub(super) async fn check(options: &CoprocessorOptions, report: &mut Report) -> Option<Arc<dyn Database>> {
    let Some(url) = options.database_url.as_ref().map(|url| url.expose()).filter(|url| !url.is_empty()) else {
        report.fail(
            AREA,
            "no URL is given",
            "set DATABASE_URL, or give --database-url or a config file with it",
        );
        return None;
    };
    if let Some(path) = url.strip_prefix("sqlite:") {
        return embedded(Path::new(path.strip_prefix("//").unwrap_or(path)), report).await;
    }
    let config = match PostgresConfig::new(url) {
        Ok(config) => config.acquire_timeout(PATIENCE).max_connections(2),
        Err(error) => {
            report.fail(
                AREA,
                error.to_string(),
                "postgres://USER@HOST/DATABASE, or sqlite:FILE for one process alone",
            );
            return None;
        }
    };
    let database = match PostgresDatabase::connect(config).await {
        Ok(database) => database,
        Err(error) => {
            report.fail(
                AREA,
                format!("cannot connect: {error}"),
                "start PostgreSQL; check host, user and password, pg_hba.conf, and the firewall between here and there",
            );
            return None;
        }
    };
    check_server(&database, options, report).await;
    if !check_schema(&database, report).await {
        return None;
    }
    Some(open_objects(database, options))
}

async fn embedded(path: &Path, report: &mut Report) -> Option<Arc<dyn Database>> {
    if !path.exists() {
        report.fail(
            AREA,
            format!("the embedded database {} does not exist", path.display()),
            "the first `cipherloom tenant add` makes it; check the path",
        );
        return None;
    }
    match Box::pin(SqliteStore::open(path)).await {
        Ok(store) => {
            report.ok(AREA, format!("embedded, {}; for one process alone", path.display()));
            Some(Arc::new(store))
        }
        Err(error @ StoreError::InUse(_)) => {
            report.warn(
                AREA,
                format!("{error}, so that nothing in it could be looked at"),
                "stop the process and run this again, or use PostgreSQL, which many processes can use",
            );
            None
        }
        Err(error) => {
            report.fail(
                AREA,
                format!("the embedded database {} cannot be opened: {error}", path.display()),
                "restore it from a backup, or use the software that made it",
            );
            None
        }
    }
}

async fn check_server(database: &PostgresDatabase, options: &CoprocessorOptions, report: &mut Report) {
    let clock = system_clock();
    let before_ms = clock();
    let diagnosis = match database.diagnosis().await {
        Ok(diagnosis) => diagnosis,
        Err(error) => {
            report.fail(AREA, format!("it does not say how it is: {error}"), "look at the server's log");
            return;
        }
    };
    let after_ms = clock();
    check_version_and_rights(&diagnosis, report);
    check_connections(&diagnosis, options, report);
    check_clock(diagnosis.now_ms, before_ms, after_ms, report);
    // The first question opened the connection; the second one is what calls cost.
    let start = Instant::now();
    if database.ping().await.is_ok() {
        let elapsed = start.elapsed();
        report.expect(
            AREA,
            elapsed.as_millis() <= SLOW_MS,
            format!("it answers in {:.1} ms", elapsed.as_secs_f64() * 1000.0),
            (
                Level::Warn,
                format!("it takes {:.0} ms to answer", elapsed.as_secs_f64() * 1000.0),
                "run servers and workers near the database; each request takes some calls".to_owned(),
            ),
        );
    }
}

fn check_version_and_rights(diagnosis: &PostgresDiagnosis, report: &mut Report) {
    report.expect(
        AREA,
        diagnosis.version_number >= OLDEST_VERSION,
        format!("PostgreSQL {}, {} MB of data", diagnosis.version, diagnosis.size_bytes / 1_000_000),
        (
            Level::Fail,
            format!("PostgreSQL {} is too old", diagnosis.version),
            "use version 14 or later".to_owned(),
        ),
    );
    if diagnosis.is_read_only {
        report.fail(
            AREA,
            "it takes no changes: it follows another server, or is set to read only",
            "use the URL of the primary",
        );
    }
    if !diagnosis.forbidden_tables.is_empty() {
        report.fail(
            AREA,
            format!("the user may not read and write {}", diagnosis.forbidden_tables.join(", ")),
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA … TO the user; ALTER DEFAULT PRIVILEGES for later ones",
        );
    }
    if !diagnosis.may_create {
        report.warn(
            AREA,
            "the user may not make tables, so that this user cannot migrate the schema",
            "start processes with --no-migrate, and run `cipherloom db migrate` as the schema's owner at each upgrade",
        );
    }
    if !diagnosis.is_encrypted && !diagnosis.is_local {
        report.warn(
            AREA,
            "the connection crosses a network unencrypted: whoever is on it reads and changes everything",
            "add ?sslmode=verify-full to the URL, and sslrootcert=FILE if the certificate's issuer is your own",
        );
    }
    if diagnosis.synchronous_commit == "off" {
        report.warn(
            AREA,
            "synchronous_commit is off: a crash of the server loses inputs that were admitted, and they exist nowhere else",
            "set it to on; writes are batched, so that it costs little",
        );
    }
}

fn check_connections(diagnosis: &PostgresDiagnosis, options: &CoprocessorOptions, report: &mut Report) {
    let needed = i64::from(options.pg_pool_max_connections) + LISTENING;
    let free = diagnosis.max_connections - diagnosis.connections;
    let state = format!(
        "{} of {} connections are in use, {} of them by Cipherloom; a process like this takes up to {needed}",
        diagnosis.connections, diagnosis.max_connections, diagnosis.own_connections
    );
    let remedy =
        "raise max_connections in postgresql.conf, or lower --pg-pool-max-connections: calls are short, 10 are enough for a process"
            .to_owned();
    if needed > diagnosis.max_connections {
        report.fail(AREA, state, remedy);
    } else {
        report.expect(AREA, free >= needed, state.clone(), (Level::Warn, state, remedy));
    }
}

/// Compares clocks. What the question took on the way is not held against either.
fn check_clock(database_ms: u64, before_ms: u64, after_ms: u64, report: &mut Report) {
    let behind = before_ms.saturating_sub(database_ms);
    let ahead = database_ms.saturating_sub(after_ms);
    let skew = behind.max(ahead);
    let remedy = "run a time service (chrony, systemd-timesyncd) on both machines: leases and API keys go by the clock";
    if skew > CLOCK_FAILURE_MS {
        report.fail(AREA, format!("its clock and this machine's differ by {skew} ms"), remedy);
    } else if skew > CLOCK_WARNING_MS {
        report.warn(AREA, format!("its clock and this machine's differ by {skew} ms"), remedy);
    } else {
        report.ok(AREA, "its clock and this machine's agree");
    }
}

/// Says whether the schema is this version's.
async fn check_schema(database: &PostgresDatabase, report: &mut Report) -> bool {
    let migrations = match database.migration_status().await {
        Ok(migrations) => migrations,
        Err(error) => {
            report.fail(
                AREA,
                format!("its schema cannot be read: {error}"),
                "cipherloom db migrate, as the schema's owner",
            );
            return false;
        }
    };
    let of = |state| migrations.iter().filter(|migration| migration.state == state).count();
    let (missing, changed) = (of(MigrationState::Missing), of(MigrationState::Changed));
    let applied = of(MigrationState::Applied);
    if changed > 0 {
        report.fail(
            AREA,
            "its schema was made by other software, or changed by hand",
            "use the software that made it; `cipherloom db status` shows which migrations differ",
        );
    } else if applied + missing < migrations.len() {
        report.fail(
            AREA,
            "its schema is of newer software",
            "upgrade this software: processes of two versions cannot share a database",
        );
    } else if missing > 0 {
        report.fail(
            AREA,
            format!("its schema lacks {missing} of {} migrations", migrations.len()),
            "cipherloom db migrate (make a backup first)",
        );
    } else {
        report.ok(AREA, format!("its schema has all {applied} migrations"));
        return true;
    }
    false
}

/// Opens the place of ciphertexts, which may fail without the database failing. What is wrong with it is said where places are looked at.
fn open_objects(database: PostgresDatabase, options: &CoprocessorOptions) -> Arc<dyn Database> {
    let place = options.ciphertext_store.as_ref().filter(|url| missing_directory(url).is_none());
    match place.map(ObjectsUrl::open) {
        Some(Ok(objects)) => Arc::new(database.with_objects(objects)),
        _ => Arc::new(database),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_within_the_time_the_question_took() {
        let findings = |database_ms, before_ms, after_ms| {
            let mut report = Report::default();
            check_clock(database_ms, before_ms, after_ms, &mut report);
            report.worst()
        };
        assert_eq!(findings(1_050_000, 1_000_000, 1_100_000), Level::Ok);
        assert_eq!(findings(1_000_500, 1_000_000, 1_000_010), Level::Ok);
        assert_eq!(findings(1_005_000, 1_000_000, 1_000_010), Level::Warn);
        assert_eq!(findings(995_000, 1_000_000, 1_000_010), Level::Warn);
        assert_eq!(findings(900_000, 1_000_000, 1_000_010), Level::Fail);
    }
}
