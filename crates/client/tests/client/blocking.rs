//! The client without a runtime of the caller's.

use cipherloom_client::{Client, ClientError, KeyTrust, PermitTerms, blocking};
use cipherloom_contracts::development;
use cipherloom_primitives::{Address, FheType, U256};

use crate::server::{Stack, limits};

#[test]
fn everything_works_without_a_runtime() {
    let server = tokio::runtime::Runtime::new().unwrap();
    let stack = server.block_on(Stack::serve());
    let url = stack.url.lock().unwrap().clone();
    let contract = Address::repeat_byte(0xcc);
    let client = Client::builder(&url, format!("{url}/rpc"))
        .addresses(development::addresses())
        .trust(KeyTrust::KeySet(stack.key_set_id()))
        .limits(limits())
        .build_blocking()
        .unwrap();
    assert_eq!(client.config().domains, development::signing_domains(), "asked of the chain");
    assert_eq!(client.public_key_id().unwrap(), "public-key");
    let input = client.encrypt(contract, contract, |input| input.add8(1).add_bool(true)).unwrap();
    assert_eq!(input.handles.len(), 2);
    let handle = stack.store(1, FheType::Uint64, U256::from(7));
    assert_eq!(client.public_decrypt(&[handle]).unwrap().values[0].1.to_u256(), U256::from(7));
    let wallet = alloy::signers::local::PrivateKeySigner::from_slice(&[0x31; 32]).unwrap();
    let permit = client.permit(&wallet, PermitTerms::starting_now(vec![contract], 1)).unwrap();
    // From several threads at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (client, permit) = (client.clone(), &permit);
            scope.spawn(move || assert_eq!(client.user_decrypt(&[(handle, contract)], permit).unwrap().len(), 1));
        }
    });

    // Inside of asynchronous tasks it refuses, and can be dropped.
    server.block_on(async move {
        assert!(matches!(client.public_decrypt(&[handle]), Err(ClientError::InsideRuntime)));
        let builder = Client::builder(&url, format!("{url}/rpc")).insecure_development();
        assert!(matches!(builder.build_blocking().err(), Some(ClientError::InsideRuntime)));
        drop(client);
    });
}

#[test]
fn a_builder_must_be_told_where_the_contracts_are() {
    let nowhere = Client::builder("http://127.0.0.1:1", "http://127.0.0.1:1").build_blocking();
    assert!(matches!(nowhere.err(), Some(ClientError::Configuration { what: "addresses", .. })));
    let _: fn() -> Option<blocking::Client> = || None;
}
