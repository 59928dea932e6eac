//! The keys that a party of native chains squashes with: without secrets, and those that the record of its share names, whatever lies in the directory.

use std::{fs, path::Path, sync::Arc};

use alloy::primitives::Bytes;
use cipherloom_ceremony::{Core, Material, Record, Seats};
use cipherloom_fhe::{KeySet, KeySetCopy, ParameterSet, insecure_test_keys, insecure_test_keys_with_squashing};
use cipherloom_kms::SquashingKeys as _;
use cipherloom_kms_node::key_set::RecordedKeys;
use cipherloom_primitives::B256;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A copy of the toy key set without its secrets.
fn copy() -> (TempDir, Arc<KeySet>) {
    let (directory, keys) = (tempfile::tempdir().unwrap(), insecure_test_keys_with_squashing().unwrap());
    keys.copy_to(&directory.path().join("keys"), KeySetCopy::Evaluation).unwrap();
    (directory, keys)
}

/// The record of a ceremony that dealt a key set, with what it says of the public files.
fn record(keys: &KeySet) -> Record {
    let material = keys.parts().into_iter().filter(|part| !part.role.contains("secret")).map(|part| {
        let bytes = fs::read(keys.directory().join(&part.part.file)).unwrap();
        Material {
            name: part.part.file.clone(),
            digest: B256::from_slice(&Sha256::digest(&bytes)),
            size_bytes: part.part.size_bytes,
        }
    });
    Record {
        core: Core {
            version: 1,
            nonce: B256::ZERO,
            chain_id: 31338,
            parameters: ParameterSet::InsecureToy.name().to_owned(),
            seats: Seats {
                context: B256::ZERO,
                epoch: B256::ZERO,
                threshold: 1,
                members: Vec::new(),
            },
            previous: None,
            dealer: None,
            cards: Vec::new(),
            key_id: B256::from(*keys.manifest().id.as_bytes()),
            manifest: Bytes::new(),
            material: material.collect(),
            known: Vec::new(),
            broadcasts: B256::ZERO,
        },
        dealer_evidence: None,
        acceptances: Vec::new(),
    }
}

fn refusal(directory: &Path) -> String {
    match RecordedKeys::open(directory) {
        Ok(_) => panic!("{} was taken", directory.display()),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn keys_that_the_record_names_squash() {
    let (directory, keys) = copy();
    let taken = RecordedKeys::open(&directory.path().join("keys")).unwrap();
    let record = Arc::new(record(&keys));
    taken.compare(&record).unwrap();
    let Err(reason) = taken.open() else {
        panic!("no record names them yet")
    };
    assert!(reason.contains("no record"), "{reason}");
    taken.take_record(&record);
    let opened = taken.open().unwrap();
    assert!(opened.backend.evaluation_keys().is_some());
    assert_eq!((taken.id(), taken.parameters()), (record.core.key_id, ParameterSet::InsecureToy));
}

#[test]
fn a_key_that_was_exchanged_is_not_used_though_the_directory_is_whole() {
    for name in ["evaluation_key.bin", "squashing_key.bin", "squashed_packing_key.bin"] {
        let (directory, keys) = copy();
        let taken = RecordedKeys::open(&directory.path().join("keys")).unwrap();
        // To the record it is as if the file were another one of the same size, manifest and all.
        let mut other = record(&keys);
        for material in &mut other.core.material {
            if material.name == name {
                material.digest.0[0] ^= 1;
            }
        }
        taken.compare(&other).unwrap();
        taken.take_record(&Arc::new(other));
        let Err(reason) = taken.open() else { panic!("{name} was used") };
        assert!(reason.contains(name) && reason.contains("exchanged"), "{reason}");

        // A byte that was changed after the start.
        taken.take_record(&Arc::new(record(&keys)));
        taken.open().unwrap();
        let path = directory.path().join("keys").join(name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let Err(reason) = taken.open() else { panic!("{name} was used") };
        assert!(reason.contains("exchanged"), "{reason}");
    }
}

#[test]
fn a_record_that_does_not_name_the_keys_is_found_before_they_are_read() {
    let (directory, keys) = copy();
    let taken = RecordedKeys::open(&directory.path().join("keys")).unwrap();
    let mut unnamed = record(&keys);
    unnamed.core.material.retain(|material| material.name != "squashing_key.bin");
    let mut longer = record(&keys);
    longer.core.material.iter_mut().for_each(|material| material.size_bytes += 1);
    let mut foreign = record(&keys);
    foreign.core.key_id = B256::repeat_byte(1);
    for (record, why) in [(&unnamed, "does not name"), (&longer, "another key"), (&foreign, "of key set")] {
        let refused = format!("{:#}", taken.compare(record).unwrap_err());
        assert!(refused.contains(why), "{refused}");
    }
    // Records of other keys change nothing.
    taken.take_record(&Arc::new(record(&keys)));
    taken.take_record(&Arc::new(foreign));
    taken.open().unwrap();
}

#[test]
fn a_directory_with_anything_secret_is_refused() {
    let refused = refusal(insecure_test_keys_with_squashing().unwrap().directory());
    assert!(refused.contains("must not have the whole key"), "{refused}");
    assert!(
        refused.contains("secret_key.bin") && refused.contains("squashing_secret.bin"),
        "{refused}"
    );
    // Under another name, too.
    let (directory, _) = copy();
    let keys = directory.path().join("keys");
    fs::write(keys.join("secret_key.bin.old"), b"whatever").unwrap();
    let refused = refusal(&keys);
    assert!(refused.contains("secret_key.bin.old"), "{refused}");
}

#[test]
fn a_key_set_that_cannot_squash_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let without = directory.path().join("without");
    insecure_test_keys().unwrap().copy_to(&without, KeySetCopy::Evaluation).unwrap();
    let refused = refusal(&without);
    assert!(refused.contains("no keys of noise squashing"), "{refused}");
    // Not even a key set.
    assert!(refusal(directory.path()).contains("cannot use the keys"));
}
