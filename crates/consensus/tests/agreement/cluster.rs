//! A chain of several nodes in one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, keccak256},
    signers::local::PrivateKeySigner,
};
use cipherloom_consensus::{ConsensusError, Network, Node, NodeConfig, Timeouts};
use cipherloom_primitives::quorum::{ConsensusDomain, Validator, ValidatorSet};
use tempfile::TempDir;

use crate::{
    memory_network::MemoryNetwork,
    toy_chain::{Disk, Faults, Rules, ToyChain},
};

/// Long enough for every step of these tests on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short, for blocks that take no time.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        propose: Duration::from_millis(1_500),
        propose_delta: Duration::from_millis(500),
        silence: Duration::from_millis(300),
        absence: Duration::from_millis(100),
        prevote: Duration::from_millis(200),
        precommit: Duration::from_millis(200),
        vote_delta: Duration::from_millis(100),
        rebroadcast: Duration::from_millis(300),
        longest: Duration::from_secs(10),
        block_interval: Duration::from_millis(10),
    }
}

/// What outlives a node's process.
pub(crate) struct Place {
    pub(crate) signer: PrivateKeySigner,
    pub(crate) disk: Disk,
    pub(crate) faults: Arc<Faults>,
    directory: TempDir,
    running: Option<(Node, Arc<ToyChain>)>,
}

impl Place {
    pub(crate) fn id(&self) -> Address {
        self.signer.address()
    }

    pub(crate) fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().0
    }

    pub(crate) fn chain(&self) -> &Arc<ToyChain> {
        &self.running.as_ref().unwrap().1
    }

    /// Reads a number from the metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.node().metrics();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cipherloom_consensus_{name} ")));
        line.unwrap().parse().unwrap()
    }
}

/// The nodes, and the network between them.
pub(crate) struct Cluster {
    pub(crate) network: MemoryNetwork,
    pub(crate) rules: Rules,
    pub(crate) places: Vec<Place>,
    pub(crate) timeouts: Timeouts,
}

/// A key that is the same in each run.
pub(crate) fn key(number: u64) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(format!("validator {number}"))).unwrap()
}

pub(crate) fn set_of(keys: &[PrivateKeySigner]) -> ValidatorSet {
    let members = keys.iter().map(|key| Validator {
        address: key.address(),
        power: 1,
    });
    ValidatorSet::new(members.collect()).unwrap()
}

impl Cluster {
    /// Prepares `all` nodes, the first `validators` of which sign from the beginning. None is started.
    pub(crate) fn new(validators: u64, all: u64) -> Self {
        let keys: Vec<_> = (0..all).map(key).collect();
        let set = set_of(&keys[..usize::try_from(validators).unwrap()]);
        let rules = Rules {
            domain: ConsensusDomain {
                chain_id: 31_338,
                genesis_hash: B256::repeat_byte(0x11),
            },
            sets: BTreeMap::from([(1, set)]),
        };
        let places = keys.into_iter().map(|signer| Place {
            signer,
            disk: Disk::default(),
            faults: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
            running: None,
        });
        Self {
            network: MemoryNetwork::default(),
            rules,
            places: places.collect(),
            timeouts: timeouts(),
        }
    }

    /// Prepares and starts all.
    pub(crate) async fn started(validators: u64, all: u64) -> Self {
        let mut cluster = Self::new(validators, all);
        for number in 0..cluster.places.len() {
            cluster.start(number).await.unwrap();
        }
        cluster
    }

    pub(crate) async fn start(&mut self, number: usize) -> Result<(), ConsensusError> {
        let place = &mut self.places[number];
        let (port, received) = self.network.join(place.id());
        let chain = Arc::new(ToyChain::new(
            self.rules.clone(),
            place.id(),
            place.disk.clone(),
            Arc::clone(&place.faults),
        ));
        let config = NodeConfig {
            domain: self.rules.domain,
            signer: Some(place.signer.clone()),
            directory: place.directory.path().to_owned(),
            timeouts: self.timeouts,
        };
        let network: Arc<dyn Network> = port;
        let node = Node::start(config, Arc::clone(&chain) as _, network, received).await?;
        place.running = Some((node, chain));
        Ok(())
    }

    /// Takes a node off the network at once, then ends it.
    pub(crate) async fn stop(&mut self, number: usize) {
        self.network.leave(self.places[number].id());
        let (node, _) = self.places[number].running.take().unwrap();
        node.shutdown().await.unwrap();
    }

    pub(crate) fn ids(&self, numbers: &[usize]) -> Vec<Address> {
        numbers.iter().map(|number| self.places[*number].id()).collect()
    }

    /// Waits until nodes have a height.
    pub(crate) async fn reach(&self, numbers: &[usize], height: u64) {
        let reached = async {
            for number in numbers {
                let place = &self.places[*number];
                let mut status = place.node().watch();
                if status.wait_for(|status| status.height >= height).await.is_err() {
                    panic!("node {number} stopped at height {}", place.disk.height());
                }
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            let heights: Vec<_> = self.places.iter().map(|place| place.disk.height()).collect();
            let states: Vec<_> = self
                .places
                .iter()
                .filter_map(|place| place.running.as_ref())
                .map(|(node, _)| node.status())
                .collect();
            panic!("height {height} is not reached: {heights:?}\n{states:#?}");
        }
    }

    pub(crate) fn highest(&self) -> u64 {
        self.places.iter().map(|place| place.disk.height()).max().unwrap()
    }

    /// Checks that no two nodes have different blocks, that each block has a quorum, and that nobody voted for two things.
    pub(crate) fn check_agreement(&self) {
        for height in 1..=self.highest() {
            let kept: Vec<_> = self.places.iter().filter_map(|place| place.disk.get(height)).collect();
            let set = self.rules.sets.range(..=height).next_back().unwrap().1;
            for decided in &kept {
                assert_eq!(decided.certificate.block_hash, kept[0].certificate.block_hash, "height {height}");
                assert_eq!(decided.certificate.height, height);
                decided.certificate.check(&self.rules.domain, set).unwrap();
            }
        }
        for (place, blocks) in crate::memory_network::by_place(&self.network.votes()) {
            assert_eq!(blocks.len(), 1, "{place:?} voted for {blocks:?}");
        }
    }

    pub(crate) fn lie(&self, number: usize) {
        self.places[number].faults.lies.store(true, Ordering::Relaxed);
    }

    /// Stops all that run.
    pub(crate) async fn end(mut self) {
        for place in &mut self.places {
            if let Some((node, _)) = place.running.take() {
                node.shutdown().await.unwrap();
            }
        }
    }
}
