//! The life of a committee, from parties that nobody knows to epochs that are destroyed.

use std::{fs, time::Duration};

use alloy::{primitives::U256, sol, sol_types::SolCall};
use cipherloom_attest::Role;
use cipherloom_ceremony::Store;
use cipherloom_chain::Call;
use cipherloom_kms_node::{party::RunningParty, public::documents::NodeState};
use cipherloom_primitives::Address;
use cipherloom_rpc::cipherloom::committee::v1::{DescribeRequest, committee_client::CommitteeClient};

use crate::ground::{Ground, KEY, attestor, becomes};

sol! {
    function defineNewKmsEpoch() external;
    function destroyKmsEpoch(uint256 epochId) external;
}

async fn four(ground: &Ground) -> Vec<RunningParty> {
    let mut parties = Vec::new();
    for number in 1..=4 {
        parties.push(ground.start(number).await);
    }
    parties
}

#[tokio::test]
async fn parties_wait_to_be_registered_then_for_shares_and_keep_them() {
    let ground = Ground::new().await;
    let mut parties = four(&ground).await;
    for party in &parties {
        let waiting = becomes(party, NodeState::AwaitingRegistration).await;
        // Before the chain was read it says so without a reason.
        assert_eq!((waiting.party, waiting.share), (0, None));
    }
    let signers: Vec<Address> = parties.iter().map(RunningParty::signer).collect();
    ground.register(signers.clone()).await;
    for (number, party) in (1..).zip(&parties) {
        let waiting = becomes(party, NodeState::AwaitingCeremony).await;
        assert_eq!((waiting.party, waiting.share), (number, None));
    }

    let outcome = ground.deal(&parties).await;
    assert!(outcome.not_activated.is_empty(), "{:?}", outcome.not_activated);
    let mut shares = Vec::new();
    for party in &parties {
        let serving = becomes(party, NodeState::Serving).await;
        let share = serving.share.unwrap();
        assert_eq!((share.key_set_id, share.manifest), (KEY, outcome.record.digest().unwrap()));
        shares.push(share);
    }

    // Stopped in order, one after the other, and back with the same signer and share.
    let last = parties.pop().unwrap();
    last.shutdown(Duration::from_secs(5)).await;
    let back = ground.start(4).await;
    assert_eq!(back.signer(), signers[3]);
    assert_eq!(becomes(&back, NodeState::Serving).await.share.unwrap(), shares[3]);
    let mut client = CommitteeClient::new(ground.channel(Role::Gateway, &back).await);
    let described = client.describe(DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(described.shares.len(), 1);
    assert_eq!(described.shares[0].members.len(), 4);
    assert!(described.simulated_attestation && !described.insecure_keys);
}

#[tokio::test]
async fn shares_of_an_epoch_that_the_chain_destroyed_are_given_up_and_never_come_back() {
    let ground = Ground::new().await;
    let parties = four(&ground).await;
    ground.register(parties.iter().map(RunningParty::signer).collect()).await;
    for party in &parties {
        becomes(party, NodeState::AwaitingCeremony).await;
    }
    ground.deal(&parties).await;
    for party in &parties {
        becomes(party, NodeState::Serving).await;
    }
    let epoch = ground.host.kms_committee().await.unwrap().epoch_id;
    let administrate = async |data: Vec<u8>| {
        let call = Call {
            name: "change the epoch".to_owned(),
            to: Some(ground.host.addresses().protocol_config),
            data: data.into(),
        };
        ground.send(&call).await;
    };
    // A new epoch begins: until it is destroyed, the former one serves.
    administrate(defineNewKmsEpochCall {}.abi_encode()).await;
    assert_eq!(becomes(&parties[0], NodeState::Serving).await.share.unwrap().epoch, epoch);
    administrate(
        destroyKmsEpochCall {
            epochId: U256::from_be_bytes(epoch.0),
        }
        .abi_encode(),
    )
    .await;
    for party in &parties {
        let refusing = becomes(party, NodeState::Refusing).await;
        assert!(refusing.detail.unwrap().contains("destroyed"));
    }
    // Not after a restart, either, although the file is there.
    let mut parties = parties;
    parties.remove(0).shutdown(Duration::from_secs(5)).await;
    let back = ground.start(1).await;
    becomes(&back, NodeState::Refusing).await;
    drop(back);
}

#[tokio::test]
async fn a_directory_belongs_to_one_process_and_one_kind_of_hardware() {
    let ground = Ground::new().await;
    let party = ground.start(1).await;
    let attestor = attestor();
    assert!(Store::open(ground.directory(1), &*attestor).await.is_err(), "it is in use");
    let signer = party.signer();
    party.shutdown(Duration::from_secs(5)).await;
    let other = cipherloom_attest::simulated::InsecureSimulatedAttestor::new("other software").unwrap();
    assert!(Store::open(ground.directory(1), &other).await.is_err(), "sealed by other software");
    assert_eq!(
        Store::open(ground.directory(1), &*attestor).await.unwrap().identity().address(),
        signer
    );
    for file in fs::read_dir(ground.directory(1)).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let key = signer.as_slice();
            assert!(
                !bytes.windows(key.len()).any(|part| part == key),
                "{}: sealed files say nothing",
                path.display()
            );
        }
    }
}
