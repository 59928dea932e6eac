//! Digests of what parties of different versions must compute and write alike, with fixed keys. They change on purpose only: parties with other masks cannot decrypt together.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

#[expect(dead_code, reason = "every test crate uses a part of it")]
mod support;

use cipherloom_threshold::{
    KeyKind,
    reshare::{KnownValue, NewMember, Plan},
};
use sha2::{Digest, Sha256};
use support::{SMALL, Secrets, Seeded, dealing, scope};

fn fingerprint(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn scopes_shares_manifests_tags_masks_and_messages_are_what_they_were() {
    let mut rng = Seeded::new(2026);
    let secrets = Secrets::random(SMALL, &mut rng);
    let scope_one = scope(7, 2, 1);
    let dealing = dealing(&scope_one, &secrets, &mut rng);
    let value: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap_or_default());
    let ciphertext = secrets.encrypt(KeyKind::Compressed, 256, &value, &mut rng);
    let plan = Plan::new(
        scope_one.clone(),
        scope(4, 1, 2),
        SMALL,
        vec![KnownValue {
            ciphertext: ciphertext.clone(),
            little_endian: value,
        }],
    )
    .unwrap();
    let first = plan.to().committee.size().ids().next().unwrap();
    let (_, messages) = NewMember::new(&plan, first, &mut rng).unwrap();

    let found = [
        ("committee", fingerprint(&scope_one.committee.digest())),
        ("scope", fingerprint(&scope_one.digest())),
        ("key share", fingerprint(&dealing.shares[4].to_bytes())),
        ("manifest", fingerprint(&dealing.manifest.to_bytes())),
        ("ciphertext", fingerprint(&ciphertext.to_bytes())),
        ("ciphertext digest", fingerprint(&ciphertext.digest())),
        ("tag", fingerprint(&ciphertext.tag(&scope_one).0)),
        (
            "partial decryption",
            fingerprint(&dealing.shares[4].decrypt(&ciphertext).unwrap().to_bytes()),
        ),
        ("plan", fingerprint(&plan.digest())),
        ("set keys", fingerprint(&messages[0].message.to_bytes(&plan))),
    ];
    let expected = FROZEN.map(|(name, digest)| (name, digest.to_owned()));
    assert_eq!(found, expected);
}

const FROZEN: [(&str, &str); 10] = [
    ("committee", "db09545f6e4885b9"),
    ("scope", "15bbe03f4e7da433"),
    ("key share", "731210d27a0d5d8e"),
    ("manifest", "c381661f4a02f9a8"),
    ("ciphertext", "5c3a3bb7bcab1202"),
    ("ciphertext digest", "91e99d11143f64d5"),
    ("tag", "da73c1ebe0bd8fe2"),
    ("partial decryption", "f6e1bef09a28cb56"),
    ("plan", "917131651874726b"),
    ("set keys", "0c0bdc6aa7b959e9"),
];
