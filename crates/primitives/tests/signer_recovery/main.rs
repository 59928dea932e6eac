//! Who signed a digest: found as the library finds it that verifies afterwards, and refused as contracts refuse it.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use alloy_primitives::{Address, B256, U256, keccak256};
use cipherloom_primitives::eip712::recover_signer;
use k256::{Scalar, ecdsa::SigningKey, elliptic_curve::ops::Reduce};

/// The order of the group, and half of it.
const ORDER: U256 = U256::from_limbs([0xbfd2_5e8c_d036_4141, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, u64::MAX]);

fn number(seed: u32, what: &str) -> B256 {
    keccak256([&seed.to_be_bytes(), what.as_bytes()].concat())
}

fn signed(seed: u32) -> (Address, B256, [u8; 65]) {
    let key = SigningKey::from_slice(number(seed, "key").as_slice()).unwrap();
    let digest = number(seed, "digest");
    let (signature, id) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
    let mut bytes = [0; 65];
    bytes[..64].copy_from_slice(&signature.to_bytes());
    bytes[64] = 27 + u8::from(id.is_y_odd());
    (Address::from_public_key(key.verifying_key()), digest, bytes)
}

/// What the library says, which verifies the key that it has found.
fn by_the_library(digest: B256, bytes: &[u8]) -> Option<Address> {
    let signature = alloy_primitives::Signature::try_from(bytes).ok()?;
    signature.recover_address_from_prehash(&digest).ok()
}

#[test]
fn signers_are_recovered_and_other_digests_are_somebody_elses() {
    for seed in 0..64 {
        let (signer, digest, signature) = signed(seed);
        assert_eq!(recover_signer(digest, &signature), Some(signer), "seed {seed}");
        let other = number(seed, "other");
        let recovered = recover_signer(other, &signature);
        assert_ne!(recovered, Some(signer), "seed {seed}");
        assert_eq!(recovered, by_the_library(other, &signature), "seed {seed}");
    }
}

#[test]
fn changed_signatures_recover_what_the_library_recovers() {
    for seed in 0..256 {
        let (signer, digest, mut signature) = signed(seed);
        let at = usize::from(number(seed, "place")[0]) % 64;
        signature[at] ^= 1 << (seed % 8);
        let recovered = recover_signer(digest, &signature);
        assert_ne!(recovered, Some(signer), "seed {seed}");
        // The library also takes signatures with high s.
        let is_high = U256::from_be_slice(&signature[32..64]) > ORDER >> 1;
        let expected = by_the_library(digest, &signature).filter(|_| !is_high);
        assert_eq!(recovered, expected, "seed {seed}");
    }
}

#[test]
fn what_contracts_refuse_is_refused() {
    let (signer, digest, good) = signed(1);
    let with = |change: &dyn Fn(&mut [u8; 65])| {
        let mut bytes = good;
        change(&mut bytes);
        recover_signer(digest, &bytes)
    };
    assert_eq!(with(&|_| {}), Some(signer));
    for v in [0, 1, 26, 29, 35, 255] {
        assert_eq!(with(&|bytes| bytes[64] = v), None, "{v}");
    }
    // The other solution for s, with the other v, verifies; contracts refuse it.
    let high = with(&|bytes| {
        let s = ORDER - U256::from_be_slice(&bytes[32..64]);
        bytes[32..64].copy_from_slice(&s.to_be_bytes::<32>());
        bytes[64] ^= 27 ^ 28;
    });
    assert_eq!(high, None);
    for outside in [U256::ZERO, ORDER, ORDER + U256::ONE, U256::MAX] {
        assert_eq!(with(&|bytes| bytes[..32].copy_from_slice(&outside.to_be_bytes::<32>())), None);
        assert_eq!(with(&|bytes| bytes[32..64].copy_from_slice(&outside.to_be_bytes::<32>())), None);
    }
    assert_eq!(recover_signer(digest, &good[..64]), None);
    assert_eq!(recover_signer(digest, &[good.as_slice(), &[0]].concat()), None);
    assert_eq!(recover_signer(digest, &[]), None);
}

#[test]
fn a_signature_whose_key_would_be_the_point_at_infinity_is_nobodys() {
    // With R = k·G, s = z / k gives s·R − z·G = 0, for a message that is chosen with k.
    let k = SigningKey::from_slice(&[7; 32]).unwrap();
    let point = k.verifying_key().to_encoded_point(false);
    let odd = point.y().unwrap()[31] & 1;
    let (k, digest) = (*k.as_nonzero_scalar().as_ref(), number(5, "digest"));
    let message = <Scalar as Reduce<k256::U256>>::reduce_bytes(&digest.0.into());
    let s = message * k.invert().unwrap();
    let (s, odd) = if U256::from_be_slice(&s.to_bytes()) > ORDER >> 1 {
        (-s, odd ^ 1)
    } else {
        (s, odd)
    };
    let mut bytes = [0; 65];
    bytes[..32].copy_from_slice(point.x().unwrap());
    bytes[32..64].copy_from_slice(&s.to_bytes());
    bytes[64] = 27 + odd;
    assert_eq!(recover_signer(digest, &bytes), None);
    assert_eq!(by_the_library(digest, &bytes), None);
}
