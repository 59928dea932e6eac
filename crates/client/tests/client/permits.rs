//! Permits of both kinds: who signs them and how, and how they are kept.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy::signers::{Error, Signature, Signer, SignerSync, local::PrivateKeySigner};
use cipherloom_client::{ClientError, Permit, PermitTerms, UnifiedTerms};
use cipherloom_primitives::{
    Address, B256, FheType, Handle, U256,
    decryption::{RequestError, RequestedValue},
};

use crate::server::{CONTRACT_WALLET, Stack};

const CONTRACT: Address = Address::repeat_byte(0xcc);
const OTHER: Address = Address::repeat_byte(0xcd);

fn wallet() -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&[0x31; 32]).unwrap()
}

fn value(handle: Handle, contract_address: Address, owner: Address) -> RequestedValue {
    RequestedValue {
        handle,
        contract_address,
        owner,
    }
}

#[tokio::test]
async fn unified_permits_read_values_of_several_accounts_in_any_contract() {
    let (stack, client) = Stack::start().await;
    let (one, two) = (stack.store(1, FheType::Uint64, U256::ONE), stack.store(2, FheType::Bool, U256::ONE));
    let permit = client.permit(&wallet(), UnifiedTerms::starting_now(vec![], 60)).await.unwrap();
    assert!(permit.covers(CONTRACT) && permit.covers(OTHER) && permit.is_valid_now());
    let values = [value(one, CONTRACT, wallet().address()), value(two, OTHER, Address::repeat_byte(5))];
    let read = client.user_decrypt_of(&values, &permit).await.unwrap();
    assert_eq!(
        read.iter().map(|(_, value)| value.to_u256()).collect::<Vec<_>>(),
        [U256::ONE, U256::ONE]
    );
    assert_eq!(client.user_decrypt(&[(one, OTHER)], &permit).await.unwrap().len(), 1);

    let narrow = client
        .permit(&wallet(), UnifiedTerms::starting_now(vec![CONTRACT], 60))
        .await
        .unwrap();
    let refused = client.user_decrypt(&[(one, OTHER)], &narrow).await;
    assert!(matches!(
        refused,
        Err(ClientError::Request(RequestError::ContractNotInPermit(OTHER)))
    ));
    let classic = client
        .permit(&wallet(), PermitTerms::starting_now(vec![CONTRACT], 1))
        .await
        .unwrap();
    let refused = client.user_decrypt_of(&[value(one, CONTRACT, OTHER)], &classic).await;
    assert!(matches!(refused, Err(ClientError::Request(RequestError::OwnerNotInPermit { .. }))));
    let endless = client
        .permit(&wallet(), UnifiedTerms::starting_now(vec![], 366 * 86_400))
        .await
        .err();
    assert!(matches!(endless, Some(ClientError::Request(RequestError::DurationSeconds(_)))));
}

#[tokio::test]
async fn wallets_elsewhere_sign_the_digest_or_the_typed_data() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(7));
    let unsigned = client
        .unsigned_permit(wallet().address(), PermitTerms::starting_now(vec![CONTRACT], 1))
        .unwrap();
    let typed: alloy::dyn_abi::TypedData = serde_json::from_value(unsigned.typed_data()).unwrap();
    assert_eq!(typed.eip712_signing_hash().unwrap(), unsigned.digest());
    let signature = wallet().sign_hash_sync(&unsigned.digest()).unwrap();
    let permit = unsigned.signed(signature.as_bytes()).unwrap();
    assert_eq!(
        client.user_decrypt(&[(handle, CONTRACT)], &permit).await.unwrap()[0].1.to_u256(),
        U256::from(7)
    );

    // A wallet that is a contract accepts what it likes.
    let unsigned = client
        .unsigned_permit(CONTRACT_WALLET, UnifiedTerms::starting_now(vec![], 60))
        .unwrap();
    let permit = unsigned.signed([1, 2, 3]).unwrap();
    assert_eq!(
        client.user_decrypt(&[(handle, CONTRACT)], &permit).await.unwrap()[0].1.to_u256(),
        U256::from(7)
    );
    let unsigned = client
        .unsigned_permit(CONTRACT_WALLET, UnifiedTerms::starting_now(vec![], 60))
        .unwrap();
    assert!(matches!(
        unsigned.signed(vec![0; 4097]).err(),
        Some(ClientError::Request(RequestError::SignatureLength(4097)))
    ));
}

#[tokio::test]
async fn a_kept_permit_is_as_good_as_a_new_one() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(7));
    for permit in [
        client
            .permit(&wallet(), PermitTerms::starting_now(vec![CONTRACT], 1))
            .await
            .unwrap(),
        client.permit(&wallet(), UnifiedTerms::starting_now(vec![], 60)).await.unwrap(),
    ] {
        let kept = Permit::from_secret_json(&permit.to_secret_json()).unwrap();
        assert_eq!(
            (kept.user(), kept.terms(), kept.expires_at()),
            (permit.user(), permit.terms(), permit.expires_at())
        );
        client.user_decrypt(&[(handle, CONTRACT)], &kept).await.unwrap();
        let cut = permit.to_secret_json().replace("\"format\":1", "\"format\":2");
        assert!(matches!(Permit::from_secret_json(&cut).err(), Some(ClientError::KeptPermit(_))));
    }
    assert!(matches!(Permit::from_secret_json("{}").err(), Some(ClientError::KeptPermit(_))));
}

/// Counts how often it is asked.
struct CountingWallet(PrivateKeySigner, Arc<AtomicUsize>);

impl Signer for CountingWallet {
    fn sign_hash<'a, 'b, 'c>(&'a self, hash: &'b B256) -> Pin<Box<dyn Future<Output = Result<Signature, Error>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
    {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.sign_hash(hash)
    }

    fn address(&self) -> Address {
        self.0.address()
    }

    fn chain_id(&self) -> Option<u64> {
        None
    }

    fn set_chain_id(&mut self, _: Option<u64>) {}
}

#[tokio::test]
async fn a_reader_asks_its_wallet_once_for_each_set_of_contracts() {
    let (stack, client) = Stack::start().await;
    let handle = stack.store(1, FheType::Uint64, U256::from(7));
    let count = Arc::new(AtomicUsize::new(0));
    let asked = || count.load(Ordering::SeqCst);
    let reader = client.reader(CountingWallet(wallet(), Arc::clone(&count)));
    for _ in 0..3 {
        assert_eq!(reader.read(&[(handle, CONTRACT)]).await.unwrap()[0].1.to_u256(), U256::from(7));
    }
    assert_eq!(asked(), 1);
    reader.read(&[(handle, CONTRACT), (handle, OTHER)]).await.unwrap();
    reader.read(&[(handle, OTHER)]).await.unwrap();
    reader.read(&[(handle, CONTRACT)]).await.unwrap();
    assert_eq!(asked(), 2);
    reader.forget_permits().await;
    reader.read(&[(handle, OTHER)]).await.unwrap();
    assert_eq!(asked(), 3);
}
