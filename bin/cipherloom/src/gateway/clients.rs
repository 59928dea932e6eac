//! The clients that a gateway knows by an API key: a table `[[client]]` each, in the config file.

use std::{ffi::OsString, str::FromStr};

use anyhow::{Context, Result, ensure};
use cipherloom_gateway::{ApiKey, ApiKeyDigest, ClientConfig, Operation, RateLimit};
use cipherloom_service::config_file::ConfigFile;
use clap::{Args, Command, CommandFactory, Parser, value_parser};
use serde_json::json;

use crate::database::random;

/// What a table is called.
const TABLE: &str = "client";

/// How many requests a client may have saved up, as a multiple of those per second, unless it is told.
pub(super) const BURST: u32 = 10;

/// A client.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientOptions {
    /// What it is called in metrics and logs
    #[arg(long, value_name = "NAME")]
    name: String,

    /// The SHA-256 digest of its key, 64 hexadecimal digits; `cipherloom gateway --new-client-key` makes both
    #[arg(long, value_name = "DIGEST", value_parser = ApiKeyDigest::from_str)]
    key_sha256: ApiKeyDigest,

    /// How many requests it may post per second in the long run [default: as the gateway says for all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate_limit_per_second: Option<u32>,

    /// How many requests it may post at once after a pause
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000), requires = "rate_limit_per_second")]
    rate_limit_burst: Option<u32>,

    /// What it may ask for: input-proof, public-decrypt, user-decrypt [default: all]
    #[arg(long, value_name = "OPERATION", value_parser = Operation::from_str)]
    operation: Vec<Operation>,

    /// It may poll jobs, and ask for nothing
    #[arg(long, conflicts_with = "operation")]
    read_only: bool,
}

/// What stands in a table.
#[derive(Parser)]
#[command(name = TABLE)]
struct Table {
    #[command(flatten)]
    client: ClientOptions,
}

/// Describes what stands in a table.
pub(super) fn table() -> (&'static str, Command) {
    (TABLE, Table::command())
}

/// Takes the clients of a config file.
///
/// # Errors
/// None that can occur: the file's reader has parsed the same lines.
pub(super) fn of_file(file: Option<&ConfigFile>) -> Result<Vec<ClientOptions>> {
    let lines = file.into_iter().flat_map(|file| file.tables(TABLE));
    lines
        .map(|line: &[OsString]| Ok(Table::try_parse_from(line).context("a [[client]] table")?.client))
        .collect()
}

/// Tells the gateway its clients.
///
/// # Errors
/// If two have the same name.
pub(super) fn configured(clients: &[ClientOptions]) -> Result<Vec<ClientConfig>> {
    for (index, client) in clients.iter().enumerate() {
        let twice = clients.iter().take(index).any(|earlier| earlier.name == client.name);
        ensure!(!twice, "two clients are called {:?}", client.name);
    }
    let configured = clients.iter().map(|client| ClientConfig {
        name: client.name.clone(),
        key: client.key_sha256,
        rate_limit: rate_limit(client.rate_limit_per_second, client.rate_limit_burst),
        operations: match (client.read_only, client.operation.as_slice()) {
            (false, []) => None,
            (_, operations) => Some(operations.iter().copied().collect()),
        },
    });
    Ok(configured.collect())
}

/// Returns a limit, if there is to be one.
pub(super) fn rate_limit(per_second: Option<u32>, burst: Option<u32>) -> Option<RateLimit> {
    per_second.map(|per_second| RateLimit {
        burst: burst.unwrap_or_else(|| per_second.saturating_mul(BURST)),
        per_second,
    })
}

/// Makes a key and prints it.
///
/// # Errors
/// If the system gives no randomness.
pub(super) fn make_key(as_json: bool) -> Result<()> {
    let key = ApiKey::from_random(&random()?);
    if as_json {
        println!("{}", json!({ "apiKey": key.expose(), "keySha256": key.digest().to_string() }));
        return Ok(());
    }
    println!("API key: {}", key.expose());
    println!("It is shown this once; give it to the client, which sends it as x-api-key. In the gateway's config file:\n");
    println!("[[client]]\nname = \"NAME\"\nkey-sha256 = \"{}\"", key.digest());
    Ok(())
}
