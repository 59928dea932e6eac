//! `cipherloom db`: the schema of a shared database.

use anyhow::Result;
use cipherloom_store::MigrationState;
use clap::Subcommand;
use serde_json::json;

use crate::database::{self, DatabaseOptions};

/// What to do with a database.
#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Bring the schema to the version of this software. Safe while other processes start or do the same.
    Migrate(DatabaseOptions),
    /// Say which migrations the database has, and which it lacks.
    Status {
        #[command(flatten)]
        database: DatabaseOptions,
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of the commands.
///
/// # Errors
/// If the database cannot be reached or its schema cannot be used.
pub(crate) async fn run(command: DbCommand) -> Result<()> {
    match command {
        DbCommand::Migrate(options) => migrate(&options).await,
        DbCommand::Status { database, json } => status(&database, json).await,
    }
}

async fn migrate(options: &DatabaseOptions) -> Result<()> {
    let applied = database::connect(&options.database_url).await?.migrate().await?;
    if applied.is_empty() {
        println!("the schema is up to date");
    } else {
        println!("applied: {}", applied.join(", "));
    }
    Ok(())
}

async fn status(options: &DatabaseOptions, as_json: bool) -> Result<()> {
    let migrations = database::connect(&options.database_url).await?.migration_status().await?;
    if as_json {
        let list: Vec<_> = migrations
            .iter()
            .map(|migration| json!({ "version": migration.version, "name": migration.name, "state": describe(migration.state).0 }))
            .collect();
        println!("{}", json!({ "migrations": list }));
        return Ok(());
    }
    for migration in &migrations {
        let (state, meaning) = describe(migration.state);
        println!("{:>4}  {:<24} {state}{meaning}", migration.version, migration.name);
    }
    Ok(())
}

/// Names a state, and says what it means where that is not plain.
const fn describe(state: MigrationState) -> (&'static str, &'static str) {
    match state {
        MigrationState::Applied => ("applied", ""),
        MigrationState::Missing => ("missing", ""),
        MigrationState::Changed => ("changed", ": the database has another migration of this number"),
        _ => ("unknown", ": made by newer software"),
    }
}
