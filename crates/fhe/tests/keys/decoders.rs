//! Random and mutated bytes for every decoder: each answers with a typed error, or with a value; none panics, hangs or
//! allocates what the bytes ask for.

use cipherloom_fhe::{FheError, Manifest, encryptor_from_bytes};
use cipherloom_primitives::{FheType, input::list_digest};

use crate::fixture::{CLEAR, Fixture, Random, TOY, both, metadata};

const SEED: u64 = 0x00c1_f3e5_1007_2026;

/// Changes a few bytes, cuts, repeats, or writes an enormous number somewhere.
fn mutate(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // Half of the time near the beginning, where lengths and versions are.
    for _ in 0..=random.below(3) {
        let length = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(300) };
        let position = random.below(length);
        match random.below(6) {
            0 => bytes[position] ^= 1 << random.below(8),
            1 => bytes[position] = random.next() as u8,
            2 => bytes.truncate(position.max(1)),
            3 => {
                let end = (position + 8).min(bytes.len());
                bytes[position..end].fill(0xff);
            }
            4 => {
                let end = (position + 8).min(bytes.len());
                let number = (1u64 << random.below(40)).to_le_bytes();
                bytes[position..end].copy_from_slice(&number[..end - position]);
            }
            _ => {
                let end = (position + random.below(64)).min(bytes.len());
                let piece = bytes[position..end].to_vec();
                bytes.extend_from_slice(&piece);
            }
        }
    }
    bytes
}

#[test]
fn input_lists() {
    let mut random = Random(SEED);
    for fixture in both() {
        for round in 0..1500 {
            let bytes = if round % 3 == 0 {
                let length = random.below(2000);
                random.bytes(length)
            } else {
                mutate(&mut random, &fixture.list)
            };
            if bytes == fixture.list {
                continue;
            }
            let verified = fixture.backend.verify_input(&bytes, &metadata()).map(|_| ());
            let typed = matches!(verified, Err(FheError::MalformedInput(_) | FheError::InvalidProof));
            assert!(
                typed,
                "{} seed {SEED:#x} round {round}: {verified:?}, list {}",
                fixture.name,
                list_digest(&bytes)
            );
            // Expansion is only given what was verified, but must survive what a damaged database gives it.
            let _ = fixture.backend.expand_input(&bytes);
        }
    }
}

#[test]
fn stored_ciphertexts() {
    let mut random = Random(SEED);
    for fixture in both() {
        let expanded = fixture.backend.expand_input(&fixture.list).unwrap();
        let stored: Vec<_> = expanded
            .iter()
            .take(4)
            .map(|value| fixture.backend.serialize(value).unwrap())
            .collect();
        for round in 0..4000 {
            let ty = FheType::ALL[random.below(FheType::ALL.len())];
            let bytes = if round % 3 == 0 {
                let length = random.below(300);
                random.bytes(length)
            } else {
                let index = random.below(stored.len());
                mutate(&mut random, &stored[index])
            };
            // A change within the encrypted words is another ciphertext; anything else is refused.
            if let Ok(value) = fixture.backend.deserialize(ty, &bytes) {
                let again = fixture.backend.serialize(&value).unwrap();
                assert!(
                    again == bytes,
                    "{} seed {SEED:#x} round {round}: two encodings of one value",
                    fixture.name
                );
                fixture.decryptor.decrypt(ty, &bytes).unwrap();
            } else {
                assert!(
                    fixture.decryptor.decrypt(ty, &bytes).is_err(),
                    "{} seed {SEED:#x} round {round}",
                    fixture.name
                );
            }
        }
    }
}

#[test]
fn packed_ciphertexts() {
    let mut random = Random(SEED);
    for fixture in both() {
        let expanded = fixture.backend.expand_input(&fixture.list).unwrap();
        let packed: Vec<_> = expanded.iter().take(4).map(|value| fixture.backend.pack(value).unwrap()).collect();
        for round in 0..4000 {
            let ty = FheType::ALL[random.below(4)];
            let bytes = if round % 3 == 0 {
                let length = random.below(300);
                random.bytes(length)
            } else {
                let index = random.below(packed.len());
                mutate(&mut random, &packed[index])
            };
            // A change within the encrypted coefficients, or of a digit, is another ciphertext; anything else is refused.
            match fixture.backend.unpack(ty, &bytes) {
                Ok(value) => {
                    assert_eq!(value.fhe_type(), ty);
                    fixture.decryptor.decrypt(ty, &bytes).unwrap();
                }
                Err(error) => {
                    assert!(
                        matches!(error, FheError::MalformedCiphertext { .. }),
                        "{} seed {SEED:#x} round {round}: {error}",
                        fixture.name
                    );
                }
            }
        }
    }
}

fn public_keys(fixture: &Fixture, rounds: usize) {
    let mut random = Random(SEED);
    let (public_key, crs) = (fixture.keys.public_key(), fixture.keys.crs());
    // Without a reference string every public key fails in the end, but only after it was read.
    let no_crs = &crs[..crs.len() / 2];
    for round in 0..rounds {
        let bytes = match round % 3 {
            0 => {
                let length = random.below(2000);
                random.bytes(length)
            }
            _ => mutate(&mut random, &public_key),
        };
        let result = encryptor_from_bytes(&bytes, no_crs).map(|_| ());
        let typed = matches!(result, Err(FheError::KeyMaterial { .. }));
        assert!(typed, "{} seed {SEED:#x} round {round}: {result:?}", fixture.name);
    }
}

#[test]
fn public_keys_of_both_backends() {
    public_keys(&TOY, 1000);
    public_keys(&CLEAR, 1000);
}

#[test]
fn reference_strings() {
    let mut random = Random(SEED);
    let (public_key, crs) = (TOY.keys.public_key(), TOY.keys.crs());
    // The numbers before and after the points: versions and a length, then dimensions and bounds. Changes among the points are
    // found as well, and random numbers at the very end are not, but only after seconds of arithmetic.
    for round in 0..30 {
        let mut bytes = crs.to_vec();
        let position = if round % 2 == 0 {
            random.below(75)
        } else {
            bytes.len() - 220 - random.below(130)
        };
        match random.below(3) {
            0 => bytes[position] ^= 0x80,
            1 => bytes[position..position + 8].fill(0xff),
            _ => bytes.truncate(position),
        }
        let before = std::time::Instant::now();
        let result = encryptor_from_bytes(&public_key, &bytes).map(|_| ());
        let accepted = result.is_ok();
        assert!(
            accepted || matches!(result, Err(FheError::KeyMaterial { .. })),
            "seed {SEED:#x} round {round}: {result:?}"
        );
        assert!(before.elapsed().as_secs() < 60, "seed {SEED:#x} round {round}");
    }
}

#[test]
fn manifests() {
    let mut random = Random(SEED);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    cipherloom_fhe::KeySet::generate(&path, cipherloom_fhe::ParameterSet::InsecureClear, &()).unwrap();
    let manifest = std::fs::read(path.join("manifest.json")).unwrap();
    Manifest::parse(&manifest).unwrap();
    for round in 0..3000 {
        let bytes = mutate(&mut random, &manifest);
        let parsed = Manifest::parse(&bytes).map(|_| ());
        let typed = matches!(parsed, Ok(()) | Err(FheError::KeyMaterial { .. }));
        assert!(typed, "seed {SEED:#x} round {round}: {parsed:?}");
    }
}
