//! A tenant's key sets: stored once however many tenants use them, attached by id, and fetched for other machines.

use std::path::Path;

use alloy::primitives::B256;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_fhe::{KeySet, Manifest, ParameterSet};
use cipherloom_store::{KeyPartRecord, KeySetRecord, Tenant, Tenants};

use super::{KeysOptions, SetKeysOptions, find, report};

/// The fewest digits of an id that are looked up.
const MIN_ID_DIGITS: usize = 8;

/// Stores a key set, or finds one that is stored, and makes it a tenant's current one.
///
/// # Errors
/// If the key set cannot be read or is not there.
pub(super) async fn set(options: &SetKeysOptions) -> Result<()> {
    // Keys are read before anything is written.
    let keys = options.source.keys.as_deref().map(read_keys).transpose()?;
    let (tenants, tenant) = find(&options.tenant).await?;
    let id = match (keys, &options.source.key_set) {
        (Some(keys), _) => store_keys(tenants.as_ref(), &tenant, keys).await?,
        (None, Some(digits)) => attach(tenants.as_ref(), &tenant, digits).await?,
        (None, None) => bail!("say which key set: --keys DIR, or --key-set ID of one that is in the database"),
    };
    report(
        &options.tenant,
        &tenant,
        "keySet",
        &hex::encode(id),
        &format!("key set {id:x} is used from now on"),
    );
    Ok(())
}

/// Attaches a key set that is stored.
async fn attach(tenants: &dyn Tenants, tenant: &Tenant, digits: &str) -> Result<B256> {
    let known = all(tenants).await?;
    let id = resolve(digits, &known)?;
    if let Some(record) = known.iter().find(|record| record.id == id) {
        Manifest::parse(record.manifest.as_bytes()).context("the key set is in the database, and this software cannot use it")?;
    }
    tenants.attach_key_set(tenant.id, id).await.with_context(|| {
        format!(
            "cannot attach it; `cipherloom tenant show NAME` lists the key sets of a tenant{}",
            ids(&known)
        )
    })?;
    Ok(id)
}

/// Lists the key sets of all tenants, each once.
async fn all(tenants: &dyn Tenants) -> Result<Vec<KeySetRecord>> {
    let mut known: Vec<KeySetRecord> = Vec::new();
    for tenant in tenants.tenants().await? {
        for record in tenants.key_sets_of(tenant.id).await? {
            if known.iter().all(|earlier| earlier.id != record.id) {
                known.push(record);
            }
        }
    }
    Ok(known)
}

/// Finds the id that digits stand for: all 64, or the first of one that a tenant has.
fn resolve(digits: &str, known: &[KeySetRecord]) -> Result<B256> {
    let digits = digits.strip_prefix("0x").unwrap_or(digits).to_ascii_lowercase();
    ensure!(
        digits.len() >= MIN_ID_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "a key set's id is 64 hexadecimal digits, of which at least {MIN_ID_DIGITS} are needed"
    );
    if digits.len() == 64 {
        return digits.parse().context("the id cannot be read");
    }
    let matching: Vec<&KeySetRecord> = known.iter().filter(|record| hex::encode(record.id).starts_with(&digits)).collect();
    match matching.as_slice() {
        [one] => Ok(one.id),
        [] => bail!("no tenant has a key set {digits}…{}", ids(known)),
        _ => bail!("several key sets begin with {digits}; give more digits{}", ids(known)),
    }
}

fn ids(known: &[KeySetRecord]) -> String {
    if known.is_empty() {
        return "; the database has none, `cipherloom tenant set-keys NAME --keys DIR` stores one".to_owned();
    }
    let list: Vec<String> = known.iter().map(|record| format!("{:x}", record.id)).collect();
    format!("; tenants have {}", list.join(", "))
}

/// Says which parameters a stored key set has, and whether they hide anything.
pub(super) fn parameters(record: &KeySetRecord) -> String {
    match Manifest::parse(record.manifest.as_bytes()) {
        Err(_) => "unreadable by this version".to_owned(),
        Ok(manifest) => match ParameterSet::from_name(&manifest.parameters) {
            Some(set) if set.is_secure() => manifest.parameters,
            Some(_) => format!("{} (INSECURE)", manifest.parameters),
            None => format!("{} (unknown to this build)", manifest.parameters),
        },
    }
}

/// Writes a tenant's current key set into a directory.
///
/// # Errors
/// If the tenant has none, what is stored is damaged, or the directory is there already.
pub(super) async fn fetch(options: &KeysOptions) -> Result<()> {
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

/// A key set read from a directory, without the secret key.
pub(crate) struct Keys {
    record: KeySetRecord,
    parts: Vec<Vec<u8>>,
}

/// Reads a key set. Opening and reading it checks every part.
///
/// # Errors
/// If the directory holds no key set that can be used.
pub(crate) fn read_keys(directory: &Path) -> Result<Keys> {
    let context = || format!("cannot use the keys in {}", directory.display());
    let key_set = KeySet::open(directory).with_context(context)?;
    key_set.evaluation().with_context(context)?;
    for part in key_set
        .parts()
        .iter()
        .filter(|part| part.role.starts_with("squash") && part.is_here)
    {
        key_set.check_digest(part).with_context(context)?;
    }
    let manifest: &Manifest = key_set.manifest();
    let read = manifest.parts.not_secret().map(|(_, part)| {
        let bytes = std::fs::read(directory.join(&part.file)).with_context(|| format!("cannot read {}", part.file))?;
        let record = KeyPartRecord {
            name: part.file.clone(),
            digest: part.sha3_256.parse().with_context(|| format!("the digest of {}", part.file))?,
            size_bytes: part.size_bytes,
        };
        Ok((record, bytes))
    });
    let (parts, bytes) = read.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok(Keys {
        record: KeySetRecord {
            id: B256::from(*manifest.id.as_bytes()),
            manifest: serde_json::to_string_pretty(manifest)?,
            parts,
        },
        parts: bytes,
    })
}

/// Stores a key set, of which parts that are there already are not written again, and makes it a tenant's current one.
///
/// # Errors
/// If the database fails.
pub(crate) async fn store_keys(tenants: &dyn Tenants, tenant: &Tenant, keys: Keys) -> Result<B256> {
    for (part, bytes) in keys.record.parts.iter().zip(&keys.parts) {
        tenants
            .put_key_part(part.digest, bytes)
            .await
            .with_context(|| format!("cannot store {}", part.name))?;
    }
    tenants.put_key_set(&keys.record).await?;
    tenants.attach_key_set(tenant.id, keys.record.id).await?;
    Ok(keys.record.id)
}

/// Refuses a file name that leads out of the directory: the database's writer chose it.
fn plain_name(name: &str) -> Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(_)), None) if !matches!(name, "secret_key.bin" | "squashing_secret.bin") => Ok(name),
        _ => bail!("the database names a part {name:?}, which is no file of a public key set"),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u8) -> KeySetRecord {
        KeySetRecord {
            id: B256::repeat_byte(id),
            manifest: String::new(),
            parts: Vec::new(),
        }
    }

    #[test]
    fn an_id_is_found_by_its_first_digits() {
        let known = [record(0xaa), record(0xbb)];
        assert_eq!(resolve("aaaaaaaa", &known).unwrap(), B256::repeat_byte(0xaa));
        assert_eq!(resolve("0xBBBBBBBB", &known).unwrap(), B256::repeat_byte(0xbb));
        // A whole id need not belong to a tenant.
        assert_eq!(resolve(&"cc".repeat(32), &known).unwrap(), B256::repeat_byte(0xcc));
        for wrong in ["aa", "cccccccc", "not an id", ""] {
            assert!(resolve(wrong, &known).is_err(), "{wrong}");
        }
        let similar = KeySetRecord {
            id: "aaaaaaaabbbbbbbbccccccccddddddddaaaaaaaabbbbbbbbccccccccdddddddd".parse().unwrap(),
            ..record(0)
        };
        let error = resolve("aaaaaaaa", &[record(0xaa), similar]).unwrap_err().to_string();
        assert!(error.contains("more digits"), "{error}");
    }

    #[test]
    fn file_names_from_a_database_stay_in_the_directory() {
        assert!(plain_name("crs.bin").is_ok());
        for wrong in [
            "../crs.bin",
            "/etc/passwd",
            "a/b",
            "",
            ".",
            "..",
            "secret_key.bin",
            "squashing_secret.bin",
        ] {
            assert!(plain_name(wrong).is_err(), "{wrong}");
        }
    }
}
