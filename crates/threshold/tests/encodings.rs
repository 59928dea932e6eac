//! What is read from outside: key share files, manifests, ciphertexts, partial decryptions.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

#[expect(dead_code, reason = "every test crate uses a part of it")]
mod support;

use cipherloom_threshold::{
    CommitteeSize, Dealing, EpochId, KeyDimensions, KeyId, KeyKind, KeyShare, MAX_SHARE_BYTES, Manifest, PartialDecryption, SecretKeys,
    SquashedCiphertext, ThresholdError, ValueShape, deal, share_from_bytes,
};
use proptest::prelude::*;
use support::{SMALL, Secrets, Seeded, dealing, scope, value};

fn small(parties: u8, threshold: u8, epoch: u8) -> Dealing {
    let mut rng = Seeded::new(u64::from(epoch));
    let secrets = Secrets::random(SMALL, &mut rng);
    dealing(&scope(parties, threshold, epoch), &secrets, &mut rng)
}

#[test]
fn key_shares_and_manifests_survive_their_files() {
    for (parties, threshold) in [(4, 1), (7, 2), (13, 4)] {
        let dealing = small(parties, threshold, 1);
        let manifest = Manifest::from_bytes(&dealing.manifest.to_bytes()).unwrap();
        assert_eq!(manifest, dealing.manifest);
        for share in &dealing.shares {
            let read = KeyShare::from_bytes(&share.to_bytes()).unwrap();
            assert_eq!(
                (read.scope(), read.party(), read.digest()),
                (share.scope(), share.party(), share.digest())
            );
            assert_eq!(read.to_bytes(), share.to_bytes());
            manifest.check(&read).unwrap();
        }
    }
}

#[test]
fn a_production_share_has_the_size_that_was_planned() {
    let mut rng = Seeded::new(3);
    let secrets = Secrets::random(KeyDimensions::PRODUCTION, &mut rng);
    let dealing = dealing(&scope(13, 4, 1), &secrets, &mut rng);
    let bytes = dealing.shares[0].to_bytes();
    assert_eq!(bytes.len(), 8 + 96 + 2 + 13 * 32 + 1 + 32 + 8 + (4096 + 6144) * 64 + 495 * 32 + 32);
    assert!(bytes.len() <= MAX_SHARE_BYTES);
    dealing.manifest.check(&KeyShare::from_bytes(&bytes).unwrap()).unwrap();
}

#[test]
fn a_manifest_accepts_only_its_own_shares() {
    let dealing_one = small(4, 1, 1);
    let other = small(4, 1, 2);
    assert!(matches!(
        dealing_one.manifest.check(&other.shares[0]),
        Err(ThresholdError::OtherScope(_))
    ));
    // The same scope, dealt again with other randomness.
    let mut rng = Seeded::new(99);
    let secrets = Secrets::random(SMALL, &mut rng);
    let again = dealing(&scope(4, 1, 1), &secrets, &mut rng);
    assert_ne!(again.manifest.digest(), dealing_one.manifest.digest());
    assert_eq!(
        dealing_one.manifest.check(&again.shares[0]),
        Err(ThresholdError::Commitment("the share"))
    );
}

#[test]
fn an_older_file_put_back_is_refused() {
    let share = KeyShare::from_bytes(&small(4, 1, 5).shares[0].to_bytes()).unwrap();
    let key = KeyId([1; 32]);
    share.check_not_older(key, EpochId([5; 32])).unwrap();
    share.check_not_older(key, EpochId([4; 32])).unwrap();
    assert_eq!(share.check_not_older(key, EpochId([6; 32])), Err(ThresholdError::EpochNotLater));
    assert_eq!(
        share.check_not_older(KeyId([9; 32]), EpochId([5; 32])),
        Err(ThresholdError::OtherScope("key"))
    );
}

#[test]
fn only_lists_of_bits_are_shared() {
    let scope = scope(4, 1, 1);
    let mut rng = Seeded::new(1);
    let mut deal = |squashed: &[u128], compressed: &[u128]| deal(&scope, SecretKeys { squashed, compressed }, &mut rng).err();
    assert!(deal(&[0, 1, 1], &[1]).is_none());
    for (squashed, compressed) in [
        (vec![0, 2], vec![1]),
        (vec![1], vec![u128::MAX]),
        (vec![], vec![1]),
        (vec![1; 8193], vec![1]),
    ] {
        assert!(matches!(deal(&squashed, &compressed), Some(ThresholdError::SecretKey(_))));
    }
}

#[test]
fn every_changed_byte_of_a_share_file_is_noticed() {
    let bytes = small(4, 1, 1).shares[1].to_bytes();
    for position in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[position] ^= 0x40;
        assert!(KeyShare::from_bytes(&changed).is_err(), "byte {position}");
    }
    for length in 0..bytes.len() {
        assert!(KeyShare::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(KeyShare::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert!(KeyShare::from_bytes(&vec![0; MAX_SHARE_BYTES + 1]).is_err());
}

#[test]
fn every_changed_byte_of_a_manifest_changes_its_digest() {
    let manifest = small(4, 1, 1).manifest;
    let bytes = manifest.to_bytes();
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        if let Ok(other) = Manifest::from_bytes(&changed) {
            assert_ne!(other.digest(), manifest.digest(), "byte {position}");
        }
    }
    for length in 0..bytes.len() {
        assert!(Manifest::from_bytes(&bytes[..length]).is_err());
    }
}

#[test]
fn ciphertexts_and_partial_decryptions_survive_their_encoding() {
    let mut rng = Seeded::new(8);
    let secrets = Secrets::random(SMALL, &mut rng);
    let dealing = dealing(&scope(7, 2, 1), &secrets, &mut rng);
    let size = CommitteeSize::new(7, 2).unwrap();
    for bits in [1, 64, 256] {
        let plain = value(bits, &mut rng);
        let ciphertext = secrets.encrypt(KeyKind::Compressed, bits, &plain, &mut rng);
        assert_eq!(SquashedCiphertext::from_bytes(&ciphertext.to_bytes()).unwrap(), ciphertext);
        let partial = dealing.shares[3].decrypt(&ciphertext).unwrap();
        let bytes = partial.to_bytes();
        let read = PartialDecryption::from_bytes(size, &bytes).unwrap();
        assert_eq!(
            (read.party(), read.tag(), read.to_bytes()),
            (partial.party(), partial.tag(), partial.to_bytes())
        );
        assert_eq!(bytes.len(), 35 + 64 * ciphertext.shape().element_count());
        for length in 0..bytes.len() {
            assert!(PartialDecryption::from_bytes(size, &bytes[..length]).is_err());
        }
        // A party that the committee does not have.
        let four = CommitteeSize::new(4, 1).unwrap();
        let mut strange = bytes.to_vec();
        strange[1] = 5;
        assert!(matches!(
            PartialDecryption::from_bytes(four, &strange),
            Err(ThresholdError::NoSuchParty { party: 5, parties: 4 })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_from_anywhere_give_an_error_or_something_that_encodes_to_them(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        prefix in prop::sample::select(vec![&b""[..], b"CLSHARE1", b"CLMANIF1", b"\x01\x01", b"\x00\x01\x00\x01\x00\x00\x00", b"\x04\0\0\0\0\0\0\0"]),
    ) {
        let bytes = [prefix, &bytes].concat();
        let size = CommitteeSize::new(4, 1).unwrap();
        if let Ok(share) = KeyShare::from_bytes(&bytes) {
            prop_assert_eq!(share.to_bytes().to_vec(), bytes.clone());
        }
        if let Ok(manifest) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes.as_slice());
        }
        if let Ok(ciphertext) = SquashedCiphertext::from_bytes(&bytes) {
            prop_assert_eq!(ciphertext.to_bytes(), bytes.as_slice());
        }
        if let Ok(partial) = PartialDecryption::from_bytes(size, &bytes) {
            prop_assert_eq!(partial.to_bytes().to_vec(), bytes.clone());
        }
        let shape = ValueShape::new(64).unwrap();
        prop_assert_eq!(share_from_bytes(shape, &bytes).is_ok(), bytes.len() == 264 && bytes.starts_with(&4u64.to_le_bytes()));
    }
}
