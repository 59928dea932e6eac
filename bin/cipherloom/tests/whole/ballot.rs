//! The vote of `examples/voting`: who may vote, what is counted, and the published tallies.

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::DynProvider,
    sol,
    sol_types::SolValue,
};
use cipherloom_client::ClientError;
use cipherloom_primitives::{Handle, U256};

use crate::dapp::{Argument, Stack, sent};

const BALLOT: &str = include_str!("../../../../examples/voting/artifacts/SecretBallot.json");
const OPTIONS: u64 = 3;
const DURATION_SECONDS: u64 = 3600;
const CHAIR: usize = 0;

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    interface Ballot {
        error MayNotVote();
        error NotEnded();
        error OnlyChair();

        function register(address voter, uint32 weight) external;
        function vote(bytes32 choice, bytes calldata inputProof) external;
        function close() external;
        function publish(uint256[] calldata counts, bytes calldata decryptionProof) external;
        function tallies() external view returns (bytes32[] memory);
        function result() external view returns (uint256[] memory);
    }
}

async fn vote(stack: &Stack, contract: Address, voter: usize, choice: u8) {
    let Argument { handle, proof } = stack.encrypt(voter, contract, |input| input.add8(choice)).await;
    sent!(as_seen_by(stack, contract, voter).vote(handle, proof));
}

fn as_seen_by(stack: &Stack, contract: Address, person: usize) -> Ballot::BallotInstance<DynProvider> {
    Ballot::new(contract, stack.provider(person))
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_are_counted_by_weight_and_stay_secret_until_the_end() {
    let stack = Stack::start().await;
    let contract = stack.deploy(CHAIR, BALLOT, &(OPTIONS, DURATION_SECONDS).abi_encode()).await;
    let chair = as_seen_by(&stack, contract, CHAIR);
    for (voter, weight) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        sent!(chair.register(stack.address(voter), weight));
    }
    let stranger = as_seen_by(&stack, contract, 5);
    let refused = stranger
        .register(stack.address(5), 1)
        .from(stack.address(5))
        .call()
        .await
        .unwrap_err();
    assert!(refused.as_decoded_error::<Ballot::OnlyChair>().is_some(), "{refused}");

    // The third voter's option does not exist: an abstention.
    for (voter, choice) in [(1, 0), (2, 2), (3, 7), (4, 2)] {
        vote(&stack, contract, voter, choice).await;
    }
    for (person, what) in [(1, "nobody votes twice"), (5, "strangers do not vote")] {
        let refused = as_seen_by(&stack, contract, person)
            .vote(B256::ZERO, Bytes::new())
            .from(stack.address(person))
            .call()
            .await
            .unwrap_err();
        assert!(refused.as_decoded_error::<Ballot::MayNotVote>().is_some(), "{what}: {refused}");
    }
    let early = stranger.close().call().await.unwrap_err();
    assert!(early.as_decoded_error::<Ballot::NotEnded>().is_some(), "{early}");
    let tallies = stranger.tallies().call().await.unwrap();
    let secret = Handle::try_from(tallies[2]).unwrap();
    let refused = stack.client.public_decrypt(&[secret]).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Server { ref label, .. } if label == "not_allowed_on_host_acl"),
        "{refused}"
    );

    stack.pass(DURATION_SECONDS).await;
    sent!(stranger.close());
    let handles: Vec<Handle> = tallies.into_iter().map(|handle| Handle::try_from(handle).unwrap()).collect();
    let public = stack.client.public_decrypt(&handles).await.unwrap();
    let counts: Vec<U256> = public.values.iter().map(|(_, value)| value.to_u256()).collect();
    assert_eq!(counts, [10, 0, 60].map(U256::from));
    let wrong = [10, 50, 10].map(U256::from).to_vec();
    assert!(
        stranger.publish(wrong, public.proof.clone()).call().await.is_err(),
        "the proof is for other tallies"
    );
    sent!(stranger.publish(counts.clone(), public.proof));
    assert_eq!(stranger.result().call().await.unwrap(), counts);
}
