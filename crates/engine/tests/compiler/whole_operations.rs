//! Programs of whole operations, for backends that have no use for blocks.

use std::{collections::HashMap, sync::Arc};

use cipherloom_engine::{Engine, EnginePool, Granularity, PoolOptions};
use cipherloom_primitives::{Handle, U256};

use crate::{
    encrypted::{clear_backend, encrypt_inputs},
    random_graphs::{random_outputs, random_transaction},
    support::{Random, Transaction, effort, reference},
    table::transfer,
};

fn operations() -> Engine {
    Engine {
        granularity: Granularity::Operations,
        ..Engine::default()
    }
}

#[test]
fn whole_operations_agree_with_the_reference_and_bootstrap_nothing() {
    for seed in 0..effort(300) as u64 {
        let mut random = Random(seed);
        let transaction = random_transaction(&mut random, 24);
        let outputs = random_outputs(&mut random, &transaction);
        let graph = transaction.graph(&outputs);
        let program = operations().compile(&graph).program;
        assert_eq!(program.bootstraps(), 0, "seed {seed}");
        let values = transaction.values(&mut random);
        let results = program.simulate(&values);
        for (handle, expected) in reference(&graph, &values) {
            assert_eq!(results[&handle].clone().unwrap(), expected, "seed {seed}: {handle}");
        }
    }
}

#[test]
fn a_transfer_of_whole_operations_is_right_under_encryption() {
    let keys = cipherloom_fhe::insecure_test_keys().unwrap();
    let (backend, decryptor) = (keys.evaluation().unwrap(), keys.decryptor().unwrap());
    let mut transaction = Transaction::default();
    let outputs = transfer(&mut transaction);
    let graph = transaction.graph(&outputs);
    let values: HashMap<Handle, U256> = transaction
        .inputs
        .iter()
        .copied()
        .zip([700_u64, 1_000, 5].map(U256::from))
        .collect();
    let inputs = encrypt_inputs(&keys, &transaction, &values);
    let program = operations().compile(&graph).program;
    assert_eq!(program.opaque().count(), 4);
    let results = operations().evaluate(backend.as_ref(), &program, &inputs).unwrap();
    for (handle, expected) in reference(&graph, &values) {
        let bytes = backend.serialize(results[&handle].as_ref().unwrap()).unwrap();
        assert_eq!(decryptor.decrypt(handle.fhe_type(), &bytes).unwrap(), expected);
    }
}

#[test]
fn a_pool_takes_the_granularity_of_its_backend() {
    let backend = clear_backend();
    assert!(!backend.evaluates_whole_operations());
    let options = PoolOptions {
        engine: operations(),
        ..PoolOptions::default()
    };
    let pool = EnginePool::start(Arc::clone(&backend), options).unwrap();
    assert_eq!(pool.engine().granularity, Granularity::Blocks);
}
