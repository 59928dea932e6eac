//! Nothing is missed and nothing is doubled, whatever nodes do.

use std::time::{Duration, Instant};

use cipherloom_chain::{BlockEvents, BlockId, CallLimits, ChainError, FollowUpdate, Follower, FollowerConfig, HostChain};

use crate::{
    chain::{CHAIN_ID, MadeUpChain, Random, addresses, grants_of},
    node::{Faults, Node, PATIENCE},
};

pub(crate) const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(5),
    attempts: 2,
    first_pause: Duration::from_millis(1),
};

pub(crate) const CONFIG: FollowerConfig = FollowerConfig {
    first_block: 0,
    poll_interval: Duration::from_millis(1),
    finality_depth: 16,
    keeps_final_blocks: true,
    blocks_per_step: 8,
    longest_range: 50,
    rollback_patience: Duration::from_millis(200),
    concurrent_requests: 4,
    checks_receipts: false,
};

/// What a store does with what a follower finds.
#[derive(Default)]
pub(crate) struct Recorded(pub(crate) Vec<BlockEvents>);

impl Recorded {
    /// Takes a step; says whether everything is recorded.
    pub(crate) async fn step(&mut self, follower: &mut Follower) -> Result<bool, ChainError> {
        let newest: Vec<BlockId> = self
            .0
            .iter()
            .rev()
            .take(follower.blocks_to_compare() as usize)
            .map(|block| BlockId {
                number: block.number,
                hash: block.hash,
            })
            .collect();
        match follower.poll(&newest).await? {
            FollowUpdate::UpToDate => return Ok(true),
            FollowUpdate::Blocks(blocks) => {
                for block in blocks {
                    // A store takes nothing that does not continue what it has.
                    let fits = self.0.last().is_none_or(|last| {
                        block.number > last.number && (block.number > last.number + 1 || block.parent_hash == last.hash)
                    });
                    if !fits {
                        break;
                    }
                    self.0.push(block);
                }
            }
            FollowUpdate::Reorganised { first_removed } => self.0.retain(|block| block.number < first_removed),
        }
        Ok(false)
    }

    /// Follows until everything of the chain is recorded, and nothing else.
    pub(crate) async fn settle(&mut self, follower: &mut Follower, chain: &MadeUpChain) {
        let start = Instant::now();
        loop {
            let done = self.step(follower).await.unwrap_or(false);
            let newest = self.0.last().map(|block| block.number);
            if done && newest == u64::try_from(chain.height()).ok() && grants_of(&self.0) == chain.grants() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "recorded up to {newest:?} of {}", chain.height());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(crate) fn follower(urls: &[String], config: FollowerConfig) -> Follower {
    Follower::new(HostChain::connect_all(urls, addresses(), LIMITS, Some(CHAIN_ID)).unwrap(), config)
}

/// Follows a chain that grows, reorganises and goes back, behind nodes with faults; the follower is restarted now and then.
async fn survive(seed: u64, faults: &[Faults], over_sockets: bool) {
    eprintln!("seed {seed}");
    let chain = MadeUpChain::new(120, seed);
    let mut random = Random::new(seed ^ 1);
    let mut nodes = Vec::new();
    for (index, faults) in faults.iter().enumerate() {
        nodes.push(Node::start(&chain, faults.clone(), seed + u64::try_from(index).unwrap()).await);
    }
    let urls: Vec<String> = nodes
        .iter()
        .map(|node| if over_sockets { node.ws() } else { node.http() })
        .collect();
    let mut recorded = Recorded::default();
    let mut following = follower(&urls, CONFIG);
    for _ in 0..150 {
        match random.below(10) {
            0 => chain.reorganise(1 + usize::try_from(random.below(8)).unwrap(), &mut random, true),
            1 => {
                let depth = 1 + usize::try_from(random.below(3)).unwrap();
                chain.reorganise(depth, &mut random, false);
            }
            2 => following = follower(&urls, CONFIG),
            3 => nodes.iter().for_each(Node::cut),
            _ => (0..random.below(4)).for_each(|_| chain.grow(&mut random)),
        }
        nodes.iter().for_each(Node::announce);
        // Whether it works or not.
        let _ = recorded.step(&mut following).await;
    }
    nodes.iter().for_each(|node| {
        node.set(Faults {
            announcements: 1,
            ..Faults::default()
        });
    });
    recorded.settle(&mut following, &chain).await;
}

/// Everything at once, each often enough to happen many times.
fn everything() -> Faults {
    Faults {
        drops: 8,
        omits: 15,
        removed: 5,
        doubles: 10,
        strays: 5,
        nonsense: 3,
        limits: 2,
        longest_range: Some((20, "maximum block range: 20")),
        announcements: 3,
        ..Faults::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_behind_a_bad_node_over_http() {
    for seed in 0..3 {
        survive(seed, &[everything()], false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_behind_a_bad_node_over_websocket() {
    for seed in 10..13 {
        survive(seed, &[everything()], true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_behind_several_bad_nodes_of_different_height() {
    let lagging = |lag| Faults { lag, ..everything() };
    for seed in 20..23 {
        survive(seed, &[lagging(2), lagging(0), lagging(5)], seed % 2 == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_a_node_leaves_out_are_found_in_receipts() {
    let chain = MadeUpChain::new(10, 5);
    let node = Node::start(
        &chain,
        Faults {
            omits: 100,
            ..Faults::default()
        },
        5,
    )
    .await;
    let mut recorded = Recorded::default();
    recorded.settle(&mut follower(&[node.http()], CONFIG), &chain).await;
    assert!(chain.grants().len() > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_receipts_a_node_is_asked_twice() {
    let chain = MadeUpChain::default();
    (0..5).for_each(|salt| chain.add(salt, 1));
    let faults = Faults {
        omits: 40,
        no_receipts: true,
        ..Faults::default()
    };
    let node = Node::start(&chain, faults, 5).await;
    let mut following = follower(&[node.http()], CONFIG);
    let mut recorded = Recorded::default();
    // At first the node may only be out of order.
    let start = Instant::now();
    while !recorded.step(&mut following).await.unwrap_or(false) {
        assert!(start.elapsed() < PATIENCE);
    }
    // A head, then for each block a header, logs, receipts that are refused where logs lack, and logs again.
    assert!(node.requests() > 5 * 2 + 3, "{}", node.requests());
    assert_eq!(recorded.0.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_fit_what_providers_accept() {
    for words in [
        "query exceeds max block range 100",
        "Log response size exceeded. You can make eth_getLogs requests with up to a 100 block range",
        "too much",
    ] {
        let chain = MadeUpChain::new(2_000, 7);
        let faults = Faults {
            longest_range: Some((100, words)),
            ..Faults::default()
        };
        let node = Node::start(&chain, faults, 7).await;
        let config = FollowerConfig {
            longest_range: 1_000,
            concurrent_requests: 16,
            ..CONFIG
        };
        let mut recorded = Recorded::default();
        recorded.settle(&mut follower(&[node.http()], config), &chain).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_chain_is_never_used() {
    let (ours, theirs) = (MadeUpChain::new(20, 1), MadeUpChain::new(40, 2));
    let wrong = Node::start(
        &theirs,
        Faults {
            other_chain: true,
            ..Faults::default()
        },
        1,
    )
    .await;
    let right = Node::start(&ours, Faults::default(), 2).await;
    let mut recorded = Recorded::default();
    recorded.settle(&mut follower(&[wrong.http(), right.http()], CONFIG), &ours).await;
    assert!(wrong.requests() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_replaced_and_used_again_when_it_is_back() {
    let chain = MadeUpChain::new(30, 3);
    let broken = Faults {
        drops: 100,
        ..Faults::default()
    };
    let first = Node::start(&chain, broken, 3).await;
    let second = Node::start(&chain, Faults::default(), 4).await;
    let mut following = follower(&[first.http(), second.http()], CONFIG);
    let mut recorded = Recorded::default();
    recorded.settle(&mut following, &chain).await;
    first.set(Faults::default());
    let (before, start) = (first.requests(), Instant::now());
    let mut random = Random::new(3);
    while first.requests() < before + 10 {
        chain.grow(&mut random);
        recorded.settle(&mut following, &chain).await;
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_far_behind_takes_nothing_away() {
    let chain = MadeUpChain::new(100, 9);
    let node = Node::start(&chain, Faults::default(), 9).await;
    let mut following = follower(&[node.http()], CONFIG);
    let mut recorded = Recorded::default();
    recorded.settle(&mut following, &chain).await;
    node.set(Faults {
        lag: 60,
        ..Faults::default()
    });
    let before = recorded.0.clone();
    let start = Instant::now();
    let mut refused = 0;
    while start.elapsed() < CONFIG.rollback_patience * 2 {
        match recorded.step(&mut following).await {
            Ok(_) => {}
            Err(ChainError::FinalityBroken { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused > 0);
    assert_eq!(recorded.0, before);
}
