//! Unpacking and expansion against tfhe-rs's own, bit by bit.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cipherloom_primitives::{Address, B256, FheType, U256, input::InputMetadata};
use tfhe::{
    integer::{
        BooleanBlock, RadixCiphertext,
        key_switching_key::{KeySwitchingKeyMaterial, KeySwitchingKeyView},
        parameters::IntegerCompactCiphertextListExpansionMode,
    },
    shortint::{
        self, EncryptionKeyChoice,
        key_switching_key::KeySwitchingKeyDestinationAtomicPattern,
        list_compression::DecompressionKey,
        parameters::{AtomicPatternKind, LweCiphertextCount, NoiseLevel, PBSOrder},
    },
};

use super::{expansion, packing, randomise};
use crate::{Ciphertext, EvaluationKeys, KeySet, ciphertext::Value, fft_plan, insecure_test_keys, production_test_keys};

const METADATA: InputMetadata = InputMetadata {
    contract: Address::repeat_byte(1),
    user: Address::repeat_byte(2),
    acl: Address::repeat_byte(3),
    chain_id: 5,
};

fn encrypt(keys: &KeySet, types: &[FheType]) -> Vec<u8> {
    let values: Vec<_> = types.iter().map(|ty| (*ty, ty.truncate(U256::MAX / U256::from(7)))).collect();
    keys.encryptor().unwrap().encrypt(&values, &METADATA).unwrap()
}

/// What tfhe-rs expands the list to.
fn expanded_by_tfhe(keys: &EvaluationKeys, list: &[u8]) -> Vec<Ciphertext> {
    let (list, types) = keys.input.read_list(list).unwrap();
    let pattern = KeySwitchingKeyDestinationAtomicPattern::from(AtomicPatternKind::Standard(PBSOrder::KeyswitchBootstrap));
    let material =
        shortint::key_switching_key::KeySwitchingKeyMaterial::from_raw_parts(keys.casting.clone(), 0, EncryptionKeyChoice::Small, pattern);
    let material = KeySwitchingKeyMaterial::from_raw_parts(material);
    let key = KeySwitchingKeyView::from_keyswitching_key_material(material.as_view(), &keys.integer, None);
    let mode = IntegerCompactCiphertextListExpansionMode::CastAndUnpackIfNecessary(key);
    let expanded = list.expand_without_verification(mode).unwrap();
    let value = |(index, ty): (usize, &FheType)| Ciphertext {
        ty: *ty,
        value: match ty {
            FheType::Bool => Value::Bool(expanded.get::<BooleanBlock>(index).unwrap().unwrap()),
            _ => Value::Radix(expanded.get::<RadixCiphertext>(index).unwrap().unwrap()),
        },
    };
    types.iter().enumerate().map(value).collect()
}

fn assert_expansion_is_that_of_tfhe(keys: &KeySet, types: &[FheType]) {
    let list = encrypt(keys, types);
    let keys = keys.evaluation_keys().unwrap();
    fft_plan::fix();
    let expected: Vec<_> = expanded_by_tfhe(&keys, &list)
        .iter()
        .map(|value| keys.stored.write(value).unwrap())
        .collect();
    let expanded = expansion::expand(&keys, &list, None).unwrap();
    assert_eq!(expanded.len(), types.len());
    for (value, expected) in expanded.iter().zip(&expected) {
        assert!(keys.stored.write(value).unwrap() == *expected, "{}", value.fhe_type());
    }
}

#[test]
fn toy_lists_are_expanded_to_the_bits_of_tfhe() {
    assert_expansion_is_that_of_tfhe(&insecure_test_keys().unwrap(), &FheType::ALL);
    // Booleans and odd numbers of blocks move what follows to the other half of its pairs.
    let odd = [FheType::Bool, FheType::Uint8, FheType::Bool, FheType::Bool, FheType::Uint16];
    assert_expansion_is_that_of_tfhe(&insecure_test_keys().unwrap(), &odd);
}

#[test]
fn production_lists_are_expanded_to_the_bits_of_tfhe() {
    assert_expansion_is_that_of_tfhe(&production_test_keys().unwrap(), &[FheType::Bool, FheType::Uint8]);
}

fn assert_unpacking_is_that_of_tfhe(keys: &KeySet, ty: FheType) {
    let list = encrypt(keys, &[ty]);
    let keys = keys.evaluation_keys().unwrap();
    let value = expansion::expand(&keys, &list, None).unwrap().remove(0);
    let packed = packing::pack(&keys, &value).unwrap();
    let unpacked = packing::unpack(&keys, ty, &packed).unwrap();
    let blocks = keys.stored.clean_blocks(&value).unwrap();
    let compressed = keys.packing.compress_ciphertexts_into_list(blocks);
    let key = DecompressionKey::from_raw_parts(keys.unpacking.clone(), LweCiphertextCount(blocks.len()));
    for (index, block) in keys.stored.clean_blocks(&unpacked).unwrap().iter().enumerate() {
        let expected = key.unpack(&compressed, index).unwrap();
        assert!(block.ct == expected.ct, "{ty} block {index}");
        assert_eq!(block.noise_level(), expected.noise_level());
    }
}

#[test]
fn toy_values_are_unpacked_to_the_bits_of_tfhe() {
    for ty in FheType::ALL {
        assert_unpacking_is_that_of_tfhe(&insecure_test_keys().unwrap(), ty);
    }
}

#[test]
fn production_values_are_unpacked_to_the_bits_of_tfhe() {
    assert_unpacking_is_that_of_tfhe(&production_test_keys().unwrap(), FheType::Uint8);
}

#[test]
fn every_secret_block_is_randomised_and_of_nominal_noise() {
    for keys in [insecure_test_keys().unwrap(), production_test_keys().unwrap()] {
        let list = encrypt(&keys, &[FheType::Uint8]);
        let keys = keys.evaluation_keys().unwrap();
        let before = expansion::expand(&keys, &list, None).unwrap().remove(0);
        let mut after = before.clone();
        randomise::rerandomise(&keys, &mut after, &B256::repeat_byte(7)).unwrap();
        let (before, after) = (
            keys.stored.clean_blocks(&before).unwrap(),
            keys.stored.clean_blocks(&after).unwrap(),
        );
        for (before, after) in before.iter().zip(after) {
            assert_eq!((after.noise_level(), after.degree), (NoiseLevel::NOMINAL, before.degree));
            let (before, after): (&[u64], &[u64]) = (before.ct.as_ref(), after.ct.as_ref());
            let changed = before.iter().zip(after).filter(|(before, after)| before != after).count();
            // Uniform words coincide with a probability of 2^-64 each.
            assert_eq!(changed, before.len());
        }
    }
}
