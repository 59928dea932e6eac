//! What a light client takes for proven.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, Bytes, U256};
use cipherloom_chain::{CallLimits, ChainError, LightClient, LightOptions, PinnedNative, proof::slot_of_allowance_for_decryption};
use cipherloom_primitives::{
    AclQuestion, FheType, Handle,
    ciphertext_state::{STORAGE_ACCOUNT, StoredError, StoredMetadata, word_slot},
};

use crate::{
    chain::{Chain, START, addresses, ciphertext, handle, store},
    node::{Lies, Node},
};

const WALLET: Address = Address::repeat_byte(0x77);
const OWNER: Address = Address::repeat_byte(0x78);

/// More than one question for slots, and the last word is not full.
const LENGTH: usize = 300 * 32 + 5;

fn right() -> Handle {
    handle(1, FheType::Uint64)
}

/// The chain says that it is of another type than its handle.
fn mistyped() -> Handle {
    handle(2, FheType::Uint64)
}

fn chain() -> Chain {
    let mut chain = Chain::new(&[1, 2, 3, 4]);
    chain.idle(1);
    chain.extend(
        |state| {
            store(state, right(), FheType::Uint64, &ciphertext(LENGTH));
            store(state, mistyped(), FheType::Uint8, &ciphertext(40));
            state.set(addresses().acl, slot_of_allowance_for_decryption(right()), U256::ONE);
            state.0.entry(WALLET).or_default().code = vec![0x60, 0x01];
            state.0.entry(OWNER).or_default();
        },
        &[1, 2, 3, 4],
    );
    chain
}

async fn pinned_with(nodes: &[&Node], chain: &Chain, quorum: usize) -> PinnedNative {
    let urls: Vec<String> = nodes.iter().map(|node| node.url()).collect();
    let limits = CallLimits {
        attempts: 1,
        ..CallLimits::default()
    };
    let options = LightOptions {
        quorum,
        ..LightOptions::default()
    };
    let client = LightClient::connect(&urls, &chain.genesis(), limits, options).unwrap();
    client.pin(START + 5, None).await.unwrap()
}

async fn pinned(node: &Node, chain: &Chain) -> PinnedNative {
    pinned_with(&[node], chain, 1).await
}

#[track_caller]
fn proves_nothing<T>(result: Result<T, ChainError>) {
    match result {
        Err(ChainError::Proof { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a lie was taken"),
    }
}

#[tokio::test]
async fn ciphertexts_are_what_the_state_has() {
    let chain = chain();
    let node = Node::start(&chain).await;
    let pinned = pinned(&node, &chain).await;
    assert_eq!(pinned.ciphertext(right()).await.unwrap().unwrap(), ciphertext(LENGTH).to_vec());
    // One for the metadata, two for the words.
    assert_eq!(node.proofs(), 3);
    assert_eq!(pinned.ciphertext(handle(9, FheType::Bool)).await.unwrap(), None);
    // A chain that has not stored anything yet has no such account.
    let mut empty = Chain::new(&[1, 2, 3]);
    empty.idle(1);
    node.show(&empty);
    let client = LightClient::connect(&[node.url()], &empty.genesis(), CallLimits::default(), LightOptions::default()).unwrap();
    let before = client.pin(START + 5, None).await.unwrap();
    assert_eq!(before.ciphertext(right()).await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_word_is_noticed() {
    let chain = chain();
    let node = Node::start(&chain).await;
    let pinned = pinned(&node, &chain).await;
    let base = right().as_b256();
    let shorter = StoredMetadata::of_ciphertext(FheType::Uint64, &ciphertext(LENGTH - 32)).unwrap();
    for (slot, value) in [
        (word_slot(base, 0), U256::from(1)),
        (word_slot(base, 299), U256::ZERO),
        (word_slot(base, 300), U256::MAX),
        (base, shorter.encode()),
        (base, U256::ZERO),
    ] {
        node.lie(Lies {
            word: Some((slot, value)),
            ..Lies::default()
        });
        proves_nothing(pinned.ciphertext(right()).await);
    }
    // What was stored later is not in the state before.
    node.lie(Lies {
        old_state: true,
        ..Lies::default()
    });
    proves_nothing(pinned.ciphertext(right()).await);
    // Another node that does not lie is enough.
    let honest = Node::start(&chain).await;
    let both = pinned_with(&[&node, &honest], &chain, 1).await;
    assert_eq!(both.ciphertext(right()).await.unwrap().unwrap(), ciphertext(LENGTH).to_vec());
}

#[tokio::test]
async fn a_ciphertext_of_another_type_is_refused() {
    let chain = chain();
    let node = Node::start(&chain).await;
    let error = pinned(&node, &chain).await.ciphertext(mistyped()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::StoredCiphertext {
                source: StoredError::Type { stored: 2, handle: 5 },
                ..
            }
        ),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn what_follows_the_bytes_must_be_zeros() {
    let mut chain = chain();
    let hidden = word_slot(right().as_b256(), 300);
    chain.extend(
        |state| {
            let word = state.0[&STORAGE_ACCOUNT].storage[&hidden];
            state.set(STORAGE_ACCOUNT, hidden, word | U256::ONE);
        },
        &[1, 2, 3, 4],
    );
    let node = Node::start(&chain).await;
    let error = pinned(&node, &chain).await.ciphertext(right()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::StoredCiphertext {
                source: StoredError::Padding,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn rights_are_proven_against_the_certified_state() {
    let chain = chain();
    let node = Node::start(&chain).await;
    let pinned = pinned(&node, &chain).await;
    let questions: BTreeSet<AclQuestion> = [right(), mistyped()].map(AclQuestion::AllowedForDecryption).into();
    let facts = pinned.acl(&questions).await.unwrap();
    assert!(facts.holds(&AclQuestion::AllowedForDecryption(right())));
    assert!(!facts.holds(&AclQuestion::AllowedForDecryption(mistyped())));
    node.lie(Lies {
        word: Some((slot_of_allowance_for_decryption(mistyped()), U256::ONE)),
        ..Lies::default()
    });
    proves_nothing(pinned.acl(&questions).await);
}

#[tokio::test]
async fn one_node_is_not_believed_about_wallets() {
    let chain = chain();
    let (node, second) = tokio::join!(Node::start(&chain), Node::start(&chain));
    let alone = pinned(&node, &chain).await;
    let signature = Bytes::from_static(&[1; 65]);
    // That an account has no code is proven, whether it exists or not.
    for account in [OWNER, Address::repeat_byte(0x79)] {
        assert!(!alone.is_valid_signature(account, B256::ZERO, &signature).await.unwrap());
    }
    let error = alone.is_valid_signature(WALLET, B256::ZERO, &signature).await.unwrap_err();
    assert!(matches!(error, ChainError::Unproven { .. }), "{error}");
    // Two that agree are asked; these answer no calls.
    let together = pinned_with(&[&node, &second], &chain, 2).await;
    let error = together.is_valid_signature(WALLET, B256::ZERO, &signature).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
}
