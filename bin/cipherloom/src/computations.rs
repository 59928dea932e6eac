//! `cipherloom computations`: what a deployment has to compute, what became of it, and trying again what failed.
//!
//! The unit is the transaction: it is leased, computed and published as a whole. Its outputs are the handles that others can use.

mod describe;
mod list;
mod retry;
mod show;
mod waits;
mod watch;

use std::{str::FromStr, sync::Arc};

use alloy::primitives::B256;
use anyhow::{Result, bail, ensure};
use cipherloom_primitives::Handle;
use cipherloom_store::{Database, Inspection, MAX_HANDLE_NAME_BYTES, Store, Tenant, TransactionDetail, TransactionKey};
use clap::{Args, Subcommand};

use crate::database::{self, DatabaseOptions};

/// What to do with computations.
#[derive(Debug, Subcommand)]
pub(crate) enum ComputationsCommand {
    /// List transactions, newest first, or with --watch count them as they come and go.
    List(list::ListOptions),
    /// Show a transaction: its computations, its outputs, why it failed, who computes it, and what it waits for.
    Show(show::ShowOptions),
    /// Try failed transactions again, with those that failed because of them.
    #[command(long_about = RETRY_HELP)]
    Retry(retry::RetryOptions),
}

const RETRY_HELP: &str = "\
Try failed transactions again, with those that failed because of them.

A transaction fails for good if an output of it can never be computed, because it needs a value that nobody published or that is under another key set. It is poisoned then, and so is what needs \
its outputs. After the reason is gone (a missing input was admitted, a bug was fixed) this makes them pending again; whatever fails once more is poisoned once more.

With --all-poisoned, --confirm says how many you expect: `cipherloom computations list --state poisoned` shows them, and another number changes nothing.";

/// Options of all of them.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    #[command(flatten)]
    database: DatabaseOptions,

    /// Only this tenant's; needed where a command would otherwise change several.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// If the database cannot be used, or has not what was asked for.
pub(crate) async fn run(command: ComputationsCommand) -> Result<()> {
    match command {
        ComputationsCommand::List(options) => list::run(&options).await,
        ComputationsCommand::Show(options) => show::run(&options).await,
        ComputationsCommand::Retry(options) => retry::run(&options).await,
    }
}

/// A tenant and what operators see of it.
struct Seen {
    tenant: Tenant,
    inspection: Arc<dyn Inspection>,
    store: Arc<dyn Store>,
}

/// Opens the tenants that the options choose: one, or all.
async fn tenants(options: &CommonOptions) -> Result<Vec<Seen>> {
    let database: Arc<dyn Database> = database::shared(&options.database).await?;
    let all = database.tenants().await?;
    ensure!(!all.is_empty(), "the database has no tenants; `cipherloom tenant add` makes one");
    let seen: Vec<Seen> = all
        .iter()
        .filter(|tenant| options.tenant.as_ref().is_none_or(|name| *name == tenant.name))
        .map(|tenant| Seen {
            tenant: tenant.clone(),
            inspection: database.inspection(tenant),
            store: database.store(tenant),
        })
        .collect();
    if seen.is_empty() {
        let names: Vec<&str> = all.iter().map(|tenant| tenant.name.as_str()).collect();
        bail!(
            "there is no tenant {:?}; there are {}",
            options.tenant.as_deref().unwrap_or_default(),
            names.join(", ")
        );
    }
    Ok(seen)
}

/// What a transaction can be named by: its hash, a handle that it publishes, or what a node calls that handle. The bytes alone do not say which
/// is meant, so the database is asked for all that it can be.
#[derive(Clone, Debug)]
struct HashOrHandle(Vec<u8>);

impl FromStr for HashOrHandle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok();
        bytes
            .filter(|bytes| (1..=MAX_HANDLE_NAME_BYTES).contains(&bytes.len()))
            .map(Self)
            .ok_or_else(|| {
                format!("a transaction's hash, a handle or its name is in hexadecimal digits, of 1 to {MAX_HANDLE_NAME_BYTES} bytes")
            })
    }
}

impl std::fmt::Display for HashOrHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

impl HashOrHandle {
    /// Finds the handle of a tenant that is meant: a name of 32 bytes can be a handle of its chain itself.
    async fn handle(&self, seen: &Seen) -> Result<Option<Handle>> {
        let itself = Handle::try_from(self.0.as_slice()).ok();
        match itself.filter(|handle| handle.chain_id() == seen.tenant.chain_id) {
            Some(handle) => Ok(Some(handle)),
            None => Ok(seen
                .store
                .handles_of_names(std::slice::from_ref(&self.0))
                .await?
                .into_iter()
                .flatten()
                .next()),
        }
    }

    /// Finds what is meant among tenants. Several chains can have a transaction of one hash; the first tenant's is taken.
    async fn find<'a>(&self, tenants: &'a [Seen]) -> Result<(&'a Seen, TransactionKey, TransactionDetail)> {
        for seen in tenants {
            let hash = B256::try_from(self.0.as_slice()).ok().map(TransactionKey::Hash);
            let handle = self.handle(seen).await?.map(TransactionKey::Handle);
            for key in [hash, handle].into_iter().flatten() {
                if let Some(detail) = seen.inspection.transaction(&key).await? {
                    return Ok((seen, key, detail));
                }
            }
        }
        bail!(
            "no tenant has a transaction with the hash {self}, nor one that publishes a handle of that name; intermediate results are not published, and inputs have no transaction"
        )
    }
}
