//! Blocks that change behind a follower that loses its connections and its life.

use std::{collections::BTreeSet, time::Duration};

use cipherloom_load::Random;
use cipherloom_primitives::Handle;
use cipherloom_store::Tenant;
use serde_json::{Value, json};

use crate::{
    chain::Chain,
    processes::{Follower, Ground, PATIENCE},
    proxy::Proxy,
};

/// The deepest reorganisation.
const DEEPEST: usize = 8;

/// How many values are remembered to compute with.
const REMEMBERED: usize = 40;

/// What happened so far.
#[derive(Debug, Default)]
struct Events {
    reorganised: usize,
    rolled_back: usize,
    reverted: usize,
    cut: usize,
    killed: usize,
}

struct Run {
    chain: Chain,
    ground: Ground,
    tenant: Tenant,
    proxies: [Proxy; 2],
    follower: Option<Follower>,
    random: Random,
    handles: Vec<Handle>,
    /// Every value there ever was, on whatever branch.
    seen: BTreeSet<Handle>,
    snapshot: Option<(Value, u64)>,
    events: Events,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let chain = Chain::start().await;
        let proxies = [Proxy::to(chain.anvil.port()).await, Proxy::to(chain.anvil.port()).await];
        let ground = Ground::new().await;
        let tenant = ground.follow("reorganised", &[proxies[0].ws(), proxies[1].http()]).await;
        Self {
            follower: Some(ground.start("first")),
            chain,
            ground,
            tenant,
            proxies,
            random: Random::from_seed(seed),
            handles: Vec::new(),
            seen: BTreeSet::new(),
            snapshot: None,
            events: Events::default(),
        }
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    /// A transaction that asks for something; it may fail, since values of other branches are not there.
    fn transaction(&mut self) -> Value {
        let kind = self.random.below(10);
        let mut pick = || {
            let index = self.random.below(self.handles.len().max(1));
            self.handles.get(index).copied()
        };
        match (kind, pick(), pick()) {
            (0..4, Some(one), Some(other)) => self.chain.add(one, other),
            (4..6, Some(one), Some(other)) if one != other => self.chain.publish(&[one, other]),
            _ => self.chain.encrypt(u64::try_from(self.random.below(1 << 20)).unwrap()),
        }
    }

    async fn remember(&mut self) {
        let new = self.chain.new_handles().await;
        self.seen.extend(new.iter().copied());
        self.handles.extend(new);
        let forgotten = self.handles.len().saturating_sub(REMEMBERED);
        self.handles.drain(..forgotten);
    }

    async fn make_block(&mut self) {
        for _ in 0..self.random.below(4) {
            let transaction = self.transaction();
            self.chain.send(transaction).await;
        }
        self.chain.mine().await;
        self.remember().await;
    }

    /// Mostly waits until what is going to change is recorded.
    async fn let_it_be_recorded(&mut self) {
        if self.percent(70) {
            let height = self.chain.height().await;
            self.ground
                .wait(&self.tenant, Duration::from_secs(20), |(number, _)| number + 2 >= height)
                .await;
        }
    }

    async fn reorganise(&mut self) {
        self.let_it_be_recorded().await;
        let depth = 1 + self.random.below(DEEPEST);
        if self.percent(60) {
            self.events.reorganised += 1;
            let mut pairs = Vec::new();
            for _ in 0..self.random.below(3) {
                let mut transaction = self.transaction();
                transaction["from"] = json!(self.chain.user);
                transaction["gas"] = json!("0x1e8480");
                pairs.push(json!([transaction, self.random.below(depth)]));
            }
            pairs.sort_by_key(|pair| pair[1].as_u64());
            self.chain.call("anvil_reorg", json!([depth, pairs])).await;
        } else {
            self.events.rolled_back += 1;
            self.chain.call("anvil_rollback", json!([depth])).await;
        }
        self.snapshot = None;
        self.remember().await;
    }

    /// Goes back to a state of a few blocks ago, or remembers this one.
    async fn revert(&mut self) {
        let height = self.chain.height().await;
        match self.snapshot.take() {
            Some((id, at)) if height > at && height - at <= u64::try_from(DEEPEST).unwrap() => {
                self.let_it_be_recorded().await;
                self.events.reverted += 1;
                assert_eq!(self.chain.call("evm_revert", json!([id])).await, json!(true));
            }
            _ => {
                let id = self.chain.call("evm_snapshot", json!([])).await;
                self.snapshot = Some((id, height));
            }
        }
    }

    fn disturb(&mut self) {
        if self.percent(5) {
            self.events.cut += 1;
            let proxy = self.random.below(2);
            self.proxies[proxy].cut();
        }
        if self.percent(2) {
            self.kill();
        }
    }

    fn kill(&mut self) {
        self.events.killed += 1;
        // First the old one ends, wherever it is.
        self.follower = None;
        self.follower = Some(self.ground.start(&format!("after-{}", self.events.killed)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_is_what_the_chain_says_after_reorganisations() {
    let full = std::env::var_os("CIPHERLOOM_E2E").is_some_and(|scale| scale == "full");
    let blocks = if full { 1_000 } else { 100 };
    let given = std::env::var("CIPHERLOOM_E2E_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("E2E reorganisations of {blocks} blocks, seed {seed}; CIPHERLOOM_E2E_SEED={seed} repeats it");
    let mut run = Run::new(seed).await;
    // Deep enough below for the deepest reorganisation.
    for _ in 0..DEEPEST {
        run.make_block().await;
    }
    for block in 0..blocks {
        run.make_block().await;
        match run.random.below(100) {
            0..9 => run.reorganise().await,
            9..20 => run.revert().await,
            _ => {}
        }
        run.disturb();
        if block == blocks / 2 {
            run.kill();
        }
    }
    // The end is one of the hard cases: the chain is shorter than what is recorded, and stays so.
    run.let_it_be_recorded().await;
    run.chain.call("anvil_rollback", json!([3])).await;

    let head = run.chain.head().await;
    let settled = run.ground.wait(&run.tenant, PATIENCE, |newest| newest == head).await;
    let newest = run.ground.newest(&run.tenant).await;
    assert!(settled, "the chain is at {head:?}, recorded is {newest:?}; {:?}", run.events);
    let (truth, recorded) = (run.chain.truth().await, run.ground.recorded(&run.tenant).await);
    assert_eq!(recorded, truth, "{:?}", run.events);
    // Reorganisations take transactions away, in a short run and with some seeds four out of five.
    assert!(
        truth.transactions.len() > blocks / 10,
        "{} transactions in {blocks} blocks",
        truth.transactions.len()
    );
    let canonical: BTreeSet<Handle> = truth.grants.keys().map(|(handle, _)| *handle).collect();
    let orphaned = run.seen.difference(&canonical).count();
    assert!(
        orphaned > 0 && run.events.reorganised > 0,
        "nothing was reorganised: {:?}",
        run.events
    );
    prove_some(&run, &truth.grants.keys().copied().collect::<Vec<_>>(), head.1).await;
    eprintln!(
        "E2E reorganisations: {} blocks, {} transactions with computations and {} grants recorded exactly, {orphaned} values orphaned, {:?}",
        head.0,
        truth.transactions.len(),
        truth.grants.len(),
        run.events
    );
}

/// Proves some grants against the newest block, and that orphaned values have none.
async fn prove_some(run: &Run, grants: &[(Handle, Option<alloy::primitives::Address>)], block: alloy::primitives::B256) {
    let host = run.chain.host();
    for (handle, account) in grants.iter().rev().take(10) {
        let proven = match account {
            Some(account) => host.prove_persist_allowed(*handle, *account, block).await.unwrap(),
            None => host.prove_allowed_for_decryption(*handle, block).await.unwrap(),
        };
        assert!(proven, "{handle} {account:?}");
    }
    let canonical: BTreeSet<Handle> = grants.iter().map(|(handle, _)| *handle).collect();
    for handle in run.seen.difference(&canonical).take(3) {
        assert!(!host.prove_persist_allowed(*handle, run.chain.user, block).await.unwrap());
    }
}
