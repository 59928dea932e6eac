//! From ciphertexts to plaintexts by way of a committee: noise squashing, threshold decryption with a wrong and with a missing party, on toy parameters.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod batches;
mod key_sets;

use std::sync::{Arc, LazyLock};

use cipherloom_fhe::{
    Ciphertext, CpuBackend, FheBackend, FheError, KeySet, NoiseSquasher, ParameterSet, SquashedValue, SquashingMaterial, insecure_test_keys,
};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};
use cipherloom_threshold::{
    Committee, ContextId, Contribution, EpochId, KeyId, KeyKind, KeyShare, Plaintext, Scope, SecretKeys, SquashedCiphertext, ValueShape,
    deal, reconstruct,
};
use getrandom::{SysRng, rand_core::UnwrapErr};

/// A key set with noise squashing, a committee of four that shares its secrets, and encrypted values of every type.
struct Fixture {
    keys: Arc<KeySet>,
    material: SquashingMaterial,
    squasher: NoiseSquasher,
    shares: Vec<KeyShare>,
    values: Vec<(FheType, U256)>,
    ciphertexts: Vec<Ciphertext>,
}

static TOY: LazyLock<Fixture> = LazyLock::new(|| {
    let keys = insecure_test_keys().unwrap();
    let material = SquashingMaterial::generate(&keys).unwrap();
    let squasher = NoiseSquasher::open(&keys, &material.squashing_key, &material.packing_key).unwrap();
    let scope = Scope {
        key: KeyId(*keys.manifest().id.as_bytes()),
        context: ContextId([1; 32]),
        epoch: EpochId([1; 32]),
        committee: Committee::new(1, (1..=4).map(|member| [member; 32]).collect()).unwrap(),
    };
    let secrets = SecretKeys {
        squashed: material.secrets.squashed(),
        compressed: material.secrets.listed(),
    };
    let shares = deal(&scope, secrets, &mut UnwrapErr(SysRng)).unwrap().shares;
    let values: Vec<_> = FheType::ALL
        .into_iter()
        .map(|ty| (ty, ty.truncate(U256::MAX / U256::from(7))))
        .collect();
    let list = keys.encryptor().unwrap().encrypt(&values, &metadata()).unwrap();
    let ciphertexts = CpuBackend::new(keys.evaluation_keys().unwrap()).expand_input(&list).unwrap();
    Fixture {
        keys,
        material,
        squasher,
        shares,
        values,
        ciphertexts,
    }
});

fn metadata() -> InputMetadata {
    InputMetadata {
        contract: Address::ZERO,
        user: Address::ZERO,
        acl: Address::ZERO,
        chain_id: 31337,
    }
}

fn to_committee(kind: KeyKind, squashed: SquashedValue) -> SquashedCiphertext {
    SquashedCiphertext::new(kind, ValueShape::new(squashed.bits).unwrap(), squashed.dimension, squashed.words).unwrap()
}

/// Decrypts with the shares of these parties, of which one may lie.
fn decrypt(ciphertext: &SquashedCiphertext, parties: &[usize], liar: Option<usize>) -> U256 {
    let shapes = [ciphertext.shape()];
    let contributions: Vec<Contribution> = parties
        .iter()
        .map(|index| {
            let partial = TOY.shares[*index].decrypt(ciphertext).unwrap();
            let mut bytes = partial.share_bytes();
            if liar == Some(*index) {
                bytes[20] ^= 0xff;
            }
            Contribution::of_shares(partial.party(), &shapes, [bytes.as_slice()].into_iter())
        })
        .collect();
    let read = reconstruct(TOY.shares[0].scope().committee.size(), &shapes, &contributions).unwrap();
    assert_eq!(read.wrong.len(), usize::from(liar.is_some()));
    U256::from_le_bytes(*Plaintext::little_endian(&read.values[0]))
}

#[test]
fn a_committee_decrypts_squashed_values_of_every_type() {
    for (ciphertext, (ty, value)) in TOY.ciphertexts.iter().zip(&TOY.values) {
        let squashed = to_committee(KeyKind::Squashed, TOY.squasher.squash(ciphertext).unwrap());
        assert_eq!(decrypt(&squashed, &[0, 1, 2, 3], None), *value, "{ty}");
        assert_eq!(decrypt(&squashed, &[0, 1, 2, 3], Some(2)), *value, "{ty}, one wrong");
        assert_eq!(decrypt(&squashed, &[3, 1, 0], None), *value, "{ty}, one missing");
    }
}

#[test]
fn a_committee_decrypts_values_of_a_packed_list() {
    let some = [0, 2, 4];
    let types: Vec<FheType> = some.iter().map(|index| TOY.values[*index].0).collect();
    let ciphertexts: Vec<&Ciphertext> = some.iter().map(|index| &TOY.ciphertexts[*index]).collect();
    let list = TOY.squasher.squash_list(&ciphertexts).unwrap();
    for (squashed, index) in SquashedValue::from_list(ParameterSet::InsecureToy, &types, &list)
        .unwrap()
        .into_iter()
        .zip(some)
    {
        let squashed = to_committee(KeyKind::Compressed, squashed);
        assert_eq!(decrypt(&squashed, &[0, 1, 2, 3], Some(0)), TOY.values[index].1);
    }
}

#[test]
fn squashing_the_same_ciphertext_twice_gives_the_same_numbers() {
    let one = &TOY.ciphertexts[3];
    assert_eq!(TOY.squasher.squash(one).unwrap(), TOY.squasher.squash(one).unwrap());
    assert_eq!(TOY.squasher.squash_list(&[one]).unwrap(), TOY.squasher.squash_list(&[one]).unwrap());
    let again = NoiseSquasher::open(&TOY.keys, &TOY.material.squashing_key, &TOY.material.packing_key).unwrap();
    assert_eq!(again.squash(one).unwrap(), TOY.squasher.squash(one).unwrap());
}

#[test]
fn lists_of_other_types_damaged_or_too_long_ones_are_refused() {
    let types = [TOY.values[0].0, TOY.values[2].0];
    let list = TOY.squasher.squash_list(&[&TOY.ciphertexts[0], &TOY.ciphertexts[2]]).unwrap();
    assert!(SquashedValue::from_list(ParameterSet::InsecureToy, &types, &list).is_ok());
    for wrong in [
        vec![types[1], types[0]],
        vec![types[0]],
        vec![types[0], FheType::Uint256],
        Vec::new(),
    ] {
        assert!(matches!(
            SquashedValue::from_list(ParameterSet::InsecureToy, &wrong, &list),
            Err(FheError::MalformedCiphertext { .. })
        ));
    }
    for length in (0..list.len()).step_by(97) {
        assert!(SquashedValue::from_list(ParameterSet::InsecureToy, &types, &list[..length]).is_err());
    }
    assert!(SquashedValue::from_list(ParameterSet::Production, &types, &list).is_err());
    assert!(SquashedValue::from_list(ParameterSet::InsecureClear, &types, &list).is_err());
    // Whatever bytes come, there is an error or numbers of the right shape, and no panic.
    for position in 0..list.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = list.clone();
            changed[position] ^= change;
            if let Ok(values) = SquashedValue::from_list(ParameterSet::InsecureToy, &types, &changed) {
                assert!(values.iter().zip(types).all(|(value, ty)| u32::from(value.bits) == ty.bits()));
            }
        }
    }
    let widest = TOY.values.iter().position(|(ty, _)| *ty == FheType::Uint256).unwrap();
    let many = vec![&TOY.ciphertexts[widest]; 3];
    assert!(TOY.squasher.squash_list(&many[..2]).is_ok());
    assert!(matches!(TOY.squasher.squash_list(&many), Err(FheError::MalformedCiphertext { .. })));
    assert!(TOY.squasher.squash_list(&[]).is_err());
}

#[test]
fn keys_of_other_parameters_and_clear_key_sets_are_refused() {
    let (squashing, packing) = (&TOY.material.squashing_key, &TOY.material.packing_key);
    assert!(matches!(
        NoiseSquasher::open(&TOY.keys, packing, squashing),
        Err(FheError::KeyMaterial { .. })
    ));
    assert!(NoiseSquasher::open(&TOY.keys, &squashing[..squashing.len() / 2], packing).is_err());
    let directory = tempfile::tempdir().unwrap();
    let clear = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
    assert!(matches!(SquashingMaterial::generate(&clear), Err(FheError::KeyMaterial { .. })));
}
