//! What tenants look like, for people and for programs.

use anyhow::Result;
use cipherloom_store::{KeySetRecord, Tenant, TenantLimits, Tenants};
use serde_json::{Value, json};

use super::{CommonOptions, OneTenant, find, following, key_sets};
use crate::database;

/// Prints all tenants.
///
/// # Errors
/// If the database fails.
pub(super) async fn list(common: &CommonOptions) -> Result<()> {
    let tenants = database::tenants(&common.database).await?;
    let all = tenants.tenants().await?;
    let mut rows = Vec::with_capacity(all.len());
    for tenant in &all {
        rows.push((tenant, tenants.key_sets_of(tenant.id).await?));
    }
    if common.json {
        let list: Vec<Value> = rows.iter().map(|(tenant, sets)| with_current(describe(tenant), sets)).collect();
        println!("{}", json!({ "tenants": list }));
        return Ok(());
    }
    if rows.is_empty() {
        println!("there are no tenants; `cipherloom tenant add` makes one");
        return Ok(());
    }
    // Names are as wide as the widest, so that columns stay columns.
    let width = rows.iter().map(|(tenant, _)| tenant.name.chars().count()).max().unwrap_or(0).max(4);
    println!(
        "{:>6}  {:<width$}  {:>12}  {:<8}  {:<16}  {:>11}  {:>10}",
        "number", "name", "chain", "state", "key set", "max pending", "max leased"
    );
    for (tenant, sets) in rows {
        let current = sets.first().map_or_else(|| "none".to_owned(), |set| shorten(&hex::encode(set.id)));
        println!(
            "{:>6}  {:<width$}  {:>12}  {:<8}  {current:<16}  {:>11}  {:>10}",
            tenant.id.number(),
            tenant.name,
            tenant.chain_id,
            state(tenant),
            limit(tenant.limits.max_pending_transactions),
            limit(tenant.limits.max_concurrent_transactions),
        );
    }
    Ok(())
}

/// Prints one tenant with its key sets and limits.
///
/// # Errors
/// If there is none of the name, or the database fails.
pub(super) async fn show(options: &OneTenant) -> Result<()> {
    let (tenants, tenant) = find(options).await?;
    let sets = tenants.key_sets_of(tenant.id).await?;
    let shared = shared_with(tenants.as_ref(), &tenant, &sets).await?;
    let followed = following::of(tenants.as_ref(), &tenant).await?;
    if options.common.json {
        let list: Vec<Value> = sets
            .iter()
            .zip(&shared)
            .enumerate()
            .map(|(index, (set, shared))| {
                json!({
                    "id": set.id,
                    "current": index == 0,
                    "parameters": key_sets::parameters(set),
                    "sizeBytes": size(set),
                    "parts": set.parts.iter().map(|part| &part.name).collect::<Vec<_>>(),
                    "sharedWith": shared,
                })
            })
            .collect();
        let mut description = describe(&tenant);
        add_field(&mut description, "keySets", list.into());
        if let Some((chain, state)) = &followed {
            add_field(&mut description, "following", following::describe(chain, state.as_ref()));
        }
        println!("{description}");
        return Ok(());
    }
    println!("name                 {}", tenant.name);
    println!("number               {}", tenant.id);
    println!("state                {}", state(&tenant));
    println!("chain                {}", tenant.chain_id);
    println!("ACL                  {}", tenant.acl.to_checksum(None));
    println!("InputVerifier        {}", tenant.input_verifier.to_checksum(None));
    println!("administrator        {}", if tenant.is_admin { "yes" } else { "no" });
    println!("pending at most      {}", limit(tenant.limits.max_pending_transactions));
    println!("leased at most       {}", limit(tenant.limits.max_concurrent_transactions));
    for (index, (set, shared)) in sets.iter().zip(&shared).enumerate() {
        let which = if index == 0 { "current key set" } else { "former key set" };
        println!("{which:<20} {:x}", set.id);
        let with = if shared.is_empty() {
            String::new()
        } else {
            format!(", also of {}", shared.join(", "))
        };
        println!("{:<20} {}, {} bytes{with}", "", key_sets::parameters(set), size(set));
    }
    if sets.is_empty() {
        println!("key sets             none; `cipherloom tenant set-keys` stores one");
    }
    if let Some((chain, state)) = &followed {
        following::print(chain, state.as_ref());
    }
    Ok(())
}

/// Names the other tenants of each key set.
async fn shared_with(tenants: &dyn Tenants, tenant: &Tenant, sets: &[KeySetRecord]) -> Result<Vec<Vec<String>>> {
    let mut shared = vec![Vec::new(); sets.len()];
    for other in tenants.tenants().await?.into_iter().filter(|other| other.id != tenant.id) {
        let theirs = tenants.key_sets_of(other.id).await?;
        for (set, names) in sets.iter().zip(&mut shared) {
            if theirs.iter().any(|their| their.id == set.id) {
                names.push(other.name.clone());
            }
        }
    }
    Ok(shared)
}

/// Describes a tenant, without its key sets.
pub(super) fn describe(tenant: &Tenant) -> Value {
    json!({
        "id": tenant.id.number(),
        "name": tenant.name,
        "chainId": tenant.chain_id,
        "aclContractAddress": tenant.acl.to_checksum(None),
        "verifyingContractAddress": tenant.input_verifier.to_checksum(None),
        "isAdmin": tenant.is_admin,
        "disabled": tenant.disabled,
        "limits": limits(&tenant.limits),
    })
}

/// Describes limits; one that is not set is null.
pub(super) fn limits(limits: &TenantLimits) -> Value {
    json!({
        "maxPendingTransactions": limits.max_pending_transactions,
        "maxConcurrentTransactions": limits.max_concurrent_transactions,
    })
}

/// Adds a field to a JSON object.
pub(super) fn add_field(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

fn with_current(mut description: Value, sets: &[KeySetRecord]) -> Value {
    add_field(&mut description, "keySet", json!(sets.first().map(|set| set.id)));
    description
}

const fn state(tenant: &Tenant) -> &'static str {
    if tenant.disabled { "disabled" } else { "enabled" }
}

/// Writes a limit that may not be set.
pub(super) fn limit(limit: Option<impl ToString>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

fn size(set: &KeySetRecord) -> u64 {
    set.parts.iter().fold(0, |sum, part| sum.saturating_add(part.size_bytes))
}

/// The first digits of an id, which tell key sets of one database apart.
fn shorten(digits: &str) -> String {
    digits.chars().take(16).collect()
}
