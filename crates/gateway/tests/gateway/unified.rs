//! User decryptions under unified permits: version 3 of the routes.

use cipherloom_primitives::{
    Address, Bytes,
    decryption::{DecryptionPermit, UnifiedPermit, UserDecryptionRequest},
};
use serde_json::{Value, json};

use crate::services::{CHAIN, CONTRACT, Stack, domains, handle, sign, signer};

const PATH: &str = "/v3/user-decrypt";

/// A request of the user for two values, one of them another account's, signed with these contracts.
fn body(contracts: &[Address]) -> Value {
    let user = signer(3).address();
    let permit = UnifiedPermit {
        allowed_contracts: contracts.to_vec(),
        start_timestamp: 1_795_200_514,
        duration_seconds: 3600,
    };
    let request = UserDecryptionRequest {
        // What is decrypted is not signed.
        values: Vec::new(),
        user,
        permit: DecryptionPermit::Unified(permit),
        public_key: vec![0xab; 869].into(),
        extra_data: Bytes::from_static(&[0]),
        signature: Bytes::new(),
    };
    let value = |tag, owner: Address| json!({ "ctHandle": handle(tag).to_string(), "contractAddress": CONTRACT, "ownerAddress": owner });
    json!({
        "attestationType": "eip712-unified-user-decrypt-v1",
        "attestedPayload": {
            "version": "2.0",
            "type": "user_decryption",
            "handles": [value(1, user), value(2, Address::repeat_byte(0xde))],
            "userAddress": user,
            "allowedContracts": contracts,
            "requestValidity": { "startTimestamp": "1795200514", "durationSeconds": "3600" },
            "publicKey": format!("0x{}", "ab".repeat(869)),
            "extraData": "0x00",
        },
        "signature": sign(&signer(3), request.digest(&domains())),
    })
}

fn fields_at_fault(answer: &Value) -> Vec<&str> {
    let details = answer["error"]["details"].as_array().unwrap();
    details.iter().map(|issue| issue["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_unified_permit_decrypts_values_of_several_owners() {
    let stack = Stack::start().await;
    [1, 2].iter().for_each(|tag| stack.backend.publish(handle(*tag), (*tag).into()));
    for contracts in [vec![], vec![CONTRACT]] {
        let accepted = stack.client().await.post(PATH, &body(&contracts)).await;
        assert_eq!(accepted.status, 202, "{}", accepted.json());
        assert_eq!(accepted.header("retry-after"), Some("1"));
        let id = accepted.json()["result"]["jobId"].as_str().unwrap().to_owned();
        let answer = stack.poll(&format!("{PATH}/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let share = &answer.json()["result"]["result"][0];
        assert_eq!(share["extraData"], "0x00");
        assert_eq!(share["signature"].as_str().unwrap().len(), 130);
        // The job is one of this route alone.
        assert_eq!(stack.client().await.get(&format!("/v2/user-decrypt/{id}")).await.status, 404);
    }
}

#[tokio::test]
async fn a_probe_learns_that_version_3_is_supported() {
    let stack = Stack::start().await;
    let response = stack.client().await.post(PATH, &json!({})).await;
    let answer = response.json();
    assert_eq!((response.status, &answer["error"]["label"]), (400, &"missing_fields".into()));
    assert_eq!(fields_at_fault(&answer), ["attestationType", "signature", "attestedPayload"]);
}

#[tokio::test]
async fn fields_of_the_envelope_that_are_wrong_are_named() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let long = format!("0x{}", "00".repeat(4097));
    let entry = json!({ "ctHandle": handle(1).to_string(), "contractAddress": CONTRACT, "ownerAddress": CONTRACT });
    let foreign = handle(1)
        .to_string()
        .replace(&format!("{CHAIN:016x}"), &format!("{:016x}", CHAIN + 1));
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/attestationType", json!("solana"), "attestationType"),
        ("/attestationType", json!(7), "attestationType"),
        ("/signature", json!("ab"), "signature"),
        ("/signature", json!("0xa"), "signature"),
        ("/signature", json!(long), "signature"),
        ("/attestedPayload", json!("text"), "attestedPayload"),
        ("/attestedPayload/version", json!("1.0"), "attestedPayload.version"),
        ("/attestedPayload/type", json!("public_decryption"), "attestedPayload.type"),
        ("/attestedPayload/handles", json!([]), "attestedPayload.handles"),
        ("/attestedPayload/handles", json!([1]), "attestedPayload.handles[0]"),
        ("/attestedPayload/handles", json!([entry]), "attestedPayload.handles"),
        (
            "/attestedPayload/handles/1/ctHandle",
            json!("0x12"),
            "attestedPayload.handles[1].ctHandle",
        ),
        ("/attestedPayload/handles/1/ctHandle", json!(foreign), "attestedPayload.handles"),
        (
            "/attestedPayload/handles/0/ownerAddress",
            json!("me"),
            "attestedPayload.handles[0].ownerAddress",
        ),
        (
            "/attestedPayload/handles/0/contractAddress",
            json!(null),
            "attestedPayload.handles[0].contractAddress",
        ),
        ("/attestedPayload/userAddress", json!("0x1"), "attestedPayload.userAddress"),
        (
            "/attestedPayload/allowedContracts",
            json!(vec![CONTRACT; 11]),
            "attestedPayload.allowedContracts",
        ),
        (
            "/attestedPayload/allowedContracts",
            json!(["0x"]),
            "attestedPayload.allowedContracts[0]",
        ),
        (
            "/attestedPayload/allowedContracts",
            json!([Address::repeat_byte(9)]),
            "attestedPayload.handles",
        ),
        ("/attestedPayload/requestValidity", json!([]), "attestedPayload.requestValidity"),
        (
            "/attestedPayload/requestValidity/startTimestamp",
            json!(1),
            "attestedPayload.requestValidity.startTimestamp",
        ),
        (
            "/attestedPayload/requestValidity/durationSeconds",
            json!("0"),
            "attestedPayload.requestValidity.durationSeconds",
        ),
        (
            "/attestedPayload/requestValidity/durationSeconds",
            json!("31536001"),
            "attestedPayload.requestValidity.durationSeconds",
        ),
        ("/attestedPayload/publicKey", json!("ab".repeat(869)), "attestedPayload.publicKey"),
        ("/attestedPayload/publicKey", json!("0xab"), "attestedPayload.publicKey"),
        ("/attestedPayload/extraData", json!("0x07"), "attestedPayload.extraData"),
        ("/attestedPayload/extraData", json!("00"), "attestedPayload.extraData"),
    ];
    for (pointer, wrong, field) in cases {
        let mut body = body(&[]);
        *body.pointer_mut(pointer).unwrap() = wrong;
        let response = client.post(PATH, &body).await;
        let answer = response.json();
        assert_eq!(response.status, 400, "{pointer}: {answer}");
        assert!(fields_at_fault(&answer).contains(&field), "{pointer}: {answer}");
    }
}

#[tokio::test]
async fn signatures_of_wallets_may_be_empty_and_others_may_not_stand_in() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    for empty in ["", "0x"] {
        let mut body = body(&[]);
        body["signature"] = json!(empty);
        // The form is right; it is for the service to say whether the account recognises it.
        let accepted = client.post(PATH, &body).await;
        assert_eq!(accepted.status, 202, "{empty:?}: {}", accepted.json());
        let id = accepted.json()["result"]["jobId"].as_str().unwrap().to_owned();
        let answer = stack.poll(&format!("{PATH}/{id}")).await;
        assert_eq!((answer.status, &answer.json()["error"]["label"]), (400, &"request_error".into()));
    }
}

#[tokio::test]
async fn bodies_cut_short_or_changed_anywhere_are_refused_in_the_usual_form() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let text = body(&[CONTRACT]).to_string();
    for end in (0..text.len()).step_by(97) {
        let response = client.send("POST", PATH, &[], &text.as_bytes()[..end]).await;
        assert_eq!(
            (response.status, &response.json()["error"]["label"]),
            (400, &"malformed_json".into()),
            "{end}"
        );
    }
    // A seeded walk over single bytes: whatever becomes of them, there is an answer in form.
    let mut state = 0x5eed_u64;
    for _ in 0..200 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap() % text.len();
        let mut changed = text.clone().into_bytes();
        changed[at] = changed[at].wrapping_add(u8::try_from((state >> 8) & 0x3f).unwrap()) & 0x7f;
        let response = client.send("POST", PATH, &[], &changed).await;
        assert!(matches!(response.status, 202 | 400), "byte {at}: {}", response.status);
        let answer = response.json();
        assert!(answer["requestId"].is_string(), "byte {at}: {answer}");
    }
}
