//! The Rust client on a whole stack: found by what `dev --json` prints, blocking, with permits of both kinds, and cut off from what it may not have.

use alloy::{primitives::Address, sol};
use cipherloom_client::{DevStack, ErrorKind, PermitTerms, UnifiedTerms};
use cipherloom_primitives::{Handle, U256, decryption::RequestedValue};

use crate::{
    dapp::{Examples, Stack, sent},
    process::Running,
};

sol! {
    #[sol(rpc)]
    interface Token {
        function mint(address to, uint64 amount) external;
        function balanceOf(address account) external view returns (bytes32);
    }

    #[sol(rpc)]
    interface Acl {
        function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate) external;
    }
}

/// A stack with a token of which the first two people have some.
async fn token() -> (Stack, Address, Vec<Handle>) {
    let stack = Stack::start().await;
    let token = stack
        .deploy(0, &Examples::Ours.artifact("confidential-token", "ConfidentialToken"), &[])
        .await;
    let contract = Token::new(token, stack.provider(0));
    let mut balances = Vec::new();
    for person in 0..2u64 {
        let account = stack.address(usize::try_from(person).unwrap());
        sent!(contract.mint(account, 100 + person));
        balances.push(Handle::try_from(contract.balanceOf(account).call().await.unwrap()).unwrap());
    }
    (stack, token, balances)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unified_permit_reads_own_and_delegated_values() {
    let (stack, token, balances) = token().await;
    let (alice, bob) = (stack.address(0), stack.address(1));
    let permit = stack
        .client
        .permit(&stack.signer(0), UnifiedTerms::starting_now(vec![], 600))
        .await
        .unwrap();
    let value = |handle, owner| RequestedValue {
        handle,
        contract_address: token,
        owner,
    };
    let both = [value(balances[0], alice), value(balances[1], bob)];
    let refused = stack.client.user_decrypt_of(&both, &permit).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.label()),
        (ErrorKind::Refused, Some("not_allowed_on_host_acl")),
        "{refused}"
    );

    let acl = Acl::new(stack.client.config().addresses.acl, stack.provider(1));
    sent!(acl.delegateForUserDecryption(alice, token, u64::MAX));
    let read = stack.client.user_decrypt_of(&both, &permit).await.unwrap();
    let values: Vec<U256> = read.iter().map(|(_, value)| value.to_u256()).collect();
    assert_eq!(values, [U256::from(100), U256::from(101)]);
    // A classic permit does it for one account.
    let terms = PermitTerms::starting_now(vec![token], 1).on_behalf_of(bob);
    let permit = stack.client.permit(&stack.signer(0), terms).await.unwrap();
    let read = stack.client.user_decrypt(&[(balances[1], token)], &permit).await.unwrap();
    assert_eq!(read[0].1.to_u256(), U256::from(101));
    // A permit of somebody else for the same is of no use.
    let strangers = stack
        .client
        .permit(&stack.signer(2), UnifiedTerms::starting_now(vec![], 600))
        .await
        .unwrap();
    let refused = stack.client.user_decrypt(&[(balances[1], token)], &strangers).await.unwrap_err();
    assert_eq!(refused.label(), Some("not_allowed_on_host_acl"), "{refused}");
    let mut reader = stack.client.reader(stack.signer(1)).for_days(2);
    for _ in 0..2 {
        assert_eq!(reader.read(&[(balances[1], token)]).await.unwrap()[0].1.to_u256(), U256::from(101));
        reader = reader.for_days(3);
    }
}

#[test]
fn programs_without_a_runtime_use_a_stack_by_what_it_prints() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys-of-the-client");
    let arguments = [
        "dev",
        "--json",
        "--insecure-clear",
        "--rpc-port",
        "0",
        "--gateway-port",
        "0",
        "--data-dir",
    ];
    let data_dir = directory.path().join("stack");
    let mut process = Running::start(&[&arguments[..], &[data_dir.to_str().unwrap()]].concat());
    let stack = DevStack::parse(&process.wait_for("rpcUrl")).unwrap();
    assert!(stack.insecure_clear && !stack.insecure_accounts.is_empty());
    for _ in 0..2 {
        let client = stack.client().key_cache(&keys).build_blocking().unwrap();
        let user = stack.insecure_accounts[0].address();
        let input = client.encrypt(Address::repeat_byte(1), user, |input| {
            input
                .add_bool(true)
                .add8(8)
                .add16(16)
                .add32(32)
                .add64(64)
                .add128(128)
                .add_address(user)
                .add256(U256::MAX)
        });
        assert_eq!(input.unwrap().handles.len(), 8);
    }
    assert_eq!(
        std::fs::read_dir(&keys).unwrap().count(),
        2,
        "the public key and the reference string"
    );
    // A secure key is asked for unless the stack is known to hide nothing.
    let suspicious = stack
        .client()
        .trust(cipherloom_client::KeyTrust::AnySecure)
        .build_blocking()
        .unwrap();
    assert_eq!(suspicious.public_key_id().unwrap_err().kind(), ErrorKind::Untrustworthy);
}
