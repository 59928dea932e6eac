//! The confidential token of the examples, on the chain of a test, with people who use it.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::{MnemonicBuilder, PrivateKeySigner},
    sol,
    sol_types::SolValue,
};
use cipherloom_chain::LocalProfile;
use cipherloom_client::{Client, ClientConfig, ClientError, KeyTrust, PermitTerms};
use cipherloom_contracts::development;
use cipherloom_primitives::Handle;
use serde_json::Value;

use crate::network::{CHAIN_ID, PATIENCE, is_full};

/// The one that is told where the host contracts are.
const ARTIFACT: &str = include_str!("../../../../examples/own-chain/artifacts/OwnChainToken.json");

sol! {
    #[sol(rpc)]
    interface Token {
        function mint(address to, uint64 amount) external;
        function transfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function makeTotalSupplyPublic() external;
        function verifyTotalSupply(uint64 clear, bytes calldata decryptionProof) external;
        function balanceOf(address account) external view returns (bytes32);
        function publishedTotalSupply() external view returns (bytes32);
        function verifiedTotalSupply() external view returns (uint64);
    }
}

/// A deployed token, as one node shows it.
#[derive(Clone)]
pub(crate) struct Bank {
    token: Address,
    url: String,
}

impl Bank {
    /// Deploys the token through a node.
    pub(crate) async fn open(url: &str) -> Self {
        let mut bank = Self {
            token: Address::ZERO,
            url: url.to_owned(),
        };
        let artifact: Value = serde_json::from_str(ARTIFACT).unwrap();
        let bytecode: Bytes = artifact["bytecode"].as_str().unwrap().parse().unwrap();
        let addresses = development::addresses();
        let config = (addresses.acl, addresses.executor, addresses.kms_verifier).abi_encode_params();
        let request = TransactionRequest::default().with_deploy_code([bytecode.as_ref(), &config].concat());
        let pending = bank.provider(0).send_transaction(request).await.unwrap();
        bank.token = included(pending).await.contract_address.unwrap();
        bank
    }

    /// The same token as another node shows it.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    /// Returns a client that talks to a gateway and to this node.
    pub(crate) async fn client(&self, gateway_url: &str) -> Client {
        let trust = if is_full() { KeyTrust::AnySecure } else { KeyTrust::InsecureAny };
        self.client_that_trusts(gateway_url, trust).await
    }

    /// The same, for a chain whose parameters do not follow from how much is done.
    pub(crate) async fn client_that_trusts(&self, gateway_url: &str, trust: KeyTrust) -> Client {
        let config = ClientConfig::new(development::addresses(), LocalProfile::of_new_chain(CHAIN_ID)).trusting(trust);
        Client::connect(gateway_url, &self.url, config).await.unwrap()
    }

    pub(crate) fn signer(&self, person: u32) -> PrivateKeySigner {
        let builder = MnemonicBuilder::from_phrase("test test test test test test test test test test test junk");
        builder.index(person).unwrap().build().unwrap()
    }

    pub(crate) fn address(&self, person: u32) -> Address {
        self.signer(person).address()
    }

    fn provider(&self, person: u32) -> DynProvider {
        ProviderBuilder::new()
            .wallet(EthereumWallet::from(self.signer(person)))
            .connect_http(self.url.parse().unwrap())
            .erased()
    }

    fn as_seen_by(&self, person: u32) -> Token::TokenInstance<DynProvider> {
        Token::new(self.token, self.provider(person))
    }

    /// Mints, and returns the number of the block.
    pub(crate) async fn mint(&self, person: u32, amount: u64) -> u64 {
        let pending = self.as_seen_by(0).mint(self.address(person), amount).send().await.unwrap();
        included(pending).await.block_number.unwrap()
    }

    /// Sends a mint, and does not wait for its block.
    pub(crate) async fn send_mint(&self, person: u32, amount: u64) {
        let _ = self.as_seen_by(0).mint(self.address(person), amount).send().await.unwrap();
    }

    /// Encrypts an amount and transfers it.
    pub(crate) async fn transfer(&self, client: &Client, from: u32, to: u32, amount: u64) -> u64 {
        let input = client
            .encrypt(self.token, self.address(from))
            .add64(amount)
            .encrypt()
            .await
            .unwrap();
        let token = self.as_seen_by(from);
        let call = token.transfer(self.address(to), input.handles[0].as_b256(), input.input_proof);
        included(call.send().await.unwrap()).await.block_number.unwrap()
    }

    /// Transfers an input with a proof that somebody else has put together, and returns the block; or why the chain refuses it.
    pub(crate) async fn try_transfer(&self, from: u32, to: u32, amount: Handle, proof: Bytes) -> Result<u64, alloy::contract::Error> {
        let token = self.as_seen_by(from);
        let sent = token.transfer(self.address(to), amount.as_b256(), proof).send().await?;
        Ok(included(sent).await.block_number.unwrap())
    }

    /// Gives an account an ether.
    pub(crate) async fn give_ether(&self, account: Address) {
        let transfer = TransactionRequest::default()
            .with_to(account)
            .with_value(U256::from(10).pow(U256::from(18)));
        included(self.provider(0).send_transaction(transfer).await.unwrap()).await;
    }

    /// How many transactions an account has sent.
    pub(crate) async fn nonce(&self, account: Address) -> u64 {
        self.provider(0).get_transaction_count(account).await.unwrap()
    }

    /// Where the token is.
    pub(crate) const fn token(&self) -> Address {
        self.token
    }

    pub(crate) async fn balance_handle(&self, person: u32) -> Handle {
        let handle = self.as_seen_by(0).balanceOf(self.address(person)).call().await.unwrap();
        Handle::try_from(handle).unwrap()
    }

    /// Decrypts a person's balance as this person.
    pub(crate) async fn balance(&self, client: &Client, owner: u32, reader: u32) -> Result<u64, ClientError> {
        let terms = PermitTerms::starting_now(vec![self.token], 1);
        let permit = client.permit(&self.signer(reader), terms).await?;
        let pair = (self.balance_handle(owner).await, self.token);
        let values = client.user_decrypt(&[pair], &permit).await?;
        Ok(values[0].1.to_u256().to())
    }

    /// Makes the supply public, decrypts it, and has the contract verify it.
    pub(crate) async fn publish_supply(&self, client: &Client) -> u64 {
        let token = self.as_seen_by(0);
        assert!(included(token.makeTotalSupplyPublic().send().await.unwrap()).await.status());
        let handle = Handle::try_from(token.publishedTotalSupply().call().await.unwrap()).unwrap();
        let public = client.public_decrypt(&[handle]).await.unwrap();
        let supply: u64 = public.values[0].1.to_u256().to();
        included(token.verifyTotalSupply(supply, public.proof).send().await.unwrap()).await;
        assert_eq!(token.verifiedTotalSupply().call().await.unwrap(), supply);
        supply
    }
}

async fn included(pending: alloy::providers::PendingTransactionBuilder<alloy::network::Ethereum>) -> TransactionReceipt {
    let receipt = pending.with_timeout(Some(PATIENCE)).get_receipt().await.unwrap();
    assert!(receipt.status(), "transaction {} was reverted", receipt.transaction_hash);
    receipt
}
