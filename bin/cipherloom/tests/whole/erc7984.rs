//! OpenZeppelin's confidential contracts from npm, unmodified: the ERC7984 token, and the wrapper that turns a public token into a confidential one.

use std::path::{Path, PathBuf};

use alloy::{
    primitives::{Address, B256, Bytes, aliases::U48, utils::parse_ether},
    providers::{DynProvider, Provider},
    rpc::types::TransactionReceipt,
    sol,
    sol_types::SolValue,
};
use cipherloom_primitives::U256;

use crate::dapp::{Argument, Stack, compile, read, refused, sent};

const OWNER: usize = 0;
const ALICE: usize = 1;
const BOB: usize = 2;
const CAROL: usize = 3;

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    interface Token {
        error OnlyOwner();
        error ERC7984UnauthorizedSpender(address holder, address spender);
        error ERC7984InvalidReceiver(address receiver);
        error InvalidUnwrapRequest(bytes32 unwrapRequestId);

        event ConfidentialTransfer(address indexed from, address indexed to, bytes32 indexed amount);
        event UnwrapRequested(address indexed receiver, bytes32 indexed unwrapRequestId, bytes32 amount);
        event UnwrapFinalized(address indexed receiver, bytes32 indexed unwrapRequestId, bytes32 encryptedAmount, uint64 cleartextAmount);

        function mint(address to, bytes32 amount, bytes calldata inputProof) external;
        function burn(bytes32 amount, bytes calldata inputProof) external;
        function setOperator(address operator, uint48 until) external;
        function confidentialTransfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function confidentialTransferFrom(address from, address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function confidentialTransferAndCall(address to, bytes32 amount, bytes calldata inputProof, bytes calldata data) external returns (bytes32);
        function requestDiscloseEncryptedAmount(bytes32 amount) external;
        function discloseEncryptedAmount(bytes32 amount, uint64 clear, bytes calldata decryptionProof) external;
        function confidentialBalanceOf(address account) external view returns (bytes32);

        // Only the wrapper.
        function wrap(address to, uint256 amount) external returns (bytes32);
        function unwrap(address from, address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function finalizeUnwrap(bytes32 unwrapRequestId, uint64 clear, bytes calldata decryptionProof) external;
        function rate() external view returns (uint256);
        function decimals() external view returns (uint8);
        function inferredTotalSupply() external view returns (uint256);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface PublicToken {
        function transfer(address to, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function transferAndCall(address to, uint256 amount, bytes calldata data) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
    }
}

/// A deployed confidential token.
struct Bank<'a> {
    stack: &'a Stack,
    token: Address,
}

impl Bank<'_> {
    fn as_seen_by(&self, person: usize) -> Token::TokenInstance<DynProvider> {
        Token::new(self.token, self.stack.provider(person))
    }

    async fn amount(&self, person: usize, amount: u64) -> Argument {
        self.stack.encrypt(person, self.token, |input| input.add64(amount)).await
    }

    async fn balance(&self, person: usize) -> U256 {
        let token = self.as_seen_by(person);
        let handle = token.confidentialBalanceOf(self.stack.address(person)).call().await.unwrap();
        self.stack.decrypt(person, self.token, handle).await
    }

    async fn expect_balances(&self, expected: &[(usize, u64)]) {
        for (person, balance) in expected {
            assert_eq!(self.balance(*person).await, U256::from(*balance), "person {person}");
        }
    }

    async fn transfer(&self, from: usize, to: usize, amount: u64) -> TransactionReceipt {
        let Argument { handle, proof } = self.amount(from, amount).await;
        let to = self.stack.address(to);
        sent!(self.as_seen_by(from).confidentialTransfer(to, handle, proof))
    }

    /// Asks for tokens back, and gives the number of the request: the handle of how many there will be.
    async fn unwrap(&self, from: usize, to: usize, amount: u64) -> B256 {
        let Argument { handle, proof } = self.amount(from, amount).await;
        let (from_address, to_address) = (self.stack.address(from), self.stack.address(to));
        let receipt = sent!(self.as_seen_by(from).unwrap(from_address, to_address, handle, proof));
        let requested = receipt.decoded_log::<Token::UnwrapRequested>().unwrap();
        assert_eq!(requested.unwrapRequestId, requested.amount);
        requested.amount
    }
}

/// Mint, transfer, operators, transfer with a call, disclosure, burn.
async fn use_token(stack: &Stack, artifacts: &Path) {
    let token = stack.deploy(OWNER, &read(artifacts, "PublishedToken"), &[]).await;
    let receiver = stack.deploy(OWNER, &read(artifacts, "Receiver"), &[]).await;
    let bank = Bank { stack, token };
    let Argument { handle, proof } = bank.amount(OWNER, 1000).await;
    sent!(bank.as_seen_by(OWNER).mint(stack.address(ALICE), handle, proof));
    let Argument { handle, proof } = bank.amount(BOB, 1000).await;
    let bob = bank.as_seen_by(BOB);
    refused!(stack, BOB, bob.mint(stack.address(BOB), handle, proof), Token::OnlyOwner);
    let sent_300 = bank.transfer(ALICE, BOB, 300).await;
    let moved = sent_300.decoded_log::<Token::ConfidentialTransfer>().unwrap().amount;
    assert_eq!(stack.decrypt(BOB, token, moved).await, U256::from(300));
    stack.expect_secret(CAROL, token, moved).await;
    bank.transfer(ALICE, BOB, 701).await;
    bank.expect_balances(&[(ALICE, 700), (BOB, 300)]).await;

    operators(&bank).await;
    bank.expect_balances(&[(ALICE, 600), (BOB, 300), (CAROL, 100)]).await;

    // The receiver takes ten or more; the rest comes back.
    for amount in [9, 10] {
        let Argument { handle, proof } = bank.amount(BOB, amount).await;
        sent!(
            bank.as_seen_by(BOB)
                .confidentialTransferAndCall(receiver, handle, proof, Bytes::new())
        );
    }
    bank.expect_balances(&[(BOB, 290)]).await;

    sent!(bank.as_seen_by(ALICE).requestDiscloseEncryptedAmount(moved));
    let (values, proof) = stack.decrypt_public(&[moved]).await;
    assert_eq!(values, [U256::from(300)]);
    let anyone = bank.as_seen_by(CAROL);
    assert!(anyone.discloseEncryptedAmount(moved, 301, proof.clone()).call().await.is_err());
    sent!(anyone.discloseEncryptedAmount(moved, 300, proof));

    let Argument { handle, proof } = bank.amount(BOB, 90).await;
    sent!(bank.as_seen_by(BOB).burn(handle, proof));
    bank.expect_balances(&[(BOB, 200)]).await;
}

/// Alice makes Carol her operator for a while.
async fn operators(bank: &Bank<'_>) {
    let stack = bank.stack;
    let (alice, carol) = (stack.address(ALICE), stack.address(CAROL));
    let Argument { handle, proof } = bank.amount(CAROL, 100).await;
    let operator = bank.as_seen_by(CAROL);
    let take = || operator.confidentialTransferFrom(alice, carol, handle, proof.clone());
    refused!(stack, CAROL, take(), Token::ERC7984UnauthorizedSpender);
    let now = stack.provider(ALICE).get_block(Default::default()).await.unwrap().unwrap();
    let until = U48::from(now.header.timestamp + 600);
    sent!(bank.as_seen_by(ALICE).setOperator(carol, until));
    sent!(take());
    stack.pass(601).await;
    refused!(stack, CAROL, take(), Token::ERC7984UnauthorizedSpender);
}

/// Wrap with an approval and with a transfer, transfer confidentially, unwrap, and finalise with a public decryption.
async fn use_wrapper(stack: &Stack, artifacts: &Path) {
    let underlying = stack.deploy(OWNER, &read(artifacts, "PublicToken"), &[]).await;
    let token = stack
        .deploy(OWNER, &read(artifacts, "PublishedWrapper"), &underlying.abi_encode())
        .await;
    let bank = Bank { stack, token };
    let public = |person| PublicToken::new(underlying, stack.provider(person));
    let anyone = bank.as_seen_by(CAROL);
    // 18 decimals become 6, so that amounts fit 64 bits.
    assert_eq!(anyone.decimals().call().await.unwrap(), 6);
    let unit = anyone.rate().call().await.unwrap();
    assert_eq!(unit, U256::from(10).pow(U256::from(12)));

    let five = parse_ether("5").unwrap();
    sent!(public(OWNER).transfer(stack.address(ALICE), five));
    sent!(public(ALICE).approve(token, five));
    let rest = U256::from(7);
    sent!(bank.as_seen_by(ALICE).wrap(stack.address(ALICE), parse_ether("3").unwrap() + rest));
    sent!(public(ALICE).transferAndCall(token, parse_ether("1").unwrap() + rest, Bytes::new()));
    bank.expect_balances(&[(ALICE, 4_000_000)]).await;
    // What is less than a unit was not taken, or came back.
    let ether = parse_ether("1").unwrap();
    assert_eq!(public(ALICE).balanceOf(stack.address(ALICE)).call().await.unwrap(), ether);
    assert_eq!(anyone.inferredTotalSupply().call().await.unwrap(), U256::from(4_000_000));

    bank.transfer(ALICE, BOB, 1_500_000).await;
    let request = bank.unwrap(BOB, CAROL, 500_000).await;
    let (values, proof) = stack.decrypt_public(&[request]).await;
    assert_eq!(values, [U256::from(500_000)]);
    let more = anyone.finalizeUnwrap(request, 500_001, proof.clone());
    assert!(more.call().await.is_err(), "the proof is for another amount");
    let finalized = sent!(anyone.finalizeUnwrap(request, 500_000, proof.clone()));
    assert_eq!(finalized.decoded_log::<Token::UnwrapFinalized>().unwrap().cleartextAmount, 500_000);
    let again = anyone.finalizeUnwrap(request, 500_000, proof);
    refused!(stack, CAROL, again, Token::InvalidUnwrapRequest);
    let half = ether / U256::from(2);
    assert_eq!(public(CAROL).balanceOf(stack.address(CAROL)).call().await.unwrap(), half);

    // More than he has gives nothing back, and takes nothing.
    let request = bank.unwrap(BOB, BOB, 1_000_001).await;
    let (values, proof) = stack.decrypt_public(&[request]).await;
    assert_eq!(values, [U256::ZERO]);
    sent!(anyone.finalizeUnwrap(request, 0, proof));
    bank.expect_balances(&[(ALICE, 2_500_000), (BOB, 1_000_000)]).await;
    assert_eq!(public(BOB).balanceOf(stack.address(BOB)).call().await.unwrap(), U256::ZERO);

    // Nobody unwraps the tokens of somebody else.
    let Argument { handle, proof } = bank.amount(CAROL, 1).await;
    let theft = anyone.unwrap(stack.address(ALICE), stack.address(CAROL), handle, proof);
    refused!(stack, CAROL, theft, Token::ERC7984UnauthorizedSpender);
}

async fn everything_works(artifacts: PathBuf) {
    let stack = Stack::start().await;
    use_token(&stack, &artifacts).await;
    use_wrapper(&stack, &artifacts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_contracts_work_with_the_library_they_ask_npm_for() {
    everything_works(compile("erc7984-published", &["erc7984", "--library", "published"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_contracts_work_with_our_library_in_its_place() {
    everything_works(compile("erc7984-ours", &["erc7984", "--library", "ours"])).await;
}
