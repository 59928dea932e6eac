//! Taking ciphertexts apart and putting them together.

use std::sync::Arc;

use cipherloom_fhe::{BlockBackend, Ciphertext, ClearBlocks, FheBackend, FheError, KeySet, LookupTable, ParameterSet};
use cipherloom_primitives::{FheType, TypedOperation, U256};

use crate::fixture::TOY;

fn public(backend: &dyn FheBackend, ty: FheType, value: U256) -> Ciphertext {
    backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[]).unwrap()
}

fn clear_backend() -> Arc<dyn FheBackend> {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
    keys.evaluation().unwrap()
}

#[test]
fn a_ciphertext_put_together_again_has_the_same_bytes() {
    let blocks = TOY.backend.blocks().unwrap();
    for (value, ciphertext) in &TOY.values {
        let ty = ciphertext.fhe_type();
        let split = blocks.split(ciphertext).unwrap();
        assert_eq!(split.len(), ty.bits().div_ceil(blocks.message_bits()) as usize, "{ty}");
        assert!(
            split.iter().all(|block| block.noise_level() == 1 && block.public_value().is_none()),
            "{ty}"
        );
        let joined = blocks.join(ty, split).unwrap();
        assert_eq!(
            TOY.backend.serialize(&joined).unwrap(),
            TOY.backend.serialize(ciphertext).unwrap(),
            "{ty}"
        );
        assert_eq!(TOY.decrypt(&joined), *value, "{ty}");
    }
}

#[test]
fn public_ciphertexts_are_public_blocks_and_keep_their_bytes() {
    for ty in FheType::ALL {
        let value = ty.truncate(U256::from_be_bytes([0xe4; 32]) | U256::ONE);
        let ciphertext = public(&TOY.backend, ty, value);
        let split = TOY.blocks.split(&ciphertext).unwrap();
        let digits = split.iter().map(|block| block.public_value().unwrap());
        let expected = (0..split.len()).map(|index| (value >> (2 * index)).byte(0) & 3);
        assert!(digits.eq(expected), "{ty}");
        let joined = TOY.blocks.join(ty, split).unwrap();
        assert_eq!(
            TOY.backend.serialize(&joined).unwrap(),
            TOY.backend.serialize(&ciphertext).unwrap(),
            "{ty}"
        );
    }
}

#[test]
fn clear_ciphertexts_come_apart_and_together() {
    let backend = clear_backend();
    let blocks = backend.blocks().unwrap();
    for ty in FheType::ALL {
        let ciphertext = public(&*backend, ty, ty.truncate(U256::from_be_bytes([0x9c; 32]) | U256::ONE));
        let split = blocks.split(&ciphertext).unwrap();
        let largest = if ty == FheType::Bool { 1 } else { 3 };
        assert!(
            split.iter().all(|block| block.degree() == largest && block.noise_level() == 1),
            "{ty}"
        );
        let joined = blocks.join(ty, split).unwrap();
        assert_eq!(backend.serialize(&joined).unwrap(), backend.serialize(&ciphertext).unwrap(), "{ty}");
    }
}

#[test]
fn results_of_lookups_are_ciphertexts_like_any_other() {
    // Adding by blocks and subtracting by operations leads back.
    let (value, ciphertext) = TOY.values.iter().find(|(_, value)| value.fhe_type() == FheType::Uint8).unwrap();
    let digits = TOY.blocks.split(ciphertext).unwrap();
    let complement = LookupTable::new(&[&[3, 2, 1, 0]]).unwrap();
    let jobs: Vec<_> = digits
        .iter()
        .map(|input| cipherloom_fhe::BootstrapJob { input, table: &complement })
        .collect();
    let inverted = TOY
        .blocks
        .join(FheType::Uint8, TOY.blocks.bootstrap_batch(&jobs).unwrap().concat())
        .unwrap();
    assert_eq!(TOY.decrypt(&inverted), !*value & U256::from(0xff));
    let again = TOY
        .backend
        .evaluate(&TypedOperation::Not { ty: FheType::Uint8 }, &[&inverted])
        .unwrap();
    assert_eq!(TOY.decrypt(&again), *value);
}

#[test]
fn blocks_that_are_not_clean_make_no_ciphertext() {
    let clear = ClearBlocks::insecure_new();
    let digits = TOY.digits();
    let secret = ClearBlocks::insecure_secret(1, 3).unwrap();
    let backends: [(&dyn BlockBackend, _); 2] = [(&clear, secret), (&TOY.blocks, digits[0].clone())];
    for (blocks, digit) in backends {
        let refused = |ty, list| matches!(blocks.join(ty, list), Err(FheError::UncleanBlocks { .. }));
        assert!(refused(FheType::Uint8, vec![digit.clone(); 3]), "too few");
        assert!(refused(FheType::Uint8, vec![digit.clone(); 5]), "too many");
        assert!(refused(FheType::Bool, Vec::new()), "none");
        assert!(refused(FheType::Bool, vec![digit.clone()]), "up to 3 in a bit");
        let zero = blocks.trivial(0);
        let with = |block| vec![zero.clone(), block, zero.clone(), zero.clone()];
        assert!(refused(FheType::Uint8, with(blocks.linear(&[(1, &digit)], 1).unwrap())), "a carry");
        assert!(refused(FheType::Uint8, with(blocks.trivial(4))), "a public carry");
        let noisy = blocks.linear(&[(1, &digit), (0, &digit)], 0).unwrap();
        assert!(blocks.join(FheType::Uint8, with(noisy)).is_ok(), "a block times zero adds no noise");
        let bit = LookupTable::new(&[&[0, 0, 0, 1]]).unwrap();
        let bit = blocks
            .bootstrap_batch(&[cipherloom_fhe::BootstrapJob {
                input: &digit,
                table: &bit,
            }])
            .unwrap();
        let bit = bit[0][0].clone();
        assert!(refused(FheType::Uint8, with(blocks.linear(&[(2, &bit)], 0).unwrap())), "noise");
        assert!(blocks.join(FheType::Bool, vec![bit]).is_ok());
    }
    let foreign = public(&*clear_backend(), FheType::Uint8, U256::ONE);
    assert!(matches!(TOY.blocks.split(&foreign), Err(FheError::ForeignCiphertext)));
    assert!(matches!(clear.split(&TOY.values[1].1), Err(FheError::ForeignCiphertext)));
}
