//! The light client on a real node of a native chain: what one writes the other reads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::Encodable2718,
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    rpc::types::EIP1186AccountProofResponse,
    signers::SignerSync,
};
use alloy_trie::{Nibbles, proof::verify_proof};
use cipherloom_chain::{CallLimits, ChainError, LightClient, LightOptions, NativeGenesis, PinnedNative};
use cipherloom_contracts::HostContract;
use cipherloom_node::{
    ManualClock,
    native::{
        BlockWork, CheckInputs, ComputeBlock, ComputeUnavailable, GENESIS_VERSION, Genesis, GenesisAccount, GenesisDomains, InputRefused,
        NativeChain, NativeConfig, Results, VALIDATOR_SET, validator_slots,
    },
};
use cipherloom_primitives::{
    FheType,
    ciphertext_state::{FHELIB, STORAGE_ACCOUNT, StoredMetadata, word_slot, words_of},
    genesis_terms::TERMS_SLOT,
    input::InputMetadata,
    quorum::{CommitCertificate, CommitSignature, Validator, ValidatorSet, VoteKind},
};
use futures_util::future::BoxFuture;

use crate::chain::{CHAIN_ID, START, addresses, ciphertext, handle, key, set};

/// `sstore(calldataload(0), calldataload(32))`, where the contract of the validators would be.
const STORE_CODE: [u8; 8] = [0x60, 0x20, 0x35, 0x60, 0x00, 0x35, 0x55, 0x00];
/// More than one question for slots.
const LENGTH: usize = 300 * 32 + 5;
const VALIDATORS: [u8; 4] = [1, 2, 3, 4];

/// There is nothing to compute in these blocks, and no inputs.
struct Idle;

impl ComputeBlock for Idle {
    fn compute(&self, _: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        Box::pin(async { Err(ComputeUnavailable::new("nothing is computed here")) })
    }
}

/// The first byte of a list is its type; a list of zeros is none.
impl CheckInputs for Idle {
    fn check(&self, list: &[u8], _: &InputMetadata) -> Result<Vec<FheType>, InputRefused> {
        self.types(list)
    }

    fn types(&self, list: &[u8]) -> Result<Vec<FheType>, InputRefused> {
        let types = list.iter().map(|byte| FheType::try_from(*byte)).collect::<Result<_, _>>();
        types.map_err(|error| InputRefused::new(error.to_string()))
    }
}

pub(crate) fn genesis() -> Genesis {
    let mut alloc: BTreeMap<Address, GenesisAccount> = BTreeMap::new();
    let reserved = || GenesisAccount {
        nonce: 1,
        ..GenesisAccount::default()
    };
    alloc.insert(FHELIB, reserved());
    let bytes = ciphertext(LENGTH);
    let stored = handle(1, FheType::Uint64);
    let metadata = StoredMetadata::of_ciphertext(FheType::Uint64, &bytes).unwrap();
    let words = (0..)
        .zip(words_of(&bytes))
        .map(|(index, word)| (word_slot(stored.as_b256(), index), word.into()));
    alloc.insert(
        STORAGE_ACCOUNT,
        GenesisAccount {
            storage: words.chain([(stored.as_b256(), metadata.encode().into())]).collect(),
            ..reserved()
        },
    );
    alloc.insert(
        VALIDATOR_SET,
        GenesisAccount {
            code: Bytes::from_static(&STORE_CODE),
            storage: validator_slots(&set(&VALIDATORS)),
            ..GenesisAccount::default()
        },
    );
    // What they do is of no importance here; the chain wants them to be there.
    for contract in HostContract::ALL {
        alloc.entry(contract.address(&addresses())).or_default().code = Bytes::from_static(&[0]);
    }
    alloc.entry(key(0x33).address()).or_default().balance = U256::from(10).pow(U256::from(24));
    let genesis = Genesis {
        version: GENESIS_VERSION,
        chain_id: CHAIN_ID,
        timestamp: START,
        gas_limit: 30_000_000,
        fhe_gas_limit: 50_000_000,
        owner: key(0x33).address(),
        contracts: Genesis::named(&addresses()),
        domains: GenesisDomains {
            gateway_chain_id: 10901,
            decryption: Address::repeat_byte(0xd1),
            input_verification: Address::repeat_byte(0xd2),
        },
        key_set_id: B256::repeat_byte(0x6b),
        public_key_digest: None,
        crs_digest: None,
        validators: set(&VALIDATORS),
        alloc,
        hash: None,
    };
    genesis.seal().unwrap()
}

/// Has validators agree on the next block.
async fn decide(chain: &NativeChain, clock: &ManualClock, signers: &[u8]) {
    let height = chain.head().unwrap().number + 1;
    clock.set(START + height);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let proposed = chain.propose(height, 0, key(signers[0]).address(), deadline).await.unwrap();
    let digest = chain.domain().vote_digest(VoteKind::Precommit, height, 0, Some(proposed.hash));
    let signature = |index: &u8| CommitSignature {
        validator: key(*index).address(),
        signature: key(*index).sign_hash_sync(&digest).unwrap().as_bytes(),
    };
    let mut signatures: Vec<_> = signers.iter().map(signature).collect();
    signatures.sort_by_key(|signed| signed.validator);
    let certificate = CommitCertificate {
        height,
        round: 0,
        block_hash: proposed.hash,
        signatures,
    };
    chain.commit(proposed.hash, certificate).await.unwrap();
}

/// Gives a validator another power.
fn change_power(chain: &NativeChain, nonce: u64, index: u8, power: u64) {
    let original = set(&VALIDATORS);
    let members = original.iter().map(|member| Validator {
        power: if member.address == key(index).address() {
            power
        } else {
            member.power
        },
        ..*member
    });
    let changed = ValidatorSet::new(members.collect()).unwrap();
    let before = validator_slots(&original);
    let (slot, word) = validator_slots(&changed)
        .into_iter()
        .find(|(slot, word)| before[slot] != *word)
        .unwrap();
    let transaction = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(VALIDATOR_SET),
        input: [slot.0, word.0].concat().into(),
        ..TxEip1559::default()
    };
    let signature = key(0x33).sign_hash_sync(&transaction.signature_hash()).unwrap();
    let raw = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
    chain.send_raw_transaction(&raw).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_is_followed_and_its_state_is_proven() {
    let genesis = genesis();
    let clock = Arc::new(ManualClock::new(START));
    let config = NativeConfig {
        clock: Arc::clone(&clock) as _,
        ..NativeConfig::new(genesis.clone())
    };
    let chain = NativeChain::open(config, Arc::new(Idle), Arc::new(Idle)).unwrap();
    let server = chain.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("genesis.json");
    std::fs::write(&file, genesis.to_json().unwrap()).unwrap();
    let read = NativeGenesis::read(&file).unwrap();
    assert_eq!(read.consensus_domain(), chain.domain());
    assert_eq!((read.contracts, read.key_set_id), (addresses(), genesis.key_set_id));

    let client = LightClient::connect(&[server.rpc_url()], &read, CallLimits::default(), LightOptions::default()).unwrap();
    let pin = async || -> Result<PinnedNative, ChainError> { client.pin(START + 5, None).await };
    // Nobody certified the first block.
    assert!(matches!(pin().await, Err(ChainError::BlockGone(_))));
    decide(&chain, &clock, &VALIDATORS).await;
    let first = pin().await.unwrap();
    assert_eq!((first.number(), first.hash()), (1, chain.head().unwrap().hash));

    change_power(&chain, 0, 1, 7);
    decide(&chain, &clock, &VALIDATORS[..3]).await;
    decide(&chain, &clock, &[1, 2]).await;
    change_power(&chain, 1, 2, 9);
    decide(&chain, &clock, &[1, 2]).await;
    decide(&chain, &clock, &[1, 2]).await;
    let pinned = pin().await.unwrap();
    assert_eq!((pinned.number(), pinned.hash()), (5, chain.head().unwrap().hash));
    assert_eq!(client.trusted().validators().power_of(&key(1).address()), Some(7));
    assert_eq!(client.trusted().validators().power_of(&key(2).address()), Some(9));

    // At the block that was pinned, and at an older one while the chain goes on.
    for at in [&pinned, &first] {
        let found = at.ciphertext(handle(1, FheType::Uint64)).await.unwrap();
        assert_eq!(found.unwrap(), ciphertext(LENGTH).to_vec());
        assert_eq!(at.ciphertext(handle(2, FheType::Uint64)).await.unwrap(), None);
    }
    // What block 0 commits to is proven at any block.
    let proof = chain
        .rpc_call("eth_getProof", serde_json::json!([FHELIB, [TERMS_SLOT], pinned.hash()]))
        .unwrap();
    let proof: EIP1186AccountProofResponse = serde_json::from_value(proof).unwrap();
    let account = alloy_trie::TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let leaf = |key: &[u8]| Nibbles::unpack(keccak256(key));
    let account = Some(alloy::rlp::encode(account));
    verify_proof(pinned.header().state_root, leaf(FHELIB.as_slice()), account, &proof.account_proof).unwrap();
    let digest = genesis.terms().digest();
    let word = Some(alloy::rlp::encode(U256::from_be_bytes(digest.0)));
    verify_proof(proof.storage_hash, leaf(TERMS_SLOT.as_slice()), word, &proof.storage_proof[0].proof).unwrap();
    let host = cipherloom_chain::HostChain::connect(&server.rpc_url(), addresses()).unwrap();
    let types = |list: &'static [u8]| host.native_input_types(Address::ZERO, Address::ZERO, Bytes::from_static(list));
    assert_eq!(
        types(&[5, 0, 8]).await.unwrap(),
        Some(vec![FheType::Uint64, FheType::Bool, FheType::Uint256])
    );
    assert_eq!(types(&[5, 77]).await.unwrap(), None);
}
