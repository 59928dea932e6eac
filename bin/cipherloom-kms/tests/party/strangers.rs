//! Who may ask a party what, and what anybody may see.

use cipherloom_attest::{Policy, Role};
use cipherloom_kms_node::{party::RunningParty, public::documents::NodeState};
use cipherloom_primitives::{B256, FheType, Handle};
use cipherloom_rpc::{
    cipherloom::{
        ceremony::v1::{self as ceremony, ceremony_client::CeremonyClient},
        committee::v1::{PublicSharesRequest, committee_client::CommitteeClient},
        kms::v1::PublicDecryptRequest,
    },
    failure::Failure,
};
use serde_json::Value;
use tonic::Code;

use crate::ground::{Ground, becomes};

async fn registered(ground: &Ground) -> Vec<RunningParty> {
    let mut parties = Vec::new();
    for number in 1..=4 {
        parties.push(ground.start(number).await);
    }
    ground.register(parties.iter().map(RunningParty::signer).collect()).await;
    for party in &parties {
        becomes(party, NodeState::AwaitingCeremony).await;
    }
    parties
}

fn question(chain_id: u64) -> PublicSharesRequest {
    let handle = Handle::computed(B256::repeat_byte(1), chain_id, FheType::Uint8);
    PublicSharesRequest {
        request: Some(PublicDecryptRequest {
            handles: vec![cipherloom_service::messages::handle(&handle)],
            ..PublicDecryptRequest::default()
        }),
    }
}

#[tokio::test]
async fn each_role_may_ask_what_it_is_for() {
    let ground = Ground::new().await;
    let parties = registered(&ground).await;
    ground.deal(&parties).await;
    becomes(&parties[0], NodeState::Serving).await;
    let as_gateway = ground.channel(Role::Gateway, &parties[0]).await;
    let as_dealer = ground.channel(Role::Dealer, &parties[0]).await;

    let refused = CeremonyClient::new(as_gateway.clone()).describe(ceremony::DescribeRequest {}).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = CommitteeClient::new(as_dealer.clone()).public_shares(question(31337)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let described = CeremonyClient::new(as_dealer)
        .describe(ceremony::DescribeRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.signer, parties[0].signer().to_vec());

    // A gateway is heard, and what it asks is judged by the chain.
    let mut gateway = CommitteeClient::new(as_gateway);
    let refused = Failure::of(&gateway.public_shares(question(31337)).await.unwrap_err()).unwrap();
    assert_eq!(refused.label, "not_allowed_on_host_acl", "{refused:?}");
    let refused = Failure::of(&gateway.public_shares(question(1)).await.unwrap_err()).unwrap();
    assert_eq!(refused.label, "validation_failed", "{refused:?}");
    let nothing = PublicSharesRequest { request: None };
    let refused = Failure::of(&gateway.public_shares(nothing).await.unwrap_err()).unwrap();
    assert_eq!(refused.label, "request_error", "{refused:?}");

    // Auditors use the public port: the attested one is not for them.
    let mut auditor = CommitteeClient::new(ground.channel(Role::Auditor, &parties[0]).await);
    auditor.public_shares(question(31337)).await.unwrap_err();

    // All of that is counted, and what is deployed to watch parties knows what it is called.
    crate::watched::check(&metrics(&parties[0]).await);
}

#[tokio::test]
async fn a_party_in_no_committee_talks_to_nobody_but_can_be_looked_at() {
    let ground = Ground::new().await;
    let party = ground.start(1).await;
    becomes(&party, NodeState::AwaitingRegistration).await;
    let mut gateway = CommitteeClient::new(ground.channel(Role::Gateway, &party).await);
    gateway.public_shares(question(31337)).await.unwrap_err();
    let status: Value = get(&party, "status").await;
    assert_eq!(status["state"], "awaiting-registration");
    assert_eq!(status["signer"], serde_json::json!(party.signer()));
    let page = metrics(&party).await;
    for line in [
        "kms_party_state{state=\"awaiting_registration\"} 1",
        "kms_party_state{state=\"serving\"} 0",
        "kms_simulated_attestation 1",
        "kms_connections{kind=\"attested\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let ready = reqwest::get(format!("http://{}/health/ready", party.metrics_address()))
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
}

#[tokio::test]
async fn simulated_attestation_is_refused_on_other_chains_than_those_for_development() {
    let ground = Ground::new().await;
    let mut config = ground.config(&ground.directory(1)).await;
    config.chains[0].id = 1;
    let refused = Box::pin(RunningParty::start(config)).await.err().unwrap();
    assert!(format!("{refused:#}").contains("not one for development"), "{refused:#}");
    let mut config = ground.config(&ground.directory(2)).await;
    config.attestation.policy = Policy {
        allow_insecure_simulated: false,
        ..Policy::insecure_simulated_only()
    };
    let refused = Box::pin(RunningParty::start(config)).await.err().unwrap();
    assert!(format!("{refused:#}").contains("accepts nothing"), "{refused:#}");
}

async fn metrics(party: &RunningParty) -> String {
    let url = format!("http://{}/metrics", party.metrics_address());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

async fn get(party: &RunningParty, what: &str) -> Value {
    let url = format!("http://{}/{what}", party.public_address());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}
