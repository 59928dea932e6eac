//! A chain whose blocks hold next to nothing, but which keeps, checks and refuses them as the real one does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::primitives::{Address, B256, Bytes, keccak256};
use cipherloom_consensus::{Application, ApplicationError, DecidedBlock, Head, ProposedBlock, Verdict};
use cipherloom_primitives::quorum::{CommitCertificate, ConsensusDomain, ValidatorSet};
use futures_util::future::BoxFuture;
use tokio::{sync::broadcast, time::Instant};

/// What is on a node's disk.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<BTreeMap<u64, DecidedBlock>>>);

impl Disk {
    pub(crate) fn height(&self) -> u64 {
        self.0.lock().unwrap().keys().last().copied().unwrap_or_default()
    }

    pub(crate) fn hash(&self, height: u64) -> Option<B256> {
        self.0.lock().unwrap().get(&height).map(|decided| decided.certificate.block_hash)
    }

    pub(crate) fn get(&self, height: u64) -> Option<DecidedBlock> {
        self.0.lock().unwrap().get(&height).cloned()
    }

    /// Loses the newest blocks, as from a backup that was put back.
    pub(crate) fn lose_after(&self, height: u64) {
        self.0.lock().unwrap().retain(|kept, _| *kept <= height);
    }
}

/// What everybody knows of the chain.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) domain: ConsensusDomain,
    /// The sets, by the first height they sign.
    pub(crate) sets: BTreeMap<u64, ValidatorSet>,
}

/// How a node misbehaves, or fails.
#[derive(Default)]
pub(crate) struct Faults {
    /// Its blocks hold one wrong byte.
    pub(crate) lies: AtomicBool,
    /// It cannot tell whether blocks are valid.
    pub(crate) cannot_tell: AtomicBool,
    /// It cannot keep what was decided.
    pub(crate) cannot_keep: AtomicBool,
    /// How often it did not keep a block.
    pub(crate) not_kept: AtomicU64,
    /// How long it takes for each block, in milliseconds.
    pub(crate) slow_ms: AtomicU64,
    /// How long it takes to read a decided block, in milliseconds.
    pub(crate) reading_ms: AtomicU64,
}

/// A node's chain.
pub(crate) struct ToyChain {
    pub(crate) rules: Rules,
    pub(crate) disk: Disk,
    pub(crate) faults: Arc<Faults>,
    pub(crate) name: Address,
    /// Blocks proposed and validated in this run.
    known: Mutex<HashMap<B256, Bytes>>,
    new: broadcast::Sender<Bytes>,
    pub(crate) transactions: Mutex<Vec<Bytes>>,
}

const GOOD: u8 = 7;

impl ToyChain {
    pub(crate) fn new(rules: Rules, name: Address, disk: Disk, faults: Arc<Faults>) -> Self {
        Self {
            rules,
            disk,
            faults,
            name,
            known: Mutex::default(),
            new: broadcast::channel(16).0,
            transactions: Mutex::default(),
        }
    }

    /// Somebody sends a transaction to this node.
    pub(crate) fn send_transaction(&self, transaction: Bytes) {
        self.transactions.lock().unwrap().push(transaction.clone());
        self.new.send(transaction).unwrap();
    }

    fn parent(&self) -> B256 {
        self.head().hash
    }

    fn make(&self, height: u64, round: u32) -> Bytes {
        let mut block = height.to_be_bytes().to_vec();
        block.extend_from_slice(self.parent().as_slice());
        block.extend_from_slice(self.name.as_slice());
        block.extend_from_slice(&round.to_be_bytes());
        block.push(if self.faults.lies.load(Ordering::Relaxed) { GOOD + 1 } else { GOOD });
        block.into()
    }

    fn problem(&self, height: u64, round: u32, proposer: Address, block: &[u8]) -> Option<&'static str> {
        let mut expected = height.to_be_bytes().to_vec();
        expected.extend_from_slice(self.parent().as_slice());
        if !block.starts_with(&expected) {
            return Some("another height or parent");
        }
        expected.extend_from_slice(proposer.as_slice());
        expected.extend_from_slice(&round.to_be_bytes());
        if !block.starts_with(&expected) {
            return Some("another maker");
        }
        expected.push(GOOD);
        (block != expected).then_some("a wrong byte")
    }

    async fn take_time(&self) {
        tokio::time::sleep(Duration::from_millis(self.faults.slow_ms.load(Ordering::Relaxed))).await;
    }

    fn keep(&self, decided: DecidedBlock) {
        let height = decided.certificate.height;
        let mut disk = self.disk.0.lock().unwrap();
        let head = disk.keys().last().copied().unwrap_or_default();
        assert_eq!(height, head + 1, "blocks are kept in order");
        disk.insert(height, decided);
    }
}

impl Application for ToyChain {
    fn head(&self) -> Head {
        let height = self.disk.height();
        let hash = self.disk.hash(height).unwrap_or(self.rules.domain.genesis_hash);
        Head { height, hash }
    }

    fn validators(&self, height: u64) -> Result<ValidatorSet, ApplicationError> {
        if height > self.disk.height() + 1 {
            return Err(ApplicationError::Unknown(format!("height {height}")));
        }
        Ok(self.rules.sets.range(..=height).next_back().unwrap().1.clone())
    }

    fn propose(&self, height: u64, round: u32, _: Instant) -> BoxFuture<'_, Result<ProposedBlock, ApplicationError>> {
        Box::pin(async move {
            self.take_time().await;
            let bytes = self.make(height, round);
            let hash = keccak256(&bytes);
            self.known.lock().unwrap().insert(hash, bytes.clone());
            Ok(ProposedBlock { hash, bytes })
        })
    }

    fn validate(
        &self,
        height: u64,
        round: u32,
        proposer: Address,
        block: Bytes,
        _: Instant,
    ) -> BoxFuture<'_, Result<Verdict, ApplicationError>> {
        Box::pin(async move {
            if self.faults.cannot_tell.load(Ordering::Relaxed) {
                return Err(ApplicationError::Unavailable("the executor is away".to_owned()));
            }
            self.take_time().await;
            if let Some(problem) = self.problem(height, round, proposer, &block) {
                return Ok(Verdict::Invalid(problem.to_owned()));
            }
            let hash = keccak256(&block);
            self.known.lock().unwrap().insert(hash, block);
            Ok(Verdict::Valid { hash })
        })
    }

    fn commit(&self, hash: B256, certificate: CommitCertificate) -> BoxFuture<'_, Result<(), ApplicationError>> {
        Box::pin(async move {
            if self.head().hash == hash {
                return Ok(());
            }
            if self.faults.cannot_keep.load(Ordering::Relaxed) {
                self.faults.not_kept.fetch_add(1, Ordering::Relaxed);
                return Err(ApplicationError::Unavailable("the disk is full".to_owned()));
            }
            let block = self.known.lock().unwrap().get(&hash).cloned();
            let block = block.ok_or_else(|| ApplicationError::Unknown(format!("block {hash}")))?;
            let sidecar = keccak256(&block).to_vec().into();
            self.keep(DecidedBlock {
                block,
                certificate,
                sidecar,
            });
            Ok(())
        })
    }

    fn apply(&self, decided: DecidedBlock) -> BoxFuture<'_, Result<(), ApplicationError>> {
        Box::pin(async move {
            let hash = keccak256(&decided.block);
            if hash != decided.certificate.block_hash || decided.sidecar.as_ref() != hash.as_slice() {
                return Err(ApplicationError::Refused("the block or its sidecar is another's".to_owned()));
            }
            self.keep(decided);
            Ok(())
        })
    }

    fn decided(&self, height: u64) -> BoxFuture<'_, Result<Option<DecidedBlock>, ApplicationError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(self.faults.reading_ms.load(Ordering::Relaxed))).await;
            Ok(self.disk.get(height))
        })
    }

    fn add_transaction(&self, bytes: Bytes) -> Result<bool, ApplicationError> {
        if bytes.is_empty() {
            return Err(ApplicationError::Refused("an empty transaction".to_owned()));
        }
        let mut transactions = self.transactions.lock().unwrap();
        if transactions.contains(&bytes) {
            return Ok(false);
        }
        transactions.push(bytes);
        Ok(true)
    }

    fn new_transactions(&self) -> broadcast::Receiver<Bytes> {
        self.new.subscribe()
    }
}
