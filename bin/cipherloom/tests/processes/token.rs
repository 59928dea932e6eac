//! The confidential token of the examples, on one of the deployment's chains.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, Bytes},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
    sol,
};
use cipherloom_client::{Client, ClientConfig, ClientError, KeyTrust, PermitTerms};
use cipherloom_primitives::Handle;
use serde_json::Value;

use crate::deployment::{Chain, is_full};

const ARTIFACT: &str = include_str!("../../../../examples/confidential-token/artifacts/ConfidentialToken.json");

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

/// A deployed token with people who use it through a gateway.
pub(crate) struct Bank {
    pub(crate) token: Address,
    pub(crate) client: Client,
    url: String,
}

impl Bank {
    /// Deploys the token.
    pub(crate) async fn open(chain: &Chain, gateway_url: &str) -> Self {
        let url = chain.anvil.http_url();
        let trust = if is_full() { KeyTrust::AnySecure } else { KeyTrust::InsecureAny };
        let config = ClientConfig::new(chain.profile.addresses(), chain.profile.domains).trusting(trust);
        let client = Client::connect(gateway_url, &url, config).await.unwrap();
        let mut bank = Self {
            token: Address::ZERO,
            client,
            url,
        };
        let artifact: Value = serde_json::from_str(ARTIFACT).unwrap();
        let bytecode: Bytes = artifact["bytecode"].as_str().unwrap().parse().unwrap();
        let request = TransactionRequest::default().with_deploy_code(bytecode);
        let receipt = bank
            .provider(0)
            .send_transaction(request)
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap();
        bank.token = receipt.contract_address.unwrap();
        bank
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

    pub(crate) async fn mint(&self, person: u32, amount: u64) {
        let call = self.as_seen_by(0);
        let receipt = call
            .mint(self.address(person), amount)
            .send()
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap();
        assert!(receipt.status());
    }

    /// Encrypts an amount and transfers it.
    pub(crate) async fn transfer(&self, from: u32, to: u32, amount: u64) {
        let input = self
            .client
            .encrypt(self.token, self.address(from))
            .add64(amount)
            .encrypt()
            .await
            .unwrap();
        let call = self.as_seen_by(from);
        let sent = call
            .transfer(self.address(to), input.handles[0].as_b256(), input.input_proof)
            .send()
            .await;
        assert!(sent.unwrap().get_receipt().await.unwrap().status());
    }

    pub(crate) async fn balance_handle(&self, person: u32) -> Handle {
        let handle = self.as_seen_by(0).balanceOf(self.address(person)).call().await.unwrap();
        Handle::try_from(handle).unwrap()
    }

    /// Decrypts a person's balance as this person.
    pub(crate) async fn balance(&self, owner: u32, reader: u32) -> Result<u64, ClientError> {
        let terms = PermitTerms::starting_now(vec![self.token], 1);
        let permit = self.client.permit(&self.signer(reader), terms).await?;
        let pair = (self.balance_handle(owner).await, self.token);
        let values = self.client.user_decrypt(&[pair], &permit).await?;
        Ok(values[0].1.to_u256().to())
    }

    /// Makes the supply public as it is now, and gives its handle.
    pub(crate) async fn make_supply_public(&self) -> Handle {
        let token = self.as_seen_by(0);
        let receipt = token.makeTotalSupplyPublic().send().await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        let handle = token.publishedTotalSupply().call().await.unwrap();
        Handle::try_from(handle).unwrap()
    }

    /// Makes the supply public, decrypts it, and has the contract verify it.
    pub(crate) async fn publish_supply(&self) -> u64 {
        let handle = self.make_supply_public().await;
        let public = self.client.public_decrypt(&[handle]).await.unwrap();
        let supply: u64 = public.values[0].1.to_u256().to();
        let token = self.as_seen_by(0);
        let verified = token.verifyTotalSupply(supply, public.proof).send().await.unwrap();
        assert!(verified.get_receipt().await.unwrap().status());
        assert_eq!(token.verifiedTotalSupply().call().await.unwrap(), supply);
        supply
    }
}
