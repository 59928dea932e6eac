//! The gateway of the 0.6 generation: exactly what `fhevmjs` 0.6 sends and reads.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy_primitives::{B256, Bytes, hex};
use cipherloom_gateway::{
    Label, RateLimit, ServiceError,
    legacy::{
        LegacyAdmission, LegacyConfig, LegacyGateway, LegacyGatewayHandle, LegacyInput, LegacyInputs, LegacyReencryption, LegacyServices,
        ROUTES, ReencryptionResponse, SignedInput,
    },
    services::{KeyFile, KeyMaterial},
};
use cipherloom_primitives::generation_0_6::ReencryptionRequest;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::client::{Client, Response};

const KEY_ID: &str = "00112233445566778899aabbccddeeff00112233";
const CRS_ID: &str = "ff112233445566778899aabbccddeeff00112233";

/// Services that remember what they were asked.
#[derive(Default)]
struct Fake {
    inputs: Mutex<Vec<LegacyInput>>,
    reencryptions: Mutex<Vec<ReencryptionRequest>>,
}

struct Keys;

impl KeyMaterial for Keys {
    fn public_key(&self) -> KeyFile {
        KeyFile {
            id: KEY_ID.to_owned(),
            bytes: b"the public key".as_slice().into(),
        }
    }

    fn crs(&self) -> KeyFile {
        KeyFile {
            id: CRS_ID.to_owned(),
            bytes: b"the reference string".as_slice().into(),
        }
    }
}

impl LegacyInputs for Fake {
    fn verify(&self, input: LegacyInput) -> BoxFuture<'static, Result<LegacyAdmission, ServiceError>> {
        let first = input.list.first().copied();
        self.inputs.lock().unwrap().push(input);
        let admission = match first {
            Some(0) => Ok(LegacyAdmission::Rejected {
                reason: "secret reason".to_owned(),
            }),
            Some(1) => Err(ServiceError::new(Label::InternalServerError, "a defect")),
            Some(2) => return Box::pin(std::future::pending()),
            Some(3) => panic!("a defect"),
            _ => Ok(LegacyAdmission::Admitted(SignedInput {
                handles: vec![B256::repeat_byte(0xaa), B256::repeat_byte(0xbb)],
                kms_signatures: vec![Bytes::from(vec![1; 65]), Bytes::from(vec![2; 65])],
                coprocessor_signature: vec![3; 65].into(),
            })),
        };
        Box::pin(async move { admission })
    }
}

impl LegacyReencryption for Fake {
    fn reencrypt(&self, request: ReencryptionRequest) -> BoxFuture<'static, Result<Vec<ReencryptionResponse>, ServiceError>> {
        let forbidden = request.handle == B256::ZERO;
        self.reencryptions.lock().unwrap().push(request);
        Box::pin(async move {
            if forbidden {
                return Err(ServiceError::new(Label::NotAllowedOnHostAcl, "this is not allowed"));
            }
            Ok(vec![ReencryptionResponse {
                payload: vec![4; 10].into(),
                signature: vec![5; 64].into(),
                ciphertext_digest: B256::repeat_byte(6),
            }])
        })
    }
}

async fn start(change: impl FnOnce(&mut LegacyConfig)) -> (LegacyGatewayHandle, Client, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let services = LegacyServices {
        keys: Arc::new(Keys),
        inputs: Arc::clone(&fake) as _,
        reencryption: Arc::clone(&fake) as _,
    };
    let mut config = LegacyConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    change(&mut config);
    let gateway = LegacyGateway::start(config, services).await.unwrap();
    let address = gateway.url().strip_prefix("http://").unwrap().parse().unwrap();
    (gateway, Client::connect(address).await, fake)
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

fn failure(response: &Response) -> (u16, String) {
    let body = body(response);
    assert_eq!(body["status"], "failure", "{body}");
    (response.status, body["response"].as_str().unwrap().to_owned())
}

fn input(list: &[u8]) -> Value {
    json!({
        "contract_address": "0xcCcCCcCCccccCccCcccCccCCcCCCCCCcccccCcc1".to_lowercase(),
        "caller_address": format!("0x{}", "ca".repeat(20)),
        "ct_proof": hex::encode(list),
        "key_id": KEY_ID,
        "crs_id": CRS_ID,
    })
}

fn reencryption(handle: B256) -> Value {
    json!({
        "signature": "11".repeat(65),
        "client_address": format!("0x{}", "ca".repeat(20)),
        "enc_key": "22".repeat(40),
        "ciphertext_handle": hex::encode(handle),
        "eip712_verifying_contract": format!("0x{}", "cc".repeat(20)),
    })
}

#[tokio::test]
async fn key_material_is_where_keyurl_says() {
    let (_gateway, mut client, _) = start(|_| {}).await;
    let response = client.get("/keyurl").await;
    assert!(
        response
            .headers
            .iter()
            .any(|(name, value)| name == "access-control-allow-origin" && value == "*")
    );
    let found = body(&response);
    assert_eq!(found["status"], "success");
    let key = &found["response"]["fhe_key_info"][0]["fhe_public_key"];
    let crs = &found["response"]["crs"]["2048"];
    for (entry, id, content) in [(key, KEY_ID, "the public key"), (crs, CRS_ID, "the reference string")] {
        assert_eq!(entry["data_id"], id);
        let url = entry["urls"][0].as_str().unwrap();
        let path = url.strip_prefix("http://").unwrap().split_once('/').unwrap().1;
        let download = client.get(&format!("/{path}")).await;
        assert_eq!((download.status, download.body.as_slice()), (200, content.as_bytes()));
    }
    assert_eq!(failure(&client.get(&format!("/CRS/{KEY_ID}")).await).0, 404);
}

#[tokio::test]
async fn an_input_is_answered_with_handles_and_signatures_without_prefix() {
    let (_gateway, mut client, fake) = start(|_| {}).await;
    let answer = body(&client.post("/verify_proven_ct", &input(&[9, 8, 7])).await);
    assert_eq!(
        answer,
        json!({ "status": "success", "response": {
            "handles": ["aa".repeat(32), "bb".repeat(32)],
            "kms_signatures": ["01".repeat(65), "02".repeat(65)],
            "proof_of_storage": "03".repeat(65),
            "listener_type": "COPROCESSOR",
        }})
    );
    let asked = fake.inputs.lock().unwrap();
    assert_eq!(asked[0].list.as_ref(), [9u8, 8, 7].as_slice());
    assert_eq!(asked[0].user.as_slice(), [0xca; 20]);
}

#[tokio::test]
async fn a_value_is_answered_with_one_entry_per_kms_node() {
    let (_gateway, mut client, fake) = start(|_| {}).await;
    let answer = body(&client.post("/reencrypt", &reencryption(B256::repeat_byte(7))).await);
    assert_eq!(
        answer,
        json!({ "status": "success", "response": [{
            "payload": "04".repeat(10), "signature": "05".repeat(64), "ciphertext_digest": "06".repeat(32),
        }]})
    );
    let asked = fake.reencryptions.lock().unwrap();
    assert_eq!(
        (asked[0].handle, asked[0].contract.as_slice()),
        (B256::repeat_byte(7), [0xcc; 20].as_slice())
    );
}

#[tokio::test]
async fn failures_have_the_shape_and_statuses_that_clients_know() {
    let (_gateway, mut client, _) = start(|_| {}).await;
    let (status, message) = failure(&client.post("/verify_proven_ct", &input(&[0])).await);
    assert_eq!(status, 400);
    assert!(!message.contains("secret reason"), "{message}");
    assert_eq!(
        failure(&client.post("/verify_proven_ct", &input(&[1])).await),
        (500, "a defect".to_owned())
    );
    assert_eq!(failure(&client.post("/verify_proven_ct", &json!([])).await).0, 400);
    let forbidden = client.post("/reencrypt", &reencryption(B256::ZERO)).await;
    assert_eq!(failure(&forbidden), (400, "this is not allowed".to_owned()));
    assert_eq!(failure(&client.get("/v2/keyurl").await).0, 404);
    assert_eq!(failure(&client.get("/reencrypt").await).0, 405);
    assert_eq!(failure(&client.post("/verify_proven_ct", &input(&[3])).await).0, 500);
    assert_eq!(body(&client.get("/health").await)["status"], "healthy");
}

#[tokio::test]
async fn pages_of_any_origin_may_ask() {
    let (_gateway, mut client, _) = start(|_| {}).await;
    for (method, path) in ROUTES.iter().filter(|(method, _)| *method == "POST") {
        let headers = [
            ("origin", "https://dapp.example"),
            ("access-control-request-method", *method),
            ("access-control-request-headers", "content-type"),
        ];
        let response = client.send("OPTIONS", path, &headers, b"").await;
        assert_eq!(response.status, 200);
        for name in [
            "access-control-allow-origin",
            "access-control-allow-headers",
            "access-control-allow-methods",
        ] {
            assert!(response.headers.iter().any(|(header, _)| header == name), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn bodies_rates_and_times_are_limited() {
    let (_gateway, mut client, _) = start(|config| {
        config.deadline = Duration::from_millis(50);
        config.rate_limit = Some(RateLimit { burst: 2, per_second: 1 });
    })
    .await;
    let large = client.send("POST", "/reencrypt", &[], &vec![b' '; 17 << 10]).await;
    assert_eq!(failure(&large).0, 400);
    let (status, message) = failure(&client.post("/verify_proven_ct", &input(&[2])).await);
    assert_eq!(status, 500);
    assert!(message.contains("no answer within"), "{message}");
    let limited = client.post("/reencrypt", &reencryption(B256::ZERO)).await;
    assert_eq!(failure(&limited).0, 500);
    assert!(limited.headers.iter().any(|(name, _)| name == "retry-after"));
}

#[tokio::test]
async fn a_shutdown_ends_requests_that_wait() {
    let (gateway, mut client, fake) = start(|_| {}).await;
    let waiting = tokio::spawn(async move { client.post("/verify_proven_ct", &input(&[2])).await });
    let asked = async {
        while fake.inputs.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
    gateway.shutdown().await;
    let (status, message) = failure(&waiting.await.unwrap());
    assert_eq!(status, 500);
    assert!(message.contains("shutting down"), "{message}");
}
