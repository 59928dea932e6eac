//! Inputs of native chains, checked and named without a node; deposits need one.

use std::sync::Arc;

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_contracts::development;
use cipherloom_fhe::{EncryptInputs, KeySet, ParameterSet};
use cipherloom_gateway::{
    Label,
    services::{Admission, AdmissionRequest},
};
use cipherloom_primitives::{Bytes, FheType, U256, input::InputMetadata, native::NativeInputProof};

use super::{
    NativeInputs,
    deposits::{DepositLimits, Deposits},
};

const USER: Address = Address::repeat_byte(0x11);
const CONTRACT: Address = Address::repeat_byte(0x22);
const CHAIN: u64 = 31338;
const TYPES: [FheType; 2] = [FheType::Uint64, FheType::Bool];

fn keys() -> Arc<dyn EncryptInputs> {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
    Arc::from(keys.encryptor().unwrap())
}

/// A chain whose node is away.
fn away() -> HostChain {
    let limits = CallLimits {
        attempts: 1,
        ..CallLimits::default()
    };
    HostChain::with_limits("http://127.0.0.1:1", development::addresses(), limits).unwrap()
}

fn bound_to(user: Address) -> InputMetadata {
    InputMetadata {
        contract: CONTRACT,
        user,
        acl: development::addresses().acl,
        chain_id: CHAIN,
    }
}

fn request(keys: &dyn EncryptInputs, encrypted_by: Address) -> AdmissionRequest {
    let values = TYPES.map(|ty| (ty, U256::ONE));
    AdmissionRequest {
        contract: CONTRACT,
        user: USER,
        chain_id: CHAIN,
        list: keys.encrypt(&values, &bound_to(encrypted_by)).unwrap().into(),
        extra_data: Bytes::from_static(&[0]),
    }
}

#[tokio::test]
async fn an_answer_put_together_is_the_proof_that_the_chain_takes() {
    let keys = keys();
    let sent = request(keys.as_ref(), USER);
    let inputs = NativeInputs::new(away(), keys, None);
    let Admission::Admitted(input) = inputs.admit(&sent).await.unwrap() else {
        panic!("it was rejected");
    };
    assert!(input.signatures.is_empty());
    let mut proof = vec![u8::try_from(input.handles.len()).unwrap(), 0];
    input.handles.iter().for_each(|handle| proof.extend_from_slice(handle.as_slice()));
    proof.extend_from_slice(&input.extra_data);
    let parsed = NativeInputProof::parse(&proof).unwrap();
    assert_eq!(parsed.list, &sent.list[..]);
    parsed.check_handles(&TYPES, development::addresses().acl, CHAIN).unwrap();
    assert_eq!(input.handles.iter().map(|handle| handle.fhe_type()).collect::<Vec<_>>(), TYPES);
    assert!(input.handles.iter().all(|handle| handle.chain_id() == CHAIN));
}

#[tokio::test]
async fn what_is_no_list_and_proofs_of_others_are_rejected_before_anybody_pays() {
    let keys = keys();
    let mut broken = request(keys.as_ref(), USER);
    broken.list = broken.list.slice(..broken.list.len() - 1);
    let of_another = request(keys.as_ref(), CONTRACT);
    // Nothing is asked of the node, which is away.
    let limits = DepositLimits {
        per_hour: 1,
        max_fee_per_gas: 1,
    };
    let deposits = Deposits::new(away(), PrivateKeySigner::random(), limits);
    let inputs = NativeInputs::new(away(), keys, Some(deposits));
    for refused in [broken, of_another] {
        let answer = inputs.admit(&refused).await.unwrap();
        assert!(matches!(answer, Admission::Rejected { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn extra_data_that_nobody_signs_are_refused() {
    let keys = keys();
    let mut sent = request(keys.as_ref(), USER);
    sent.extra_data = Bytes::from_static(&[1, 2]);
    let error = NativeInputs::new(away(), keys, None).admit(&sent).await.unwrap_err();
    assert_eq!(error.label, Label::RequestError);
}

#[tokio::test]
async fn a_deposit_that_cannot_be_made_now_is_no_answer() {
    let keys = keys();
    let sent = request(keys.as_ref(), USER);
    let limits = DepositLimits {
        per_hour: 1,
        max_fee_per_gas: u128::MAX,
    };
    let deposits = Deposits::new(away(), PrivateKeySigner::random(), limits);
    let error = NativeInputs::new(away(), keys, Some(deposits)).admit(&sent).await.unwrap_err();
    assert_eq!(error.label, Label::GatewayNotReachable);
}
