//! Directories of key sets.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cipherloom_fhe::{FheError, GenerationProgress, KeySet, KeySetId, ParameterSet, insecure_test_keys};
use cipherloom_primitives::FheType;
use tempfile::TempDir;

use crate::fixture::{Fixture, Random, TOY, metadata, values};

pub(crate) const PARTS: [&str; 4] = ["public_key.bin", "crs.bin", "evaluation_key.bin", "secret_key.bin"];

/// Writes a clear key set, which takes a moment where a toy one takes seconds.
pub(crate) fn clear_set() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("keys");
    KeySet::generate(&directory, ParameterSet::InsecureClear, &()).unwrap();
    (parent, directory)
}

/// Copies the cached toy key set, to be tampered with.
pub(crate) fn toy_set() -> (TempDir, PathBuf) {
    let cached = insecure_test_keys().unwrap();
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("keys");
    fs::create_dir(&directory).unwrap();
    for file in PARTS.into_iter().chain(["manifest.json"]) {
        fs::copy(cached.directory().join(file), directory.join(file)).unwrap();
    }
    (parent, directory)
}

/// Opens a key set and reads all of it.
pub(crate) fn use_all(directory: &Path) -> Result<(), FheError> {
    let keys = KeySet::open(directory)?;
    keys.evaluation()?;
    keys.decryptor()?;
    keys.encryptor()?;
    Ok(())
}

#[test]
fn a_key_set_computes_the_same_after_it_was_opened_again() {
    for (_parent, directory) in [clear_set(), toy_set()] {
        let first = Fixture::new("first", Arc::new(KeySet::open(&directory).unwrap()));
        let second = Fixture::new("second", Arc::new(KeySet::open(&directory).unwrap()));
        assert_eq!(second.through_everything(&first.list, &metadata()), values());
        assert_eq!(first.keys.manifest(), second.keys.manifest());
    }
}

#[test]
fn the_manifest_says_what_is_there() {
    let (_parent, directory) = toy_set();
    let keys = KeySet::open(&directory).unwrap();
    let manifest = keys.manifest();
    assert_eq!(keys.parameters(), ParameterSet::InsecureToy);
    assert_eq!(manifest.parameters, "insecure-toy");
    assert!(manifest.capabilities.dedicated_random_key && !manifest.capabilities.noise_squashing);
    let parts = &manifest.parts;
    for part in [&parts.public_key, &parts.crs, &parts.evaluation_key, &parts.secret_key] {
        assert_eq!(
            fs::metadata(directory.join(&part.file)).unwrap().len(),
            part.size_bytes,
            "{}",
            part.file
        );
    }
    assert_eq!(&*keys.public_key(), fs::read(directory.join("public_key.bin")).unwrap());
    assert_eq!(&*keys.crs(), fs::read(directory.join("crs.bin")).unwrap());
}

#[test]
fn two_key_sets_have_different_ids() {
    let (_a, first) = clear_set();
    let (_b, second) = clear_set();
    assert_ne!(
        KeySet::open(&first).unwrap().manifest().id,
        KeySet::open(&second).unwrap().manifest().id
    );
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_secret_key() {
    use std::os::unix::fs::PermissionsExt;
    let (_parent, directory) = clear_set();
    let secret = directory.join("secret_key.bin");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&secret), 0o600);
    assert_eq!(mode(&directory), 0o700);

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = KeySet::open(&directory).unwrap().decryptor().map(|_| ());
    assert!(
        matches!(&refused, Err(FheError::KeyMaterial { reason, .. }) if reason.contains("640")),
        "{refused:?}"
    );
}

#[test]
fn a_directory_without_the_secret_key_computes_but_does_not_decrypt() {
    for (_parent, directory) in [clear_set(), toy_set()] {
        fs::remove_file(directory.join("secret_key.bin")).unwrap();
        let keys = KeySet::open(&directory).unwrap();
        assert!(!keys.has_secret_key());
        let backend = keys.evaluation().unwrap();
        let list = keys.encryptor().unwrap().encrypt(&[values()[0]], &metadata()).unwrap();
        assert_eq!(backend.verify_input(&list, &metadata()).unwrap().types, [FheType::Bool]);
        assert!(matches!(keys.decryptor(), Err(FheError::KeyFile { .. })));
    }
}

#[test]
fn a_generation_that_was_killed_leaves_no_key_set_and_is_cleaned_up() {
    let (parent, directory) = clear_set();
    // What a kill in the middle of writing leaves: some files under the other name, the lock file, no directory.
    let partial = parent.path().join(".keys.partial-0123456789abcdef");
    fs::rename(&directory, &partial).unwrap();
    fs::remove_file(partial.join("manifest.json")).unwrap();
    assert!(matches!(KeySet::open(&directory), Err(FheError::KeyFile { .. })));

    let keys = KeySet::open_or_generate(&directory, ParameterSet::InsecureClear, &()).unwrap();
    assert!(!partial.exists());
    keys.evaluation().unwrap();
    let mut names: Vec<_> = fs::read_dir(parent.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [".keys.lock", "keys"]);
}

/// Names the directory that [`generation_in_a_process_of_its_own`] generates into.
const GENERATE_INTO: &str = "CIPHERLOOM_TEST_GENERATE_INTO";

/// Does nothing in a test run; the next test starts it with the variable set, and kills it.
#[test]
fn generation_in_a_process_of_its_own() {
    if let Some(directory) = std::env::var_os(GENERATE_INTO) {
        KeySet::generate(Path::new(&directory), ParameterSet::InsecureClear, &()).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_a_whole_key_set_or_none() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("keys");
    let mut random = Random(0x6b69_6c6c);
    let partial = || {
        let names = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().contains("partial")).count()
    };
    let (mut whole, mut interrupted) = (0, 0);
    for round in 0..30 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "key_sets::generation_in_a_process_of_its_own"])
            .env(GENERATE_INTO, &directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Kills it at a random time after it began to write, or, every third time, after it began at all.
        let left_before = partial();
        while round % 3 != 0 && partial() == left_before && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let (begin, lifetime) = (Instant::now(), Duration::from_micros(random.next() % 2_500));
        while begin.elapsed() < lifetime && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert!(partial() <= 1, "round {round}: what earlier rounds left was not removed");
        interrupted += partial();
        if directory.exists() {
            use_all(&directory).unwrap_or_else(|error| panic!("round {round}, killed after {lifetime:?}: {error}"));
            fs::remove_dir_all(&directory).unwrap();
            whole += 1;
        }
    }
    println!("of 30 processes, {interrupted} were killed while they wrote, {whole} after");
    KeySet::open_or_generate(&directory, ParameterSet::InsecureClear, &()).unwrap();
    assert_eq!(
        fs::read_dir(parent.path()).unwrap().count(),
        2,
        "the lock and the key set, nothing partial"
    );
}

#[test]
fn generation_does_not_overwrite_anything() {
    let (_parent, directory) = clear_set();
    let before = fs::read(directory.join("manifest.json")).unwrap();
    assert!(matches!(
        KeySet::generate(&directory, ParameterSet::InsecureClear, &()),
        Err(FheError::KeyMaterial { .. })
    ));
    assert_eq!(fs::read(directory.join("manifest.json")).unwrap(), before);

    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("letter.txt"), "dear").unwrap();
    assert!(KeySet::open_or_generate(elsewhere.path(), ParameterSet::InsecureClear, &()).is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn an_existing_set_of_other_parameters_is_not_taken_for_the_one_asked_for() {
    let (_parent, directory) = clear_set();
    let result = KeySet::open_or_generate(&directory, ParameterSet::InsecureToy, &()).map(|_| ());
    assert!(
        matches!(&result, Err(FheError::KeyMaterial { reason, .. }) if reason.contains("insecure-clear")),
        "{result:?}"
    );
}

#[test]
fn processes_that_start_at_once_share_one_key_set() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/down/keys");
    let ids: Vec<_> = std::thread::scope(|scope| {
        let open = || {
            KeySet::open_or_generate(&directory, ParameterSet::InsecureClear, &())
                .unwrap()
                .manifest()
                .id
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[test]
fn generation_reports_every_stage_in_order() {
    #[derive(Default)]
    struct Stages(Mutex<Vec<(usize, usize, f32)>>, Mutex<bool>);
    impl GenerationProgress for Stages {
        fn stage(&self, name: &str, index: usize, total: usize, estimated_share: f32) {
            assert!(!name.is_empty());
            self.0.lock().unwrap().push((index, total, estimated_share));
        }
        fn finished(&self) {
            *self.1.lock().unwrap() = true;
        }
    }
    let parent = tempfile::tempdir().unwrap();
    let stages = Stages::default();
    KeySet::generate(&parent.path().join("keys"), ParameterSet::InsecureToy, &stages).unwrap();
    let seen = stages.0.into_inner().unwrap();
    assert!(
        seen.iter()
            .enumerate()
            .all(|(at, (index, total, _))| at == *index && *total == seen.len()),
        "{seen:?}"
    );
    assert!(
        (seen.iter().map(|(_, _, share)| share).sum::<f32>() - 1.0).abs() < 0.001,
        "{seen:?}"
    );
    assert!(stages.1.into_inner().unwrap());
}

#[test]
fn the_evaluation_key_is_read_once() {
    let keys = &TOY.keys;
    assert!(Arc::ptr_eq(&keys.evaluation().unwrap(), &keys.evaluation().unwrap()));
}

#[test]
fn ids_are_read_as_they_are_written_and_nothing_else_is() {
    let id = KeySetId::of(ParameterSet::InsecureClear, b"public key", b"reference string");
    let text = id.to_string();
    assert_eq!(text.parse::<KeySetId>().unwrap(), id);
    assert_eq!(text.to_uppercase().parse::<KeySetId>().unwrap(), id);
    for wrong in [
        "",
        &text[1..],
        &format!("{text}0"),
        &format!("0x{text}"),
        &text.replace(&text[..1], "g"),
        &format!(" {}", &text[1..]),
    ] {
        assert!(matches!(wrong.parse::<KeySetId>(), Err(FheError::KeySetId)), "{wrong:?}");
    }
}
