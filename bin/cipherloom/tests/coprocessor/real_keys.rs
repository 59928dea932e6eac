//! Real TFHE through the processes: a proven input list, a token transfer on it, and the decrypted balances.

use std::time::Duration;

use cipherloom_fhe::production_test_keys;
use cipherloom_load::{Ledger, LoadError, Random, Role, TenantClient, transaction::Transaction};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};
use cipherloom_private_postgres::shared;
use cipherloom_rpc::fhevm::{common::FheOperation, coprocessor::AsyncComputeRequest};

use crate::{
    ground::{Rows, deployment},
    scale::{self, PATIENCE, STALL},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_transfer_goes_through_the_processes_on_real_tfhe() {
    let keys = production_test_keys().unwrap();
    let decryptor = keys.decryptor().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (rows, url) = Rows::new(shared());
    let deployment = deployment(&url, directory.path());
    deployment.run(&["db", "migrate"]).unwrap();
    let tenant = deployment.add_tenant("real", 12_345, Some(keys.directory())).unwrap();
    let server = deployment.start(Role::Server, &[]).unwrap();
    let worker = deployment.start(Role::Worker, &[]).unwrap();
    let client = TenantClient::new(&server.url().unwrap(), tenant.clone(), PATIENCE).unwrap();

    let metadata = InputMetadata {
        contract: Address::repeat_byte(0xc0),
        user: Address::repeat_byte(0xaa),
        acl: tenant.acl,
        chain_id: tenant.chain_id,
    };
    let plaintexts = [1000, 40, 250].map(|number| (FheType::Uint64, U256::from(number)));
    let list = keys.encryptor().unwrap().encrypt(&plaintexts, &metadata).unwrap();
    // A proof for one user is none for another.
    let stolen = client
        .upload(std::slice::from_ref(&list), metadata.contract, Address::repeat_byte(0xbb))
        .await;
    assert!(matches!(stolen, Err(LoadError::Refused(_))), "{stolen:?}");
    let values = client
        .upload_values(&list, &plaintexts, metadata.contract, metadata.user)
        .await
        .unwrap();
    let [alice, bob, amount] = values.as_slice() else {
        panic!("{values:?}")
    };

    let mut random = Random::from_seed(scale::seed());
    let mut transfer = Transaction::new(&mut random, tenant.chain_id);
    let enough = transfer.binary(FheOperation::FheLe, amount, alice);
    let zero = transfer.trivial(FheType::Uint64, U256::ZERO);
    let moved = transfer.select(&enough, amount, &zero);
    transfer.binary(FheOperation::FheSub, alice, &moved);
    transfer.binary(FheOperation::FheAdd, bob, &moved);
    let (computations, results) = transfer.finish();
    client.compute(&AsyncComputeRequest { computations }).await.unwrap();
    let mut ledger = Ledger::default();
    ledger.accepted(results.clone());
    client.await_all(&mut ledger, decryptor.as_ref(), STALL).await.unwrap();

    // That the ledger compared what it should.
    let fetched = client.fetch(&results[3..]).await.unwrap();
    let balance = |index: usize| {
        let bytes = &fetched[index].as_ref().unwrap().bytes;
        decryptor.decrypt(FheType::Uint64, bytes).unwrap()
    };
    assert_eq!((balance(0), balance(1)), (U256::from(750), U256::from(290)));
    rows.check_all_done(1, results.len());
    worker.terminate(Duration::from_secs(60)).unwrap();
    server.terminate(Duration::from_secs(60)).unwrap();
    scale::report("real TFHE", "a proven list uploaded, a transfer computed, fetched and decrypted");
}
