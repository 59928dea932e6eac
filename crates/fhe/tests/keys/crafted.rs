//! Lists that no honest client of this crate makes: other proof variants, and values contracts cannot use.

use cipherloom_fhe::FheError;
use cipherloom_primitives::{FheType, U256};
use tfhe::{
    CompactCiphertextListBuilder, CompactPublicKey, ProvenCompactCiphertextList, Tag, integer,
    safe_serialization::{safe_deserialize, safe_serialize},
    zk::{CompactPkeCrs, ZkComputeLoad},
};

use crate::fixture::{TOY, metadata};

fn public_key() -> CompactPublicKey {
    safe_deserialize(&*TOY.keys.public_key(), 1 << 20).unwrap()
}

fn crs() -> CompactPkeCrs {
    safe_deserialize(&*TOY.keys.crs(), 1 << 23).unwrap()
}

fn write(list: &ProvenCompactCiphertextList) -> Vec<u8> {
    let mut bytes = Vec::new();
    safe_serialize(list, &mut bytes, 1 << 20).unwrap();
    bytes
}

/// Builds a list as clients do, after something was pushed.
fn packed(push: impl FnOnce(&mut CompactCiphertextListBuilder)) -> Vec<u8> {
    let mut builder = ProvenCompactCiphertextList::builder(&public_key());
    push(&mut builder);
    write(
        &builder
            .build_with_proof_packed(&crs(), &metadata().to_bytes(), ZkComputeLoad::Verify)
            .unwrap(),
    )
}

fn refusal(list: &[u8]) -> Option<FheError> {
    TOY.backend.verify_input(list, &metadata()).err()
}

fn assert_malformed(what: &str, list: &[u8]) {
    let refused = refusal(list);
    assert!(matches!(refused, Some(FheError::MalformedInput(_))), "{what}: {refused:?}");
}

/// Existing clients put the work on the verifier, and push values through functions per type.
#[test]
fn lists_of_existing_clients_are_admitted() {
    let list = packed(|builder| {
        builder.push(true).push(8u8).push(16u16).push(32u32).push(64u64).push(128u128);
        builder.push_with_num_bits(integer::U256::from([160u64, 0, 0, 0]), 160).unwrap();
        builder.push(integer::U256::from([256u64, 0, 0, 1]));
    });
    let values = TOY.through_everything(&list, &metadata());
    assert_eq!(values.iter().map(|(ty, _)| *ty).collect::<Vec<_>>(), FheType::ALL);
    let numbers: Vec<U256> = values.into_iter().map(|(_, value)| value).collect();
    let expected = [1u64, 8, 16, 32, 64, 128, 160].map(U256::from);
    assert_eq!(numbers[..7], expected);
    assert_eq!(numbers[7], (U256::ONE << 192) + U256::from(256));
}

#[test]
fn values_that_contracts_cannot_use_are_refused() {
    let bits = |count: usize| packed(|builder| _ = builder.push_with_num_bits(1u64, count).unwrap());
    for count in [2, 4, 24, 48] {
        assert_malformed(&format!("an unsigned integer of {count} bits"), &bits(count));
    }
    assert_malformed("a signed integer", &packed(|builder| _ = builder.push(-1i64)));
    assert_malformed(
        "a good value and a signed one",
        &packed(|builder| {
            builder.push(1u64).push(-1i8);
        }),
    );
}

#[test]
fn lists_beyond_the_limits_are_refused() {
    assert_malformed("256 values", &packed(|builder| _ = builder.extend((0..256).map(|_| true))));
    // More bits than one proof covers: tfhe splits such a list over several proofs.
    assert_malformed("2056 bits", &packed(|builder| _ = builder.extend((0..257).map(|_| 1u8))));
}

#[test]
fn a_list_without_values_is_refused() {
    assert_malformed("no values", &packed(|_| ()));
}

#[test]
fn unpacked_lists_are_refused() {
    let (key, _) = public_key().into_raw_parts();
    let mut builder = integer::ciphertext::CompactCiphertextList::builder(&key);
    builder.push(7u8);
    let list = builder
        .build_with_proof(&crs(), &metadata().to_bytes(), ZkComputeLoad::Verify)
        .unwrap();
    assert_malformed("an unpacked list", &write(&high_level(&list)));
}

#[test]
fn a_list_that_claims_other_types_than_it_proves_is_refused() {
    let (key, _) = public_key().into_raw_parts();
    let build = |push: &dyn Fn(&mut integer::ciphertext::CompactCiphertextListBuilder)| {
        let mut builder = integer::ciphertext::CompactCiphertextList::builder(&key);
        push(&mut builder);
        builder
            .build_with_proof_packed(&crs(), &metadata().to_bytes(), ZkComputeLoad::Verify)
            .unwrap()
            .into_raw_parts()
    };
    let (small, small_kinds) = build(&|builder| _ = builder.push(7u8));
    let (_, large_kinds) = build(&|builder| _ = builder.push(7u64));
    let reassemble = |list: &_, kinds: &Vec<_>| {
        let bytes = bincode::serialize(&(list, kinds)).unwrap();
        write(&high_level(&bincode::deserialize(&bytes).unwrap()))
    };
    assert!(refusal(&reassemble(&small, &small_kinds)).is_none());
    assert_malformed("64 bits of which 8 are there", &reassemble(&small, &large_kinds));
    assert_malformed("nothing of which 8 bits are there", &reassemble(&small, &Vec::new()));
}

#[test]
fn a_list_for_another_public_key_is_refused() {
    let private = integer::CompactPrivateKey::new(public_key().parameters());
    let other = CompactPublicKey::from_raw_parts(integer::CompactPublicKey::new(&private), Tag::default());
    let mut builder = ProvenCompactCiphertextList::builder(&other);
    builder.push(7u64);
    let list = builder
        .build_with_proof_packed(&crs(), &metadata().to_bytes(), ZkComputeLoad::Proof)
        .unwrap();
    assert!(matches!(refusal(&write(&list)), Some(FheError::InvalidProof)));
}

#[test]
fn the_proof_of_one_list_does_not_prove_another() {
    let build = |value: u64| {
        let mut builder = ProvenCompactCiphertextList::builder(&public_key());
        builder.push(value);
        let list = builder
            .build_with_proof_packed(&crs(), &metadata().to_bytes(), ZkComputeLoad::Verify)
            .unwrap();
        bincode::serialize(&list).unwrap()
    };
    let (first, second) = (build(1), build(2));
    // The ciphertexts come first, the proof makes up the end.
    let spliced = [&first[..first.len() / 2], &second[second.len() / 2..]].concat();
    let spliced: ProvenCompactCiphertextList = bincode::deserialize(&spliced).unwrap();
    assert!(matches!(refusal(&write(&spliced)), Some(FheError::InvalidProof)));
}

/// The layouts of hashed data that tfhe 1.3 and later use are admitted, the one before is not (public protocol, section 5.1).
#[test]
fn proofs_of_the_oldest_layout_are_refused() {
    let mut builder = ProvenCompactCiphertextList::builder(&public_key());
    builder.push(7u8);
    let list = builder
        .build_with_proof_packed(&crs(), &metadata().to_bytes(), ZkComputeLoad::Verify)
        .unwrap();
    let bytes = bincode::serialize(&list).unwrap();
    // At the end: the layout's number, one kind of value (8 + 4 + 8 bytes), an empty tag (8 bytes).
    let at = bytes.len() - 32;
    assert_eq!(bytes[at..at + 4], 2u32.to_le_bytes());
    let with_layout = |number: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        write(&bincode::deserialize(&bytes).unwrap())
    };
    assert!(refusal(&with_layout(2)).is_none());
    // Read, but not what was hashed.
    assert!(matches!(refusal(&with_layout(1)), Some(FheError::InvalidProof)));
    assert_malformed("a proof in the layout of tfhe 1.2", &with_layout(0));
}

fn high_level(list: &integer::ProvenCompactCiphertextList) -> ProvenCompactCiphertextList {
    bincode::deserialize(&bincode::serialize(&(list, Tag::default())).unwrap()).unwrap()
}
