//! Key sets whose files were changed, cut, swapped or removed.

use std::{fs, path::Path};

use cipherloom_fhe::{FheError, Manifest, ParameterSet};

use crate::key_sets::{PARTS, clear_set, toy_set, use_all};

fn edit_manifest(directory: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = directory.join("manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

fn is_key_error(result: &Result<(), FheError>) -> bool {
    matches!(result, Err(FheError::KeyMaterial { .. } | FheError::KeyFile { .. }))
}

#[test]
fn a_part_with_one_flipped_bit_is_refused() {
    for (_parent, directory) in [clear_set(), toy_set()] {
        for part in PARTS {
            let path = directory.join(part);
            let good = fs::read(&path).unwrap();
            for at in [0, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                fs::write(&path, bad).unwrap();
                let result = use_all(&directory);
                assert!(
                    matches!(result, Err(FheError::KeyMaterial { .. })),
                    "{part} with byte {at} changed: {result:?}"
                );
            }
            fs::write(&path, good).unwrap();
        }
        use_all(&directory).unwrap();
    }
}

#[test]
fn a_part_that_is_cut_short_extended_swapped_or_gone_is_refused() {
    for (_parent, directory) in [clear_set(), toy_set()] {
        for part in PARTS {
            let path = directory.join(part);
            let good = fs::read(&path).unwrap();
            let other = fs::read(directory.join(PARTS[usize::from(part == PARTS[0])])).unwrap();
            for bad in [&good[..good.len() - 1], &[], &[&good[..], &[0]].concat(), &other] {
                fs::write(&path, bad).unwrap();
                let result = use_all(&directory);
                assert!(is_key_error(&result), "{part} of {} bytes: {result:?}", bad.len());
            }
            fs::remove_file(&path).unwrap();
            assert!(matches!(use_all(&directory), Err(FheError::KeyFile { .. })), "{part} missing");
            fs::write(&path, &good).unwrap();
            #[cfg(unix)]
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        use_all(&directory).unwrap();
    }
}

/// A tampered part with a manifest that was tampered with to match.
#[test]
fn a_part_that_matches_its_digest_but_is_no_key_is_refused() {
    use sha3::{Digest, Sha3_256};
    let (_parent, directory) = toy_set();
    for (field, part) in [("evaluation_key", "evaluation_key.bin"), ("secret_key", "secret_key.bin")] {
        let path = directory.join(part);
        let good = fs::read(&path).unwrap();
        let manifest = fs::read(directory.join("manifest.json")).unwrap();
        for at in [0, 60, good.len() / 2, good.len() - 5] {
            let mut bad = good.clone();
            bad.truncate(at);
            fs::write(&path, &bad).unwrap();
            edit_manifest(&directory, |manifest| {
                manifest["parts"][field]["size_bytes"] = bad.len().into();
                let digest: String = Sha3_256::digest(&bad).iter().map(|byte| format!("{byte:02x}")).collect();
                manifest["parts"][field]["sha3_256"] = digest.into();
            });
            let result = use_all(&directory);
            assert!(
                matches!(result, Err(FheError::KeyMaterial { .. })),
                "{part} of {at} bytes: {result:?}"
            );
            fs::write(directory.join("manifest.json"), &manifest).unwrap();
        }
        fs::write(&path, &good).unwrap();
    }
    use_all(&directory).unwrap();
}

#[test]
fn a_tampered_manifest_is_refused() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 14] = [
        ("another id", |m| m["id"] = "00".repeat(32).into()),
        ("an id that is none", |m| m["id"] = "xyz".into()),
        ("another parameter set", |m| {
            m["parameters"] = ParameterSet::Production.name().into()
        }),
        ("an unknown parameter set", |m| m["parameters"] = "best".into()),
        ("a future format", |m| m["format"] = 3.into()),
        ("a format without packing keys", |m| m["format"] = 1.into()),
        ("a window that is no number", |m| m["hot_window_blocks"] = (-1).into()),
        ("an unknown field", |m| m["extra"] = true.into()),
        ("a missing field", |m| drop(m.as_object_mut().unwrap().remove("capabilities"))),
        ("a path as file name", |m| m["parts"]["crs"]["file"] = "../keys/crs.bin".into()),
        ("an absolute file name", |m| m["parts"]["secret_key"]["file"] = "/etc/passwd".into()),
        ("an empty file name", |m| m["parts"]["public_key"]["file"] = "".into()),
        ("a giant size", |m| m["parts"]["evaluation_key"]["size_bytes"] = u64::MAX.into()),
        ("another digest", |m| m["parts"]["crs"]["sha3_256"] = "00".repeat(32).into()),
    ];
    for (what, edit) in edits {
        for (_parent, directory) in [clear_set(), toy_set()] {
            edit_manifest(&directory, edit);
            let result = use_all(&directory);
            assert!(matches!(result, Err(FheError::KeyMaterial { .. })), "{what}: {result:?}");
        }
    }
}

#[test]
fn what_is_no_manifest_is_refused() {
    let (_parent, directory) = clear_set();
    for bad in [&b""[..], b"{}", b"null", b"[1,2", &[0xff; 40], &vec![b' '; 1 << 17]] {
        fs::write(directory.join("manifest.json"), bad).unwrap();
        assert!(matches!(use_all(&directory), Err(FheError::KeyMaterial { .. })));
        assert!(bad.len() > 1 << 16 || Manifest::parse(bad).is_err());
    }
}
