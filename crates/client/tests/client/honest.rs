//! What a client gets from an honest server.

use alloy::signers::local::PrivateKeySigner;
use cipherloom_client::{ClientError, PermitTerms, Plaintext};
use cipherloom_contracts::development;
use cipherloom_fhe::FheError;
use cipherloom_primitives::{
    Address, FheType, Handle, HandleOrigin, U256,
    decryption::{RequestError, abi_words},
};

use crate::server::Stack;

const CONTRACT: Address = Address::repeat_byte(0xcc);
const USER: Address = Address::repeat_byte(0x11);

fn one_of_each(stack: &Stack) -> Vec<(Handle, U256)> {
    FheType::ALL
        .into_iter()
        .map(|ty| {
            let value = ty.max_value() - (ty.max_value() >> 2);
            (stack.store(ty.id(), ty, value), value)
        })
        .collect()
}

#[tokio::test]
async fn inputs_of_every_type_get_handles_and_a_proof() {
    let (_stack, client) = Stack::start().await;
    let input = client
        .encrypt(CONTRACT, USER)
        .add_bool(true)
        .add8(8)
        .add16(16)
        .add32(32)
        .add64(64)
        .add128(128)
        .add_address(USER)
        .add256(U256::MAX)
        .encrypt()
        .await
        .unwrap();
    let types: Vec<FheType> = input.handles.iter().map(Handle::fhe_type).collect();
    assert_eq!(types, FheType::ALL);
    assert!(
        input
            .handles
            .iter()
            .enumerate()
            .all(|(index, handle)| handle.origin() == HandleOrigin::Input(u8::try_from(index).unwrap()))
    );
    // Counts, handles, one signature, the extra data.
    assert_eq!(input.input_proof.len(), 2 + 8 * 32 + 65 + 1);
    assert_eq!(input.input_proof[..2], [8, 1]);
    assert_eq!(input.input_proof[2..34], input.handles[0].as_slice()[..]);
    assert_eq!(input.input_proof.last(), Some(&0));
    assert_eq!(client.public_key_id().await.unwrap(), "public-key");
}

#[tokio::test]
async fn inputs_beyond_the_limits_are_refused_before_anything_is_sent() {
    let (stack, client) = Stack::start().await;
    let wide = (0..9).fold(client.encrypt(CONTRACT, USER), |input, _| input.add256(U256::ONE));
    assert!(matches!(
        wide.encrypt().await,
        Err(ClientError::Fhe(FheError::TooManyInputs { .. }))
    ));
    let large = client.encrypt(CONTRACT, USER).add(FheType::Uint8, U256::from(256));
    assert!(matches!(
        large.encrypt().await,
        Err(ClientError::Fhe(FheError::ValueOutOfRange { .. }))
    ));
    assert_eq!(stack.submissions.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn public_values_come_typed_with_words_and_proof() {
    let (stack, client) = Stack::start().await;
    let stored = one_of_each(&stack);
    let handles: Vec<Handle> = stored.iter().map(|(handle, _)| *handle).collect();
    let answer = client.public_decrypt(&handles).await.unwrap();
    for ((handle, value), (answered, plaintext)) in stored.iter().zip(&answer.values) {
        assert_eq!(handle, answered);
        assert_eq!(plaintext.to_u256(), *value);
        assert_eq!(Plaintext::new(handle.fhe_type(), *value), Some(*plaintext));
    }
    let values: Vec<U256> = stored.iter().map(|(_, value)| *value).collect();
    assert_eq!(answer.abi_encoded, abi_words(&values));
    // The number of signatures and one of them; the server sent it twice.
    assert_eq!((answer.proof.len(), answer.proof[0]), (1 + 65, 1));
}

#[tokio::test]
async fn users_and_delegates_read_their_values() {
    let (stack, client) = Stack::start().await;
    let stored = one_of_each(&stack);
    let pairs: Vec<(Handle, Address)> = stored.iter().map(|(handle, _)| (*handle, CONTRACT)).collect();
    let wallet = PrivateKeySigner::from_slice(&[0x31; 32]).unwrap();
    let terms = PermitTerms::starting_now(vec![CONTRACT], 1);
    for terms in [terms.clone(), terms.on_behalf_of(Address::repeat_byte(0x77))] {
        let permit = client.permit(&wallet, terms).await.unwrap();
        for _ in 0..2 {
            let values = client.user_decrypt(&pairs, &permit).await.unwrap();
            let values: Vec<(Handle, U256)> = values.iter().map(|(handle, plaintext)| (*handle, plaintext.to_u256())).collect();
            assert_eq!(values, stored);
        }
    }
}

#[tokio::test]
async fn requests_outside_the_protocol_are_refused_before_anything_is_sent() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::ONE);
    let wallet = PrivateKeySigner::from_slice(&[0x31; 32]).unwrap();
    let request = |error| match error {
        Err(ClientError::Request(error)) => error,
        _ => panic!("must be refused"),
    };
    assert_eq!(request(client.public_decrypt(&[]).await.map(|_| ())), RequestError::NoHandles);
    assert!(matches!(
        request(client.public_decrypt(&[handle; 33]).await.map(|_| ())),
        RequestError::TooManyBits { .. }
    ));
    let terms = |contracts: Vec<Address>, days| PermitTerms::starting_now(contracts, days);
    assert_eq!(
        request(client.permit(&wallet, terms(vec![], 1)).await.map(|_| ())),
        RequestError::ContractCount(0)
    );
    assert_eq!(
        request(client.permit(&wallet, terms(vec![CONTRACT; 11], 1)).await.map(|_| ())),
        RequestError::ContractCount(11)
    );
    assert_eq!(
        request(client.permit(&wallet, terms(vec![CONTRACT], 366)).await.map(|_| ())),
        RequestError::Duration(366)
    );
    let permit = client.permit(&wallet, terms(vec![CONTRACT], 1)).await.unwrap();
    let elsewhere = client.user_decrypt(&[(handle, USER)], &permit).await.map(|_| ());
    assert_eq!(request(elsewhere), RequestError::ContractNotInPermit(USER));
    assert_eq!(stack.submissions.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn another_deployment_is_noticed_when_connecting() {
    let stack = Stack::serve().await;
    let url = stack.url.lock().unwrap().clone();
    let mut domains = development::signing_domains();
    domains.decryption = Address::ZERO;
    let config = cipherloom_client::ClientConfig::new(development::addresses(), domains);
    let result = cipherloom_client::Client::connect(&url, &format!("{url}/rpc"), config.clone()).await;
    assert!(matches!(result, Err(ClientError::Deployment { .. })));
    for bad in ["", "not a url", "ftp://127.0.0.1", "http://127.0.0.1/?a=b"] {
        let config = cipherloom_client::ClientConfig {
            domains: development::signing_domains(),
            ..config.clone()
        };
        let result = cipherloom_client::Client::connect(bad, &format!("{url}/rpc"), config).await;
        assert!(matches!(result, Err(ClientError::Url(_))), "{bad:?}");
    }
}
