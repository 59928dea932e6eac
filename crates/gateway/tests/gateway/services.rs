//! Small services: they sign, recover and refuse like the real ones, but "encrypt" nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cipherloom_gateway::{
    Clock, Config, Gateway, GatewayHandle, Label, ServiceError, Services,
    services::{Admission, AdmissionRequest, AdmittedInput, Decryption, InputAdmission, KeyFile, KeyMaterial},
};
use cipherloom_primitives::{
    FheType, Handle,
    decryption::{
        ClassicPermit, DecryptionPermit, PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare,
        abi_words,
    },
    eip712::{SigningDomains, recover_signer},
    input::input_handles,
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) const CHAIN: u64 = 31337;
pub(crate) const ACL: Address = Address::repeat_byte(0xac);
pub(crate) const CONTRACT: Address = Address::repeat_byte(0xc0);

pub(crate) fn domains() -> SigningDomains {
    SigningDomains {
        host_chain_id: CHAIN,
        gateway_chain_id: 10901,
        decryption: Address::repeat_byte(0xd0),
        input_verification: Address::repeat_byte(0x10),
    }
}

/// A signer everyone in these tests knows.
pub(crate) fn signer(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap()
}

pub(crate) fn sign(signer: &PrivateKeySigner, digest: B256) -> Bytes {
    signer.sign_hash_sync(&digest).unwrap().as_bytes().to_vec().into()
}

/// What stands behind the gateway.
pub(crate) struct Backend {
    pub(crate) coprocessor: PrivateKeySigner,
    pub(crate) kms: PrivateKeySigner,
    /// Public values; decryption of others waits until they are added.
    values: watch::Sender<HashMap<Handle, U256>>,
    /// Whether unknown values are refused rather than waited for.
    refuse_unknown: bool,
    pub(crate) calls: AtomicUsize,
    running: AtomicUsize,
    pub(crate) most_running: AtomicUsize,
    pub(crate) dropped: Arc<AtomicUsize>,
    public_key: KeyFile,
    crs: KeyFile,
}

impl Backend {
    pub(crate) fn new() -> Self {
        let file = |id: &str, size: usize| KeyFile {
            id: id.to_owned(),
            bytes: (0..=250).cycle().take(size).collect(),
        };
        Self {
            coprocessor: signer(1),
            kms: signer(2),
            values: watch::Sender::new(HashMap::new()),
            refuse_unknown: false,
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            dropped: Arc::new(AtomicUsize::new(0)),
            public_key: file("key-1", 33_018),
            crs: file("crs-1", 4_571_368),
        }
    }

    /// Refuses to decrypt what it does not know.
    pub(crate) fn refusing() -> Self {
        Self {
            refuse_unknown: true,
            ..Self::new()
        }
    }

    pub(crate) fn with_crs_bytes(mut self, size: usize) -> Self {
        self.crs.bytes = vec![7; size].into();
        self
    }

    /// Makes a value public.
    pub(crate) fn publish(&self, handle: Handle, value: u64) {
        self.values.send_modify(|values| {
            values.insert(handle, U256::from(value));
        });
    }

    /// Waits until this many decryptions are running.
    pub(crate) async fn until_running(&self, count: usize) {
        while self.running.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    async fn wait_for(self: Arc<Self>, handles: Vec<Handle>) -> Result<Vec<U256>, ServiceError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        let _ended = Ended(Arc::clone(&self));
        let mut values = self.values.subscribe();
        let refuse = self.refuse_unknown;
        let all = |values: &HashMap<Handle, U256>| refuse || handles.iter().all(|handle| values.contains_key(handle));
        let values = values.wait_for(all).await.unwrap().clone();
        assert!(!handles.contains(&poison()), "this value makes the service panic");
        let refusal = || ServiceError::new(Label::NotAllowedOnHostAcl, "not public");
        handles
            .iter()
            .map(|handle| values.get(handle).copied().ok_or_else(refusal))
            .collect()
    }
}

struct Ended(Arc<Backend>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A handle whose decryption panics.
pub(crate) fn poison() -> Handle {
    handle(0xee)
}

pub(crate) fn handle(number: u8) -> Handle {
    Handle::computed(B256::repeat_byte(number), CHAIN, FheType::Uint64)
}

/// `Arc<Backend>` as the services.
#[derive(Clone)]
struct Shared(Arc<Backend>);

impl KeyMaterial for Shared {
    fn public_key(&self) -> KeyFile {
        self.0.public_key.clone()
    }

    fn crs(&self) -> KeyFile {
        self.0.crs.clone()
    }
}

impl InputAdmission for Shared {
    fn admit(&self, request: AdmissionRequest) -> BoxFuture<'static, Result<Admission, ServiceError>> {
        let backend = Arc::clone(&self.0);
        async move {
            backend.calls.fetch_add(1, Ordering::SeqCst);
            if request.list.last() == Some(&0xff) {
                return Ok(Admission::Rejected {
                    reason: "the last byte says so".to_owned(),
                });
            }
            let handles = input_handles(&request.list, &[FheType::Uint64, FheType::Bool], ACL, request.chain_id).unwrap();
            let digest = domains().input_digest(&handles, request.user, request.contract, &request.extra_data);
            let signatures = vec![sign(&backend.coprocessor, digest)];
            Ok(Admission::Admitted(AdmittedInput {
                handles,
                signatures,
                extra_data: request.extra_data,
            }))
        }
        .boxed()
    }
}

impl Decryption for Shared {
    fn public_decrypt(&self, request: PublicDecryptionRequest) -> BoxFuture<'static, Result<PublicDecryptionAnswer, ServiceError>> {
        let backend = Arc::clone(&self.0);
        async move {
            let values = Arc::clone(&backend).wait_for(request.handles.clone()).await?;
            let decrypted_result: Bytes = abi_words(&values).into();
            let digest = domains().public_decryption_digest(&request.handles, &decrypted_result, &request.extra_data);
            let signatures = vec![sign(&backend.kms, digest)];
            Ok(PublicDecryptionAnswer {
                decrypted_result,
                signatures,
                extra_data: request.extra_data,
            })
        }
        .boxed()
    }

    fn user_decrypt(&self, request: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>> {
        let backend = Arc::clone(&self.0);
        async move {
            if recover_signer(request.digest(&domains()), &request.signature) != Some(request.user) {
                return Err(ServiceError::new(Label::RequestError, "the signature is not the user's"));
            }
            let handles = request.handles();
            let payload: Bytes = abi_words(&Arc::clone(&backend).wait_for(handles.clone()).await?).into();
            let digest = domains().user_decryption_answer_digest(&request.public_key, &handles, &payload, &request.extra_data);
            Ok(vec![UserDecryptionShare {
                signature: sign(&backend.kms, digest),
                payload,
                extra_data: request.extra_data,
            }])
        }
        .boxed()
    }
}

/// A clock that tests move.
#[derive(Default)]
pub(crate) struct ManualClock(Mutex<Duration>);

impl ManualClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

fn services(backend: &Arc<Backend>) -> Services {
    let shared = Arc::new(Shared(Arc::clone(backend)));
    Services {
        keys: Arc::clone(&shared) as _,
        inputs: Arc::clone(&shared) as _,
        decryption: shared,
        progress: None,
        jobs: None,
    }
}

/// A running gateway with its backend and clock.
pub(crate) struct Stack {
    pub(crate) gateway: GatewayHandle,
    pub(crate) backend: Arc<Backend>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        Self::start_with(Backend::new(), |_| ()).await
    }

    pub(crate) async fn start_with(backend: Backend, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_before(Arc::new(backend), |_| (), configure).await
    }

    /// Starts a gateway before a backend that may have others.
    pub(crate) async fn start_before(
        backend: Arc<Backend>,
        equip: impl FnOnce(&mut Services),
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(CHAIN);
        configure(&mut config);
        let mut services = services(&backend);
        equip(&mut services);
        let clock = Arc::new(ManualClock::default());
        let gateway = Gateway::start_with_clock(config, services, Arc::clone(&clock) as _).await.unwrap();
        Self { gateway, backend, clock }
    }

    /// Returns the services behind this gateway, for another one.
    pub(crate) fn services(&self) -> Services {
        services(&self.backend)
    }

    pub(crate) async fn client(&self) -> crate::client::Client {
        crate::client::Client::connect(self.gateway.address()).await
    }

    /// Polls a job until it is no longer queued.
    pub(crate) async fn poll(&self, path: &str) -> crate::client::Response {
        let mut client = self.client().await;
        loop {
            let response = client.get(path).await;
            if response.status != 202 {
                return response;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads a counter.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let text = String::from_utf8(self.client().await.get("/metrics").await.body).unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(series));
        line.unwrap_or_else(|| panic!("no {series} in {text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

/// The four operations with a valid body each.
pub(crate) fn valid_bodies() -> [(&'static str, Value); 4] {
    [
        ("input-proof", input_body()),
        ("public-decrypt", public_body(&[handle(1)])),
        ("user-decrypt", user_body()),
        ("delegated-user-decrypt", delegated_body()),
    ]
}

pub(crate) fn input_body() -> Value {
    json!({
        "contractAddress": CONTRACT, "userAddress": signer(3).address(), "contractChainId": "0x7a69", "extraData": "0x00",
        "ciphertextWithInputVerification": "0102030405",
    })
}

pub(crate) fn public_body(handles: &[Handle]) -> Value {
    json!({ "ciphertextHandles": handles.iter().map(ToString::to_string).collect::<Vec<_>>(), "extraData": "0x00" })
}

pub(crate) fn user_body() -> Value {
    signed(json!({
        "handleContractPairs": [{ "handle": handle(1).to_string(), "contractAddress": CONTRACT }],
        "requestValidity": { "startTimestamp": "1795200514", "durationDays": "7" },
        "contractsChainId": "31337", "contractAddresses": [CONTRACT], "userAddress": signer(3).address(),
        "publicKey": "ab".repeat(869), "extraData": "0x00",
    }))
}

pub(crate) fn delegated_body() -> Value {
    signed(json!({
        "handleContractPairs": [{ "handle": handle(1).to_string(), "contractAddress": CONTRACT }],
        "startTimestamp": "1795200514", "durationDays": "7",
        "contractsChainId": "31337", "contractAddresses": [CONTRACT],
        "delegatorAddress": Address::repeat_byte(0xde), "delegateAddress": signer(3).address(),
        "publicKey": "ab".repeat(869), "extraData": "0x00",
    }))
}

/// Signs a user decryption as its user, whoever it named before.
pub(crate) fn signed(mut body: Value) -> Value {
    let delegated = body.get("delegatorAddress").is_some();
    body[if delegated { "delegateAddress" } else { "userAddress" }] = json!(signer(3).address());
    let permit = if delegated { &body } else { &body["requestValidity"] };
    let number = |name: &str| permit[name].as_str().unwrap().parse().unwrap();
    let bare = |name: &str| Bytes::from(alloy::primitives::hex::decode(body[name].as_str().unwrap()).unwrap());
    let request = UserDecryptionRequest {
        // What is decrypted is not signed.
        values: Vec::new(),
        user: signer(3).address(),
        permit: DecryptionPermit::Classic(ClassicPermit {
            delegator: body
                .get("delegatorAddress")
                .map(|address| serde_json::from_value(address.clone()).unwrap()),
            contracts: serde_json::from_value(body["contractAddresses"].clone()).unwrap(),
            start_timestamp: number("startTimestamp"),
            duration_days: number("durationDays"),
        }),
        public_key: bare("publicKey"),
        extra_data: bare("extraData"),
        signature: Bytes::new(),
    };
    let signature = sign(&signer(3), request.digest(&domains()));
    body["signature"] = json!(alloy::primitives::hex::encode(signature));
    body
}
