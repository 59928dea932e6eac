//! Clients of native chains: inputs that nobody signs, and ciphertexts that nodes give.

use std::sync::atomic::Ordering;

use cipherloom_client::ClientError;
use cipherloom_contracts::development;
use cipherloom_primitives::{Address, FheType, Handle, U256, native::NativeInputProof};

use crate::server::Stack;

const CONTRACT: Address = Address::repeat_byte(0xcc);
const USER: Address = Address::repeat_byte(0x11);

#[tokio::test]
async fn an_input_for_a_native_chain_carries_its_list_and_no_gateway_sees_it() {
    let (stack, client) = Stack::start().await;
    *stack.native.lock().unwrap() = true;
    assert!(client.is_native_chain().await.unwrap());
    let input = client.encrypt(CONTRACT, USER).add64(7).add_bool(true).encrypt().await.unwrap();

    let proof = NativeInputProof::parse(&input.input_proof).unwrap();
    assert_eq!(proof.handles, input.handles);
    let types = stack.verify_input(proof.list, CONTRACT, USER).unwrap();
    assert_eq!(types, [FheType::Uint64, FheType::Bool]);
    let chain_id = development::HOST_CHAIN_ID;
    proof.check_handles(&types, development::addresses().acl, chain_id).unwrap();
    assert!(
        input.handles.iter().all(|handle| handle.chain_id() == chain_id),
        "decryptions can be asked for"
    );
    assert_eq!(
        stack.verify_input(proof.list, CONTRACT, CONTRACT),
        None,
        "the proof is bound to the user"
    );
    assert_eq!(
        stack.submissions.load(Ordering::SeqCst) + stack.synchronous.load(Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn what_kind_of_chain_it_is_is_asked_once() {
    let (stack, client) = Stack::start().await;
    assert!(!client.is_native_chain().await.unwrap());
    *stack.native.lock().unwrap() = true;
    assert!(!client.is_native_chain().await.unwrap());
    assert!(stack.client().await.unwrap().is_native_chain().await.unwrap());
}

#[tokio::test]
async fn ciphertexts_are_the_raw_bytes_that_nodes_of_native_chains_give() {
    let (stack, client) = Stack::start().await;
    let known = stack.store(1, FheType::Uint64, U256::from(7));
    let is_no_native_chain = |result: Result<_, ClientError>| match result {
        Err(ClientError::Chain(error)) => assert!(error.to_string().contains("only nodes of native chains"), "{error}"),
        other => panic!("{other:?}"),
    };
    is_no_native_chain(client.ciphertext(known).await);
    *stack.native.lock().unwrap() = true;
    assert_eq!(client.ciphertext(known).await.unwrap(), U256::from(7).to_be_bytes_vec());
    let unknown = Handle::computed([9; 32].into(), development::HOST_CHAIN_ID, FheType::Bool);
    assert!(client.ciphertext(unknown).await.is_err());
}
