//! The token of `examples/confidential-token`: supply, transfers, allowances, and who may know what.

use alloy::{
    primitives::{Address, B256},
    providers::DynProvider,
    rpc::types::TransactionReceipt,
    sol,
};
use cipherloom_primitives::U256;

use crate::dapp::{Argument, Examples, Stack, refused, sent};

const OWNER: usize = 0;
const ALICE: usize = 1;
const BOB: usize = 2;
const CAROL: usize = 3;

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    interface Token {
        error OnlyOwner();
        error ZeroAddress();
        error TotalSupplyNotPublic();

        event Transfer(address indexed from, address indexed to, bytes32 amount);

        function mint(address to, uint64 amount) external;
        function mintEncrypted(address to, bytes32 amount, bytes calldata inputProof) external;
        function transfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function approve(address spender, bytes32 amount, bytes calldata inputProof) external;
        function transferFrom(address from, address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function makeTotalSupplyPublic() external;
        function verifyTotalSupply(uint64 clear, bytes calldata decryptionProof) external;
        function balanceOf(address account) external view returns (bytes32);
        function allowance(address account, address spender) external view returns (bytes32);
        function totalSupply() external view returns (bytes32);
        function publishedTotalSupply() external view returns (bytes32);
        function verifiedTotalSupply() external view returns (uint64);
    }
}

/// A deployed token.
struct Bank<'a> {
    stack: &'a Stack,
    token: Address,
}

impl<'a> Bank<'a> {
    async fn open(stack: &'a Stack, examples: &Examples) -> Self {
        let token = stack
            .deploy(OWNER, &examples.artifact("confidential-token", "ConfidentialToken"), &[])
            .await;
        Self { stack, token }
    }

    fn as_seen_by(&self, person: usize) -> Token::TokenInstance<DynProvider> {
        Token::new(self.token, self.stack.provider(person))
    }

    async fn amount(&self, person: usize, amount: u64) -> Argument {
        self.stack.encrypt(person, self.token, |input| input.add64(amount)).await
    }

    /// Transfers, and gives the handle of what has moved.
    async fn transfer(&self, from: usize, to: usize, amount: u64) -> B256 {
        let Argument { handle, proof } = self.amount(from, amount).await;
        let token = self.as_seen_by(from);
        moved(&sent!(token.transfer(self.stack.address(to), handle, proof)))
    }

    /// Spends an allowance, and gives the handle of what has moved.
    async fn spend(&self, spender: usize, from: usize, amount: u64) -> B256 {
        let Argument { handle, proof } = self.amount(spender, amount).await;
        let (from, to) = (self.stack.address(from), self.stack.address(spender));
        let token = self.as_seen_by(spender);
        moved(&sent!(token.transferFrom(from, to, handle, proof)))
    }

    async fn balance_handle(&self, person: usize) -> B256 {
        let token = self.as_seen_by(person);
        token.balanceOf(self.stack.address(person)).call().await.unwrap()
    }

    async fn balance(&self, person: usize) -> U256 {
        let handle = self.balance_handle(person).await;
        if handle.is_zero() {
            // She never had tokens, so there is nothing to decrypt.
            return U256::ZERO;
        }
        self.stack.decrypt(person, self.token, handle).await
    }

    async fn expect_balances(&self, expected: [u64; 3]) {
        let [alice, bob, carol] = expected;
        for (person, balance) in [(ALICE, alice), (BOB, bob), (CAROL, carol)] {
            assert_eq!(self.balance(person).await, U256::from(balance), "person {person}");
        }
    }

    async fn reads(&self, person: usize, handle: B256) -> U256 {
        self.stack.decrypt(person, self.token, handle).await
    }
}

/// The handle in the event of a transfer.
fn moved(receipt: &TransactionReceipt) -> B256 {
    receipt.decoded_log::<Token::Transfer>().unwrap().amount
}

/// Moves tokens about and checks every balance.
pub(crate) async fn circulate(stack: &Stack, examples: &Examples) {
    let bank = Bank::open(stack, examples).await;
    let owner = bank.as_seen_by(OWNER);
    sent!(owner.mint(stack.address(ALICE), 1000));
    let Argument { handle, proof } = bank.amount(OWNER, 500).await;
    sent!(owner.mintEncrypted(stack.address(BOB), handle, proof));
    refused!(stack, ALICE, bank.as_seen_by(ALICE).mint(stack.address(ALICE), 1), Token::OnlyOwner);

    let moved = bank.transfer(ALICE, BOB, 300).await;
    for person in [ALICE, BOB] {
        assert_eq!(bank.reads(person, moved).await, U256::from(300));
    }
    stack.expect_secret(CAROL, bank.token, moved).await;
    stack.expect_secret(BOB, bank.token, bank.balance_handle(ALICE).await).await;
    // More than she has moves nothing, to somebody else and to herself.
    for to in [BOB, ALICE] {
        let moved = bank.transfer(ALICE, to, 701).await;
        assert_eq!(bank.reads(ALICE, moved).await, U256::ZERO);
    }
    bank.transfer(ALICE, ALICE, 200).await;
    bank.transfer(ALICE, CAROL, 0).await;
    bank.expect_balances([700, 800, 0]).await;

    // More than fits moves nothing either, and leaves the total as it is.
    sent!(owner.mint(stack.address(CAROL), u64::MAX));
    bank.expect_balances([700, 800, 0]).await;

    let Argument { handle, proof } = bank.amount(ALICE, 5).await;
    let (alice, bob) = (bank.as_seen_by(ALICE), bank.as_seen_by(BOB));
    let to_nobody = alice.transfer(Address::ZERO, handle, proof.clone());
    refused!(stack, ALICE, to_nobody, Token::ZeroAddress);
    let stolen = bob.transfer(stack.address(BOB), handle, proof);
    assert!(
        stolen.from(stack.address(BOB)).call().await.is_err(),
        "an input belongs to who has made it"
    );
}

/// Approves a spender and checks what she can move.
pub(crate) async fn spend_allowances(stack: &Stack, examples: &Examples) {
    let bank = Bank::open(stack, examples).await;
    sent!(bank.as_seen_by(OWNER).mint(stack.address(ALICE), 300));
    // Nobody has approved her yet.
    let moved = bank.spend(CAROL, ALICE, 10).await;
    assert_eq!(bank.reads(ALICE, moved).await, U256::ZERO);

    let Argument { handle, proof } = bank.amount(ALICE, 200).await;
    sent!(bank.as_seen_by(ALICE).approve(stack.address(CAROL), handle, proof));
    for (wanted, expected) in [(150, 150), (100, 0), (50, 50), (1, 0)] {
        let moved = bank.spend(CAROL, ALICE, wanted).await;
        assert_eq!(bank.reads(CAROL, moved).await, U256::from(expected), "wanted {wanted}");
    }
    bank.expect_balances([100, 0, 200]).await;

    // An allowance of more than there is does not get more, and stays.
    let Argument { handle, proof } = bank.amount(ALICE, 1000).await;
    sent!(bank.as_seen_by(ALICE).approve(stack.address(CAROL), handle, proof));
    bank.spend(CAROL, ALICE, 101).await;
    let token = bank.as_seen_by(CAROL);
    let left = token.allowance(stack.address(ALICE), stack.address(CAROL)).call().await.unwrap();
    for person in [ALICE, CAROL] {
        assert_eq!(bank.reads(person, left).await, U256::from(1000));
    }
    stack.expect_secret(BOB, bank.token, left).await;
    bank.expect_balances([100, 0, 200]).await;
}

/// Publishes the total supply, and only that of one moment.
pub(crate) async fn publish_the_total(stack: &Stack, examples: &Examples) {
    let bank = Bank::open(stack, examples).await;
    let (owner, anyone) = (bank.as_seen_by(OWNER), bank.as_seen_by(CAROL));
    sent!(owner.mint(stack.address(ALICE), 700));
    let proof = Default::default();
    refused!(stack, CAROL, anyone.verifyTotalSupply(700, proof), Token::TotalSupplyNotPublic);
    refused!(stack, CAROL, anyone.makeTotalSupplyPublic(), Token::OnlyOwner);
    sent!(owner.makeTotalSupplyPublic());
    sent!(owner.mint(stack.address(BOB), 1));
    stack.expect_not_public(anyone.totalSupply().call().await.unwrap()).await;

    let published = anyone.publishedTotalSupply().call().await.unwrap();
    let (values, proof) = stack.decrypt_public(&[published]).await;
    assert_eq!(values, [U256::from(700)]);
    let wrong = anyone.verifyTotalSupply(701, proof.clone());
    assert!(wrong.call().await.is_err(), "the proof is for another total");
    sent!(anyone.verifyTotalSupply(700, proof));
    assert_eq!(anyone.verifiedTotalSupply().call().await.unwrap(), 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_move_within_balances_and_nobody_else_knows() {
    circulate(&Stack::start().await, &Examples::Ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spender_moves_no_more_than_she_may() {
    spend_allowances(&Stack::start().await, &Examples::Ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_total_is_verified_on_chain_and_later_ones_stay_secret() {
    publish_the_total(&Stack::start().await, &Examples::Ours).await;
}
