//! Reads of the access list.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::ACL;
use cipherloom_primitives::{FheType, Handle};

use crate::fixture::{Bench, REQUESTER, addresses};

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_read_as_the_acl_has_them() {
    let bench = Bench::deployed().await;
    let (handle, _) = bench.request_value(7).await;
    assert!(bench.host.persist_allowed(handle, bench.user()).await.unwrap());
    assert!(
        !bench.host.persist_allowed(handle, REQUESTER).await.unwrap(),
        "a right for one transaction was reported as permanent"
    );

    assert!(!bench.host.is_allowed_for_decryption(handle).await.unwrap());
    let call = ACL::allowForDecryptionCall {
        handlesList: vec![handle.as_b256()],
    };
    bench.send(addresses().acl, call.abi_encode()).await;
    assert!(bench.host.is_allowed_for_decryption(handle).await.unwrap());

    let unknown = Handle::computed(B256::ZERO, handle.chain_id(), FheType::Bool);
    assert!(!bench.host.persist_allowed(unknown, bench.user()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_delegations_and_invalidations_are_read() {
    let bench = Bench::deployed().await;
    let (handle, _) = bench.request_value(7).await;
    assert!(!bench.host.is_account_denied(bench.user()).await.unwrap());

    let (delegate, contract) = (Address::repeat_byte(0xde), Address::repeat_byte(0xcc));
    let delegated = || {
        bench
            .host
            .is_handle_delegated_for_user_decryption(bench.user(), delegate, contract, handle)
    };
    assert!(!delegated().await.unwrap());
    // The contract needs the right to the handle too.
    bench
        .send(
            addresses().acl,
            ACL::allowCall {
                handle: handle.as_b256(),
                account: contract,
            }
            .abi_encode(),
        )
        .await;
    let call = ACL::delegateForUserDecryptionCall {
        delegate,
        contractAddress: contract,
        expirationDate: u64::MAX,
    };
    bench.send(addresses().acl, call.abi_encode()).await;
    assert!(delegated().await.unwrap());

    assert_eq!(
        bench.host.decryption_signatures_invalidated_before(bench.user()).await.unwrap(),
        U256::ZERO
    );
    let call = ACL::invalidateDecryptionSignaturesBeforeCall { timestamp: U256::ZERO };
    bench.send(addresses().acl, call.abi_encode()).await;
    assert!(bench.host.decryption_signatures_invalidated_before(bench.user()).await.unwrap() > U256::ZERO);
}
