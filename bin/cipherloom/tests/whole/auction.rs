//! The auction of `examples/auction` with the token of `examples/confidential-token`: bids, end, refunds, and the result, brought or delivered.

use std::time::{Duration, Instant};

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::DynProvider,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
    sol,
    sol_types::SolValue,
};
use cipherloom_contracts::development;
use cipherloom_primitives::{U256, decryption::abi_words};

use crate::dapp::{Argument, Examples, Stack, refused, sent};

const DURATION_SECONDS: u64 = 3600;

/// How long the relay may take.
const PATIENCE: Duration = Duration::from_secs(120);

const SELLER: usize = 0;
const ALICE: usize = 1;
const BOB: usize = 2;
const CAROL: usize = 3;

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    interface Token {
        function mint(address to, uint64 amount) external;
        function approve(address spender, bytes32 amount, bytes calldata inputProof) external;
        function balanceOf(address account) external view returns (bytes32);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface Auction {
        error Ended();
        error NotEnded();
        error NothingToWithdraw();
        error AlreadyCollected();
        error NotRevealed();

        event Withdrawn(address indexed bidder, bytes32 refund);

        function bid(bytes32 amount, bytes calldata inputProof) external;
        function withdraw() external;
        function collect() external;
        function reveal() external;
        function settle(address winner, uint64 price, bytes calldata decryptionProof) external;
        function bidOf(address bidder) external view returns (bytes32);
        function result() external view returns (bytes32 winner, bytes32 price);
        function settled() external view returns (bool);
        function winner() external view returns (address);
        function price() external view returns (uint64);

        // Only if the result comes as a call.
        error AlreadyAsked();
        error OnlyGateway(address sender);

        function requestResult() external;
        function receiveResult(uint256 requestID, address winner, uint64 price) external;
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface Gateway {
        event EventDecryption(uint256 indexed requestID, bytes32[] cts, address contractCaller, bytes4 callbackSelector, uint256 msgValue, uint256 maxTimestamp, bool passSignaturesToCaller);

        function fulfillRequest(uint256 requestID, bytes calldata decryptedCts, bytes[] calldata signatures) external payable;
    }
}

/// An auction that is open, and bidders who have tokens and have approved it.
struct Sale<'a> {
    stack: &'a Stack,
    token: Address,
    auction: Address,
}

impl<'a> Sale<'a> {
    async fn open(stack: &'a Stack, examples: &Examples) -> Self {
        let code = examples.artifact("auction", "SealedBidAuction");
        Self::with(stack, examples, &code, Vec::new()).await
    }

    async fn open_with_callback(stack: &'a Stack, examples: &Examples) -> Self {
        let code = examples.artifact("auction", "AuctionWithCallback");
        let gateway = development::addresses().gateway_contract;
        Self::with(stack, examples, &code, gateway.abi_encode()).await
    }

    async fn with(stack: &'a Stack, examples: &Examples, code: &str, more: Vec<u8>) -> Self {
        let token = stack
            .deploy(SELLER, &examples.artifact("confidential-token", "ConfidentialToken"), &[])
            .await;
        let arguments = (token, stack.address(SELLER), DURATION_SECONDS).abi_encode();
        let auction = stack.deploy(SELLER, code, &[arguments, more].concat()).await;
        for (bidder, amount) in [(ALICE, 1000), (BOB, 1000), (CAROL, 400)] {
            sent!(Token::new(token, stack.provider(SELLER)).mint(stack.address(bidder), amount));
            let Argument { handle, proof } = stack.encrypt(bidder, token, |input| input.add64(10_000)).await;
            sent!(Token::new(token, stack.provider(bidder)).approve(auction, handle, proof));
        }
        Self { stack, token, auction }
    }

    fn as_seen_by(&self, person: usize) -> Auction::AuctionInstance<DynProvider> {
        Auction::new(self.auction, self.stack.provider(person))
    }

    async fn bid(&self, bidder: usize, amount: u64) {
        let Argument { handle, proof } = self.stack.encrypt(bidder, self.auction, |input| input.add64(amount)).await;
        sent!(self.as_seen_by(bidder).bid(handle, proof));
    }

    async fn bid_handle(&self, bidder: usize) -> B256 {
        let auction = self.as_seen_by(bidder);
        auction.bidOf(self.stack.address(bidder)).call().await.unwrap()
    }

    async fn expect_balance(&self, person: usize, expected: u64) {
        let token = Token::new(self.token, self.stack.provider(person));
        let handle = token.balanceOf(self.stack.address(person)).call().await.unwrap();
        let balance = self.stack.decrypt(person, self.token, handle).await;
        assert_eq!(balance, U256::from(expected), "person {person}");
    }

    async fn expect_result(&self, winner: Address, price: u64) {
        let auction = self.as_seen_by(CAROL);
        assert!(auction.settled().call().await.unwrap());
        assert_eq!(auction.winner().call().await.unwrap(), winner);
        assert_eq!(auction.price().call().await.unwrap(), price);
    }
}

/// Plays an auction whose result somebody fetches and brings.
pub(crate) async fn play(stack: &Stack, examples: &Examples) {
    let sale = Sale::open(stack, examples).await;
    sale.bid(ALICE, 300).await;
    sale.bid(BOB, 500).await;
    // More than she has: nothing moves, and she leads with nothing.
    sale.bid(CAROL, 800).await;
    sale.bid(ALICE, 150).await;
    let bid = sale.bid_handle(ALICE).await;
    assert_eq!(stack.decrypt(ALICE, sale.auction, bid).await, U256::from(450));
    for curious in [BOB, SELLER] {
        stack.expect_secret(curious, sale.auction, bid).await;
    }
    let result = sale.as_seen_by(CAROL).result().call().await.unwrap();
    for secret in [result.winner, result.price] {
        stack.expect_not_public(secret).await;
    }
    refused!(stack, ALICE, sale.as_seen_by(ALICE).withdraw(), Auction::NotEnded);
    refused!(stack, SELLER, sale.as_seen_by(SELLER).collect(), Auction::NotEnded);
    refused!(stack, SELLER, sale.as_seen_by(SELLER).reveal(), Auction::NotEnded);

    stack.pass(DURATION_SECONDS).await;
    refused!(stack, ALICE, sale.as_seen_by(ALICE).bid(B256::ZERO, Bytes::new()), Auction::Ended);
    for (bidder, refund) in [(ALICE, 450), (BOB, 0), (CAROL, 0)] {
        let withdrawn = sent!(sale.as_seen_by(bidder).withdraw());
        let handle = withdrawn.decoded_log::<Auction::Withdrawn>().unwrap().refund;
        assert_eq!(stack.decrypt(bidder, sale.auction, handle).await, U256::from(refund));
        refused!(stack, bidder, sale.as_seen_by(bidder).withdraw(), Auction::NothingToWithdraw);
    }
    refused!(stack, SELLER, sale.as_seen_by(SELLER).withdraw(), Auction::NothingToWithdraw);
    sent!(sale.as_seen_by(CAROL).collect());
    refused!(stack, SELLER, sale.as_seen_by(SELLER).collect(), Auction::AlreadyCollected);
    for (person, balance) in [(ALICE, 1000), (BOB, 500), (CAROL, 400), (SELLER, 500)] {
        sale.expect_balance(person, balance).await;
    }

    let (auction, winner) = (sale.as_seen_by(CAROL), stack.address(BOB));
    refused!(stack, CAROL, auction.settle(winner, 500, Bytes::new()), Auction::NotRevealed);
    sent!(auction.reveal());
    let (values, proof) = stack.decrypt_public(&[result.winner, result.price]).await;
    assert_eq!(values, [U256::from_be_slice(winner.as_slice()), U256::from(500)]);
    for (wrong_winner, wrong_price) in [(winner, 499), (stack.address(ALICE), 500)] {
        let wrong = auction.settle(wrong_winner, wrong_price, proof.clone());
        assert!(wrong.call().await.is_err(), "the proof is for another result");
    }
    sent!(auction.settle(winner, 500, proof));
    sale.expect_result(winner, 500).await;
}

/// Plays an auction whose result the stack's relay delivers as a call.
pub(crate) async fn play_with_callback(stack: &Stack, examples: &Examples) {
    let sale = Sale::open_with_callback(stack, examples).await;
    // Of equal bids the earlier one wins.
    sale.bid(BOB, 250).await;
    sale.bid(ALICE, 250).await;
    let auction = sale.as_seen_by(CAROL);
    refused!(stack, CAROL, auction.requestResult(), Auction::NotEnded);
    stack.pass(DURATION_SECONDS).await;
    let asked = sent!(auction.requestResult()).decoded_log::<Gateway::EventDecryption>().unwrap();
    assert_eq!(asked.address, development::addresses().gateway_contract);
    assert_eq!(asked.contractCaller, sale.auction);
    refused!(stack, CAROL, auction.requestResult(), Auction::AlreadyAsked);
    let forged = auction.receiveResult(asked.requestID, stack.address(CAROL), 1);
    refused!(stack, CAROL, forged, Auction::OnlyGateway);

    let gateway = Gateway::new(asked.address, stack.provider_of(relayer()));
    let (values, proof) = stack.decrypt_public(&asked.cts).await;
    let signatures = signatures(&proof);
    let mut wrong = values.clone();
    wrong[1] = U256::from(1);
    let lie = gateway.fulfillRequest(asked.requestID, abi_words(&wrong).into(), signatures.clone());
    assert!(
        lie.from(development::DEPLOYER).call().await.is_err(),
        "the KMS has not signed this price"
    );
    // The stack's relay delivers what nobody can forge.
    let start = Instant::now();
    while !auction.settled().call().await.unwrap() {
        assert!(start.elapsed() < PATIENCE, "the result was not delivered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let again = gateway.fulfillRequest(asked.requestID, abi_words(&values).into(), signatures);
    assert!(again.from(development::DEPLOYER).call().await.is_err(), "it is delivered once");
    sale.expect_result(stack.address(BOB), 250).await;
    refused!(stack, CAROL, auction.requestResult(), Auction::AlreadyAsked);

    sent!(sale.as_seen_by(ALICE).withdraw());
    sale.expect_balance(ALICE, 1000).await;
}

/// The deployer of the host contracts, which is a relayer of the development chain too.
fn relayer() -> PrivateKeySigner {
    let mnemonic = MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC);
    mnemonic.index(development::DEPLOYER_INDEX).unwrap().build().unwrap()
}

/// Takes the signatures out of a proof: a byte with their number, then 65 bytes each.
fn signatures(proof: &Bytes) -> Vec<Bytes> {
    let (count, signatures) = proof.split_first().unwrap();
    assert_eq!(signatures.len(), 65 * usize::from(*count), "nothing follows the signatures");
    signatures.chunks_exact(65).map(Bytes::copy_from_slice).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_bid_wins_and_the_others_get_theirs_back() {
    play(&Stack::start().await, &Examples::Ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_comes_as_a_call_that_only_the_kms_can_have_signed() {
    play_with_callback(&Stack::start().await, &Examples::Ours).await;
}
