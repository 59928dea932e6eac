//! Tenants that share key sets share their memory.

use std::{path::PathBuf, sync::Arc};

use cipherloom_fhe::{KeySet, ParameterSet, insecure_test_keys, production_test_keys};
use cipherloom_load::{Ledger, Process, Role, Shape, TenantClient, Traffic};
use cipherloom_private_postgres::shared;

use crate::{
    ground::{Rows, deployment},
    scale::{self, PATIENCE, STALL},
};

/// How much more memory ten tenants may take than two with the same key sets. If each had its own, it would be four times as much more.
/// Not 1: ten tenants have more transactions under way at a time, and what these needed stays with the allocator for a while.
const BOUND: f64 = 1.5;

/// The second of two real key sets. At reduced scale it is one without security, because making another real one takes a minute: most of the memory
/// is then that of the first, which half of the tenants share, so that the comparison means the same.
fn second_keys() -> Arc<KeySet> {
    if !scale::is_full() {
        return insecure_test_keys().unwrap();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = target.join("cipherloom-test-keys").join("production-second-2");
    Arc::new(KeySet::open_or_generate(&directory, ParameterSet::Production, &()).unwrap())
}

/// Has a worker compute for this many tenants with two key sets between them, and returns the worker's memory in bytes.
async fn memory_of(tenants: u64, key_sets: &[Arc<KeySet>; 2]) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let (rows, url) = Rows::new(shared());
    let deployment = deployment(&url, directory.path());
    deployment.run(&["db", "migrate"]).unwrap();
    let access: Vec<_> = (0..tenants)
        .map(|number| {
            let keys = &key_sets[usize::try_from(number % 2).unwrap()];
            deployment
                .add_tenant(&format!("tenant-{number}"), 100 + number, Some(keys.directory()))
                .unwrap()
        })
        .collect();
    assert_eq!(rows.count("SELECT count(*) FROM key_sets"), 2, "key sets are stored once");
    let server = deployment.start(Role::Server, &[]).unwrap();
    // Keys are what is compared: values that are kept for later transactions grow with the number of tenants, up to a limit of their own.
    let worker: Process = deployment.start(Role::Worker, &["--ciphertext-cache-mib", "16"]).unwrap();
    let seed = scale::seed();
    let mut work = Vec::new();
    for (number, access) in access.iter().enumerate() {
        let client = TenantClient::new(&server.url().unwrap(), Arc::clone(access), PATIENCE).unwrap();
        let mut traffic = Traffic::of_shapes(seed, access.chain_id, &[Shape::Count]);
        let mut ledger = Ledger::default();
        for batch in [traffic.opening(), traffic.batch(1)] {
            client.compute(&batch.request).await.unwrap();
            ledger.accepted(batch.results);
        }
        work.push((client, ledger, key_sets[number % 2].decryptor().unwrap()));
    }
    for (client, ledger, decryptor) in &mut work {
        client.await_all(ledger, decryptor.as_ref(), STALL).await.unwrap();
    }
    let (now, _) = worker.memory().expect("the system tells how much memory a process takes");
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tenants_with_two_key_sets_take_the_memory_of_two() {
    let key_sets = [production_test_keys().unwrap(), second_keys()];
    let two = memory_of(2, &key_sets).await;
    let ten = memory_of(10, &key_sets).await;
    #[expect(clippy::cast_precision_loss, reason = "some billions")]
    let ratio = ten as f64 / two as f64;
    scale::report(
        "memory",
        &format!(
            "10 tenants {} MB, 2 tenants {} MB: ratio {ratio:.2} (bound {BOUND})",
            ten / 1_000_000,
            two / 1_000_000
        ),
    );
    assert!(ratio < BOUND, "10 tenants take {ten} bytes, 2 take {two}");
}
