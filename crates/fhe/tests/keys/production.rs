//! A few tests on production parameters. The key set is generated once per machine.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, LazyLock},
    time::Instant,
};

use cipherloom_fhe::{CpuBackend, FheBackend, FheError, KeySet, ParameterSet, production_test_keys};
use cipherloom_primitives::{B256, FheType, U256, input::InputMetadata};
use sha3::{Digest, Sha3_256};

use crate::fixture::{Fixture, metadata, values};

static PRODUCTION: LazyLock<Fixture> = LazyLock::new(|| Fixture::new("production", production_test_keys().unwrap()));

#[test]
fn production_values_of_every_type_arrive() {
    assert_eq!(PRODUCTION.through_everything(&PRODUCTION.list, &metadata()), values());
}

#[test]
fn production_lists_are_bound_to_their_metadata_and_intact() {
    let wrong = InputMetadata { chain_id: 1, ..metadata() };
    assert!(matches!(
        PRODUCTION.backend.verify_input(&PRODUCTION.list, &wrong),
        Err(FheError::InvalidProof)
    ));
    for at in [51, 4000, PRODUCTION.list.len() / 2, PRODUCTION.list.len() - 100] {
        let mut list = PRODUCTION.list.clone();
        list[at] ^= 1;
        assert!(PRODUCTION.backend.verify_input(&list, &metadata()).is_err(), "byte {at}");
    }
}

#[test]
fn production_key_material_has_the_sizes_clients_know() {
    assert_eq!(PRODUCTION.keys.parameters(), ParameterSet::Production);
    assert_eq!(PRODUCTION.keys.public_key().len(), 33_018);
    assert_eq!(PRODUCTION.keys.crs().len(), 4_571_368);
    let ciphertexts = PRODUCTION.backend.expand_input(&PRODUCTION.list).unwrap();
    let uint64 = ciphertexts.iter().find(|value| value.fhe_type() == FheType::Uint64).unwrap();
    assert_eq!(PRODUCTION.backend.serialize(uint64).unwrap().len(), 524_624);
}

#[test]
fn toy_and_production_ciphertexts_are_told_apart() {
    let toy = &*crate::fixture::TOY;
    let toy_list = toy.encryptor.encrypt(&[(FheType::Uint8, U256::from(1))], &metadata()).unwrap();
    assert!(matches!(
        PRODUCTION.backend.verify_input(&toy_list, &metadata()),
        Err(FheError::MalformedInput(_))
    ));
    let toy_value = &toy.backend.expand_input(&toy_list).unwrap()[0];
    assert!(matches!(
        PRODUCTION.backend.serialize(toy_value),
        Err(FheError::MalformedCiphertext { .. })
    ));
}

/// A second start has ten seconds until it computes. On an idle machine this takes one.
#[test]
fn a_production_key_set_opens_within_seconds() {
    let directory = PRODUCTION.keys.directory().to_owned();
    let begin = Instant::now();
    let keys = Arc::new(KeySet::open(&directory).unwrap());
    keys.evaluation().unwrap();
    assert!(begin.elapsed().as_secs_f64() < 10.0, "{:?}", begin.elapsed());
}

/// Names the file that [`boundary_bytes_in_a_process_of_its_own`] writes, and the list it expands, which has the same name with `.list`.
const DIGEST_FILE: &str = "CIPHERLOOM_TEST_BOUNDARY_DIGEST";

/// Expands a value, packs, unpacks and re-randomises it, and digests all that comes of it.
fn boundary_digest(backend: &dyn FheBackend, list: &[u8]) -> String {
    let mut hasher = Sha3_256::new();
    let mut value = backend.expand_values(list, &[1]).unwrap().remove(0);
    hasher.update(backend.serialize(&value).unwrap());
    let packed = backend.pack(&value).unwrap();
    hasher.update(&packed);
    hasher.update(backend.serialize(&backend.unpack(value.fhe_type(), &packed).unwrap()).unwrap());
    backend.rerandomise(&mut value, &B256::repeat_byte(3)).unwrap();
    hasher.update(backend.serialize(&value).unwrap());
    format!("{:x?}", hasher.finalize())
}

/// Does nothing in a test run; the next test starts it with the variable set.
#[test]
fn boundary_bytes_in_a_process_of_its_own() {
    if let Some(file) = std::env::var_os(DIGEST_FILE).map(PathBuf::from) {
        let list = std::fs::read(file.with_extension("list")).unwrap();
        let keys = production_test_keys().unwrap();
        std::fs::write(file, boundary_digest(keys.evaluation().unwrap().as_ref(), &list)).unwrap();
    }
}

#[test]
fn production_bytes_at_the_boundary_are_those_of_another_backend_and_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("digest");
    std::fs::write(file.with_extension("list"), &PRODUCTION.list).unwrap();
    let here = boundary_digest(PRODUCTION.backend.as_ref(), &PRODUCTION.list);
    let another = CpuBackend::new(PRODUCTION.keys.evaluation_keys().unwrap());
    assert_eq!(boundary_digest(&another, &PRODUCTION.list), here);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "production::boundary_bytes_in_a_process_of_its_own"])
        .env(DIGEST_FILE, &file)
        .env("RAYON_NUM_THREADS", "7")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(std::fs::read_to_string(file).unwrap(), here);
}

#[test]
fn production_values_have_the_documented_sizes_in_packed_form() {
    let expanded = PRODUCTION.backend.expand_values(&PRODUCTION.list, &[1]).unwrap();
    let packed = PRODUCTION.backend.pack(&expanded[0]).unwrap();
    // 16 bytes of header, a byte per block, and 1024 + 4 coefficients of 12 bits.
    assert_eq!(packed.len(), 16 + 4 + 1542);
    let (ty, plaintext) = values()[1];
    assert_eq!(PRODUCTION.decryptor.decrypt(ty, &packed).unwrap(), plaintext);
    let unpacked = PRODUCTION.backend.unpack(ty, &packed).unwrap();
    let raw = PRODUCTION.backend.serialize(&unpacked).unwrap();
    assert_eq!(PRODUCTION.decryptor.decrypt(ty, &raw).unwrap(), plaintext);
}
