//! Blocks of two nodes without a network: what one proposes the other computes again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::{Address, Bytes, TxKind},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cipherloom_node::native::{
    BlockWork, ComputeBlock, ComputeUnavailable, DecidedBlock, NativeChain, NativeConfig, ProposedBlock, Results, Verdict,
};
use cipherloom_primitives::quorum::{CommitCertificate, CommitSignature, VoteKind};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::ground::{
    Founded, WORKSHOP, assert_succeeded, balance, balance_handle, ciphertext, found, host, mint, results, state_root, token_creation,
    transfer,
};

/// An executor that changes one byte of a ciphertext when it is told to.
struct Liar {
    lies: AtomicBool,
}

impl ComputeBlock for Liar {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        Box::pin(async move {
            let mut results = WORKSHOP.executor.compute(work).await?;
            if self.lies.load(Ordering::SeqCst)
                && let Some((_, Ok(bytes))) = results.first_mut()
            {
                let mut changed = bytes.to_vec();
                *changed.last_mut().unwrap() ^= 1;
                *bytes = changed.into();
            }
            Ok(results)
        })
    }
}

fn open(founded: &Founded, compute: Arc<dyn ComputeBlock>) -> NativeChain {
    let config = NativeConfig::new(founded.genesis.clone());
    NativeChain::open(config, compute, Arc::clone(&WORKSHOP.checks) as _).unwrap()
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Signs a block as its one validator does.
fn certificate(chain: &NativeChain, signer: &PrivateKeySigner, height: u64, block: &ProposedBlock) -> CommitCertificate {
    let digest = chain.domain().vote_digest(VoteKind::Precommit, height, 0, Some(block.hash));
    CommitCertificate {
        height,
        round: 0,
        block_hash: block.hash,
        signatures: vec![CommitSignature {
            validator: signer.address(),
            signature: signer.sign_hash_sync(&digest).unwrap().as_bytes(),
        }],
    }
}

/// One node makes the next block, the other must come to the same; both take it.
async fn decide(founded: &Founded, maker: &NativeChain, checker: &NativeChain) -> DecidedBlock {
    let signer = &founded.validators[0];
    let height = maker.head().unwrap().number + 1;
    let block = maker.propose(height, 0, signer.address(), deadline()).await.unwrap();
    let verdict = checker
        .validate(height, 0, signer.address(), block.bytes.clone(), deadline())
        .await
        .unwrap();
    assert_eq!(verdict, Verdict::Valid { hash: block.hash });
    let certificate = certificate(maker, signer, height, &block);
    for chain in [maker, checker] {
        chain.commit(block.hash, certificate.clone()).await.unwrap();
    }
    assert_eq!(state_root(maker, height), state_root(checker, height));
    maker.decided(height).await.unwrap().unwrap()
}

/// Deploys the token and mints for Alice; returns where the token is.
async fn prepare(founded: &Founded, maker: &NativeChain, checker: &NativeChain) -> Address {
    let alice = &founded.alice;
    alice.send(maker, TxKind::Create, token_creation(&host(&founded.genesis)));
    decide(founded, maker, checker).await;
    let token = alice.address().create(0);
    alice.send(maker, TxKind::Call(token), mint(alice.address(), 1000));
    decide(founded, maker, checker).await;
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_computes_the_other_does_and_only_stored_values_are_state() {
    let founded = found(1);
    let executor = Arc::clone(&WORKSHOP.executor) as Arc<dyn ComputeBlock>;
    let (maker, checker) = (open(&founded, Arc::clone(&executor)), open(&founded, executor));
    let token = prepare(&founded, &maker, &checker).await;
    let (alice, bob) = (&founded.alice, &founded.bob);
    assert_eq!(balance(&checker, token, alice.address()), 1000);

    let data = transfer(&founded.genesis, token, alice.address(), bob.address(), 250);
    let sent = alice.send(&maker, TxKind::Call(token), data);
    decide(&founded, &maker, &checker).await;
    assert_succeeded(&maker, sent);
    for chain in [&maker, &checker] {
        assert_eq!(balance(chain, token, alice.address()), 750);
        assert_eq!(balance(chain, token, bob.address()), 250);
    }
    let computed = results(&checker, sent, host(&founded.genesis).executor);
    let stored = [alice, bob].map(|account| balance_handle(&checker, token, account.address()));
    assert!(computed.len() > stored.len(), "{computed:?}");
    for handle in computed {
        assert_eq!(ciphertext(&checker, handle).is_some(), stored.contains(&handle), "{handle}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_one_wrong_byte_is_refused() {
    let founded = found(1);
    let liar = Arc::new(Liar {
        lies: AtomicBool::new(false),
    });
    let executor = Arc::clone(&WORKSHOP.executor) as Arc<dyn ComputeBlock>;
    let (maker, checker) = (open(&founded, Arc::clone(&liar) as _), open(&founded, executor));
    let token = prepare(&founded, &maker, &checker).await;
    let (alice, signer) = (&founded.alice, &founded.validators[0]);
    alice.send(&maker, TxKind::Call(token), mint(alice.address(), 1));

    liar.lies.store(true, Ordering::SeqCst);
    let height = maker.head().unwrap().number + 1;
    let wrong = maker.propose(height, 0, signer.address(), deadline()).await.unwrap();
    let verdict = checker
        .validate(height, 0, signer.address(), wrong.bytes.clone(), deadline())
        .await
        .unwrap();
    assert!(matches!(&verdict, Verdict::Invalid(_)), "{verdict:?}");
    // Nor is the block taken when somebody says that it was decided, with ciphertexts that are not those of its header.
    checker
        .commit(wrong.hash, certificate(&maker, signer, height, &wrong))
        .await
        .unwrap_err();

    liar.lies.store(false, Ordering::SeqCst);
    decide(&founded, &maker, &checker).await;
    assert_eq!(balance(&checker, token, alice.address()), 1001);
}

/// Nobody who follows computes.
struct Idle;

impl ComputeBlock for Idle {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        panic!("block {} was given to the executor of a node that follows", work.number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_follows_takes_ciphertexts_that_the_header_proves_and_no_others() {
    let founded = found(1);
    let executor = Arc::clone(&WORKSHOP.executor) as Arc<dyn ComputeBlock>;
    let (maker, checker) = (open(&founded, Arc::clone(&executor)), open(&founded, executor));
    let token = prepare(&founded, &maker, &checker).await;
    let late = open(&founded, Arc::new(Idle));
    for height in 1..=maker.head().unwrap().number {
        let decided = maker.decided(height).await.unwrap().unwrap();
        if decided.sidecar.len() > 1000 {
            let mut sidecar = decided.sidecar.to_vec();
            let middle = sidecar.len() / 2;
            sidecar[middle] ^= 1;
            let forged = DecidedBlock {
                sidecar: Bytes::from(sidecar),
                ..decided.clone()
            };
            late.apply(forged).await.unwrap_err();
        }
        late.apply(decided).await.unwrap();
    }
    assert_eq!(late.head().unwrap(), maker.head().unwrap());
    assert_eq!(balance(&late, token, founded.alice.address()), 1000);
}
