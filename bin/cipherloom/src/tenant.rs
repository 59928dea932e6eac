//! `cipherloom tenant`: whom a deployment works for.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, bail};
use cipherloom_fhe::{KeySet, Manifest};
use cipherloom_store::{ApiKey, KeyPartRecord, KeySetRecord, NewTenant, Tenant, Tenants};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::database::{self, DatabaseOptions};

/// The longest file that is read as an API key, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Add a tenant and print its API key, which is shown this once and cannot be read again.
    Add(AddOptions),
    /// List all tenants.
    List {
        #[command(flatten)]
        common: CommonOptions,
    },
    /// Show a tenant and its key sets.
    Show(OneTenant),
    /// Give a tenant a new API key and print it. The former key ends at once.
    RotateApiKey(KeyOptions),
    /// Store a key set and make it the one that new ciphertexts of a tenant are encrypted under. The secret key stays where it is.
    SetKeys(KeysOptions),
    /// Write a tenant's current key set into a directory, as a worker on another machine needs it.
    FetchKeys(KeysOptions),
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
}

/// Runs one of the commands.
///
/// # Errors
/// If the database cannot be used, a name is taken or unknown, or keys cannot be read.
pub(crate) async fn run(command: TenantCommand) -> Result<()> {
    match command {
        TenantCommand::Add(options) => add(options).await,
        TenantCommand::List { common } => list(&common).await,
        TenantCommand::Show(options) => show(&options).await,
        TenantCommand::RotateApiKey(options) => rotate(&options).await,
        TenantCommand::SetKeys(options) => set_keys(&options).await,
        TenantCommand::FetchKeys(options) => fetch_keys(&options).await,
        TenantCommand::Disable(options) => set_disabled(&options, true).await,
        TenantCommand::Enable(options) => set_disabled(&options, false).await,
        TenantCommand::Remove { tenant, .. } => remove(&tenant).await,
    }
}

async fn add(options: AddOptions) -> Result<()> {
    let OneTenant { name, common } = options.key.tenant;
    let api_key = api_key(options.key.api_key_file.as_deref())?;
    // Keys are read before anything is written.
    let keys = options.keys.as_deref().map(read_keys).transpose()?;
    let tenants = database::tenants(&common.database).await?;
    let new = NewTenant {
        name,
        chain_id: options.chain_id,
        acl: options.acl_contract_address,
        input_verifier: options.verifying_contract_address,
        is_admin: options.admin,
    };
    let tenant = tenants.add_tenant(&new, api_key.digest()).await?;
    if let Some(keys) = keys {
        store_keys(tenants.as_ref(), &tenant, keys).await?;
    }
    print_key(&tenant, &api_key, common.json, "added");
    Ok(())
}

async fn list(common: &CommonOptions) -> Result<()> {
    let all = database::tenants(&common.database).await?.tenants().await?;
    if common.json {
        println!("{}", json!({ "tenants": all.iter().map(describe).collect::<Vec<_>>() }));
        return Ok(());
    }
    for tenant in &all {
        let state = if tenant.disabled { "disabled" } else { "" };
        println!("{:>4}  {:<24} chain {:<12} {state}", tenant.id, tenant.name, tenant.chain_id);
    }
    if all.is_empty() {
        println!("there are no tenants; `cipherloom tenant add` makes one");
    }
    Ok(())
}

async fn show(options: &OneTenant) -> Result<()> {
    let (tenants, tenant) = find(options).await?;
    let key_sets = tenants.key_sets_of(tenant.id).await?;
    if options.common.json {
        let mut description = describe(&tenant);
        let sets = key_sets
            .iter()
            .map(|set| json!({ "id": set.id, "parts": set.parts.iter().map(|part| &part.name).collect::<Vec<_>>() }));
        add_field(&mut description, "keySets", sets.collect());
        println!("{description}");
        return Ok(());
    }
    println!("name                 {}", tenant.name);
    println!("number               {}", tenant.id);
    println!("state                {}", if tenant.disabled { "disabled" } else { "enabled" });
    println!("chain                {}", tenant.chain_id);
    println!("ACL                  {}", tenant.acl.to_checksum(None));
    println!("InputVerifier        {}", tenant.input_verifier.to_checksum(None));
    println!("administrator        {}", if tenant.is_admin { "yes" } else { "no" });
    for (index, set) in key_sets.iter().enumerate() {
        let size: u64 = set.parts.iter().map(|part| part.size_bytes).sum();
        println!(
            "{}  {:x}, {size} bytes",
            if index == 0 { "current key set    " } else { "former key set     " },
            set.id
        );
    }
    if key_sets.is_empty() {
        println!("key sets             none; `cipherloom tenant set-keys` stores one");
    }
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

async fn set_keys(options: &KeysOptions) -> Result<()> {
    let keys = read_keys(&options.keys)?;
    let id = keys.record.id;
    let (tenants, tenant) = find(&options.tenant).await?;
    store_keys(tenants.as_ref(), &tenant, keys).await?;
    report(
        &options.tenant,
        &tenant,
        "keySet",
        &format!("{id:x}"),
        &format!("key set {id:x} is used from now on"),
    );
    Ok(())
}

async fn fetch_keys(options: &KeysOptions) -> Result<()> {
    let (tenants, tenant) = find(&options.tenant).await?;
    let current = tenants
        .key_sets_of(tenant.id)
        .await?
        .into_iter()
        .next()
        .with_context(|| format!("tenant {} has no key set; `cipherloom tenant set-keys` stores one", tenant.name))?;
    std::fs::create_dir(&options.keys).with_context(|| format!("cannot create {}", options.keys.display()))?;
    for part in &current.parts {
        let bytes = tenants
            .key_part(part.digest)
            .await?
            .with_context(|| format!("the database lacks {} of key set {:x}", part.name, current.id))?;
        write(&options.keys.join(plain_name(&part.name)?), &bytes)?;
    }
    // Last, because a directory without it is no key set.
    write(&options.keys.join("manifest.json"), current.manifest.as_bytes())?;
    let opened = KeySet::open(&options.keys).context("what the database holds is not a key set that this software can use")?;
    report(
        &options.tenant,
        &tenant,
        "keySet",
        &opened.manifest().id.to_string(),
        &format!("key set {} is in {}", opened.manifest().id, options.keys.display()),
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

/// A key set read from a directory, without the secret key.
struct Keys {
    record: KeySetRecord,
    parts: Vec<Vec<u8>>,
}

/// Reads a key set. Opening and reading it checks every part.
fn read_keys(directory: &Path) -> Result<Keys> {
    let context = || format!("cannot use the keys in {}", directory.display());
    let key_set = KeySet::open(directory).with_context(context)?;
    key_set.evaluation().with_context(context)?;
    let manifest: &Manifest = key_set.manifest();
    let read = [&manifest.parts.public_key, &manifest.parts.crs, &manifest.parts.evaluation_key].map(|part| {
        let bytes = std::fs::read(directory.join(&part.file)).with_context(|| format!("cannot read {}", part.file))?;
        let record = KeyPartRecord {
            name: part.file.clone(),
            digest: part.sha3_256.parse().with_context(|| format!("the digest of {}", part.file))?,
            size_bytes: part.size_bytes,
        };
        Ok((record, bytes))
    });
    let (parts, bytes) = read.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok(Keys {
        record: KeySetRecord {
            id: B256::from(*manifest.id.as_bytes()),
            manifest: serde_json::to_string_pretty(manifest)?,
            parts,
        },
        parts: bytes,
    })
}

async fn store_keys(tenants: &dyn Tenants, tenant: &Tenant, keys: Keys) -> Result<()> {
    for (part, bytes) in keys.record.parts.iter().zip(&keys.parts) {
        tenants
            .put_key_part(part.digest, bytes)
            .await
            .with_context(|| format!("cannot store {}", part.name))?;
    }
    tenants.put_key_set(&keys.record).await?;
    tenants.attach_key_set(tenant.id, keys.record.id).await?;
    Ok(())
}

/// Refuses a file name that leads out of the directory: the database's writer chose it.
fn plain_name(name: &str) -> Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(_)), None) if name != "secret_key.bin" => Ok(name),
        _ => bail!("the database names a part {name:?}, which is no file of a public key set"),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
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

/// Adds a field to a JSON object.
fn add_field(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

fn describe(tenant: &Tenant) -> Value {
    json!({
        "id": tenant.id.number(),
        "name": tenant.name,
        "chainId": tenant.chain_id,
        "aclContractAddress": tenant.acl.to_checksum(None),
        "verifyingContractAddress": tenant.input_verifier.to_checksum(None),
        "isAdmin": tenant.is_admin,
        "disabled": tenant.disabled,
    })
}
