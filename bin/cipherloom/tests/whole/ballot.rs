//! The vote of `examples/voting`: who may vote, what is counted, and the published tallies.

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::DynProvider,
    sol,
    sol_types::SolValue,
};
use cipherloom_primitives::U256;

use crate::dapp::{Argument, Examples, Stack, refused, sent};

const OPTIONS: u64 = 3;
const DURATION_SECONDS: u64 = 3600;
const CHAIR: usize = 0;
const STRANGER: usize = 5;

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    interface Ballot {
        error AlreadyVoted();
        error Ended();
        error MayNotVote();
        error NotClosed();
        error NotEnded();
        error OnlyChair();
        error WrongNumberOfOptions();

        function register(address voter, uint32 weight) external;
        function vote(bytes32 choice, bytes calldata inputProof) external;
        function close() external;
        function publish(uint256[] calldata counts, bytes calldata decryptionProof) external;
        function tallies() external view returns (bytes32[] memory);
        function result() external view returns (uint256[] memory);
    }
}

struct Vote<'a> {
    stack: &'a Stack,
    contract: Address,
}

impl<'a> Vote<'a> {
    async fn open(stack: &'a Stack, examples: &Examples) -> Self {
        let arguments = (OPTIONS, DURATION_SECONDS).abi_encode();
        let contract = stack.deploy(CHAIR, &examples.artifact("voting", "SecretBallot"), &arguments).await;
        Self { stack, contract }
    }

    fn as_seen_by(&self, person: usize) -> Ballot::BallotInstance<DynProvider> {
        Ballot::new(self.contract, self.stack.provider(person))
    }

    async fn vote(&self, voter: usize, choice: u8) {
        let Argument { handle, proof } = self.stack.encrypt(voter, self.contract, |input| input.add8(choice)).await;
        sent!(self.as_seen_by(voter).vote(handle, proof));
    }
}

/// Holds a vote from the registration to the published result.
pub(crate) async fn hold(stack: &Stack, examples: &Examples) {
    let ballot = Vote::open(stack, examples).await;
    let (chair, stranger) = (ballot.as_seen_by(CHAIR), ballot.as_seen_by(STRANGER));
    for (voter, weight) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        sent!(chair.register(stack.address(voter), weight));
    }
    refused!(stack, STRANGER, stranger.register(stack.address(STRANGER), 1), Ballot::OnlyChair);

    // The third voter's option does not exist: an abstention.
    for (voter, choice) in [(1, 0), (2, 2), (3, 7), (4, 2)] {
        ballot.vote(voter, choice).await;
    }
    refused!(stack, 1, ballot.as_seen_by(1).vote(B256::ZERO, Bytes::new()), Ballot::AlreadyVoted);
    refused!(
        stack,
        STRANGER,
        ballot.as_seen_by(STRANGER).vote(B256::ZERO, Bytes::new()),
        Ballot::MayNotVote
    );
    // Not even with the chair's help.
    refused!(stack, CHAIR, chair.register(stack.address(1), 10), Ballot::AlreadyVoted);
    refused!(stack, STRANGER, stranger.close(), Ballot::NotEnded);
    refused!(stack, STRANGER, stranger.publish(Vec::new(), Bytes::new()), Ballot::NotClosed);
    let tallies = stranger.tallies().call().await.unwrap();
    for tally in &tallies {
        stack.expect_not_public(*tally).await;
        stack.expect_secret(CHAIR, ballot.contract, *tally).await;
    }

    stack.pass(DURATION_SECONDS).await;
    refused!(stack, 1, ballot.as_seen_by(1).vote(B256::ZERO, Bytes::new()), Ballot::Ended);
    refused!(stack, CHAIR, chair.register(stack.address(STRANGER), 1), Ballot::Ended);
    sent!(stranger.close());
    let (counts, proof) = stack.decrypt_public(&tallies).await;
    assert_eq!(counts, [10, 0, 60].map(U256::from));
    let wrong = stranger.publish([10, 50, 10].map(U256::from).to_vec(), proof.clone());
    assert!(wrong.call().await.is_err(), "the proof is for other tallies");
    refused!(
        stack,
        STRANGER,
        stranger.publish(counts[..2].to_vec(), proof.clone()),
        Ballot::WrongNumberOfOptions
    );
    sent!(stranger.publish(counts.clone(), proof));
    assert_eq!(stranger.result().call().await.unwrap(), counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_are_counted_by_weight_and_stay_secret_until_the_end() {
    hold(&Stack::start().await, &Examples::Ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_could_overflow_a_tally_are_refused() {
    let stack = Stack::start().await;
    let ballot = Vote::open(&stack, &Examples::Ours).await;
    let chair = ballot.as_seen_by(CHAIR);
    sent!(chair.register(stack.address(1), u32::MAX));
    let one_more = chair.register(stack.address(2), 1);
    assert!(one_more.call().await.is_err(), "the sum of all weights would not fit");
    // Changing a weight makes room again.
    sent!(chair.register(stack.address(1), u32::MAX - 1));
    sent!(chair.register(stack.address(2), 1));
    for voter in [1, 2] {
        ballot.vote(voter, 1).await;
    }
    stack.pass(DURATION_SECONDS).await;
    sent!(chair.close());
    let (counts, _) = stack.decrypt_public(&chair.tallies().call().await.unwrap()).await;
    assert_eq!(counts, [0, u32::MAX, 0].map(U256::from));
}
