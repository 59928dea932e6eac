//! Keys, chains, accounts and a token that tests share.

use std::{
    future::Future,
    sync::{Arc, LazyLock},
    time::Duration,
};

use alloy::{
    consensus::{SignableTransaction, TxEip1559},
    eips::eip2718::Encodable2718,
    network::TxSignerSync,
    primitives::{Address, B256, Bytes, TxKind, U256},
    signers::local::PrivateKeySigner,
    sol,
    sol_types::{SolCall, SolValue},
};
use cipherloom_contracts::{HostAddresses, HostContract, KmsConfig, SignerSet, development};
use cipherloom_fhe::{EncryptInputs, FheBackend, KeySet, insecure_test_keys};
use cipherloom_node::native::{Genesis, NativeChain};
use cipherloom_primitives::{
    FheType, Handle,
    input::{InputMetadata, input_handles},
    native::NativeInputProof,
    quorum::{Validator, ValidatorSet},
};
use cipherloom_validator::{ChainPlan, EmbeddedExecutor, EmbeddedOptions, ProofChecks};
use serde_json::{Value, json};

/// How long something may take that happens by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The token of `examples/own-chain`.
const TOKEN: &str = include_str!("../../../../examples/own-chain/artifacts/OwnChainToken.json");

sol! {
    interface Token {
        function mint(address to, uint64 amount) external;
        function transfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32 moved);
        function balanceOf(address account) external view returns (bytes32);
    }
}

/// Toy keys, what computes with them, and the checks of their inputs. All nodes of a test share them, as executors of one key set give the same bytes.
pub(crate) struct Workshop {
    pub(crate) keys: Arc<KeySet>,
    pub(crate) backend: Arc<dyn FheBackend>,
    pub(crate) encryptor: Box<dyn EncryptInputs>,
    pub(crate) executor: Arc<EmbeddedExecutor>,
    pub(crate) checks: Arc<ProofChecks>,
}

/// The one of all tests.
pub(crate) static WORKSHOP: LazyLock<Workshop> = LazyLock::new(|| {
    let keys = insecure_test_keys().unwrap();
    let backend = keys.evaluation().unwrap();
    Workshop {
        encryptor: keys.encryptor().unwrap(),
        executor: Arc::new(EmbeddedExecutor::start(Arc::clone(&backend), key_set_id(&keys), EmbeddedOptions::default()).unwrap()),
        checks: Arc::new(ProofChecks::new(Arc::clone(&backend))),
        backend,
        keys,
    }
});

pub(crate) fn key_set_id(keys: &KeySet) -> B256 {
    B256::from(*keys.manifest().id.as_bytes())
}

/// Who takes part in a chain, and what it begins with.
pub(crate) struct Founded {
    /// The validators' keys.
    pub(crate) validators: Vec<PrivateKeySigner>,
    /// Two accounts with ether.
    pub(crate) alice: Account,
    pub(crate) bob: Account,
    pub(crate) genesis: Genesis,
}

/// Founds a chain with this many validators of equal power.
pub(crate) fn found(validators: usize) -> Founded {
    let signers: Vec<PrivateKeySigner> = (0..validators).map(|_| PrivateKeySigner::random()).collect();
    let members = signers.iter().map(|signer| Validator {
        address: signer.address(),
        power: 1,
    });
    let set = ValidatorSet::new(members.collect()).unwrap();
    let (alice, bob) = (Account::new(), Account::new());
    let kms = KmsConfig::from(SignerSet::single(Address::repeat_byte(0x55)));
    let mut plan = ChainPlan::new(31_338, set, development::DEPLOYER, kms).unwrap();
    let ether = U256::from(1_000_000_000_000_000_000u64);
    plan.funded = [&alice, &bob].map(|account| (account.address(), ether * U256::from(100))).into();
    Founded {
        validators: signers,
        alice,
        bob,
        genesis: plan.build(&WORKSHOP.keys).unwrap(),
    }
}

/// Returns where the host contracts of a chain are.
pub(crate) fn host(genesis: &Genesis) -> HostAddresses {
    let addresses = HostAddresses::of_deployer(development::DEPLOYER);
    assert_eq!(genesis.contract(HostContract::Acl).unwrap(), addresses.acl);
    addresses
}

/// An account that signs for itself.
pub(crate) struct Account {
    signer: PrivateKeySigner,
}

impl Account {
    fn new() -> Self {
        Self {
            signer: PrivateKeySigner::random(),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs a transaction with a nonce.
    pub(crate) fn sign(&self, chain: &NativeChain, nonce: u64, to: TxKind, data: Vec<u8>) -> Bytes {
        self.sign_with(chain, nonce, to, data, U256::ZERO)
    }

    fn sign_with(&self, chain: &NativeChain, nonce: u64, to: TxKind, data: Vec<u8>, value: U256) -> Bytes {
        let mut transaction = TxEip1559 {
            chain_id: chain.chain_id(),
            nonce,
            gas_limit: 15_000_000,
            max_fee_per_gas: 20_000_000_000,
            max_priority_fee_per_gas: 1,
            to,
            value,
            access_list: Default::default(),
            input: data.into(),
        };
        let signature = self.signer.sign_transaction_sync(&mut transaction).unwrap();
        let envelope = alloy::consensus::TxEnvelope::from(transaction.into_signed(signature));
        envelope.encoded_2718().into()
    }

    /// Signs the account's next transaction and sends it to a node.
    pub(crate) fn send(&self, chain: &NativeChain, to: TxKind, data: Vec<u8>) -> B256 {
        chain
            .send_raw_transaction(&self.sign(chain, self.next_nonce(chain), to, data))
            .unwrap()
    }

    /// Sends wei.
    pub(crate) fn pay(&self, chain: &NativeChain, to: Address, wei: u64) -> B256 {
        let signed = self.sign_with(chain, self.next_nonce(chain), TxKind::Call(to), Vec::new(), U256::from(wei));
        chain.send_raw_transaction(&signed).unwrap()
    }

    fn next_nonce(&self, chain: &NativeChain) -> u64 {
        number(
            &chain
                .rpc_call("eth_getTransactionCount", json!([self.address(), "pending"]))
                .unwrap(),
        )
    }
}

/// Reads a number as JSON-RPC has it.
pub(crate) fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Returns what creates the token on a chain.
pub(crate) fn token_creation(addresses: &HostAddresses) -> Vec<u8> {
    let artifact: Value = serde_json::from_str(TOKEN).unwrap();
    let bytecode: Bytes = artifact["bytecode"].as_str().unwrap().parse().unwrap();
    let config = (addresses.acl, addresses.executor, addresses.kms_verifier).abi_encode_params();
    [bytecode.as_ref(), &config].concat()
}

pub(crate) fn mint(to: Address, amount: u64) -> Vec<u8> {
    Token::mintCall { to, amount }.abi_encode()
}

/// Encrypts an amount and returns the call that transfers it.
pub(crate) fn transfer(genesis: &Genesis, token: Address, from: Address, to: Address, amount: u64) -> Vec<u8> {
    let context = InputMetadata {
        contract: token,
        user: from,
        acl: host(genesis).acl,
        chain_id: genesis.chain_id,
    };
    let list = WORKSHOP
        .encryptor
        .encrypt(&[(FheType::Uint64, U256::from(amount))], &context)
        .unwrap();
    let handles = input_handles(&list, &[FheType::Uint64], context.acl, context.chain_id).unwrap();
    let amount = handles.first().unwrap().as_b256();
    let proof = NativeInputProof { handles, list: &list }.encode().unwrap();
    Token::transferCall {
        to,
        amount,
        inputProof: proof.into(),
    }
    .abi_encode()
}

/// Calls a contract without a transaction.
pub(crate) fn call(chain: &NativeChain, to: Address, data: Vec<u8>) -> Result<Bytes, String> {
    let answer = chain.rpc_call("eth_call", json!([{ "to": to, "data": Bytes::from(data) }, "latest"]));
    Ok(answer.map_err(|error| error.to_string())?.as_str().unwrap().parse().unwrap())
}

/// Returns the handle of an account's balance.
pub(crate) fn balance_handle(chain: &NativeChain, token: Address, account: Address) -> Handle {
    let answer = call(chain, token, Token::balanceOfCall { account }.abi_encode()).unwrap();
    Handle::try_from(answer.as_ref()).unwrap()
}

/// Reads a ciphertext from a node; nothing if state has none.
pub(crate) fn ciphertext(chain: &NativeChain, handle: Handle) -> Option<Bytes> {
    let call_data = cipherloom_contracts::native::get_ciphertext_call(handle).to_vec();
    let bytes = call(chain, cipherloom_primitives::ciphertext_state::FHELIB, call_data).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

/// Decrypts an account's balance as a node has it.
pub(crate) fn balance(chain: &NativeChain, token: Address, account: Address) -> u64 {
    let handle = balance_handle(chain, token, account);
    let bytes = ciphertext(chain, handle).expect("state has the balance");
    let value = WORKSHOP.keys.decryptor().unwrap().decrypt(handle.fhe_type(), &bytes).unwrap();
    value.to()
}

/// Returns the handles of all results that operations of a transaction had, by its events.
pub(crate) fn results(chain: &NativeChain, transaction: B256, executor: Address) -> Vec<Handle> {
    let (block, index) = chain.mined_transaction(&transaction).unwrap().unwrap();
    let receipt = block.receipts.get(index).unwrap();
    let logs = receipt.logs().iter().filter(|log| log.address == executor);
    // The result is the last of an event's arguments.
    let handles = logs.map(|log| log.data.data.last_chunk::<32>().unwrap().as_slice());
    handles.map(|bytes| Handle::try_from(bytes).unwrap()).collect()
}

/// Waits until something is so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("{what} did not come true within {PATIENCE:?}");
    }
}

/// Waits until a node has a transaction in a block, and makes sure that it did not fail.
pub(crate) async fn included(chain: &NativeChain, transaction: B256) -> u64 {
    eventually("a transaction is in a block", || async {
        chain.mined_transaction(&transaction).unwrap().is_some()
    })
    .await;
    assert_succeeded(chain, transaction)
}

/// Makes sure that a transaction did not fail, and returns its block's number.
pub(crate) fn assert_succeeded(chain: &NativeChain, transaction: B256) -> u64 {
    let (block, index) = chain.mined_transaction(&transaction).unwrap().unwrap();
    assert!(block.receipts.get(index).unwrap().is_success(), "transaction {transaction} failed");
    block.header.number
}

/// Returns the state root of a block as a node has it.
pub(crate) fn state_root(chain: &NativeChain, number: u64) -> B256 {
    chain.block(number.into()).unwrap().unwrap().header.state_root
}
