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
use cipherloom_store::{Database, Inspection, Tenant, TransactionDetail, TransactionKey};
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

A transaction fails for good if an output of it can never be computed: it divides by zero, or needs a handle that nobody published. It is poisoned then, and so is what needs \
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

/// The hash of a transaction or a handle that it publishes: both are 32 bytes, and only the database knows which is meant.
#[derive(Clone, Copy, Debug)]
struct HashOrHandle(B256);

impl FromStr for HashOrHandle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| "a transaction's hash or a handle is 64 hexadecimal digits".to_owned())
    }
}

impl HashOrHandle {
    /// The ways in which a transaction can be meant.
    fn keys(self) -> Vec<TransactionKey> {
        let handle = Handle::try_from(self.0).ok().map(TransactionKey::Handle);
        [Some(TransactionKey::Hash(self.0)), handle].into_iter().flatten().collect()
    }

    /// Finds what is meant among tenants. Several chains can have a transaction of one hash; the first tenant's is taken.
    async fn find(self, tenants: &[Seen]) -> Result<(&Seen, TransactionKey, TransactionDetail)> {
        for seen in tenants {
            for key in self.keys() {
                if let Some(detail) = seen.inspection.transaction(&key).await? {
                    return Ok((seen, key, detail));
                }
            }
        }
        bail!(
            "no tenant has a transaction with the hash {0}, nor one that publishes a handle {0}; intermediate results are not published, and inputs have no transaction",
            self.0
        )
    }
}
