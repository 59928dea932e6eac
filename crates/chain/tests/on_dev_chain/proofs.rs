//! Storage of the ACL, proven.

use alloy::{
    primitives::{Address, B256, U256},
    providers::{Provider, RootProvider},
    sol_types::SolCall,
};
use cipherloom_chain::{
    ChainError,
    proof::{slot_of_allowance_for_decryption, slot_of_persisted_allowance, verify},
};
use cipherloom_contracts::bindings::ACL;

use crate::fixture::{Bench, addresses};

async fn head(bench: &Bench) -> B256 {
    let number = bench.node.chain().block_number().unwrap();
    bench.host.header(number.into()).await.unwrap().unwrap().hash
}

#[tokio::test(flavor = "multi_thread")]
async fn allowances_are_proven_as_the_contract_says_them() {
    let bench = Bench::deployed().await;
    // Code that was put in place by hand is in the state of the next block.
    bench.node.chain().mine(1).unwrap();
    let before = head(&bench).await;
    let (handle, _) = bench.request_value(7).await;
    let granted = head(&bench).await;
    let call = ACL::allowForDecryptionCall {
        handlesList: vec![handle.as_b256()],
    };
    bench.send(addresses().acl, call.abi_encode()).await;
    let published = head(&bench).await;

    let (user, other) = (bench.user(), Address::repeat_byte(9));
    for (block, allowed, public) in [(before, false, false), (granted, true, false), (published, true, true)] {
        assert_eq!(bench.host.prove_persist_allowed(handle, user, block).await.unwrap(), allowed);
        assert_eq!(bench.host.prove_allowed_for_decryption(handle, block).await.unwrap(), public);
        assert!(!bench.host.prove_persist_allowed(handle, other, block).await.unwrap());
    }
    assert!(bench.host.persist_allowed(handle, user).await.unwrap());
    assert!(bench.host.is_allowed_for_decryption(handle).await.unwrap());
    let error = bench
        .host
        .prove_persist_allowed(handle, user, B256::repeat_byte(1))
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::BlockGone(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_was_changed_proves_nothing() {
    let bench = Bench::deployed().await;
    let (handle, _) = bench.request_value(7).await;
    let block = head(&bench).await;
    let root = bench.host.header_with_hash(block).await.unwrap().unwrap().state_root;
    let (acl, slot) = (addresses().acl, slot_of_persisted_allowance(handle, bench.user()));
    let provider: RootProvider = RootProvider::new_http(bench.node.rpc_url().parse().unwrap());
    let proof = provider.get_proof(acl, vec![slot]).hash(block).await.unwrap();
    assert_eq!(verify(&proof, root, acl, slot).unwrap(), U256::from(1));

    let refused = |proof: &_, root, contract, slot| {
        let error = verify(proof, root, contract, slot).unwrap_err();
        assert!(matches!(error, ChainError::Proof { .. }), "{error}");
    };
    refused(&proof, B256::repeat_byte(3), acl, slot);
    refused(&proof, root, addresses().executor, slot);
    refused(&proof, root, acl, slot_of_allowance_for_decryption(handle));
    let mut zero = proof.clone();
    zero.storage_proof[0].value = U256::ZERO;
    refused(&zero, root, acl, slot);
    let mut other_storage = proof.clone();
    other_storage.storage_hash = B256::repeat_byte(4);
    refused(&other_storage, root, acl, slot);
    let mut absent = proof.clone();
    absent.account_proof.pop();
    refused(&absent, root, acl, slot);
    let mut flipped = proof.clone();
    let node = flipped.storage_proof[0].proof.last_mut().unwrap();
    let mut bytes = node.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    *node = bytes.into();
    refused(&flipped, root, acl, slot);
    let mut long = proof;
    let node = long.storage_proof[0].proof[0].clone();
    long.storage_proof[0].proof = vec![node; 100];
    refused(&long, root, acl, slot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_does_not_exist_has_nothing() {
    let bench = Bench::deployed().await;
    bench.node.chain().mine(1).unwrap();
    let block = head(&bench).await;
    let value = bench
        .host
        .prove_storage(Address::repeat_byte(0x55), B256::ZERO, block)
        .await
        .unwrap();
    assert_eq!(value, U256::ZERO);
}
