//! Tenants: whom a deployment works for, and under which keys.
//!
//! A tenant is one chain under one set of contracts. The seam is [`Tenants`]; both stores implement it. In SQLite a chain has at most one
//! tenant, because the embedded store keeps its rows by chain.
//!
//! **API keys** are random UUIDs, as clients of the 0.6 generation send them. A store keeps their SHA-256 digest alone: the key has 122
//! random bits, so that a digest tells nothing, and a slow hash would only slow down every request.
//!
//! **Key sets** are attached to tenants by their id. Parts of keys are kept once, by digest, however many tenants use them, and are checked
//! against the digest on the way in and on the way out.

use std::sync::Arc;

use cipherloom_primitives::{Address, B256};
use sha2::{Digest, Sha256};
use sha3::Sha3_256;
use zeroize::Zeroizing;

use crate::{Following, StoreError, StoreFuture};

/// The longest name of a tenant, in characters.
pub const MAX_NAME_CHARACTERS: usize = 64;

/// The number of a tenant in its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub(crate) i32);

impl TenantId {
    /// Returns the number, as it stands in the database's `tenants.tenant_id`.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its number.
    pub id: TenantId,
    /// What people call it; unique.
    pub name: String,
    /// Its chain.
    pub chain_id: u64,
    /// The access-control contract of the chain.
    pub acl: Address,
    /// The contract that verifies coprocessors' signatures of inputs: the seed's `verifying_contract_address`.
    pub input_verifier: Address,
    /// Whether it may administrate the deployment.
    pub is_admin: bool,
    /// Whether it is refused everything for now.
    pub disabled: bool,
    /// How much of the deployment it may use.
    pub limits: TenantLimits,
}

/// How much of a deployment a tenant may use. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// How many transactions it may have pending; what it pushes beyond is refused.
    pub max_pending_transactions: Option<u64>,
    /// How many of its transactions may be computed at the same time, by all workers together.
    pub max_concurrent_transactions: Option<u32>,
}

/// A tenant to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTenant {
    /// What people call it: 1 to 64 characters, unique.
    pub name: String,
    /// Its chain.
    pub chain_id: u64,
    /// The access-control contract of the chain.
    pub acl: Address,
    /// The contract that verifies coprocessors' signatures of inputs.
    pub input_verifier: Address,
    /// Whether it may administrate the deployment.
    pub is_admin: bool,
}

impl NewTenant {
    /// Checks what a database would refuse less clearly.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let characters = self.name.chars().count();
        if (1..=MAX_NAME_CHARACTERS).contains(&characters) && !self.name.chars().any(char::is_control) {
            Ok(())
        } else {
            Err(StoreError::TenantName)
        }
    }
}

/// A secret that names a tenant to the server: a UUID in its usual form of 36 characters.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Makes a key of random bytes: a UUID of version 4.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        let digits: Zeroizing<String> = Zeroizing::new(
            bytes
                .iter()
                .fold(String::with_capacity(32), |text, byte| text + &format!("{byte:02x}")),
        );
        let mut text = Zeroizing::new(String::with_capacity(36));
        for (index, digit) in digits.chars().enumerate() {
            if matches!(index, 8 | 12 | 16 | 20) {
                text.push('-');
            }
            text.push(digit);
        }
        Self(text)
    }

    /// Reads a key: 36 characters, upper or lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        well_formed.then(|| Self(Zeroizing::new(text.to_ascii_lowercase())))
    }

    /// Returns the text, to be shown once to whoever owns the tenant.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what is kept of the key.
    #[must_use]
    pub fn digest(&self) -> ApiKeyDigest {
        ApiKeyDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

/// The SHA-256 digest of an API key's 36 characters in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyDigest(pub(crate) [u8; 32]);

impl ApiKeyDigest {
    /// Returns the bytes of the digest, to be compared in constant time.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A key set in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetRecord {
    /// Its id.
    pub id: B256,
    /// Its manifest, as text.
    pub manifest: String,
    /// Its parts.
    pub parts: Vec<KeyPartRecord>,
}

/// A part of a key set: a file of the key set's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPartRecord {
    /// The name of the file.
    pub name: String,
    /// The SHA3-256 digest of its bytes.
    pub digest: B256,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// Fails if bytes do not have a digest and length.
pub(crate) fn check_part(digest: B256, size_bytes: u64, bytes: &[u8]) -> Result<(), StoreError> {
    if u64::try_from(bytes.len()).ok() == Some(size_bytes) && Sha3_256::digest(bytes)[..] == digest[..] {
        Ok(())
    } else {
        Err(StoreError::corrupt(
            "key part",
            format!("its bytes do not have the digest {digest}"),
        ))
    }
}

/// The tenants of a deployment and their keys.
///
/// Every method fails with [`StoreError::Database`] if the database does; other errors are listed per method.
pub trait Tenants: Following {
    /// Adds a tenant.
    ///
    /// # Errors
    /// [`StoreError::TenantExists`] if the name, or in SQLite the chain, is taken; [`StoreError::TenantName`].
    fn add_tenant<'a>(&'a self, tenant: &'a NewTenant, api_key: ApiKeyDigest) -> StoreFuture<'a, Tenant>;

    /// Lists all tenants by number.
    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>>;

    /// Finds the tenant with an API key, the disabled ones excepted.
    fn tenant_with_key(&self, api_key: ApiKeyDigest) -> StoreFuture<'_, Option<Tenant>>;

    /// Gives a tenant another API key. The former one ends at once.
    ///
    /// # Errors
    /// [`StoreError::UnknownTenant`].
    fn replace_api_key(&self, tenant: TenantId, api_key: ApiKeyDigest) -> StoreFuture<'_, ()>;

    /// Disables a tenant or enables it again.
    ///
    /// # Errors
    /// [`StoreError::UnknownTenant`].
    fn set_tenant_disabled(&self, tenant: TenantId, disabled: bool) -> StoreFuture<'_, ()>;

    /// Replaces a tenant's limits.
    ///
    /// # Errors
    /// [`StoreError::UnknownTenant`]; [`StoreError::OutOfRange`] for numbers a database integer cannot hold.
    fn set_tenant_limits(&self, tenant: TenantId, limits: TenantLimits) -> StoreFuture<'_, ()>;

    /// Removes a tenant and everything it has: blocks, inputs, ciphertexts. Key sets stay.
    ///
    /// # Errors
    /// [`StoreError::UnknownTenant`].
    fn remove_tenant(&self, tenant: TenantId) -> StoreFuture<'_, ()>;

    /// Stores a part of a key unless it is there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the bytes do not have the digest.
    fn put_key_part<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()>;

    /// Stores a key set, whose parts are stored. One of the same id is replaced: a key set can be given more capabilities.
    fn put_key_set<'a>(&'a self, key_set: &'a KeySetRecord) -> StoreFuture<'a, ()>;

    /// Makes a stored key set the one that new ciphertexts of a tenant are encrypted under. Those it had before stay attached.
    ///
    /// # Errors
    /// [`StoreError::UnknownTenant`], [`StoreError::UnknownKeySet`].
    fn attach_key_set(&self, tenant: TenantId, key_set: B256) -> StoreFuture<'_, ()>;

    /// Lists the key sets of a tenant, the current one first.
    fn key_sets_of(&self, tenant: TenantId) -> StoreFuture<'_, Vec<KeySetRecord>>;

    /// Returns a part of a key, checked against its digest. Callers in one process share the bytes as long as one of them holds them.
    fn key_part(&self, digest: B256) -> StoreFuture<'_, Option<Arc<[u8]>>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_key_is_a_uuid_of_version_4() {
        let key = ApiKey::from_random([0xff; 16]);
        assert_eq!(key.expose(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(ApiKey::from_random([0; 16]).expose(), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn keys_are_read_in_either_case_and_nothing_else_is() {
        let lower = ApiKey::parse("a1503fb6-d79b-4e9e-826d-44cf262f3e05").unwrap();
        let upper = ApiKey::parse("A1503FB6-D79B-4E9E-826D-44CF262F3E05").unwrap();
        assert!(lower.digest() == upper.digest());
        for wrong in [
            "",
            "a1503fb6d79b4e9e826d44cf262f3e05",
            "a1503fb6-d79b-4e9e-826d-44cf262f3e0g",
            "a1503fb6-d79b-4e9e-826d-44cf262f3e055",
        ] {
            assert!(ApiKey::parse(wrong).is_none(), "{wrong}");
        }
    }
}
