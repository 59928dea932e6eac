//! Ciphertexts in their raw form.

use cipherloom_fhe::{Ciphertext, FheError};
use cipherloom_primitives::{FheType, TypedOperation, U256};

use crate::fixture::{CLEAR, Fixture, TOY, both, metadata, positions, values};

fn expanded(fixture: &Fixture) -> Vec<Ciphertext> {
    fixture.backend.verify_input(&fixture.list, &metadata()).unwrap();
    fixture.backend.expand_input(&fixture.list).unwrap()
}

/// An encrypted value of every type, stored.
fn stored(fixture: &Fixture) -> Vec<(FheType, Vec<u8>)> {
    expanded(fixture)
        .iter()
        .map(|value| (value.fhe_type(), fixture.backend.serialize(value).unwrap()))
        .collect()
}

fn assert_refused(fixture: &Fixture, ty: FheType, bytes: &[u8], what: &str) {
    let refused = fixture.backend.deserialize(ty, bytes).map(|_| ());
    assert!(
        matches!(refused, Err(FheError::MalformedCiphertext { .. })),
        "{} {ty}: {what}: {refused:?}",
        fixture.name
    );
    let refused = fixture.decryptor.decrypt(ty, bytes).map(|_| ());
    assert!(
        matches!(refused, Err(FheError::MalformedCiphertext { .. })),
        "{} {ty}: {what}: {refused:?}",
        fixture.name
    );
}

#[test]
fn a_stored_ciphertext_is_read_back_to_the_same_bytes() {
    for fixture in both() {
        for (ty, bytes) in stored(fixture) {
            let value = fixture.backend.deserialize(ty, &bytes).unwrap();
            assert_eq!(value.fhe_type(), ty);
            assert!(fixture.backend.serialize(&value).unwrap() == bytes, "{} {ty}", fixture.name);
        }
    }
}

#[test]
fn ciphertexts_of_public_values_are_stored_too() {
    for fixture in both() {
        for (ty, value) in values() {
            let public = fixture
                .backend
                .evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[])
                .unwrap();
            let bytes = fixture.backend.serialize(&public).unwrap();
            let again = fixture.backend.deserialize(ty, &bytes).unwrap();
            assert!(fixture.backend.serialize(&again).unwrap() == bytes, "{} {ty}", fixture.name);
            assert_eq!(fixture.decryptor.decrypt(ty, &bytes).unwrap(), value, "{} {ty}", fixture.name);
        }
    }
}

#[test]
fn sizes_follow_from_the_type() {
    for (ty, bytes) in stored(&TOY) {
        // 257 words of 8 bytes per block of 2 bits, with degree and noise.
        assert_eq!(bytes.len(), 16 + ty.bits().div_ceil(2) as usize * (2 + 257 * 8), "{ty}");
    }
    for (ty, bytes) in stored(&CLEAR) {
        assert_eq!(bytes.len(), 48, "{ty}");
    }
}

#[test]
fn no_header_field_can_be_changed() {
    for fixture in both() {
        for (ty, bytes) in stored(fixture) {
            for at in 0..16 {
                for bit in 0..8 {
                    let mut bad = bytes.clone();
                    bad[at] ^= 1 << bit;
                    if (at, bit) == (7, 0) {
                        // This claims to be the packed form, which decryption takes too.
                        assert!(fixture.backend.deserialize(ty, &bad).is_err());
                        continue;
                    }
                    assert_refused(fixture, ty, &bad, &format!("byte {at} bit {bit} flipped"));
                }
            }
        }
    }
}

#[test]
fn a_ciphertext_of_another_length_is_refused() {
    for fixture in both() {
        for (ty, bytes) in stored(fixture) {
            for length in positions(bytes.len(), 70, 1009) {
                assert_refused(fixture, ty, &bytes[..length], &format!("{length} bytes"));
            }
            assert_refused(fixture, ty, &[&bytes[..], &[0]].concat(), "one byte more");
            assert_refused(fixture, ty, &[&bytes[..], &bytes[16..]].concat(), "twice the blocks");
        }
    }
}

#[test]
fn a_ciphertext_of_another_type_is_refused() {
    for fixture in both() {
        for (of, bytes) in stored(fixture) {
            for ty in FheType::ALL.into_iter().filter(|ty| *ty != of) {
                assert_refused(fixture, ty, &bytes, &format!("bytes of {of}"));
            }
        }
    }
}

#[test]
fn a_ciphertext_of_the_other_backend_is_refused() {
    for (fixture, other) in [(&*CLEAR, &*TOY), (&*TOY, &*CLEAR)] {
        for (ty, bytes) in stored(other) {
            assert_refused(fixture, ty, &bytes, "the other backend's bytes");
        }
        for value in expanded(other) {
            assert!(matches!(fixture.backend.serialize(&value), Err(FheError::ForeignCiphertext)));
        }
    }
}

#[test]
fn what_operations_rely_on_is_checked_in_every_block() {
    let block_bytes = 2 + 257 * 8;
    for (ty, bytes) in stored(&TOY) {
        for block in (16..bytes.len()).step_by(block_bytes) {
            let largest = if ty == FheType::Bool { 1 } else { 3 };
            for degree in [largest + 1, 15, 255] {
                let mut bad = bytes.clone();
                bad[block] = degree;
                assert_refused(&TOY, ty, &bad, &format!("block at {block} with degree {degree}"));
            }
            // A block that claims to hold no noise, and so to be public, but is encrypted.
            for noise in [0, 2, 255] {
                let mut bad = bytes.clone();
                bad[block + 1] = noise;
                assert_refused(&TOY, ty, &bad, &format!("block at {block} with noise level {noise}"));
            }
        }
    }
}

#[test]
fn a_clear_value_that_does_not_fit_its_type_is_refused() {
    for (ty, mut bytes) in stored(&CLEAR).into_iter().filter(|(ty, _)| *ty != FheType::Uint256) {
        bytes[16..].copy_from_slice(&(ty.max_value() + U256::ONE).to_be_bytes::<32>());
        assert_refused(&CLEAR, ty, &bytes, "a value above the largest");
    }
}
