//! Programs on backends: the clear one, and encryption with toy parameters.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use cipherloom_engine::{Engine, Policy};
use cipherloom_fhe::{Ciphertext, FheBackend, KeySet, ParameterSet, insecure_test_keys, production_test_keys};
use cipherloom_primitives::{Address, FheType, Handle, TypedOperation, U256, input::InputMetadata};

use crate::{
    random_graphs::{random_outputs, random_transaction},
    support::{Random, Transaction, effort, reference},
    table::transfer,
};

pub(crate) fn clear_backend() -> Arc<dyn FheBackend> {
    static BACKEND: OnceLock<Arc<dyn FheBackend>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        keys.evaluation().unwrap()
    });
    Arc::clone(backend)
}

/// The clear backend's ciphertext of a value.
pub(crate) fn encrypt(backend: &dyn FheBackend, ty: FheType, value: U256) -> Ciphertext {
    backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[]).unwrap()
}

/// Encrypts the inputs of a transaction as a client does.
pub(crate) fn encrypt_inputs(keys: &KeySet, transaction: &Transaction, values: &HashMap<Handle, U256>) -> HashMap<Handle, Ciphertext> {
    let backend = keys.evaluation().unwrap();
    let encryptor = keys.encryptor().unwrap();
    let metadata = InputMetadata {
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        acl: Address::repeat_byte(3),
        chain_id: 1,
    };
    let mut ciphertexts = HashMap::new();
    // A list holds 2048 bits.
    for handles in transaction.inputs.chunks(8) {
        let plain: Vec<_> = handles.iter().map(|handle| (handle.fhe_type(), values[handle])).collect();
        let list = encryptor.encrypt(&plain, &metadata).unwrap();
        ciphertexts.extend(handles.iter().copied().zip(backend.expand_input(&list).unwrap()));
    }
    ciphertexts
}

fn contains_random(transaction: &Transaction) -> bool {
    let is_random = |operation: &TypedOperation| matches!(operation, TypedOperation::Rand { .. });
    transaction.computations.iter().any(|computation| is_random(&computation.operation))
}

#[test]
fn encrypted_graphs_agree_with_the_clear_reference() {
    let keys = insecure_test_keys().unwrap();
    let (backend, decryptor) = (keys.evaluation().unwrap(), keys.decryptor().unwrap());
    let mut done = 0;
    for seed in 1000.. {
        let mut random = Random(seed);
        let transaction = random_transaction(&mut random, 12);
        // Random values are others under encryption.
        if contains_random(&transaction) {
            continue;
        }
        let outputs = random_outputs(&mut random, &transaction);
        let graph = transaction.graph(&outputs);
        let values = transaction.values(&mut random);
        let ciphertexts = encrypt_inputs(&keys, &transaction, &values);
        let policy = random.pick(&Policy::ALL);
        let engine = Engine {
            policy,
            ..Engine::default()
        };
        let program = engine.compile(&graph).program;
        let results = engine.evaluate(backend.as_ref(), &program, &ciphertexts).unwrap();
        for (handle, expected) in reference(&graph, &values) {
            let bytes = backend.serialize(results[&handle].as_ref().unwrap()).unwrap();
            let found = decryptor.decrypt(handle.fhe_type(), &bytes).unwrap();
            assert_eq!(found, expected, "seed {seed}: {handle}");
        }
        done += 1;
        if done == effort(25) {
            break;
        }
    }
}

#[test]
fn all_policies_give_the_same_bytes_under_encryption() {
    let keys = insecure_test_keys().unwrap();
    let backend = keys.evaluation().unwrap();
    let mut random = Random(5);
    let transaction = random_transaction(&mut random, 25);
    let outputs = random_outputs(&mut random, &transaction);
    let values = transaction.values(&mut random);
    let ciphertexts = encrypt_inputs(&keys, &transaction, &values);
    let bytes = |policy| -> Vec<Vec<u8>> {
        let engine = Engine {
            policy,
            ..Engine::default()
        };
        let program = engine.compile(&transaction.graph(&outputs)).program;
        let results = engine.evaluate(backend.as_ref(), &program, &ciphertexts).unwrap();
        results
            .values()
            .map(|result| backend.serialize(result.as_ref().unwrap()).unwrap())
            .collect()
    };
    let first = bytes(Policy::Batched);
    assert!(!first.is_empty());
    for policy in Policy::ALL {
        assert_eq!(bytes(policy), first, "{policy:?}");
    }
}

#[test]
fn a_token_transfer_is_right_on_production_parameters_and_takes_128_bootstraps() {
    let keys = production_test_keys().unwrap();
    let (backend, decryptor) = (keys.evaluation().unwrap(), keys.decryptor().unwrap());
    let mut transaction = Transaction::default();
    let outputs = transfer(&mut transaction);
    let graph = transaction.graph(&outputs);
    let amounts = [1_000_u64, 1_000_000_007, u64::MAX - 5];
    let values = transaction.inputs.iter().copied().zip(amounts.map(U256::from)).collect();
    let ciphertexts = encrypt_inputs(&keys, &transaction, &values);
    let engine = Engine::default();
    let program = engine.compile(&graph).program;
    let blocks = backend.blocks().unwrap();
    blocks.preferred_batch();
    let before = blocks.bootstraps();
    let start = std::time::Instant::now();
    let results = engine.evaluate(backend.as_ref(), &program, &ciphertexts).unwrap();
    println!("a transfer took {:?}", start.elapsed());
    assert!(
        blocks.bootstraps() - before >= 128,
        "others count here too, but nothing is for free"
    );
    for (handle, expected) in reference(&graph, &values) {
        let bytes = backend.serialize(results[&handle].as_ref().unwrap()).unwrap();
        assert_eq!(decryptor.decrypt(handle.fhe_type(), &bytes).unwrap(), expected, "{handle}");
    }
}
