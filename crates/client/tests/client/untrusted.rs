//! What a client does not believe.

use std::sync::atomic::Ordering;

use alloy::signers::local::PrivateKeySigner;
use cipherloom_client::{Client, ClientError, KeyTrust, Permit, PermitTerms};
use cipherloom_primitives::{Address, FheType, Handle, U256};
use cipherloom_signcryption::SigncryptionError;

use crate::server::{Behaviour, Stack};

const CONTRACT: Address = Address::repeat_byte(0xcc);
const USER: Address = Address::repeat_byte(0x11);

async fn input(client: &Client) -> Result<(), ClientError> {
    client.encrypt(CONTRACT, USER).add8(1).add8(2).encrypt().await.map(|_| ())
}

async fn permit(client: &Client) -> Permit {
    let wallet = PrivateKeySigner::from_slice(&[0x31; 32]).unwrap();
    client.permit(&wallet, PermitTerms::starting_now(vec![CONTRACT], 1)).await.unwrap()
}

async fn user(client: &Client, handle: Handle) -> Result<(), ClientError> {
    let permit = permit(client).await;
    client.user_decrypt(&[(handle, CONTRACT)], &permit).await.map(|_| ())
}

#[tokio::test]
async fn inputs_that_were_not_admitted_by_registered_coprocessors() {
    let (stack, client) = Stack::start().await;
    input(&client).await.expect("an honest answer is accepted");
    for behaviour in [
        Behaviour::StrangerSigns,
        Behaviour::ChangesAnswer,
        Behaviour::NoSignatures,
        Behaviour::ChangesExtraData,
    ] {
        stack.behave(behaviour);
        let error = input(&client).await.unwrap_err();
        assert!(matches!(error, ClientError::Verification { .. }), "{behaviour:?}: {error}");
        assert!(!error.is_retryable());
    }
    stack.behave(Behaviour::RejectsInput);
    assert!(matches!(input(&client).await, Err(ClientError::InputRejected)));
}

#[tokio::test]
async fn public_keys_that_hide_nothing_or_are_of_another_key_set() {
    let (stack, client) = Stack::start().await;
    let (other, _) = Stack::start().await;
    let with = async |key_trust| {
        let url = stack.url.lock().unwrap().clone();
        let config = client.config().clone().trusting(key_trust);
        let client = Client::connect(&url, &format!("{url}/rpc"), config).await.unwrap();
        input(&client).await
    };
    assert!(matches!(
        with(KeyTrust::AnySecure).await,
        Err(ClientError::InsecureKey("insecure-clear"))
    ));
    assert!(matches!(with(KeyTrust::KeySet(other.key_set_id())).await, Err(ClientError::Fhe(_))));
    assert_eq!(stack.submissions.load(Ordering::SeqCst), 0, "nothing was encrypted");
    with(KeyTrust::InsecureAny).await.expect("chosen explicitly");
    with(KeyTrust::KeySet(stack.key_set_id())).await.expect("chosen explicitly");
}

#[tokio::test]
async fn public_plaintexts_that_registered_nodes_did_not_sign() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    client.public_decrypt(&[handle]).await.expect("an honest answer is accepted");
    for behaviour in [Behaviour::StrangerSigns, Behaviour::ChangesAnswer, Behaviour::NoSignatures] {
        stack.behave(behaviour);
        let error = client.public_decrypt(&[handle]).await.unwrap_err();
        assert!(matches!(error, ClientError::Verification { .. }), "{behaviour:?}: {error}");
    }
    stack.behave(Behaviour::ChangesExtraData);
    assert!(matches!(client.public_decrypt(&[handle]).await, Err(ClientError::Malformed { .. })));
}

#[tokio::test]
async fn fewer_signatures_than_the_chains_threshold() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    *stack.threshold.lock().unwrap() = 2;
    // The server sends the same valid signature twice.
    assert!(matches!(
        client.public_decrypt(&[handle]).await,
        Err(ClientError::Verification { .. })
    ));
    assert!(matches!(input(&client).await, Err(ClientError::Verification { .. })));
    *stack.threshold.lock().unwrap() = 0;
    stack.behave(Behaviour::NoSignatures);
    assert!(
        matches!(client.public_decrypt(&[handle]).await, Err(ClientError::Verification { .. })),
        "none is never enough"
    );
}

#[tokio::test]
async fn signed_plaintexts_that_do_not_fit_their_type() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint8, U256::from(256));
    assert!(matches!(client.public_decrypt(&[handle]).await, Err(ClientError::Malformed { .. })));
}

#[tokio::test]
async fn user_answers_that_are_not_from_the_registered_node() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    user(&client, handle).await.expect("an honest answer is accepted");
    for (behaviour, wrong_signer) in [
        (Behaviour::StrangerSigns, true),
        (Behaviour::ChangesAnswer, true),
        (Behaviour::ChangesExtraData, false),
    ] {
        stack.behave(behaviour);
        let Err(ClientError::Signcryption(error)) = user(&client, handle).await else {
            panic!("{behaviour:?} was accepted")
        };
        assert_eq!(
            matches!(error, SigncryptionError::WrongSigner { .. }),
            wrong_signer,
            "{behaviour:?}: {error}"
        );
    }
    for behaviour in [Behaviour::TwoShares, Behaviour::NoSignatures] {
        stack.behave(behaviour);
        assert!(
            matches!(user(&client, handle).await, Err(ClientError::Malformed { .. })),
            "{behaviour:?}"
        );
    }
    stack.behave(Behaviour::Honest);
    stack.kms_signers.lock().unwrap().push(USER);
    assert!(matches!(user(&client, handle).await, Err(ClientError::Committee(2))));
}
