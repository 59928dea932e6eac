//! Inputs of native chains, with a node that reads the first bytes of a list as its types.

use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolCall,
};
use axum::{Json, Router, routing::post};
use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_contracts::{HostAddresses, bindings::FheLib, development};
use cipherloom_gateway::{
    Label,
    services::{Admission, AdmissionRequest},
};
use cipherloom_primitives::{FheType, native::NativeInputProof};
use serde_json::{Value, json};

use super::admit;

const USER: Address = Address::repeat_byte(0x11);
const CONTRACT: Address = Address::repeat_byte(0x22);
const CHAIN: u64 = 31338;

/// Answers calls of the library: a list is as many values as its first byte says, of the types that follow.
async fn node(Json(request): Json<Value>) -> Json<Value> {
    let answer = |field: &str, value: Value| Json(json!({"jsonrpc": "2.0", "id": request["id"], field: value}));
    let data: Bytes = serde_json::from_value(request["params"][0]["input"].clone()).unwrap();
    let call = FheLib::verifyInputCall::abi_decode(&data).unwrap();
    assert_eq!(
        (call.acl, call.user, call.contractAddress),
        (development::addresses().acl, USER, CONTRACT)
    );
    match call.list.split_first() {
        Some((count, rest)) if *count < 0xff => {
            let types: Bytes = rest.iter().take(usize::from(*count)).copied().collect();
            answer("result", json!(Bytes::from(FheLib::verifyInputCall::abi_encode_returns(&types))))
        }
        _ => answer("error", json!({"code": 3, "message": "execution reverted"})),
    }
}

async fn host() -> HostChain {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(node))).await });
    of_url(&url, development::addresses())
}

fn of_url(url: &str, addresses: HostAddresses) -> HostChain {
    let limits = CallLimits {
        attempts: 1,
        ..CallLimits::default()
    };
    HostChain::with_limits(url, addresses, limits).unwrap()
}

fn request(list: &'static [u8]) -> AdmissionRequest {
    AdmissionRequest {
        contract: CONTRACT,
        user: USER,
        chain_id: CHAIN,
        list: Bytes::from_static(list),
        extra_data: Bytes::from_static(&[0]),
    }
}

#[tokio::test]
async fn an_answer_put_together_is_the_proof_that_the_chain_takes() {
    let types = [FheType::Uint64, FheType::Bool];
    let sent = request(&[2, 5, 0, 0xaa, 0xbb]);
    let Admission::Admitted(input) = admit(&host().await, &sent).await.unwrap() else {
        panic!("it was rejected");
    };
    assert!(input.signatures.is_empty());
    let mut proof = vec![u8::try_from(input.handles.len()).unwrap(), 0];
    input.handles.iter().for_each(|handle| proof.extend_from_slice(handle.as_slice()));
    proof.extend_from_slice(&input.extra_data);
    let parsed = NativeInputProof::parse(&proof).unwrap();
    assert_eq!(parsed.list, &sent.list[..]);
    parsed.check_handles(&types, development::addresses().acl, CHAIN).unwrap();
    assert_eq!(input.handles.iter().map(|handle| handle.fhe_type()).collect::<Vec<_>>(), types);
    assert!(input.handles.iter().all(|handle| handle.chain_id() == CHAIN));
}

#[tokio::test]
async fn what_is_no_list_or_an_empty_one_is_rejected() {
    let host = host().await;
    for list in [&[0xff, 1, 2][..], &[0]] {
        let answer = admit(&host, &request(list)).await.unwrap();
        assert!(matches!(answer, Admission::Rejected { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn extra_data_that_nobody_signs_are_refused() {
    let mut sent = request(&[1, 5]);
    sent.extra_data = Bytes::from_static(&[1, 2]);
    let error = admit(&host().await, &sent).await.unwrap_err();
    assert_eq!(error.label, Label::RequestError);
}

#[tokio::test]
async fn a_node_that_is_away_is_no_verdict() {
    let host = of_url("http://127.0.0.1:1", development::addresses());
    let error = admit(&host, &request(&[1, 5])).await.unwrap_err();
    assert_eq!(error.label, Label::GatewayNotReachable);
}
