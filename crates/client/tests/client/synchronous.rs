//! The routes of version 1: answers without a second request.

use std::sync::atomic::Ordering;

use cipherloom_client::{Client, ClientError, ClientLimits, ErrorKind, PermitTerms, Routes};
use cipherloom_primitives::{Address, FheType, U256};

use crate::server::{Behaviour, Stack, Version1, limits};

const CONTRACT: Address = Address::repeat_byte(0xcc);

fn requests(stack: &Stack) -> (usize, usize) {
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.swap(0, Ordering::SeqCst);
    (count(&stack.synchronous), count(&stack.submissions))
}

async fn with(stack: &Stack, routes: Routes, limits: ClientLimits) -> Client {
    let url = stack.url.lock().unwrap().clone();
    let config = cipherloom_client::ClientConfig {
        routes,
        limits,
        ..stack.client().await.unwrap().config().clone()
    };
    Client::connect(&url, &format!("{url}/rpc"), config).await.unwrap()
}

#[tokio::test]
async fn answers_come_at_once_where_version_1_is_offered() {
    let (stack, client) = Stack::start().await;
    *stack.version_1.lock().unwrap() = Version1::Offered;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    assert_eq!(
        client.public_decrypt(&[handle]).await.unwrap().values[0].1.to_u256(),
        U256::from(42)
    );
    assert_eq!(requests(&stack), (1, 0));
    client.encrypt(CONTRACT, CONTRACT).add8(1).encrypt().await.unwrap();
    assert_eq!(requests(&stack), (1, 0));
    let wallet = alloy::signers::local::PrivateKeySigner::from_slice(&[0x31; 32]).unwrap();
    let terms = PermitTerms::starting_now(vec![CONTRACT], 1);
    let permit = client.permit(&wallet, terms.clone()).await.unwrap();
    let values = client.user_decrypt(&[(handle, CONTRACT)], &permit).await.unwrap();
    assert_eq!(values[0].1.to_u256(), U256::from(42));
    assert_eq!(requests(&stack), (1, 0));
    // Version 1 has no delegated decryption.
    let permit = client.permit(&wallet, terms.on_behalf_of(Address::repeat_byte(7))).await.unwrap();
    client.user_decrypt(&[(handle, CONTRACT)], &permit).await.unwrap();
    assert_eq!(requests(&stack), (0, 1));
    // Who wants jobs gets jobs.
    let client = with(&stack, Routes::Jobs, limits()).await;
    client.public_decrypt(&[handle]).await.unwrap();
    assert_eq!(requests(&stack), (0, 1));
}

#[tokio::test]
async fn a_gateway_without_version_1_is_asked_for_it_once() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    client.public_decrypt(&[handle]).await.unwrap();
    assert_eq!(requests(&stack), (1, 1));
    client.public_decrypt(&[handle]).await.unwrap();
    assert_eq!(requests(&stack), (0, 1));
}

#[tokio::test]
async fn what_takes_long_becomes_a_job() {
    let (stack, _) = Stack::start().await;
    *stack.version_1.lock().unwrap() = Version1::Slow;
    let patience = ClientLimits {
        synchronous: std::time::Duration::from_millis(50),
        ..limits()
    };
    let client = with(&stack, Routes::Fastest, patience).await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    client.public_decrypt(&[handle]).await.unwrap();
    assert_eq!(requests(&stack), (1, 1));
}

#[tokio::test]
async fn answers_of_version_1_are_believed_no_more_than_others() {
    let (stack, client) = Stack::start().await;
    *stack.version_1.lock().unwrap() = Version1::Offered;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    for behaviour in [Behaviour::StrangerSigns, Behaviour::ChangesAnswer, Behaviour::NoSignatures] {
        stack.behave(behaviour);
        let error = client.public_decrypt(&[handle]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrustworthy, "{behaviour:?}: {error}");
        let error = client.encrypt(CONTRACT, CONTRACT).add8(1).add8(2).encrypt().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrustworthy, "{behaviour:?}: {error}");
    }
    // It has no shape for an input that is rejected; version 2 says it.
    stack.behave(Behaviour::RejectsInput);
    requests(&stack);
    let error = client.encrypt(CONTRACT, CONTRACT).add8(1).encrypt().await.unwrap_err();
    assert!(matches!(error, ClientError::InputRejected), "{error}");
    assert_eq!(requests(&stack), (1, 1));
    stack.behave(Behaviour::Refuses {
        label: "not_allowed_on_host_acl",
        status: 400,
    });
    let error = client.public_decrypt(&[handle]).await.unwrap_err();
    assert_eq!((error.kind(), error.label()), (ErrorKind::Refused, Some("not_allowed_on_host_acl")));
}
