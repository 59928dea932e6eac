//! A chain whose blocks are a name and padding.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use alloy::primitives::{Address, B256, Bytes, keccak256};
use cipherloom_consensus::{Application, ApplicationError, DecidedBlock, Head, ProposedBlock, Verdict};
use cipherloom_primitives::quorum::{CommitCertificate, ConsensusDomain, ValidatorSet};
use futures_util::future::BoxFuture;
use tokio::{sync::broadcast, time::Instant};

/// What outlives a process.
pub(crate) type Disk = Arc<Mutex<BTreeMap<u64, DecidedBlock>>>;

/// One node's view of the chain.
pub(crate) struct PaddedChain {
    domain: ConsensusDomain,
    set: ValidatorSet,
    disk: Disk,
    name: Address,
    padding: usize,
    known: Mutex<HashMap<B256, Bytes>>,
    transactions: Mutex<Vec<Bytes>>,
    new: broadcast::Sender<Bytes>,
}

impl PaddedChain {
    pub(crate) fn new(domain: ConsensusDomain, set: ValidatorSet, disk: Disk, name: Address, padding: usize) -> Self {
        Self {
            domain,
            set,
            disk,
            name,
            padding,
            known: Mutex::default(),
            transactions: Mutex::default(),
            new: broadcast::channel(16).0,
        }
    }

    pub(crate) fn send_transaction(&self, transaction: Bytes) {
        self.transactions.lock().unwrap().push(transaction.clone());
        self.new.send(transaction).unwrap();
    }

    pub(crate) fn has_transaction(&self, transaction: &Bytes) -> bool {
        self.transactions.lock().unwrap().contains(transaction)
    }

    /// What a proposer's block has to be.
    fn block(&self, height: u64, round: u32, proposer: Address) -> Bytes {
        let mut block = height.to_be_bytes().to_vec();
        block.extend_from_slice(self.head().hash.as_slice());
        block.extend_from_slice(proposer.as_slice());
        block.extend_from_slice(&round.to_be_bytes());
        block.resize(block.len() + self.padding, round.to_be_bytes()[3]);
        block.into()
    }

    fn keep(&self, block: Bytes, certificate: CommitCertificate, sidecar: Bytes) {
        let mut disk = self.disk.lock().unwrap();
        let height = certificate.height;
        assert_eq!(disk.keys().last().copied().unwrap_or_default() + 1, height, "blocks come in order");
        disk.insert(
            height,
            DecidedBlock {
                block,
                certificate,
                sidecar,
            },
        );
    }

    fn sidecar(&self, block: &Bytes) -> Bytes {
        let mut sidecar = keccak256(block).to_vec();
        sidecar.resize(32 + self.padding, 5);
        sidecar.into()
    }
}

impl Application for PaddedChain {
    fn head(&self) -> Head {
        let disk = self.disk.lock().unwrap();
        let last = disk.last_key_value();
        Head {
            height: last.map_or(0, |(height, _)| *height),
            hash: last.map_or(self.domain.genesis_hash, |(_, decided)| decided.certificate.block_hash),
        }
    }

    fn validators(&self, _: u64) -> Result<ValidatorSet, ApplicationError> {
        Ok(self.set.clone())
    }

    fn propose(&self, height: u64, round: u32, _: Instant) -> BoxFuture<'_, Result<ProposedBlock, ApplicationError>> {
        let bytes = self.block(height, round, self.name);
        let hash = keccak256(&bytes);
        self.known.lock().unwrap().insert(hash, bytes.clone());
        Box::pin(async move { Ok(ProposedBlock { hash, bytes }) })
    }

    fn validate(
        &self,
        height: u64,
        round: u32,
        proposer: Address,
        block: Bytes,
        _: Instant,
    ) -> BoxFuture<'_, Result<Verdict, ApplicationError>> {
        let verdict = if block == self.block(height, round, proposer) {
            let hash = keccak256(&block);
            self.known.lock().unwrap().insert(hash, block);
            Verdict::Valid { hash }
        } else {
            Verdict::Invalid("another block".to_owned())
        };
        Box::pin(async move { Ok(verdict) })
    }

    fn commit(&self, hash: B256, certificate: CommitCertificate) -> BoxFuture<'_, Result<(), ApplicationError>> {
        Box::pin(async move {
            if self.head().hash == hash {
                return Ok(());
            }
            let block = self.known.lock().unwrap().get(&hash).cloned();
            let block = block.ok_or_else(|| ApplicationError::Unknown(format!("block {hash}")))?;
            let sidecar = self.sidecar(&block);
            self.keep(block, certificate, sidecar);
            Ok(())
        })
    }

    fn apply(&self, decided: DecidedBlock) -> BoxFuture<'_, Result<(), ApplicationError>> {
        Box::pin(async move {
            let DecidedBlock {
                block,
                certificate,
                sidecar,
            } = decided;
            if keccak256(&block) != certificate.block_hash || sidecar != self.sidecar(&block) {
                return Err(ApplicationError::Refused("the block or its sidecar is another's".to_owned()));
            }
            self.keep(block, certificate, sidecar);
            Ok(())
        })
    }

    fn decided(&self, height: u64) -> BoxFuture<'_, Result<Option<DecidedBlock>, ApplicationError>> {
        let decided = self.disk.lock().unwrap().get(&height).cloned();
        Box::pin(async move { Ok(decided) })
    }

    fn add_transaction(&self, bytes: Bytes) -> Result<bool, ApplicationError> {
        let mut transactions = self.transactions.lock().unwrap();
        let new = !transactions.contains(&bytes);
        if new {
            transactions.push(bytes);
        }
        Ok(new)
    }

    fn new_transactions(&self) -> broadcast::Receiver<Bytes> {
        self.new.subscribe()
    }
}
