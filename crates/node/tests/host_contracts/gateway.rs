//! The gateway contract: who may ask, who may deliver, and what reaches the contract that asked.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    rpc::types::TransactionRequest,
    sol,
    sol_types::{SolCall, SolConstructor, SolEvent, SolValue},
};
use cipherloom_contracts::{
    bindings::{GatewayContract, KMSVerifier},
    development,
};
use cipherloom_primitives::{FheType, Handle};

use crate::stage::{Mined, Revert, Stage, assert_reverts, sign};

sol!(DecryptionCaller, "../../contracts/test/artifacts/DecryptionCaller.json");

const NUMBER: u64 = 1_234_567_890_123;
const DAY: u64 = 86_400;

/// A chain with a gateway contract and a contract that asks it.
struct Scene {
    stage: Stage,
    gateway: Address,
    caller: Address,
}

impl Scene {
    fn new() -> Self {
        Self::with_kms(1, 1)
    }

    fn with_kms(nodes: usize, threshold: u64) -> Self {
        let stage = Stage::with_signers(nodes, nodes, threshold);
        let gateway = stage.host.gateway_contract;
        let relayer = stage.user(1);
        stage.administer(gateway, &GatewayContract::addRelayerCall { relayer });
        let asking = DecryptionCaller::constructorCall {
            gateway,
            verifier: stage.host.kms_verifier,
        };
        let caller = stage.create([DecryptionCaller::BYTECODE.as_ref(), &asking.abi_encode()].concat().into());
        Self { stage, gateway, caller }
    }

    fn relayer(&self) -> Address {
        self.stage.user(1)
    }

    /// Makes a number and a flag that anyone may decrypt.
    fn public_handles(&self) -> Vec<B256> {
        [(NUMBER, FheType::Uint64), (1, FheType::Bool)]
            .map(|(value, ty)| {
                let mut script = self.stage.script();
                let value = script.value(value, ty);
                script.call(self.stage.host.acl, "allowForDecryption(bytes32[])", &[32.into(), 1.into(), value]);
                self.stage.mine_handle(&script).as_b256()
            })
            .to_vec()
    }

    fn deadline(&self) -> u64 {
        self.stage.chain.block(crate::stage::LATEST).unwrap().unwrap().header.timestamp + DAY / 2
    }

    fn ask(&self, handles: Vec<B256>) -> U256 {
        let call = DecryptionCaller::askCall {
            handles,
            maxTimestamp: U256::from(self.deadline()),
        };
        self.requested(&self.stage.send(self.stage.user(0), self.caller, &call).unwrap())
    }

    fn requested(&self, mined: &Mined) -> U256 {
        let log = mined.logs.iter().find(|log| log.address == self.gateway).unwrap();
        GatewayContract::EventDecryption::decode_log(log).unwrap().requestID
    }

    /// The KMS's answer: the values and the signatures of so many nodes.
    fn answer(&self, handles: &[B256], nodes: usize) -> (Vec<u8>, Vec<Bytes>) {
        let values = (NUMBER, true).abi_encode();
        let handles: Vec<Handle> = handles.iter().map(|handle| Handle::try_from(*handle).unwrap()).collect();
        let digest = development::signing_domains().public_decryption_digest(&handles, &values, &[]);
        let signatures = self.stage.kms.iter().take(nodes);
        (values, signatures.map(|key| sign(key, digest).into()).collect())
    }

    fn fulfill(&self, from: Address, request: U256, values: &[u8], signatures: Vec<Bytes>) -> Result<Mined, Revert> {
        let call = GatewayContract::fulfillRequestCall {
            requestID: request,
            decryptedCts: values.to_vec().into(),
            signatures,
        };
        self.stage.send(from, self.gateway, &call)
    }

    fn outcome(&self, mined: &Mined) -> GatewayContract::ResultCallback {
        let log = mined.logs.iter().find(|log| log.address == self.gateway).unwrap();
        GatewayContract::ResultCallback::decode_log(log).unwrap().data
    }

    fn received(&self) -> (U256, u64, bool) {
        let read = |call| self.stage.read(self.caller, &call);
        (
            self.stage.read(self.caller, &DecryptionCaller::answeredRequestCall {}),
            read(DecryptionCaller::numberCall {}),
            self.stage.read(self.caller, &DecryptionCaller::flagCall {}),
        )
    }

    /// Makes a request that was not made through the library.
    fn request(&self, handles: Vec<B256>, max_timestamp: u64) -> GatewayContract::requestDecryptionCall {
        GatewayContract::requestDecryptionCall {
            ctsHandles: handles,
            callbackSelector: DecryptionCaller::receiveValuesCall::SELECTOR.into(),
            msgValue: U256::ZERO,
            maxTimestamp: U256::from(max_timestamp),
            passSignaturesToCaller: false,
        }
    }
}

#[test]
fn values_reach_the_contract_that_asked_once_and_from_relayers_alone() {
    let scene = Scene::new();
    // The first request is number 0, which nobody can tell from none: ask twice.
    scene.ask(scene.public_handles());
    let handles = scene.public_handles();
    let request = scene.ask(handles.clone());
    assert_eq!(request, U256::from(1));
    let (values, signatures) = scene.answer(&handles, 1);
    assert_reverts(
        scene.fulfill(scene.stage.user(2), request, &values, signatures.clone()),
        GatewayContract::NotRelayer {
            account: scene.stage.user(2),
        },
    );
    let mined = scene.fulfill(scene.relayer(), request, &values, signatures.clone()).unwrap();
    let outcome = scene.outcome(&mined);
    assert!(outcome.success && outcome.result.is_empty() && outcome.requestID == request);
    assert_eq!(scene.received(), (request, NUMBER, true));
    assert_reverts(
        scene.fulfill(scene.relayer(), request, &values, signatures),
        GatewayContract::RequestAlreadyFulfilled { requestID: request },
    );
    let over = |request| {
        let call = GatewayContract::isExpiredOrFulfilledCall { requestID: request };
        scene.stage.read(scene.gateway, &call)
    };
    assert!(over(request) && !over(U256::ZERO));
}

#[test]
fn signatures_are_checked_here_or_passed_on() {
    let scene = Scene::with_kms(4, 3);
    let handles = scene.public_handles();
    let request = scene.ask(handles.clone());
    let (values, signatures) = scene.answer(&handles, 3);
    let mut other = values.clone();
    other[31] ^= 1;
    let refusal = scene.fulfill(scene.relayer(), request, &other, signatures.clone()).unwrap_err();
    refusal.is_some::<KMSVerifier::KMSInvalidSigner>();
    let (_, few) = scene.answer(&handles, 2);
    assert_reverts(
        scene.fulfill(scene.relayer(), request, &values, few),
        KMSVerifier::KMSSignatureThresholdNotReached {
            numSignatures: U256::from(2),
        },
    );
    let repeated = vec![signatures[0].clone(); 3];
    assert_reverts(
        scene.fulfill(scene.relayer(), request, &values, repeated),
        GatewayContract::KMSVerificationFailed {},
    );
    let short = vec![Bytes::from(signatures[0][..64].to_vec())];
    assert_reverts(
        scene.fulfill(scene.relayer(), request, &values, short),
        GatewayContract::InvalidSignatures {},
    );
    assert_reverts(
        scene.fulfill(scene.relayer(), request, &values[..32], signatures.clone()),
        GatewayContract::InvalidDecryptedLength {
            expected: U256::from(64),
            found: U256::from(32),
        },
    );
    scene.fulfill(scene.relayer(), request, &values, signatures.clone()).unwrap();
    assert_eq!(scene.received().1, NUMBER);

    // The same through a contract that checks by itself.
    let call = DecryptionCaller::askSignedCall {
        handles: handles.clone(),
        maxTimestamp: U256::from(scene.deadline()),
    };
    let ask = || scene.requested(&scene.stage.send(scene.stage.user(0), scene.caller, &call).unwrap());
    let signed = ask();
    let mined = scene.fulfill(scene.relayer(), signed, &values, signatures.clone()).unwrap();
    assert!(scene.outcome(&mined).success);
    assert_eq!(scene.received(), (signed, NUMBER, true));
    assert!(scene.stage.read(scene.caller, &DecryptionCaller::wasSignedCall {}));
    let mined = scene.fulfill(scene.relayer(), ask(), &other, signatures).unwrap();
    let outcome = scene.outcome(&mined);
    assert!(!outcome.success);
    Revert(outcome.result).is_some::<KMSVerifier::KMSInvalidSigner>();
}

#[test]
fn a_callback_that_reverts_counts_as_delivered_and_costs_no_more_than_its_own_gas() {
    let scene = Scene::new();
    let handles = scene.public_handles();
    let (values, signatures) = scene.answer(&handles, 1);
    for (behaviour, result_bytes) in [(1, 36), (2, 1024)] {
        let call = DecryptionCaller::setBehaviourCall {
            newBehaviour: U256::from(behaviour),
        };
        scene.stage.send(scene.stage.user(0), scene.caller, &call).unwrap();
        let request = scene.ask(handles.clone());
        let mined = scene.fulfill(scene.relayer(), request, &values, signatures.clone()).unwrap();
        let outcome = scene.outcome(&mined);
        assert!(!outcome.success);
        assert_eq!(outcome.result.len(), result_bytes);
        assert_reverts(
            scene.fulfill(scene.relayer(), request, &values, signatures.clone()),
            GatewayContract::RequestAlreadyFulfilled { requestID: request },
        );
    }
}

#[test]
fn requests_have_a_time_limit_within_a_day() {
    let scene = Scene::new();
    let handles = scene.public_handles();
    let now = scene.stage.chain.block(crate::stage::LATEST).unwrap().unwrap().header.timestamp + 100;
    let ask_at = |max_timestamp| {
        scene.stage.chain.set_next_block_timestamp(now).unwrap();
        scene
            .stage
            .send(scene.stage.user(0), scene.gateway, &scene.request(handles.clone(), max_timestamp))
    };
    ask_at(now).unwrap_err().is(GatewayContract::MaxTimestampNotInFuture {
        maxTimestamp: U256::from(now),
    });
    ask_at(now + DAY + 1).unwrap_err().is_some::<GatewayContract::MaxTimestampTooLate>();
    let request = scene.requested(&ask_at(now + DAY).unwrap());
    let (values, signatures) = scene.answer(&handles, 1);
    scene.stage.chain.set_next_block_timestamp(now + DAY + 1).unwrap();
    assert_reverts(
        scene.fulfill(scene.relayer(), request, &values, signatures),
        GatewayContract::RequestExpired { requestID: request },
    );
}

#[test]
fn only_what_anyone_may_decrypt_can_be_asked_for() {
    let scene = Scene::new();
    let mut script = scene.stage.script();
    script.value(5, FheType::Uint64);
    let private = scene.stage.mine_handle(&script).as_b256();
    let ask = |handles: Vec<B256>| {
        let call = scene.request(handles, scene.deadline());
        scene.stage.send(scene.stage.user(0), scene.gateway, &call)
    };
    assert_reverts(
        ask(vec![private]),
        GatewayContract::HandleNotAllowedForDecryption { handle: private },
    );
    for count in [0usize, 65] {
        assert_reverts(
            ask(vec![private; count]),
            GatewayContract::InvalidNumberOfHandles { count: U256::from(count) },
        );
    }
    let unknown = GatewayContract::isExpiredOrFulfilledCall { requestID: U256::from(7) };
    assert_reverts(
        scene.stage.call(scene.stage.user(0), scene.gateway, &unknown),
        GatewayContract::UnknownRequest { requestID: U256::from(7) },
    );
}

#[test]
fn the_wei_of_a_request_go_with_the_call_or_back_to_the_relayer() {
    let scene = Scene::new();
    let handles = scene.public_handles();
    let (values, signatures) = scene.answer(&handles, 1);
    let wei = U256::from(1_000);
    let request = GatewayContract::requestDecryptionCall {
        msgValue: wei,
        ..scene.request(handles, scene.deadline())
    };
    let balance = |account| scene.stage.chain.balance(account, crate::stage::LATEST).unwrap();
    // Asked by an account without code: the call succeeds, and it has the wei.
    let account = scene.stage.user(3);
    let requested = scene.requested(&scene.stage.send(account, scene.gateway, &request).unwrap());
    assert_reverts(
        scene.fulfill(scene.relayer(), requested, &values, signatures.clone()),
        GatewayContract::InvalidMsgValue {
            expected: wei,
            sent: U256::ZERO,
        },
    );
    let fulfill = |requested| {
        let call = GatewayContract::fulfillRequestCall {
            requestID: requested,
            decryptedCts: values.clone().into(),
            signatures: signatures.clone(),
        };
        let transaction = TransactionRequest {
            from: Some(scene.relayer()),
            to: Some(scene.gateway.into()),
            value: Some(wei),
            input: Bytes::from(call.abi_encode()).into(),
            ..Default::default()
        };
        let hash = scene.stage.chain.send_transaction(transaction).unwrap();
        let (block, index) = scene.stage.chain.mined_transaction(&hash).unwrap().unwrap();
        assert!(block.receipts[index].is_success());
        block.receipts[index].logs().to_vec()
    };
    let before = balance(account);
    fulfill(requested);
    assert_eq!(balance(account), before + wei);
    // Asked by a contract that does not take it: the batch contract has no such function.
    let mut script = scene.stage.script();
    script.typed(scene.gateway, &request);
    let requested = scene.requested(&scene.stage.mine(&script).unwrap());
    let logs = fulfill(requested);
    assert!(!GatewayContract::ResultCallback::decode_log(&logs[0]).unwrap().success);
    assert_eq!((balance(scene.stage.batch), balance(scene.gateway)), (U256::ZERO, U256::ZERO));
}

#[test]
fn the_owner_alone_names_relayers() {
    let scene = Scene::new();
    let (new, stranger) = (scene.stage.user(4), scene.stage.user(5));
    let add = |from, relayer| scene.stage.send(from, scene.gateway, &GatewayContract::addRelayerCall { relayer });
    assert_reverts(add(stranger, stranger), GatewayContract::NotHostOwner { sender: stranger });
    add(scene.stage.owner(), new).unwrap();
    assert_reverts(add(scene.stage.owner(), new), GatewayContract::AlreadyRelayer { relayer: new });
    assert_reverts(add(scene.stage.owner(), Address::ZERO), GatewayContract::InvalidNullRelayer {});
    let is_relayer = |account| scene.stage.read(scene.gateway, &GatewayContract::isRelayerCall { account });
    assert!(is_relayer(new) && !is_relayer(stranger));
    let remove = GatewayContract::removeRelayerCall { relayer: new };
    scene.stage.send(scene.stage.owner(), scene.gateway, &remove).unwrap();
    assert!(!is_relayer(new));
    assert_reverts(
        scene.stage.send(scene.stage.owner(), scene.gateway, &remove),
        GatewayContract::NotRelayer { account: new },
    );
}

#[test]
fn selectors_and_storage_are_where_they_are_said_to_be() {
    // Functions without handles have the selectors of the 0.6 generation.
    assert_eq!(GatewayContract::fulfillRequestCall::SELECTOR, [0xb9, 0x24, 0x4e, 0x1d]);
    assert_eq!(GatewayContract::addRelayerCall::SELECTOR, [0xdd, 0x39, 0xf0, 0x0d]);
    assert_eq!(GatewayContract::removeRelayerCall::SELECTOR, [0x60, 0xf0, 0xa5, 0xac]);
    assert_eq!(GatewayContract::isRelayerCall::SELECTOR, [0x54, 0x1d, 0x55, 0x48]);
    assert_eq!(GatewayContract::isExpiredOrFulfilledCall::SELECTOR, [0x35, 0xa3, 0x0d, 0x97]);
    assert_eq!(GatewayContract::getCounterCall::SELECTOR, [0x8a, 0xda, 0x06, 0x6e]);
    assert_eq!(
        GatewayContract::ResultCallback::SIGNATURE_HASH.to_string(),
        "0xb0f2a12a0cc059295d0e43aaf8b9eebb32b58c03c68f5406fbf345c3a226bedd"
    );
    let scene = Scene::new();
    scene.ask(scene.public_handles());
    let named = U256::from_be_bytes(keccak256("cipherloom.storage.GatewayContract").0) - U256::from(1);
    let mut slot = keccak256(named.to_be_bytes::<32>());
    slot.0[31] = 0;
    let counter = scene.stage.chain.storage(scene.gateway, slot.into(), crate::stage::LATEST).unwrap();
    assert_eq!(counter, U256::from(1));
}
