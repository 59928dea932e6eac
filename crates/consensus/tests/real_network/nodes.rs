//! Nodes with real connections, each over a line of its own.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, keccak256},
    signers::local::PrivateKeySigner,
};
use cipherloom_consensus::{
    Node, NodeConfig, Timeouts,
    p2p::{NetworkConfig, PeerNetwork},
};
use cipherloom_primitives::quorum::{ConsensusDomain, Validator, ValidatorSet};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    PATIENCE,
    chain::{Disk, PaddedChain},
    proxy::{Line, Proxy},
};

/// What runs of a node.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) network: PeerNetwork,
    pub(crate) chain: Arc<PaddedChain>,
}

struct Place {
    signer: PrivateKeySigner,
    address: SocketAddr,
    disk: Disk,
    directory: TempDir,
    running: Option<Running>,
}

/// Nodes and the lines between them.
pub(crate) struct Nodes {
    domain: ConsensusDomain,
    set: ValidatorSet,
    pub(crate) timeouts: Timeouts,
    padding: usize,
    places: Vec<Place>,
    /// From the later to the earlier node.
    lines: BTreeMap<(usize, usize), Proxy>,
}

pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        propose: Duration::from_millis(2000),
        propose_delta: Duration::from_millis(500),
        silence: Duration::from_millis(400),
        absence: Duration::from_millis(100),
        prevote: Duration::from_millis(200),
        precommit: Duration::from_millis(200),
        vote_delta: Duration::from_millis(100),
        rebroadcast: Duration::from_millis(400),
        longest: Duration::from_secs(10),
        block_interval: Duration::from_millis(20),
    }
}

/// An address that is free now, and stays so while its node is down: outgoing connections take their ports from above these.
fn free_address() -> SocketAddr {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Other processes of tests begin elsewhere.
        let number = (std::process::id().wrapping_mul(101) % COUNT) + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

impl Nodes {
    /// Prepares nodes, of which the first sign.
    pub(crate) async fn new(validators: usize, all: usize, padding: usize) -> Self {
        let signer = |number: usize| PrivateKeySigner::from_bytes(&keccak256(format!("node {number}"))).unwrap();
        let members = (0..validators).map(|number| Validator {
            address: signer(number).address(),
            power: 1,
        });
        let places: Vec<Place> = (0..all)
            .map(|number| Place {
                signer: signer(number),
                address: free_address(),
                disk: Disk::default(),
                directory: tempfile::tempdir().unwrap(),
                running: None,
            })
            .collect();
        let mut lines = BTreeMap::new();
        for later in 1..all {
            for (earlier, place) in places.iter().enumerate().take(later) {
                lines.insert((later, earlier), Proxy::to(place.address).await);
            }
        }
        Self {
            domain: ConsensusDomain {
                chain_id: 31_338,
                genesis_hash: B256::repeat_byte(3),
            },
            set: ValidatorSet::new(members.collect()).unwrap(),
            timeouts: timeouts(),
            padding,
            places,
            lines,
        }
    }

    pub(crate) async fn started(validators: usize, all: usize) -> Self {
        let mut nodes = Self::new(validators, all, 10).await;
        for number in 0..all {
            nodes.start(number).await;
        }
        nodes
    }

    pub(crate) async fn start(&mut self, number: usize) {
        let place = &self.places[number];
        let mut config = NetworkConfig::new(place.signer.clone(), self.domain.chain_id, self.domain.genesis_hash);
        config.listen = Some(place.address);
        config.peers = (0..number)
            .map(|earlier| self.lines[&(number, earlier)].address(self.id(earlier)))
            .collect();
        config.limits.first_retry = Duration::from_millis(100);
        config.limits.last_retry = Duration::from_millis(500);
        config.limits.ping_interval = Duration::from_millis(500);
        config.limits.idle_timeout = Duration::from_secs(2);
        config.limits.handshake_timeout = Duration::from_secs(2);
        let (network, received) = PeerNetwork::start(config).await.unwrap();
        let chain = Arc::new(PaddedChain::new(
            self.domain,
            self.set.clone(),
            Arc::clone(&place.disk),
            self.id(number),
            self.padding,
        ));
        let config = NodeConfig {
            domain: self.domain,
            signer: Some(place.signer.clone()),
            directory: place.directory.path().to_owned(),
            timeouts: self.timeouts,
        };
        let node = Node::start(config, Arc::clone(&chain) as _, Arc::new(network.clone()), received)
            .await
            .unwrap();
        self.places[number].running = Some(Running { node, network, chain });
    }

    pub(crate) async fn kill(&mut self, number: usize) {
        let running = self.places[number].running.take().unwrap();
        running.network.shutdown().await;
        running.node.shutdown().await.unwrap();
    }

    pub(crate) async fn end(mut self) {
        for number in 0..self.places.len() {
            if self.places[number].running.is_some() {
                self.kill(number).await;
            }
        }
    }

    /// The validators in the order in which they propose the first block.
    pub(crate) fn proposers(&self) -> Vec<usize> {
        let mut order = Vec::new();
        for round in 0.. {
            let address = cipherloom_consensus::proposer(&self.set, 1, round);
            let number = (0..self.places.len()).find(|number| self.id(*number) == address).unwrap();
            if !order.contains(&number) {
                order.push(number);
            }
            if order.len() == self.set.len() {
                break;
            }
        }
        order
    }

    pub(crate) fn id(&self, number: usize) -> Address {
        self.places[number].signer.address()
    }

    pub(crate) fn running(&self, number: usize) -> &Running {
        self.places[number].running.as_ref().unwrap()
    }

    /// Changes all lines between two groups.
    pub(crate) fn between(&self, some: &[usize], others: &[usize], state: Line) {
        for ((later, earlier), line) in &self.lines {
            let apart = (some.contains(later) && others.contains(earlier)) || (some.contains(earlier) && others.contains(later));
            if apart {
                line.set(state);
            }
        }
    }

    pub(crate) fn heights(&self) -> Vec<u64> {
        let height = |place: &Place| place.disk.lock().unwrap().keys().last().copied().unwrap_or_default();
        self.places.iter().map(height).collect()
    }

    /// Waits until nodes have a height.
    pub(crate) async fn reach(&self, numbers: &[usize], height: u64) {
        for number in numbers {
            let mut status = self.running(*number).node.watch();
            let reached = timeout(PATIENCE, status.wait_for(|status| status.height >= height));
            match reached.await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => panic!("node {number} stopped"),
                Err(_) => panic!(
                    "node {number} did not reach height {height}: {:?}\n{}",
                    self.heights(),
                    self.states()
                ),
            }
        }
    }

    /// Reads a number from the metrics of a node's network.
    pub(crate) fn counted(&self, number: usize, series: &str) -> u64 {
        let metrics = self.running(number).network.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until every node has sent so many more messages of consensus.
    pub(crate) async fn talk_on(&self, more: u64) {
        let sent = |number| self.counted(number, "cipherloom_network_sent_messages_total{lane=\"consensus\"} ");
        let before: Vec<u64> = (0..self.places.len()).map(sent).collect();
        let said = || before.iter().enumerate().all(|(number, before)| sent(number) >= before + more);
        self.until(said, "all go on talking").await;
    }

    pub(crate) async fn until(&self, condition: impl Fn() -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "not so: {what}\n{}", self.states());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn states(&self) -> String {
        let running = self.places.iter().filter_map(|place| place.running.as_ref());
        running
            .map(|running| format!("{:?}\n{}\n", running.node.status(), running.network.metrics()))
            .collect()
    }

    /// Checks that no two nodes have different blocks, each with its quorum.
    pub(crate) fn check_agreement(&self) {
        let disks: Vec<_> = self.places.iter().map(|place| place.disk.lock().unwrap().clone()).collect();
        let mut checked = 0;
        for height in 1..=*self.heights().iter().max().unwrap() {
            let decided: Vec<_> = disks.iter().filter_map(|disk| disk.get(&height)).collect();
            for one in &decided {
                assert_eq!(one.certificate.block_hash, decided[0].certificate.block_hash, "height {height}");
                one.certificate.check(&self.domain, &self.set).unwrap();
                checked += usize::from(decided.len() > 1);
            }
        }
        assert!(checked > 0, "nothing to compare");
    }
}
