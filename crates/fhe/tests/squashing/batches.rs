//! Several values squashed together give what each gives alone.

use cipherloom_fhe::{
    Ciphertext, CpuBackend, FheBackend, FheError, KeySet, ParameterSet, SquashedInBatch, insecure_test_keys_with_squashing,
};
use cipherloom_primitives::{FheType, TypedOperation, U256};

use crate::TOY;

fn public(ty: FheType, value: u64, backend: &dyn FheBackend) -> Ciphertext {
    let value = U256::from(value);
    backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[]).unwrap()
}

/// Squashes a batch, and counts the steps it took.
fn squash(ciphertexts: &[&Ciphertext]) -> (Vec<SquashedInBatch>, usize) {
    let mut batch = TOY.squasher.batch(ciphertexts);
    let (mut finished, mut steps) = (Vec::new(), 0);
    while !batch.is_over() {
        finished.extend(batch.step());
        steps += 1;
    }
    (finished, steps)
}

#[test]
fn a_batch_gives_each_value_the_list_that_it_has_alone() {
    let all: Vec<&Ciphertext> = TOY.ciphertexts.iter().collect();
    let (finished, _) = squash(&all);
    assert_eq!(
        finished.iter().map(|one| one.index).collect::<Vec<_>>(),
        (0..all.len()).collect::<Vec<_>>()
    );
    for SquashedInBatch { index, list } in finished {
        assert_eq!(
            list.unwrap(),
            TOY.squasher.squash_list(&[all[index]]).unwrap(),
            "{}",
            TOY.values[index].0
        );
    }
    assert!(TOY.squasher.batch(&[]).is_over());
}

#[test]
fn small_values_share_steps_and_large_ones_take_several() {
    let bit = &TOY.ciphertexts[TOY.values.iter().position(|(ty, _)| *ty == FheType::Bool).unwrap()];
    // Three ciphertexts in one step, and a step for each list.
    assert_eq!(squash(&[bit, bit, bit]).1, 4);
    let wide = &TOY.ciphertexts[TOY.values.iter().position(|(ty, _)| *ty == FheType::Uint64).unwrap()];
    // Sixteen ciphertexts, three at a time.
    assert_eq!(squash(&[wide]).1, 7);
}

#[test]
fn a_value_that_cannot_be_squashed_does_not_hold_up_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let clear = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
    let foreign = public(FheType::Uint8, 1, clear.evaluation().unwrap().as_ref());
    let (finished, _) = squash(&[&TOY.ciphertexts[1], &foreign, &TOY.ciphertexts[0]]);
    assert!(finished[0].list.is_ok() && finished[2].list.is_ok());
    assert!(matches!(finished[1].list, Err(FheError::ForeignCiphertext)));
}

#[test]
fn stored_secret_and_public_values_are_squashed_to_what_their_owner_reads() {
    let keys = insecure_test_keys_with_squashing().unwrap();
    let (backend, squasher, secrets) = (
        keys.evaluation().unwrap(),
        keys.noise_squasher().unwrap(),
        keys.squashing_secrets().unwrap(),
    );
    let read = |ciphertext: &Ciphertext, ty| {
        let stored = backend.pack(ciphertext).unwrap();
        let list = squasher.squash_list(&[&backend.unpack(ty, &stored).unwrap()]).unwrap();
        assert_eq!(list, squasher.squash_list(&[&backend.unpack(ty, &stored).unwrap()]).unwrap());
        secrets.decrypt_list(ParameterSet::InsecureToy, ty, &list).unwrap()
    };
    for (ty, value) in &TOY.values {
        let list = keys.encryptor().unwrap().encrypt(&[(*ty, *value)], &crate::metadata()).unwrap();
        let ciphertext = CpuBackend::new(keys.evaluation_keys().unwrap())
            .expand_input(&list)
            .unwrap()
            .remove(0);
        assert_eq!(read(&ciphertext, *ty), *value, "secret {ty}");
        let known = u64::from(*ty != FheType::Bool) * 0x5a + 1;
        let public = public(*ty, known, backend.as_ref());
        assert_eq!(read(&public, *ty), ty.truncate(U256::from(known)), "public {ty}");
    }
}
