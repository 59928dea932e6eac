//! Tenants and their keys.

use alloy::primitives::B256;
use cipherloom_fhe::{Manifest, ParameterSet};
use cipherloom_service::report::{Level, Report};
use cipherloom_store::{Database, KeySetRecord, Tenant};

use super::DoctorOptions;

const AREA: &str = "tenants";
const KEYS: &str = "keys";

/// The largest part of a key that is read without --deep: public keys and reference strings, and no evaluation key.
const SMALL_PART_BYTES: u64 = 16 << 20;

/// A tenant and the key sets it has, the current one first.
pub(super) struct Found {
    pub(super) tenant: Tenant,
    pub(super) key_sets: Vec<KeySetRecord>,
    /// What the current one is, if this build can use it.
    pub(super) parameters: Option<ParameterSet>,
}

impl Found {
    /// The current key set if it takes real memory.
    pub(super) fn real_key_set(&self) -> Option<B256> {
        self.parameters
            .filter(|set| set.is_secure())
            .and(self.key_sets.first().map(|set| set.id))
    }
}

/// Looks at every tenant.
pub(super) async fn check(database: &dyn Database, options: &DoctorOptions, report: &mut Report) -> Vec<Found> {
    let tenants = match database.tenants().await {
        Ok(tenants) => tenants,
        Err(error) => {
            report.fail(
                AREA,
                format!("they cannot be read: {error}"),
                "bring the database's schema up to date: cipherloom db migrate",
            );
            return Vec::new();
        }
    };
    if tenants.is_empty() {
        report.fail(
            AREA,
            "there are none, so every request is refused",
            "cipherloom tenant add NAME --chain-id ID --acl-contract-address 0x… --verifying-contract-address 0x… --keys DIR",
        );
    }
    let several = tenants.len() > 1;
    let mut found = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        match database.key_sets_of(tenant.id).await {
            Ok(key_sets) => found.push(check_tenant(tenant, key_sets, several, options, report)),
            Err(error) => report.fail(
                KEYS,
                format!("tenant {}: they cannot be read: {error}", tenant.name),
                "look at the database's log",
            ),
        }
    }
    check_parts(database, &found, options.deep, report).await;
    found
}

fn check_tenant(tenant: Tenant, key_sets: Vec<KeySetRecord>, several: bool, options: &DoctorOptions, report: &mut Report) -> Found {
    let name = &tenant.name;
    if tenant.disabled {
        report.warn(
            AREA,
            format!("{name} is disabled: its requests are refused and its work waits"),
            format!("cipherloom tenant enable {name}, or tenant remove {name} if it is gone for good"),
        );
    } else if several && tenant.limits.max_pending_transactions.is_none() {
        report.warn(
            AREA,
            format!("{name} has no limit of pending transactions, so that it can fill the database that others use too"),
            format!("cipherloom tenant set-limits {name} --max-pending-transactions 100000"),
        );
    } else {
        report.ok(AREA, format!("{name}, chain {}", tenant.chain_id));
    }
    let parameters = key_sets
        .first()
        .and_then(|current| check_key_set(&tenant, current, options, report));
    if key_sets.is_empty() {
        report.fail(
            KEYS,
            format!("tenant {name} has no key set, so that its requests are refused"),
            format!("cipherloom tenant set-keys {name} --keys DIR; `cipherloom keys generate DIR` makes one"),
        );
    }
    Found {
        tenant,
        key_sets,
        parameters,
    }
}

/// Says whether this build can use a key set, and whether it should.
fn check_key_set(tenant: &Tenant, record: &KeySetRecord, options: &DoctorOptions, report: &mut Report) -> Option<ParameterSet> {
    let (name, id) = (&tenant.name, &record.id);
    let manifest = match Manifest::parse(record.manifest.as_bytes()) {
        Ok(manifest) => manifest,
        Err(error) => {
            report.fail(
                KEYS,
                format!("tenant {name}: key set {id:x} cannot be used by this version: {error}"),
                format!("cipherloom tenant set-keys {name} --keys DIR with a key set of this version"),
            );
            return None;
        }
    };
    let Some(parameters) = ParameterSet::from_name(&manifest.parameters) else {
        report.fail(
            KEYS,
            format!(
                "tenant {name}: key set {id:x} has parameters {:?}, which this build does not know",
                manifest.parameters
            ),
            "use a build that knows them; insecure ones are left out of builds with --no-default-features",
        );
        return None;
    };
    if manifest.id.as_bytes() != id.as_slice() {
        report.fail(
            KEYS,
            format!("tenant {name}: the manifest of key set {id:x} is of another one"),
            "somebody changed the database; attach the key set again from its directory",
        );
        return None;
    }
    let allowed = options.coprocessor.insecure_keys;
    match (parameters.is_secure(), allowed) {
        (true, _) => report.ok(KEYS, format!("tenant {name}: key set {id:x}, {parameters}")),
        (false, true) => report.warn(
            KEYS,
            format!("tenant {name}: INSECURE key set {id:x}, {parameters}, allowed by --insecure-keys"),
            "never for values that somebody wants to hide",
        ),
        (false, false) => report.fail(
            KEYS,
            format!("tenant {name}: key set {id:x} is {parameters}, which hides nothing, so that the tenant is refused"),
            format!("cipherloom tenant set-keys {name} --keys DIR with production keys; --insecure-keys serves it anyway, for tests"),
        ),
    }
    Some(parameters)
}

/// Reads key parts, which checks their digests: the small ones of current key sets, or all.
async fn check_parts(database: &dyn Database, found: &[Found], deep: bool, report: &mut Report) {
    let sets = found
        .iter()
        .flat_map(|found| found.key_sets.iter().take(if deep { usize::MAX } else { 1 }));
    let mut parts: Vec<(B256, &str, u64, B256)> = sets
        .flat_map(|set| {
            set.parts
                .iter()
                .map(|part| (part.digest, part.name.as_str(), part.size_bytes, set.id))
        })
        .filter(|(_, _, size, _)| deep || *size <= SMALL_PART_BYTES)
        .collect();
    // A part that several key sets share is read once.
    parts.sort_unstable();
    parts.dedup_by_key(|(digest, ..)| *digest);
    if parts.is_empty() {
        return;
    }
    let mut right = 0usize;
    for (digest, name, _, set) in &parts {
        let problem = match database.key_part(*digest).await {
            Ok(Some(_)) => {
                right += 1;
                continue;
            }
            Ok(None) => "is not in the database".to_owned(),
            Err(error) => format!("cannot be used: {error}"),
        };
        report.fail(
            KEYS,
            format!("{name} of key set {set:x} {problem}"),
            "cipherloom tenant set-keys NAME --keys DIR stores it again from the key set's directory",
        );
    }
    report.expect(
        KEYS,
        right == parts.len(),
        format!(
            "{right} parts of keys were read and have their digests{}",
            if deep {
                ""
            } else {
                "; --deep reads evaluation keys and former key sets too"
            }
        ),
        (
            Level::Fail,
            format!("{} of {} parts of keys cannot be used", parts.len() - right, parts.len()),
            "restore them from a backup of the key sets' directories".to_owned(),
        ),
    );
}
