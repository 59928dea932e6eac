//! Tenants and their keys.

use std::sync::Arc;

use cipherloom_primitives::{Address, B256};
use cipherloom_store::{ApiKey, KeyPartRecord, KeySetRecord, NewTenant, StoreError, Tenants};
use sha3::{Digest, Sha3_256};

fn tenant(name: &str, chain_id: u64) -> NewTenant {
    NewTenant {
        name: name.to_owned(),
        chain_id,
        acl: Address::repeat_byte(3),
        input_verifier: Address::repeat_byte(4),
        is_admin: chain_id == 1,
    }
}

fn key(tag: u8) -> ApiKey {
    ApiKey::from_random([tag; 16])
}

pub(crate) async fn a_tenant_is_found_by_its_key_alone(store: Arc<dyn Tenants>) {
    let first = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    let second = store.add_tenant(&tenant("second", 2), key(2).digest()).await.unwrap();
    assert_eq!((first.name.as_str(), first.chain_id, first.is_admin), ("first", 1, true));
    assert_eq!(
        (first.acl, first.input_verifier),
        (Address::repeat_byte(3), Address::repeat_byte(4))
    );
    assert_eq!(store.tenants().await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.tenant_with_key(key(2).digest()).await.unwrap(), Some(second));
    assert_eq!(store.tenant_with_key(key(3).digest()).await.unwrap(), None);
}

pub(crate) async fn a_name_is_given_once(store: Arc<dyn Tenants>) {
    store.add_tenant(&tenant("name", 1), key(1).digest()).await.unwrap();
    let error = store.add_tenant(&tenant("name", 2), key(2).digest()).await.unwrap_err();
    assert!(matches!(&error, StoreError::TenantExists(name) if name == "name"), "{error}");
    for refused in ["", "two\nlines", &"x".repeat(65)] {
        let error = store.add_tenant(&tenant(refused, 3), key(3).digest()).await.unwrap_err();
        assert!(matches!(error, StoreError::TenantName), "{error}");
    }
    let long = "ü".repeat(64);
    assert_eq!(store.add_tenant(&tenant(&long, 3), key(3).digest()).await.unwrap().name, long);
}

pub(crate) async fn a_replaced_key_ends_at_once(store: Arc<dyn Tenants>) {
    let added = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    store.replace_api_key(added.id, key(2).digest()).await.unwrap();
    assert_eq!(store.tenant_with_key(key(1).digest()).await.unwrap(), None);
    assert_eq!(store.tenant_with_key(key(2).digest()).await.unwrap(), Some(added));
}

pub(crate) async fn a_disabled_tenant_is_not_found_until_it_is_enabled(store: Arc<dyn Tenants>) {
    let added = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    store.set_tenant_disabled(added.id, true).await.unwrap();
    assert_eq!(store.tenant_with_key(key(1).digest()).await.unwrap(), None);
    assert!(store.tenants().await.unwrap()[0].disabled);
    store.set_tenant_disabled(added.id, false).await.unwrap();
    assert_eq!(store.tenant_with_key(key(1).digest()).await.unwrap(), Some(added));
}

pub(crate) async fn a_removed_tenant_is_unknown_to_everything(store: Arc<dyn Tenants>) {
    let added = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    store.remove_tenant(added.id).await.unwrap();
    assert!(store.tenants().await.unwrap().is_empty());
    for result in [
        store.remove_tenant(added.id).await,
        store.set_tenant_disabled(added.id, true).await,
        store.replace_api_key(added.id, key(2).digest()).await,
    ] {
        assert!(matches!(result, Err(StoreError::UnknownTenant(_))));
    }
    // A number is not given again: whoever remembers it does not mean the new tenant.
    assert_ne!(store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap().id, added.id);
}

/// A key set with one small part and one of several chunks, the small one the same for all.
fn key_set(tag: u8) -> (KeySetRecord, Vec<(B256, Vec<u8>)>) {
    let parts = [("evaluation_key.bin", vec![tag; 9 << 20]), ("public_key.bin", vec![0xee; 100])];
    let digest = |bytes: &[u8]| B256::from_slice(&Sha3_256::digest(bytes));
    let records = parts.iter().map(|(name, bytes)| KeyPartRecord {
        name: (*name).to_owned(),
        digest: digest(bytes),
        size_bytes: u64::try_from(bytes.len()).unwrap(),
    });
    let record = KeySetRecord {
        id: B256::repeat_byte(tag),
        manifest: format!("{{\"tag\":{tag}}}"),
        parts: records.collect(),
    };
    (record, parts.into_iter().map(|(_, bytes)| (digest(&bytes), bytes)).collect())
}

pub(crate) async fn key_sets_are_attached_by_id_and_read_once(store: Arc<dyn Tenants>) {
    let first = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    let second = store.add_tenant(&tenant("second", 2), key(2).digest()).await.unwrap();
    for tag in [1, 2] {
        let (record, parts) = key_set(tag);
        // Twice, as by two processes.
        for _ in 0..2 {
            for (digest, bytes) in &parts {
                store.put_key_part(*digest, bytes).await.unwrap();
            }
            store.put_key_set(&record).await.unwrap();
        }
    }
    let [one, two] = [1, 2].map(|tag| key_set(tag).0);
    store.attach_key_set(first.id, one.id).await.unwrap();
    store.attach_key_set(first.id, two.id).await.unwrap();
    store.attach_key_set(second.id, one.id).await.unwrap();
    assert_eq!(store.key_sets_of(first.id).await.unwrap(), [two.clone(), one.clone()]);
    assert_eq!(store.key_sets_of(second.id).await.unwrap(), std::slice::from_ref(&one));
    // Attached again, it is the current one again.
    store.attach_key_set(first.id, one.id).await.unwrap();
    assert_eq!(store.key_sets_of(first.id).await.unwrap(), [one.clone(), two]);

    let (digest, bytes) = key_set(1).1.remove(0);
    let held = store.key_part(digest).await.unwrap().unwrap();
    assert!(held[..] == bytes[..]);
    assert!(
        Arc::ptr_eq(&held, &store.key_part(digest).await.unwrap().unwrap()),
        "the part was read again"
    );
    assert_eq!(store.key_part(B256::ZERO).await.unwrap(), None);
}

pub(crate) async fn a_key_set_of_the_same_id_replaces_the_former_one(store: Arc<dyn Tenants>) {
    let added = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    let (mut record, parts) = key_set(1);
    for (digest, bytes) in parts {
        store.put_key_part(digest, &bytes).await.unwrap();
    }
    store.put_key_set(&record).await.unwrap();
    store.attach_key_set(added.id, record.id).await.unwrap();
    record.manifest = "{\"more\":true}".to_owned();
    record.parts.pop();
    store.put_key_set(&record).await.unwrap();
    assert_eq!(store.key_sets_of(added.id).await.unwrap(), [record]);
}

pub(crate) async fn what_is_unknown_or_wrong_is_not_attached_or_stored(store: Arc<dyn Tenants>) {
    let added = store.add_tenant(&tenant("first", 1), key(1).digest()).await.unwrap();
    let error = store.attach_key_set(added.id, B256::repeat_byte(9)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownKeySet(id) if id == B256::repeat_byte(9)),
        "{error}"
    );
    let error = store.put_key_part(B256::repeat_byte(9), b"other bytes").await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(store.key_part(B256::repeat_byte(9)).await.unwrap(), None);
    let (record, parts) = key_set(1);
    for (digest, bytes) in parts {
        store.put_key_part(digest, &bytes).await.unwrap();
    }
    store.put_key_set(&record).await.unwrap();
    store.remove_tenant(added.id).await.unwrap();
    let error = store.attach_key_set(added.id, record.id).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownTenant(_)), "{error}");
}
