//! Four validators and a full node over the real network.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::primitives::{Address, TxKind};
use cipherloom_executor::{Executor, ExecutorConfig, ExecutorHandle};
use cipherloom_node::native::{BlockWork, ComputeBlock, ComputeUnavailable, Results};
use cipherloom_validator::{RemoteExecutors, RemoteOptions};
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use crate::{
    cluster::Cluster,
    ground::{WORKSHOP, balance, balance_handle, ciphertext, found, host, included, key_set_id, mint, results, token_creation, transfer},
};

/// Deploys the token through a node and mints for Alice.
async fn prepare(cluster: &Cluster, through: usize) -> Address {
    let (alice, chain) = (&cluster.founded.alice, cluster.chain(through));
    let deployed = alice.send(chain, TxKind::Create, token_creation(&host(&cluster.founded.genesis)));
    included(chain, deployed).await;
    let token = alice.address().create(0);
    let minted = alice.send(chain, TxKind::Call(token), mint(alice.address(), 1000));
    cluster.all_reach(included(chain, minted).await).await;
    token
}

/// Mints one more for Alice through a node, and waits until all nodes have it.
async fn mint_one(cluster: &Cluster, through: usize, token: Address) -> u64 {
    let (alice, chain) = (&cluster.founded.alice, cluster.chain(through));
    let sent = alice.send(chain, TxKind::Call(token), mint(alice.address(), 1));
    let block = included(chain, sent).await;
    cluster.all_reach(block).await;
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_have_the_same_state_and_the_values_that_contracts_stored() {
    let mut cluster = Cluster::new(found(4), 1).await;
    cluster.start_all().await;
    // What is sent to the full node reaches the validators.
    let token = prepare(&cluster, 4).await;
    let (alice, bob) = (&cluster.founded.alice, &cluster.founded.bob);
    let data = transfer(&cluster.founded.genesis, token, alice.address(), bob.address(), 250);
    let sent = alice.send(cluster.chain(4), TxKind::Call(token), data);
    cluster.all_reach(included(cluster.chain(4), sent).await).await;

    let stored = [alice, bob].map(|account| balance_handle(cluster.chain(4), token, account.address()));
    let computed = results(cluster.chain(4), sent, host(&cluster.founded.genesis).executor);
    assert!(computed.len() > stored.len(), "{computed:?}");
    for number in 0..5 {
        let chain = cluster.chain(number);
        assert_eq!(balance(chain, token, alice.address()), 750, "node {number}");
        assert_eq!(balance(chain, token, bob.address()), 250, "node {number}");
        for handle in &computed {
            assert_eq!(
                ciphertext(chain, *handle).is_some(),
                stored.contains(handle),
                "node {number}: {handle}"
            );
        }
    }
    assert!(cluster.node(0).status().is_validator && !cluster.node(4).status().is_validator);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_and_one_that_is_new_catch_up() {
    let mut cluster = Cluster::new(found(4), 1).await;
    for number in 0..4 {
        cluster.start(number).await;
    }
    let token = prepare(&cluster, 0).await;
    cluster.stop(3).await;
    let block = mint_one(&cluster, 1, token).await;
    cluster.start(4).await;
    cluster.start(3).await;
    cluster.all_reach(block + 1).await;
    for number in 0..5 {
        assert_eq!(balance(cluster.chain(number), token, cluster.founded.alice.address()), 1001);
    }
    // All four are needed now and then, and the one that is back takes part.
    mint_one(&cluster, 3, token).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_decide_nothing_apart_and_go_on_together() {
    let mut cluster = Cluster::new(found(4), 0).await;
    cluster.start_all().await;
    let token = prepare(&cluster, 0).await;
    cluster.set_partition(2, true);
    // A block that was decided when the halves parted may still arrive where it is known already.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before: Vec<u64> = (0..4).map(|number| cluster.height(number)).collect();
    let alice = &cluster.founded.alice;
    let sent = alice.send(cluster.chain(0), TxKind::Call(token), mint(alice.address(), 1));
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (number, height) in before.iter().enumerate() {
        assert_eq!(cluster.height(number), *height, "node {number} went on without a quorum");
    }
    cluster.set_partition(2, false);
    let block = included(cluster.chain(0), sent).await;
    cluster.all_reach(block + 2).await;
    assert_eq!(balance(cluster.chain(3), token, alice.address()), 1001);
    cluster.shutdown().await;
}

/// An executor that changes one byte of every block with ciphertexts.
#[derive(Default)]
struct Liar {
    lies: AtomicUsize,
}

impl ComputeBlock for Liar {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        Box::pin(async move {
            let mut results = WORKSHOP.executor.compute(work).await?;
            if let Some((_, Ok(bytes))) = results.first_mut() {
                let mut changed = bytes.to_vec();
                *changed.last_mut().unwrap() ^= 1;
                *bytes = changed.into();
                self.lies.fetch_add(1, Ordering::SeqCst);
            }
            Ok(results)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposer_with_a_wrong_byte_is_outvoted() {
    let mut cluster = Cluster::new(found(4), 0).await;
    let liar = Arc::new(Liar::default());
    cluster.start_with(0, Arc::clone(&liar) as _).await;
    for number in 1..4 {
        cluster.start(number).await;
    }
    let token = prepare(&cluster, 1).await;
    let liar_address = cluster.node(0).address();
    for _ in 0..8 {
        let block = mint_one(&cluster, 1, token).await;
        let header = cluster.chain(1).block(block.into()).unwrap().unwrap().header.clone();
        assert_ne!(header.beneficiary, liar_address, "block {block} has the liar's ciphertexts");
    }
    assert!(liar.lies.load(Ordering::SeqCst) > 0, "the liar never computed anything");
    assert_eq!(balance(cluster.chain(0), token, cluster.founded.alice.address()), 1008);
    cluster.shutdown().await;
}

/// An executor that is a server of its own, ended in the middle of the first block that it gets and started again on the same port.
struct Crashing {
    remote: RemoteExecutors,
    config: ExecutorConfig,
    server: Mutex<Option<ExecutorHandle>>,
    crashed: AtomicBool,
}

impl Crashing {
    async fn start() -> Self {
        let id = key_set_id(&WORKSHOP.keys);
        let config = ExecutorConfig::new(([127, 0, 0, 1], 0).into(), id.0);
        let server = Executor::start(config.clone(), Arc::clone(&WORKSHOP.backend)).await.unwrap();
        let options = RemoteOptions {
            urls: vec![format!("http://{}", server.address())],
            ca: None,
            timeout: Duration::from_secs(30),
            requests: None,
        };
        Self {
            remote: RemoteExecutors::new(&options, id).unwrap(),
            config: ExecutorConfig {
                listen: server.address(),
                ..config
            },
            server: Mutex::new(Some(server)),
            crashed: AtomicBool::new(false),
        }
    }
}

impl ComputeBlock for Crashing {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        Box::pin(async move {
            let mut server = self.server.lock().await;
            if self.crashed.load(Ordering::SeqCst) {
                return self.remote.compute(work).await;
            }
            let mut asked = self.remote.compute(work);
            let busy = async {
                while server.as_ref().unwrap().statistics().programs == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = busy => {}
                early = &mut asked => return early,
            }
            drop(server.take());
            while server.is_none() {
                // The port is free once the old server's task has ended.
                tokio::time::sleep(Duration::from_millis(5)).await;
                *server = Executor::start(self.config.clone(), Arc::clone(&WORKSHOP.backend)).await.ok();
            }
            self.crashed.store(true, Ordering::SeqCst);
            asked.await
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_crashes_in_the_middle_of_a_block_is_asked_again() {
    let mut cluster = Cluster::new(found(4), 0).await;
    let crashing = Arc::new(Crashing::start().await);
    cluster.start_with(0, Arc::clone(&crashing) as _).await;
    for number in 1..4 {
        cluster.start(number).await;
    }
    let token = prepare(&cluster, 0).await;
    // A block of many that need each other takes a while, of which any moment is the middle.
    let mut minted = 1000;
    while !crashing.crashed.load(Ordering::SeqCst) && minted < 2000 {
        let (alice, chain) = (&cluster.founded.alice, cluster.chain(0));
        for _ in 1..32 {
            alice.send(chain, TxKind::Call(token), mint(alice.address(), 1));
        }
        mint_one(&cluster, 0, token).await;
        minted += 32;
    }
    assert!(
        crashing.crashed.load(Ordering::SeqCst),
        "the executor answered all blocks before it could be ended"
    );
    mint_one(&cluster, 0, token).await;
    let figures = crashing.remote.counts().figures();
    assert!(figures.blocks > 0, "{figures:?}");
    for number in 0..4 {
        assert_eq!(balance(cluster.chain(number), token, cluster.founded.alice.address()), minted + 1);
    }
    cluster.shutdown().await;
}
