//! A gateway that proves what it is and then asks for what it likes, over the connections that gateways have: every party refuses by itself, and writes nothing into its audit log.
//!
//! The same and more is tried against parties without processes in the tests of `cipherloom-kms`.

use std::sync::Arc;

use alloy::{
    providers::Provider as _,
    signers::{SignerSync, local::PrivateKeySigner},
};
use cipherloom_attest::Role;
use cipherloom_chain::{HostChain, proof::slot_of_answer};
use cipherloom_kms::{SignedSquashed, SourceError, SquashedLists, SquashedSource};
use cipherloom_kms_node::{party::RunningParty, public::documents::NodeState};
use cipherloom_primitives::{
    AclQuestion, Address, B256, Bytes, FheType, Handle, U256,
    decryption::{ClassicPermit, DecryptionPermit, PublicDecryptionRequest, RequestedValue, UserDecryptionRequest},
    eip712::squashed_ciphertext_attestation_digest,
};
use cipherloom_rpc::{
    cipherloom::committee::v1::{
        Bundle, PublicSharesRequest, PublicSignRequest, ShareRef, UserShareRequest, committee_client::CommitteeClient,
    },
    failure::Failure,
};
use cipherloom_service::messages::{public_request, user_request};
use cipherloom_signcryption::UserKeypair;
use futures_util::future::BoxFuture;
use tonic::{Status, transport::Channel};

use crate::ground::{Ground, KEY, becomes, now};

const CONTRACT: Address = Address::repeat_byte(0x77);

fn handle(tag: u8) -> Handle {
    Handle::computed(B256::repeat_byte(tag), 31337, FheType::Uint8)
}

/// Writes into the storage of the access-control contract that the answer to a question is yes.
async fn grant(host: &HostChain, question: AclQuestion) {
    let slot = U256::from_be_bytes(slot_of_answer(&question).0);
    let parameters = (host.addresses().acl, slot, B256::with_last_byte(1));
    let done: bool = host.provider().raw_request("anvil_setStorageAt".into(), parameters).await.unwrap();
    assert!(done);
}

fn public(handles: &[Handle]) -> PublicDecryptionRequest {
    PublicDecryptionRequest {
        handles: handles.to_vec(),
        extra_data: Bytes::from_static(&[0]),
    }
}

/// A user's request for a value of their own.
fn private(user: &PrivateKeySigner, keys: &UserKeypair, handle: Handle) -> UserDecryptionRequest {
    UserDecryptionRequest {
        values: vec![RequestedValue {
            handle,
            contract_address: CONTRACT,
            owner: user.address(),
        }],
        user: user.address(),
        permit: DecryptionPermit::Classic(ClassicPermit {
            delegator: None,
            contracts: vec![CONTRACT],
            start_timestamp: now() - 10,
            duration_days: 1,
        }),
        public_key: keys.public_key().blob().to_vec().into(),
        extra_data: Bytes::from_static(&[0]),
        signature: Bytes::new(),
    }
}

fn signed(user: &PrivateKeySigner, mut request: UserDecryptionRequest) -> UserDecryptionRequest {
    let digest = request.digest(&cipherloom_chain::profile::DEVELOPMENT.domains);
    request.signature = user.sign_hash_sync(&digest).unwrap().as_bytes().to_vec().into();
    request
}

/// A storage that hands out bytes of its own, with the word of somebody who is no coprocessor of the chain.
struct Forger(PrivateKeySigner);

impl SquashedSource for Forger {
    fn squashed(&self, handle: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        let bytes = b"CLSQ\x01 crafted to give the key away".to_vec();
        let digest = squashed_ciphertext_attestation_digest(handle, KEY, alloy::primitives::keccak256(&bytes));
        let attestation = self.0.sign_hash_sync(&digest).unwrap().as_bytes().to_vec().into();
        Box::pin(async move {
            Ok(SignedSquashed {
                handle,
                key_set_id: KEY,
                bytes,
                attestations: vec![attestation],
            })
        })
    }
}

/// Parties that serve, whose storage lies, and a gateway's connection to each.
struct Besieged {
    ground: Ground,
    parties: Vec<RunningParty>,
    gateway: Vec<CommitteeClient<Channel>>,
}

impl Besieged {
    async fn new() -> Self {
        let ground = Ground::new().await;
        let mut parties = Vec::new();
        for number in 1..=4 {
            let mut config = ground.config(&ground.directory(number)).await;
            let forger = Arc::new(Forger(PrivateKeySigner::random()));
            config
                .chains
                .iter_mut()
                .for_each(|chain| chain.squashed = SquashedLists::Attested(Arc::clone(&forger) as _));
            parties.push(Box::pin(RunningParty::start(config)).await.unwrap());
        }
        ground.register(parties.iter().map(RunningParty::signer).collect()).await;
        for party in &parties {
            becomes(party, NodeState::AwaitingCeremony).await;
        }
        ground.deal(&parties).await;
        let mut gateway = Vec::new();
        for party in &parties {
            becomes(party, NodeState::Serving).await;
            gateway.push(CommitteeClient::new(ground.channel(Role::Gateway, party).await));
        }
        Self { ground, parties, gateway }
    }

    /// Has the gateway ask each party, which has to refuse with this label.
    async fn all_refuse<T>(&self, what: &str, label: &str, ask: impl AsyncFn(CommitteeClient<Channel>) -> Result<T, Status>) {
        for (party, client) in (1..).zip(&self.gateway) {
            let Err(status) = ask(client.clone()).await else {
                panic!("party {party} answers {what}")
            };
            let failure = Failure::of(&status).unwrap_or_else(|| panic!("{what}, party {party}: {status:?}"));
            assert_eq!(failure.label, label, "{what}, party {party}: {failure:?}");
        }
    }

    async fn all_refuse_public(&self, what: &str, label: &str, request: &PublicDecryptionRequest) {
        let shares = async |mut client: CommitteeClient<Channel>| {
            let request = Some(public_request(request, Bytes::new().0));
            client.public_shares(PublicSharesRequest { request }).await
        };
        self.all_refuse(what, label, shares).await;
        // Nor do they sign what the gateway says that others have found.
        let invented = Bundle {
            made_with: Some(ShareRef {
                key_set_id: KEY.to_vec().into(),
                context_id: B256::repeat_byte(1).to_vec().into(),
                epoch_id: B256::repeat_byte(2).to_vec().into(),
                committee_digest: B256::repeat_byte(3).to_vec().into(),
                party: 2,
            }),
            request_digest: B256::repeat_byte(4).to_vec().into(),
            partials: vec![vec![1; 64].into()],
            signature: vec![27; 65].into(),
        };
        let sign = async |mut client: CommitteeClient<Channel>| {
            let request = Some(public_request(request, Bytes::new().0));
            let bundles = vec![invented.clone(); 3];
            client.public_sign(PublicSignRequest { request, bundles }).await
        };
        self.all_refuse(what, label, sign).await;
    }

    async fn all_refuse_user(&self, what: &str, label: &str, request: &UserDecryptionRequest) {
        let share = async |mut client: CommitteeClient<Channel>| {
            let request = Some(user_request(request, Bytes::new().0));
            client.user_share(UserShareRequest { request }).await
        };
        self.all_refuse(what, label, share).await;
    }

    /// How many lines the audit logs have together, and how many alarms of a kind each party has raised.
    async fn recorded(&self) -> usize {
        let logs = (1..=4).map(|number| self.ground.directory(number).join("audit/audit-31337.jsonl"));
        logs.map(|log| std::fs::read_to_string(log).unwrap().lines().count()).sum()
    }

    async fn alarms(&self, kind: &str) -> Vec<u64> {
        let mut alarms = Vec::new();
        for party in &self.parties {
            let url = format!("http://{}/metrics", party.metrics_address());
            let page = reqwest::get(url).await.unwrap().text().await.unwrap();
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix(&format!("kms_alarms_total{{kind=\"{kind}\"}} ")));
            alarms.push(line.unwrap().parse().unwrap());
        }
        alarms
    }
}

#[tokio::test]
async fn a_malicious_gateway_gets_no_share_and_no_signature_out_of_any_party() {
    let besieged = Besieged::new().await;
    let host = &besieged.ground.host;
    let (open, secret) = (handle(1), handle(2));
    grant(host, AclQuestion::AllowedForDecryption(open)).await;

    // Values that nobody made public, alone and beside one that somebody did.
    for handles in [vec![secret], vec![open, secret]] {
        let request = public(&handles);
        besieged
            .all_refuse_public("a value that is not public", "not_allowed_on_host_acl", &request)
            .await;
    }
    // A handle of another chain.
    let elsewhere = Handle::computed(B256::repeat_byte(1), 1, FheType::Uint8);
    besieged
        .all_refuse_public("a handle of another chain", "validation_failed", &public(&[elsewhere]))
        .await;

    // A user's own request, under the gateway's key, for another user, for another value, and stretched.
    let (user, thief) = (PrivateKeySigner::random(), PrivateKeySigner::random());
    let (keys, thiefs_keys) = (UserKeypair::generate().unwrap(), UserKeypair::generate().unwrap());
    for account in [user.address(), CONTRACT] {
        grant(host, AclQuestion::PersistAllowed { handle: secret, account }).await;
    }
    let request = signed(&user, private(&user, &keys, secret));
    let stolen = |change: &dyn Fn(&mut UserDecryptionRequest)| {
        let mut stolen = request.clone();
        change(&mut stolen);
        stolen
    };
    let forged = [
        (
            "another key",
            stolen(&|request| request.public_key = thiefs_keys.public_key().blob().to_vec().into()),
        ),
        (
            "another user",
            stolen(&|request| {
                request.user = thief.address();
                request.values[0].owner = thief.address();
            }),
        ),
        (
            "a longer time",
            stolen(&|request| {
                if let DecryptionPermit::Classic(permit) = &mut request.permit {
                    permit.duration_days = 300;
                }
            }),
        ),
        (
            "another contract",
            stolen(&|request| {
                if let DecryptionPermit::Classic(permit) = &mut request.permit {
                    permit.contracts = vec![Address::repeat_byte(0x66)];
                }
                request.values[0].contract_address = Address::repeat_byte(0x66);
            }),
        ),
        ("signed by the gateway", signed(&thief, private(&user, &keys, secret))),
    ];
    for (what, request) in &forged {
        besieged.all_refuse_user(what, "validation_failed", request).await;
    }
    // The gateway's own request, rightly signed, for a value that is not its own.
    let own = signed(&thief, private(&thief, &thiefs_keys, secret));
    besieged
        .all_refuse_user("somebody else's value", "not_allowed_on_host_acl", &own)
        .await;

    // What may be decrypted, with a ciphertext that the storage made up: no coprocessor of the chain says that it is the one behind the handle.
    assert_eq!(besieged.alarms("untrusted_ciphertext").await, [0, 0, 0, 0]);
    besieged
        .all_refuse_public("a forged ciphertext", "internal_server_error", &public(&[open]))
        .await;
    besieged
        .all_refuse_user("a forged ciphertext", "internal_server_error", &request)
        .await;
    let alarms = besieged.alarms("untrusted_ciphertext").await;
    assert!(alarms.iter().all(|count| *count >= 2), "{alarms:?}");

    assert_eq!(besieged.recorded().await, 0, "nothing was decrypted for anybody");
}
