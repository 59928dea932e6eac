//! The auction of `examples/auction` with the token of `examples/confidential-token`: bids, end, refunds, result.

use alloy::{
    primitives::{Address, B256, Bytes},
    sol,
    sol_types::SolValue,
};
use cipherloom_primitives::{Handle, U256};

use crate::dapp::{Argument, Stack, sent};

const TOKEN: &str = include_str!("../../../../examples/confidential-token/artifacts/ConfidentialToken.json");
const AUCTION: &str = include_str!("../../../../examples/auction/artifacts/SealedBidAuction.json");
const DURATION_SECONDS: u64 = 3600;

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

        function bid(bytes32 amount, bytes calldata inputProof) external;
        function withdraw() external;
        function collect() external;
        function reveal() external;
        function settle(address winner, uint64 price, bytes calldata decryptionProof) external;
        function bidOf(address bidder) external view returns (bytes32);
        function result() external view returns (bytes32 winner, bytes32 price);
        function winner() external view returns (address);
        function price() external view returns (uint64);
    }
}

struct Sale {
    stack: Stack,
    token: Address,
    auction: Address,
}

impl Sale {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let token = stack.deploy(SELLER, TOKEN, &[]).await;
        let arguments = (token, stack.address(SELLER), DURATION_SECONDS).abi_encode();
        let auction = stack.deploy(SELLER, AUCTION, &arguments).await;
        let sale = Self { stack, token, auction };
        for (bidder, amount) in [(ALICE, 1000), (BOB, 1000), (CAROL, 400)] {
            sent!(Token::new(token, sale.stack.provider(SELLER)).mint(sale.stack.address(bidder), amount));
            let Argument { handle, proof } = sale.stack.encrypt(bidder, token, |input| input.add64(10_000)).await;
            sent!(Token::new(token, sale.stack.provider(bidder)).approve(auction, handle, proof));
        }
        sale
    }

    fn as_seen_by(&self, person: usize) -> Auction::AuctionInstance<alloy::providers::DynProvider> {
        Auction::new(self.auction, self.stack.provider(person))
    }

    async fn bid(&self, bidder: usize, amount: u64) {
        let Argument { handle, proof } = self.stack.encrypt(bidder, self.auction, |input| input.add64(amount)).await;
        sent!(self.as_seen_by(bidder).bid(handle, proof));
    }

    async fn balance(&self, person: usize) -> U256 {
        let token = Token::new(self.token, self.stack.provider(person));
        let handle = token.balanceOf(self.stack.address(person)).call().await.unwrap();
        self.stack.decrypt(person, self.token, handle).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_bid_wins_and_the_others_get_theirs_back() {
    let sale = Sale::start().await;
    sale.bid(ALICE, 300).await;
    sale.bid(BOB, 500).await;
    // More than she has: nothing moves, and she leads with nothing.
    sale.bid(CAROL, 800).await;
    sale.bid(ALICE, 150).await;
    let bid = sale.as_seen_by(ALICE).bidOf(sale.stack.address(ALICE)).call().await.unwrap();
    assert_eq!(sale.stack.decrypt(ALICE, sale.auction, bid).await, U256::from(450));
    let early = sale
        .as_seen_by(ALICE)
        .withdraw()
        .from(sale.stack.address(ALICE))
        .call()
        .await
        .unwrap_err();
    assert!(early.as_decoded_error::<Auction::NotEnded>().is_some(), "{early}");

    sale.stack.pass(DURATION_SECONDS).await;
    let late = sale.as_seen_by(ALICE).bid(B256::ZERO, Bytes::new()).call().await.unwrap_err();
    assert!(late.as_decoded_error::<Auction::Ended>().is_some(), "{late}");
    for bidder in [ALICE, BOB, CAROL] {
        sent!(sale.as_seen_by(bidder).withdraw());
    }
    let again = sale
        .as_seen_by(ALICE)
        .withdraw()
        .from(sale.stack.address(ALICE))
        .call()
        .await
        .unwrap_err();
    assert!(again.as_decoded_error::<Auction::NothingToWithdraw>().is_some(), "{again}");
    sent!(sale.as_seen_by(SELLER).collect());
    let again = sale.as_seen_by(SELLER).collect().call().await.unwrap_err();
    assert!(again.as_decoded_error::<Auction::AlreadyCollected>().is_some(), "{again}");
    for (person, balance) in [(ALICE, 1000), (BOB, 500), (CAROL, 400), (SELLER, 500)] {
        assert_eq!(sale.balance(person).await, U256::from(balance), "person {person}");
    }

    let auction = sale.as_seen_by(CAROL);
    sent!(auction.reveal());
    let result = auction.result().call().await.unwrap();
    let handles = [result.winner, result.price].map(|handle| Handle::try_from(handle).unwrap());
    let public = sale.stack.client.public_decrypt(&handles).await.unwrap();
    let winner = sale.stack.address(BOB);
    assert_eq!(public.values[0].1.to_u256(), U256::from_be_slice(winner.as_slice()));
    assert_eq!(public.values[1].1.to_u256(), U256::from(500));
    assert!(
        auction.settle(winner, 499, public.proof.clone()).call().await.is_err(),
        "the proof is for another price"
    );
    sent!(auction.settle(winner, 500, public.proof));
    assert_eq!(auction.winner().call().await.unwrap(), winner);
    assert_eq!(auction.price().call().await.unwrap(), 500);
}
