//! `cipherloom tenant`: whom a deployment works for.

mod display;
mod following;
pub(crate) mod key_sets;
mod limits;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail};
use cipherloom_store::{ApiKey, NewTenant, Tenant, Tenants};
use clap::{Args, Subcommand};
use serde_json::json;

use self::{
    display::{add_field, describe},
    following::{FOLLOW_HELP, FollowOptions, RewindOptions},
    limits::{LimitOptions, SetLimitsOptions},
};
use crate::database::{self, DatabaseOptions};

/// The longest file that is read as an API key, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Add a tenant and print its API key, which is shown this once and cannot be read again.
    Add(AddOptions),
    /// List all tenants with their current key sets and limits.
    List {
        #[command(flatten)]
        common: CommonOptions,
    },
    /// Show a tenant, its key sets and its limits.
    Show(OneTenant),
    /// Give a tenant a new API key and print it. The former key ends at once.
    RotateApiKey(KeyOptions),
    /// Make a key set the one that new ciphertexts of a tenant are encrypted under: one of a directory, or one that is in the database.
    #[command(long_about = SET_KEYS_HELP)]
    SetKeys(SetKeysOptions),
    /// Limit how much a tenant may have waiting, and how much of it is computed at the same time.
    SetLimits(SetLimitsOptions),
    /// Write a tenant's current key set into a directory, as a worker on another machine needs it.
    FetchKeys(KeysOptions),
    /// Have a tenant's chain followed.
    #[command(long_about = FOLLOW_HELP)]
    Follow(FollowOptions),
    /// End the following of a tenant's chain. What is recorded stays.
    Unfollow(OneTenant),
    /// Withdraw a tenant's recorded blocks above one, with what they granted, so that followers read them again.
    Rewind(RewindOptions),
    /// Refuse a tenant everything until it is enabled again. Its data stays.
    Disable(OneTenant),
    /// Serve a disabled tenant again.
    Enable(OneTenant),
    /// Remove a tenant with its blocks, inputs and ciphertexts. This cannot be undone.
    Remove {
        #[command(flatten)]
        tenant: OneTenant,
        /// Confirms that everything the tenant has is to be deleted.
        #[arg(long, required = true)]
        with_all_data: bool,
    },
}

const SET_KEYS_HELP: &str = "\
Make a key set the one that new ciphertexts of a tenant are encrypted under: one of a directory, or one that is in the database.

A key set is stored once, however many tenants have it, and without its secret key. The tenant's former key sets stay attached, because older ciphertexts are encrypted \
under them. Servers and workers take up the change within seconds.";

/// Options of all of them.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    #[command(flatten)]
    database: DatabaseOptions,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A tenant that is there.
#[derive(Clone, Debug, Args)]
pub(crate) struct OneTenant {
    /// The tenant's name.
    name: String,

    #[command(flatten)]
    common: CommonOptions,
}

/// A tenant and a new key for it.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyOptions {
    #[command(flatten)]
    tenant: OneTenant,

    /// Use the key in this file, a UUID, instead of a new random one.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

/// A tenant and a key set.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeysOptions {
    #[command(flatten)]
    tenant: OneTenant,

    /// The directory of the key set.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

/// A tenant and the key set it gets.
#[derive(Clone, Debug, Args)]
pub(crate) struct SetKeysOptions {
    #[command(flatten)]
    tenant: OneTenant,

    #[command(flatten)]
    source: KeySetSource,
}

/// Where a key set is: exactly one of these is given.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct KeySetSource {
    /// The directory of the key set.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,

    /// The id of a key set that is in the database, or its first digits: at least eight.
    #[arg(long, value_name = "ID")]
    key_set: Option<String>,
}

/// Options of `tenant add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AddOptions {
    #[command(flatten)]
    key: KeyOptions,

    /// The id of the tenant's chain.
    #[arg(long, value_name = "ID")]
    chain_id: u64,

    /// The address of the chain's access-control contract.
    #[arg(long, value_name = "ADDRESS")]
    acl_contract_address: Address,

    /// The address of the chain's `InputVerifier` contract.
    #[arg(long, value_name = "ADDRESS")]
    verifying_contract_address: Address,

    /// The directory of the tenant's key set; it can be given later with `tenant set-keys`.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,

    /// Let the tenant administrate the deployment.
    #[arg(long)]
    admin: bool,

    #[command(flatten)]
    limits: LimitOptions,
}

/// Runs one of the commands.
///
/// # Errors
/// If the database cannot be used, a name is taken or unknown, or keys cannot be read.
pub(crate) async fn run(command: TenantCommand) -> Result<()> {
    match command {
        TenantCommand::Add(options) => add(options).await,
        TenantCommand::List { common } => display::list(&common).await,
        TenantCommand::Show(options) => display::show(&options).await,
        TenantCommand::RotateApiKey(options) => rotate(&options).await,
        TenantCommand::SetKeys(options) => key_sets::set(&options).await,
        TenantCommand::SetLimits(options) => limits::set(&options).await,
        TenantCommand::FetchKeys(options) => key_sets::fetch(&options).await,
        TenantCommand::Follow(options) => Box::pin(following::follow(&options)).await,
        TenantCommand::Unfollow(options) => following::unfollow(&options).await,
        TenantCommand::Rewind(options) => following::rewind(&options).await,
        TenantCommand::Disable(options) => set_disabled(&options, true).await,
        TenantCommand::Enable(options) => set_disabled(&options, false).await,
        TenantCommand::Remove { tenant, .. } => remove(&tenant).await,
    }
}

async fn add(options: AddOptions) -> Result<()> {
    let OneTenant { name, common } = options.key.tenant;
    let api_key = api_key(options.key.api_key_file.as_deref())?;
    // Keys are read before anything is written.
    let keys = options.keys.as_deref().map(key_sets::read_keys).transpose()?;
    let tenants = database::tenants(&common.database).await?;
    let new = NewTenant {
        name,
        chain_id: options.chain_id,
        acl: options.acl_contract_address,
        input_verifier: options.verifying_contract_address,
        is_admin: options.admin,
    };
    let mut tenant = tenants.add_tenant(&new, api_key.digest()).await?;
    if let Some(limits) = options.limits.applied_to(tenant.limits) {
        tenants.set_tenant_limits(tenant.id, limits).await?;
        tenant.limits = limits;
    }
    if let Some(keys) = keys {
        key_sets::store_keys(tenants.as_ref(), &tenant, keys).await?;
    }
    print_key(&tenant, &api_key, common.json, "added");
    Ok(())
}

async fn rotate(options: &KeyOptions) -> Result<()> {
    let (tenants, tenant) = find(&options.tenant).await?;
    let api_key = api_key(options.api_key_file.as_deref())?;
    tenants.replace_api_key(tenant.id, api_key.digest()).await?;
    print_key(
        &tenant,
        &api_key,
        options.tenant.common.json,
        "has a new key; the former one has ended",
    );
    Ok(())
}

async fn set_disabled(options: &OneTenant, disabled: bool) -> Result<()> {
    let (tenants, tenant) = find(options).await?;
    tenants.set_tenant_disabled(tenant.id, disabled).await?;
    let state = if disabled { "disabled" } else { "enabled" };
    report(options, &tenant, "state", state, state);
    Ok(())
}

async fn remove(options: &OneTenant) -> Result<()> {
    let (tenants, tenant) = find(options).await?;
    tenants.remove_tenant(tenant.id).await?;
    report(options, &tenant, "state", "removed", "removed with everything it had");
    Ok(())
}

/// Finds the tenant by its name.
async fn find(options: &OneTenant) -> Result<(Arc<dyn Tenants>, Tenant)> {
    let tenants = database::tenants(&options.common.database).await?;
    let all = tenants.tenants().await?;
    match all.into_iter().find(|tenant| tenant.name == options.name) {
        Some(tenant) => Ok((tenants, tenant)),
        None => bail!("there is no tenant {:?}; `cipherloom tenant list` shows all", options.name),
    }
}

/// Reads a key from a file, or makes a random one.
fn api_key(file: Option<&Path>) -> Result<ApiKey> {
    let Some(path) = file else {
        return Ok(ApiKey::from_random(database::random()?));
    };
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    if size > MAX_KEY_FILE_BYTES {
        bail!("{} is too large for an API key", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ApiKey::parse(text.trim()).with_context(|| {
        format!(
            "{} does not hold an API key: a UUID such as 123e4567-e89b-42d3-a456-426614174000",
            path.display()
        )
    })
}

fn print_key(tenant: &Tenant, api_key: &ApiKey, as_json: bool, happened: &str) {
    if as_json {
        let mut description = describe(tenant);
        add_field(&mut description, "apiKey", api_key.expose().into());
        println!("{description}");
        return;
    }
    println!("tenant {} {happened}", tenant.name);
    println!("API key: {}", api_key.expose());
    println!("It is kept nowhere but as a digest, so write it down now.");
}

/// Says what became of a tenant.
fn report(options: &OneTenant, tenant: &Tenant, field: &str, value: &str, sentence: &str) {
    if options.common.json {
        let mut description = json!({ "name": tenant.name });
        add_field(&mut description, field, value.into());
        println!("{description}");
    } else {
        println!("tenant {}: {sentence}", tenant.name);
    }
}
