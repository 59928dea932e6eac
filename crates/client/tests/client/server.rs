//! One HTTP server that is both the gateway and the node of the host chain.
//!
//! It is strict about what the client sends (shapes of the protocol's table, permit signatures, real proofs on the clear backend) and does what
//! [`Behaviour`] says in its answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::sol_types::SolCall;
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cipherloom_client::{Client, ClientConfig, ClientError, ClientLimits, KeyTrust};
use cipherloom_contracts::{
    bindings::{FheLib, InputVerifier, KMSVerifier},
    development,
};
use cipherloom_fhe::{KeySet, KeySetId, ParameterSet};
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, Handle, U256,
    ciphertext_state::FHELIB,
    decryption::{ClassicPermit, DecryptionPermit, RequestedValue, UnifiedPermit, UserDecryptionRequest, UserDecryptionShare, abi_words},
    eip712::{SigningDomains, recover_signer},
    input::{InputMetadata, input_handles},
};
use cipherloom_signcryption::{AnswerContext, Randomness, SigningKey, UserPublicKey, node_address, seal, sign_digest};
use serde_json::{Value, json};

use crate::committee::Nodes;

/// What the server does instead of answering honestly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behaviour {
    Honest,
    /// Signs with a key that is not registered.
    StrangerSigns,
    /// Changes the plaintexts or handles after signing.
    ChangesAnswer,
    /// Says that the proof of an input does not hold.
    RejectsInput,
    /// Answers with other extra data.
    ChangesExtraData,
    /// Leaves the signatures out.
    NoSignatures,
    /// Gives two shares where there is one node.
    TwoShares,
    /// Answers a poll with this error, this often, before it is honest.
    Fails {
        label: &'static str,
        status: u16,
        times: usize,
    },
    /// Refuses submissions with this error, always.
    Refuses {
        label: &'static str,
        status: u16,
    },
    /// Never ends a job.
    NeverEnds,
    /// Never sends an answer.
    Hangs,
    /// Answers with something that is not the protocol's JSON.
    Garbage(&'static str),
    /// Answers without end.
    Endless,
    /// Gives a job id that would leave the path.
    StrangeJobId,
    /// Breaks off in the middle of its answers.
    BreaksOff,
    /// Sends its answers a byte at a time.
    Drips,
}

/// What there is of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version1 {
    /// Nothing: an HTML page says so.
    Missing,
    /// Everything.
    Offered,
    /// It takes longer than anybody waits.
    Slow,
}

pub(crate) struct Stack {
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) submissions: AtomicUsize,
    pub(crate) version_1: Mutex<Version1>,
    /// How many requests of version 1 there were.
    pub(crate) synchronous: AtomicUsize,
    /// What failures say about when to come back, in seconds.
    pub(crate) retry_after: Mutex<Option<u64>>,
    /// The API keys of all requests.
    pub(crate) api_keys: Mutex<Vec<Option<String>>>,
    /// Where the next download breaks off.
    pub(crate) break_download_after: Mutex<Option<usize>>,
    /// What was asked about files: the range, and whether anything was sent.
    pub(crate) downloads: Mutex<Vec<(Option<String>, bool)>>,
    /// Where files are said to be, if not here.
    pub(crate) files_at: Mutex<Option<String>>,
    /// Whether the chain is a native one, without coprocessors.
    pub(crate) native: Mutex<bool>,
    /// What the chain says about its signers.
    pub(crate) kms_signers: Mutex<Vec<Address>>,
    pub(crate) threshold: Mutex<u64>,
    /// The committee that answers instead of the one node.
    pub(crate) committee: Mutex<Option<Arc<Nodes>>>,
    pub(crate) plaintexts: Mutex<HashMap<Handle, U256>>,
    pub(crate) domains: SigningDomains,
    pub(crate) url: Mutex<String>,
    failures: AtomicUsize,
    jobs: Mutex<HashMap<String, (Value, usize)>>,
    keys: KeySet,
    _directory: tempfile::TempDir,
}

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

pub(crate) const CONTRACT_WALLET: Address = Address::repeat_byte(0x1c);

const COPROCESSOR: u8 = 0x21;
const KMS: u8 = 0x22;
const STRANGER: u8 = 0x99;

pub(crate) fn limits() -> ClientLimits {
    ClientLimits {
        request: Duration::from_millis(1500),
        operation: Duration::from_secs(4),
        download: Duration::from_secs(4),
        retries: 3,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        answer_bytes: 1 << 20,
        ..ClientLimits::default()
    }
}

impl Stack {
    /// Starts a server and connects a client to it.
    pub(crate) async fn start() -> (Arc<Self>, Client) {
        let stack = Self::serve().await;
        let client = stack.client().await.unwrap();
        (stack, client)
    }

    pub(crate) async fn client(&self) -> Result<Client, ClientError> {
        let config = ClientConfig {
            limits: limits(),
            ..ClientConfig::new(development::addresses(), development::signing_domains()).trusting(KeyTrust::KeySet(self.key_set_id()))
        };
        let url = self.url.lock().unwrap().clone();
        Client::connect(&url, &format!("{url}/rpc"), config).await
    }

    pub(crate) async fn serve() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stack = Arc::new(Self {
            behaviour: Mutex::new(Behaviour::Honest),
            submissions: AtomicUsize::new(0),
            version_1: Mutex::new(Version1::Missing),
            synchronous: AtomicUsize::new(0),
            retry_after: Mutex::default(),
            api_keys: Mutex::default(),
            break_download_after: Mutex::default(),
            downloads: Mutex::default(),
            files_at: Mutex::default(),
            native: Mutex::new(false),
            kms_signers: Mutex::new(vec![node_address(&key(KMS))]),
            threshold: Mutex::new(1),
            committee: Mutex::default(),
            plaintexts: Mutex::default(),
            domains: development::signing_domains(),
            url: Mutex::new(format!("http://{}", listener.local_addr().unwrap())),
            failures: AtomicUsize::new(0),
            jobs: Mutex::default(),
            keys,
            _directory: directory,
        });
        let router = Router::new()
            .route("/rpc", post(rpc))
            .route("/v2/keyurl", get(keyurl))
            .route("/files/{name}", get(file))
            .route("/v1/{operation}", post(answer_at_once))
            .route("/v2/{operation}", post(submit))
            .route("/v2/{operation}/{job}", get(poll))
            .route(
                "/v3/user-decrypt",
                post(async |stack, headers, body| submit(stack, Path("unified".to_owned()), headers, body).await),
            )
            .route(
                "/v3/user-decrypt/{job}",
                get(async |stack, Path(job): Path<String>| poll(stack, Path(("unified".to_owned(), job))).await),
            )
            .with_state(Arc::clone(&stack));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stack
    }

    pub(crate) fn key_set_id(&self) -> KeySetId {
        self.keys.manifest().id
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
        self.failures.store(0, Ordering::SeqCst);
        self.submissions.store(0, Ordering::SeqCst);
    }

    fn behaviour(&self) -> Behaviour {
        *self.behaviour.lock().unwrap()
    }

    /// Says what a coprocessor or validator finds in a list: the types of its values, if the proof holds.
    pub(crate) fn verify_input(&self, list: &[u8], contract: Address, user: Address) -> Option<Vec<FheType>> {
        let metadata = InputMetadata {
            contract,
            user,
            acl: development::addresses().acl,
            chain_id: self.domains.host_chain_id,
        };
        let verified = self.keys.evaluation().unwrap().verify_input(list, &metadata);
        verified.ok().map(|input| input.types)
    }

    /// Makes a handle known with its plaintext.
    pub(crate) fn store(&self, tag: u8, ty: FheType, value: U256) -> Handle {
        let handle = Handle::computed(B256::repeat_byte(tag), self.domains.host_chain_id, ty);
        self.plaintexts.lock().unwrap().insert(handle, value);
        handle
    }

    fn signer(&self, honest: u8) -> SigningKey {
        key(if self.behaviour() == Behaviour::StrangerSigns {
            STRANGER
        } else {
            honest
        })
    }

    fn extra_data(&self) -> &'static str {
        if self.behaviour() == Behaviour::ChangesExtraData {
            "0x01"
        } else {
            "0x00"
        }
    }

    fn answer(&self, operation: &str, body: &Value) -> Value {
        match operation {
            "input-proof" => self.input_proof(body),
            "public-decrypt" => self.public_decrypt(body),
            "user-decrypt" => self.user_decrypt(body, false),
            "delegated-user-decrypt" => self.user_decrypt(body, true),
            "unified" => self.unified_decrypt(body),
            other => panic!("unknown operation {other}"),
        }
    }

    fn input_proof(&self, body: &Value) -> Value {
        assert_eq!(body["contractChainId"], "0x7a69");
        assert_eq!(body["extraData"], "0x00");
        if self.behaviour() == Behaviour::RejectsInput {
            return json!({ "accepted": false, "extraData": "0x00" });
        }
        let list = bare(&body["ciphertextWithInputVerification"]);
        let (contract, user) = (address(&body["contractAddress"]), address(&body["userAddress"]));
        let acl = development::addresses().acl;
        let metadata = InputMetadata {
            contract,
            user,
            acl,
            chain_id: self.domains.host_chain_id,
        };
        let verified = self.keys.evaluation().unwrap().verify_input(&list, &metadata).unwrap();
        let mut handles = input_handles(&list, &verified.types, acl, metadata.chain_id).unwrap();
        let signature = sign_digest(&self.signer(COPROCESSOR), self.domains.input_digest(&handles, user, contract, &[0])).unwrap();
        if self.behaviour() == Behaviour::ChangesAnswer {
            handles.reverse();
        }
        json!({
            "accepted": true,
            "handles": handles.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "signatures": if self.behaviour() == Behaviour::NoSignatures { vec![] } else { vec![format!("0x{}", hex(&signature))] },
            "extraData": self.extra_data(),
        })
    }

    fn public_decrypt(&self, body: &Value) -> Value {
        assert_eq!(body["extraData"], "0x00");
        let handles: Vec<Handle> = list(&body["ciphertextHandles"]).iter().map(handle).collect();
        let values: Vec<U256> = handles.iter().map(|handle| self.plaintexts.lock().unwrap()[handle]).collect();
        let mut words = abi_words(&values);
        if let Some(nodes) = self.committee.lock().unwrap().as_ref() {
            let signatures: Vec<String> = nodes.signatures(self, &handles, &values).iter().map(|one| hex(one)).collect();
            return json!({ "decryptedValue": hex(&words), "signatures": signatures, "extraData": "0x00" });
        }
        let digest = self.domains.public_decryption_digest(&handles, &words, &[]);
        let signature = hex(&sign_digest(&self.signer(KMS), digest).unwrap());
        if self.behaviour() == Behaviour::ChangesAnswer {
            *words.last_mut().unwrap() ^= 1;
        }
        json!({
            "decryptedValue": hex(&words),
            // The same signature twice counts once.
            "signatures": if self.behaviour() == Behaviour::NoSignatures { vec![] } else { vec![signature.clone(), signature] },
            "extraData": self.extra_data(),
        })
    }

    fn user_decrypt(&self, body: &Value, delegated: bool) -> Value {
        assert_eq!(body["contractsChainId"], "31337");
        let validity = if delegated { body } else { &body["requestValidity"] };
        let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
        let user = address(&body[if delegated { "delegateAddress" } else { "userAddress" }]);
        let delegator = delegated.then(|| address(&body["delegatorAddress"]));
        let value = |pair: &Value| RequestedValue {
            handle: handle(&pair["handle"]),
            contract_address: address(&pair["contractAddress"]),
            owner: delegator.unwrap_or(user),
        };
        let request = UserDecryptionRequest {
            values: list(&body["handleContractPairs"]).iter().map(value).collect(),
            user,
            permit: DecryptionPermit::Classic(ClassicPermit {
                delegator,
                contracts: list(&body["contractAddresses"]).iter().map(address).collect(),
                start_timestamp: number(&validity["startTimestamp"]),
                duration_days: number(&validity["durationDays"]),
            }),
            public_key: bare(&body["publicKey"]).into(),
            extra_data: Bytes::from_static(&[0]),
            signature: bare(&body["signature"]).into(),
        };
        assert_eq!(
            recover_signer(request.digest(&self.domains), &request.signature),
            Some(request.user)
        );
        self.sealed(&request)
    }

    fn unified_decrypt(&self, body: &Value) -> Value {
        assert_eq!(body["attestationType"], "eip712-unified-user-decrypt-v1");
        let payload = &body["attestedPayload"];
        assert_eq!(payload["version"], "2.0");
        let bytes = |value: &Value| -> Bytes { value.as_str().unwrap().parse().unwrap() };
        let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
        let value = |value: &Value| RequestedValue {
            handle: handle(&value["ctHandle"]),
            contract_address: address(&value["contractAddress"]),
            owner: address(&value["ownerAddress"]),
        };
        let validity = &payload["requestValidity"];
        let request = UserDecryptionRequest {
            values: list(&payload["handles"]).iter().map(value).collect(),
            user: address(&payload["userAddress"]),
            permit: DecryptionPermit::Unified(UnifiedPermit {
                allowed_contracts: list(&payload["allowedContracts"]).iter().map(address).collect(),
                start_timestamp: number(&validity["startTimestamp"]),
                duration_seconds: number(&validity["durationSeconds"]),
            }),
            public_key: bytes(&payload["publicKey"]),
            extra_data: bytes(&payload["extraData"]),
            signature: bytes(&body["signature"]),
        };
        // This wallet is a contract, and accepts three bytes.
        let is_contract = request.user == CONTRACT_WALLET && request.signature.as_ref() == [1, 2, 3];
        let signer = recover_signer(request.digest(&self.domains), &request.signature);
        assert!(is_contract || signer == Some(request.user));
        self.sealed(&request)
    }

    fn sealed(&self, request: &UserDecryptionRequest) -> Value {
        request
            .validate(self.domains.host_chain_id, request.permit.start_timestamp())
            .unwrap();

        let values: Vec<(Handle, U256)> = request
            .values
            .iter()
            .map(|value| (value.handle, self.plaintexts.lock().unwrap()[&value.handle]))
            .collect();
        let public_key = UserPublicKey::from_blob(&request.public_key).unwrap();
        let context = AnswerContext {
            domains: &self.domains,
            public_key: &public_key,
            user: request.user,
            extra_data: &[0],
        };
        if let Some(nodes) = self.committee.lock().unwrap().as_ref() {
            let answers = nodes.answers(&context, &values);
            let share =
                |one: &UserDecryptionShare| json!({ "payload": hex(&one.payload), "signature": hex(&one.signature), "extraData": "0x00" });
            return json!({ "result": answers.iter().map(share).collect::<Vec<_>>() });
        }
        let share = seal(&context, &values, &self.signer(KMS), Randomness::generate).unwrap();
        let mut payload = share.payload.to_vec();
        if self.behaviour() == Behaviour::ChangesAnswer {
            payload[300] ^= 1;
        }
        let share = json!({ "payload": hex(&payload), "signature": hex(&share.signature), "extraData": self.extra_data() });
        let count = match self.behaviour() {
            Behaviour::TwoShares => 2,
            Behaviour::NoSignatures => 0,
            _ => 1,
        };
        json!({ "result": vec![share; count] })
    }
}

fn note_key(stack: &Stack, headers: &HeaderMap) {
    let key = headers.get("x-api-key").map(|key| key.to_str().unwrap().to_owned());
    stack.api_keys.lock().unwrap().push(key);
}

async fn answer_at_once(
    State(stack): State<Arc<Stack>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    note_key(&stack, &headers);
    stack.synchronous.fetch_add(1, Ordering::SeqCst);
    let offered = *stack.version_1.lock().unwrap();
    match offered {
        Version1::Missing => return (StatusCode::NOT_FOUND, "<html>no such page</html>").into_response(),
        Version1::Slow => std::future::pending().await,
        Version1::Offered => {}
    }
    if let Behaviour::Refuses { label, status } = stack.behaviour() {
        return stack.failure(label, status);
    }
    let answer = stack.answer(&operation, &body);
    let response = match operation.as_str() {
        "input-proof" if answer["accepted"] == false => return stack.failure("request_error", 400),
        "input-proof" => json!({ "handles": answer["handles"], "signatures": answer["signatures"] }),
        "public-decrypt" => json!([{ "decrypted_value": answer["decryptedValue"], "signatures": answer["signatures"] }]),
        _ => answer["result"].clone(),
    };
    stack.sent(&json!({ "status": "success", "response": response }))
}

async fn submit(State(stack): State<Arc<Stack>>, Path(operation): Path<String>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    note_key(&stack, &headers);
    let number = stack.submissions.fetch_add(1, Ordering::SeqCst);
    match stack.behaviour() {
        Behaviour::Refuses { label, status } => return stack.failure(label, status),
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::Garbage(text) => return text.into_response(),
        Behaviour::Endless => {
            let chunk = axum::body::Bytes::from(vec![b' '; 1 << 16]);
            let chunks = std::iter::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            return Body::from_stream(futures_util::stream::iter(chunks)).into_response();
        }
        _ => {}
    }
    let id = match stack.behaviour() {
        Behaviour::StrangeJobId => "../../keyurl".to_owned(),
        _ => format!("00000000-0000-4000-8000-{number:012}"),
    };
    let answer = stack.answer(&operation, &body);
    stack.jobs.lock().unwrap().insert(id.clone(), (answer, 0));
    let body = json!({ "status": "queued", "requestId": id, "result": { "jobId": id } });
    (StatusCode::ACCEPTED, [(RETRY_AFTER, "1")], Json(body)).into_response()
}

async fn poll(State(stack): State<Arc<Stack>>, Path((_, job)): Path<(String, String)>) -> Response {
    let queued = || (StatusCode::ACCEPTED, [(RETRY_AFTER, "1")], Json(json!({ "status": "queued" }))).into_response();
    match stack.behaviour() {
        Behaviour::Fails { label, status, times } if stack.failures.fetch_add(1, Ordering::SeqCst) < times => {
            return stack.failure(label, status);
        }
        Behaviour::NeverEnds => return queued(),
        _ => {}
    }
    let mut jobs = stack.jobs.lock().unwrap();
    let Some((answer, polls)) = jobs.get_mut(&job) else {
        return stack.failure("not_found", 404);
    };
    *polls += 1;
    if *polls == 1 {
        return queued();
    }
    stack.sent(&json!({ "status": "succeeded", "requestId": job, "result": answer }))
}

impl Stack {
    fn failure(&self, label: &str, status: u16) -> Response {
        let details = json!([{ "field": "handles", "issue": "is wrong" }]);
        let body = json!({ "status": "failed", "error": { "label": label, "message": format!("because {label}"), "details": details } });
        let mut response = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
        if let Some(seconds) = *self.retry_after.lock().unwrap() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Sends a result as the behaviour says.
    fn sent(&self, body: &Value) -> Response {
        let text = body.to_string();
        match self.behaviour() {
            Behaviour::BreaksOff => broken_off(text.len(), text.as_bytes()[..text.len() / 2].to_vec()),
            Behaviour::Drips => {
                let bytes = futures_util::stream::iter(text.into_bytes());
                Body::from_stream(futures_util::StreamExt::then(bytes, async |byte| {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, std::io::Error>(vec![byte])
                }))
                .into_response()
            }
            _ => Json(body.clone()).into_response(),
        }
    }
}

/// Announces more bytes than it sends.
fn broken_off(length: usize, bytes: Vec<u8>) -> Response {
    let parts = futures_util::stream::iter([Ok(bytes), Err(std::io::Error::other("broken off"))]);
    let body = Body::from_stream(futures_util::StreamExt::then(parts, async |part: std::io::Result<Vec<u8>>| {
        if part.is_err() {
            // What was sent before has to be on its way.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        part
    }));
    ([(header::CONTENT_LENGTH, length.to_string())], body).into_response()
}

async fn keyurl(State(stack): State<Arc<Stack>>) -> Json<Value> {
    let url = stack.url.lock().unwrap().clone();
    let url = stack.files_at.lock().unwrap().clone().unwrap_or(url);
    let located = |name: &str| json!({ "dataId": name, "urls": [format!("{url}/files/{name}")] });
    Json(json!({
        "status": "succeeded",
        "response": { "fheKeyInfo": [{ "fhePublicKey": located("public-key") }], "crs": { "2048": located("crs") } },
    }))
}

/// Serves files with tags and ranges, as far as the client's requests go.
async fn file(State(stack): State<Arc<Stack>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    note_key(&stack, &headers);
    let bytes = if name == "crs" { stack.keys.crs() } else { stack.keys.public_key() };
    let tag = format!("\"{name}-{}\"", stack.keys.manifest().id);
    let of = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let range = of(header::RANGE);
    let unchanged = of(header::IF_NONE_MATCH).as_ref() == Some(&tag);
    stack.downloads.lock().unwrap().push((range.clone(), !unchanged));
    if unchanged {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    if let Some(range) = range {
        assert_eq!(of(header::IF_RANGE), Some(tag));
        let first: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
        let part = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
        let head = [(header::CONTENT_RANGE, part)];
        return (StatusCode::PARTIAL_CONTENT, head, bytes[first..].to_vec()).into_response();
    }
    let mut response = match stack.break_download_after.lock().unwrap().take() {
        Some(after) => broken_off(bytes.len(), bytes[..after].to_vec()),
        None => bytes.to_vec().into_response(),
    };
    response.headers_mut().insert(header::ETAG, tag.parse().unwrap());
    response
}

/// Answers what the client reads of the chain.
async fn rpc(State(stack): State<Arc<Stack>>, Json(request): Json<Value>) -> Json<Value> {
    let result = match request["method"].as_str().unwrap() {
        "eth_chainId" => "0x7a69".to_owned(),
        "eth_call" => format!("0x{}", hex(&call(&stack, &request["params"][0]))),
        other => panic!("unexpected method {other}"),
    };
    Json(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }))
}

fn call(stack: &Stack, call: &Value) -> Vec<u8> {
    let to = address(&call["to"]);
    let data = call.get("input").or_else(|| call.get("data")).unwrap();
    let data: Bytes = data.as_str().unwrap().parse().unwrap();
    let addresses = development::addresses();
    let domains = &stack.domains;
    let selector: [u8; 4] = data[..4].try_into().unwrap();
    let is_native = *stack.native.lock().unwrap();
    match selector {
        FheLib::getCiphertextCall::SELECTOR if to == FHELIB => {
            assert_eq!(data.len(), 36);
            let handle = Handle::try_from(&data[4..]).unwrap();
            let plaintext = stack.plaintexts.lock().unwrap().get(&handle).copied();
            match plaintext {
                Some(value) if is_native => value.to_be_bytes_vec(),
                _ => vec![],
            }
        }
        InputVerifier::getCoprocessorSignersCall::SELECTOR if is_native => {
            InputVerifier::getCoprocessorSignersCall::abi_encode_returns(&vec![])
        }
        InputVerifier::getThresholdCall::SELECTOR if is_native && to == addresses.input_verifier => {
            InputVerifier::getThresholdCall::abi_encode_returns(&U256::ZERO)
        }
        InputVerifier::eip712DomainCall::SELECTOR if to == addresses.input_verifier => {
            InputVerifier::eip712DomainCall::abi_encode_returns(&InputVerifier::eip712DomainReturn {
                fields: [0x0f].into(),
                name: "InputVerification".into(),
                version: "1".into(),
                chainId: U256::from(domains.gateway_chain_id),
                verifyingContract: domains.input_verification,
                salt: B256::ZERO,
                extensions: vec![],
            })
        }
        KMSVerifier::eip712DomainCall::SELECTOR => KMSVerifier::eip712DomainCall::abi_encode_returns(&KMSVerifier::eip712DomainReturn {
            fields: [0x0f].into(),
            name: "Decryption".into(),
            version: "1".into(),
            chainId: U256::from(domains.gateway_chain_id),
            verifyingContract: domains.decryption,
            salt: B256::ZERO,
            extensions: vec![],
        }),
        InputVerifier::getCoprocessorSignersCall::SELECTOR => {
            InputVerifier::getCoprocessorSignersCall::abi_encode_returns(&vec![node_address(&key(COPROCESSOR))])
        }
        KMSVerifier::getKmsSignersCall::SELECTOR => {
            KMSVerifier::getKmsSignersCall::abi_encode_returns(&stack.kms_signers.lock().unwrap().clone())
        }
        KMSVerifier::getThresholdCall::SELECTOR => {
            KMSVerifier::getThresholdCall::abi_encode_returns(&U256::from(*stack.threshold.lock().unwrap()))
        }
        other => panic!("unexpected call {}", hex(&other)),
    }
}

/// Reads hexadecimal digits that must not have a `0x`.
fn bare(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    assert!(!text.starts_with("0x"), "{text}");
    hex::decode(text).unwrap()
}

fn address(value: &Value) -> Address {
    Address::parse_checksummed(value.as_str().unwrap(), None).unwrap_or_else(|_| value.as_str().unwrap().parse().unwrap())
}

fn handle(value: &Value) -> Handle {
    assert!(value.as_str().unwrap().starts_with("0x"));
    value.as_str().unwrap().parse().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}
