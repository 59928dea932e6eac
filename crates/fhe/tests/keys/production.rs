//! A few tests on production parameters. The key set is generated once per machine.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use cipherloom_fhe::{FheError, KeySet, ParameterSet, production_test_keys};
use cipherloom_primitives::{FheType, U256, input::InputMetadata};

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
