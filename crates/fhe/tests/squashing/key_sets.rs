//! Key sets with noise squashing in their directories.

use std::{fs, path::Path};

use cipherloom_fhe::{FheError, KeySet, KeySetCopy, ParameterSet};
use cipherloom_primitives::{FheType, TypedOperation, U256};
use tempfile::TempDir;

const SECRET: &str = "squashing_secret.bin";

/// A toy key set of its own, with noise squashing.
fn with_squashing() -> (TempDir, KeySet) {
    let parent = tempfile::tempdir().unwrap();
    let keys = KeySet::generate(&parent.path().join("keys"), ParameterSet::InsecureToy, &()).unwrap();
    let keys = keys.add_noise_squashing(&()).unwrap();
    (parent, keys)
}

fn files(directory: &Path) -> Vec<String> {
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort_unstable();
    files
}

fn squash(keys: &KeySet) -> Vec<u8> {
    let operation = TypedOperation::TrivialEncrypt {
        value: U256::from(77),
        ty: FheType::Uint8,
    };
    let value = keys.evaluation().unwrap().evaluate(&operation, &[]).unwrap();
    keys.noise_squasher().unwrap().squash_list(&[&value]).unwrap()
}

#[test]
fn a_key_set_that_is_given_noise_squashing_stays_the_same_otherwise() {
    let parent = tempfile::tempdir().unwrap();
    let before = KeySet::generate(&parent.path().join("keys"), ParameterSet::InsecureToy, &()).unwrap();
    assert!(!before.has_noise_squashing() && before.noise_squasher().is_err() && before.squashing_secrets().is_err());
    let after = before.add_noise_squashing(&()).unwrap();
    assert_eq!(after.manifest().id, before.manifest().id);
    assert_eq!(after.manifest().parts.evaluation_key, before.manifest().parts.evaluation_key);
    assert!(after.manifest().capabilities.noise_squashing && after.has_noise_squashing());
    assert!(after.parts().iter().all(|part| part.is_here && after.check_digest(part).is_ok()));
    assert_eq!(
        files(after.directory()),
        [
            "crs.bin",
            "evaluation_key.bin",
            "manifest.json",
            "public_key.bin",
            "secret_key.bin",
            "squashed_packing_key.bin",
            "squashing_key.bin",
            SECRET
        ]
    );
    // Opened again it squashes to the same bytes, and only the first caller reads the keys.
    let again = KeySet::open(after.directory()).unwrap();
    assert_eq!(squash(&after), squash(&again));
    let held = again.noise_squasher().unwrap();
    assert!(std::sync::Arc::ptr_eq(&held, &again.noise_squasher().unwrap()));
    assert!(matches!(after.add_noise_squashing(&()), Err(FheError::KeyMaterial { reason, .. }) if reason.contains("already")));
}

#[test]
fn copies_have_the_keys_and_never_the_secrets() {
    let (parent, keys) = with_squashing();
    let copied = |name: &str, copy| {
        let target = parent.path().join(name);
        keys.copy_to(&target, copy).unwrap();
        target
    };
    let evaluation = KeySet::open(&copied("evaluation", KeySetCopy::Evaluation)).unwrap();
    assert_eq!(squash(&evaluation), squash(&keys));
    assert!(matches!(evaluation.squashing_secrets(), Err(FheError::KeyFile { .. })));
    assert!(!files(evaluation.directory()).contains(&SECRET.to_owned()));
    assert!(evaluation.add_noise_squashing(&()).is_err());
    let public = KeySet::open_public(&copied("public", KeySetCopy::Public)).unwrap();
    assert!(!public.has_noise_squashing());
    assert_eq!(files(public.directory()), ["crs.bin", "manifest.json", "public_key.bin"]);
}

#[test]
fn a_key_set_for_a_committee_leaves_no_secret_on_disk() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("keys");
    let (keys, secrets) = KeySet::generate_for_committee(&directory, ParameterSet::InsecureToy, &()).unwrap();
    assert!(keys.has_noise_squashing() && !keys.has_secret_key());
    assert!(matches!(keys.squashing_secrets(), Err(FheError::KeyMaterial { .. })));
    assert!(files(&directory).iter().all(|file| !file.contains("secret")));
    let list = squash(&keys);
    assert_eq!(
        secrets.decrypt_list(ParameterSet::InsecureToy, FheType::Uint8, &list).unwrap(),
        U256::from(77)
    );
    let clear = parent.path().join("clear");
    assert!(KeySet::generate_for_committee(&clear, ParameterSet::InsecureClear, &()).is_err());
    assert!(!clear.exists());
}

#[cfg(unix)]
#[test]
fn secrets_are_read_by_their_owner_alone_and_for_their_own_key_set() {
    use std::os::unix::fs::PermissionsExt;
    let (_parent, keys) = with_squashing();
    let path = keys.directory().join(SECRET);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secrets = keys.squashing_secrets().unwrap();
    let decrypted = secrets
        .decrypt_list(ParameterSet::InsecureToy, FheType::Uint8, &squash(&keys))
        .unwrap();
    assert_eq!(decrypted, U256::from(77));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(keys.squashing_secrets(), Err(FheError::KeyMaterial { reason, .. }) if reason.contains("644")));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let (_other_parent, other) = with_squashing();
    fs::copy(other.directory().join(SECRET), &path).unwrap();
    assert!(keys.squashing_secrets().is_err());
}

#[test]
fn damaged_or_missing_keys_and_manifests_that_contradict_themselves_are_refused() {
    let (_parent, keys) = with_squashing();
    let path = keys.directory().join("squashing_key.bin");
    let bytes = fs::read(&path).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(matches!(
        KeySet::open(keys.directory()).unwrap().noise_squasher(),
        Err(FheError::KeyMaterial { .. })
    ));
    fs::remove_file(&path).unwrap();
    assert!(matches!(KeySet::open(keys.directory()), Err(FheError::KeyFile { .. })));
    assert!(!keys.has_noise_squashing());
    fs::write(&path, bytes).unwrap();
    let manifest_path = keys.directory().join("manifest.json");
    let manifest = fs::read_to_string(&manifest_path).unwrap();
    let lying = manifest.replace("\"noise_squashing\": true", "\"noise_squashing\": false");
    assert_ne!(manifest, lying);
    fs::write(&manifest_path, lying).unwrap();
    assert!(matches!(KeySet::open(keys.directory()), Err(FheError::KeyMaterial { .. })));
}

#[test]
fn what_a_killed_process_left_does_not_hinder_the_next_one() {
    let parent = tempfile::tempdir().unwrap();
    let keys = KeySet::generate(&parent.path().join("keys"), ParameterSet::InsecureToy, &()).unwrap();
    // It was killed while it wrote the secret, and when it had written a key: the manifest does not know of either.
    fs::write(keys.directory().join(format!(".{SECRET}.partial")), b"cut sh").unwrap();
    fs::write(keys.directory().join("squashing_key.bin"), b"of another attempt").unwrap();
    assert!(!KeySet::open(keys.directory()).unwrap().has_noise_squashing());
    let keys = keys.add_noise_squashing(&()).unwrap();
    assert!(keys.noise_squasher().is_ok());
    assert!(files(keys.directory()).iter().all(|file| !file.starts_with('.')));
}
