//! Nodes, a key to be shared, and what they read together.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{Address, B256};
use cipherloom_attest::{Attestor, CollateralStore, Policy, Verifier, simulated::InsecureSimulatedAttestor};
use cipherloom_ceremony::{
    CeremonyError, DealingParts, GeneratedKeys, LocalLink, Material, Node, NodeLink, Outcome, Proposal, Registration, Seats, Store, deal,
};
use cipherloom_threshold::{
    Contribution, EpochId, Expected, KeyId, KeyKind, KeyShare, SquashedCiphertext, ThresholdError, ValueShape, reconstruct,
    reshare::KnownValue,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub(crate) const CHAIN: u64 = 31337;
pub(crate) const KEY: B256 = B256::repeat_byte(0x5e);

/// A node with its directory. The directory outlives the node, so that it can be started again.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) directory: PathBuf,
}

/// Everything that a test needs of a deployment.
pub(crate) struct Deployment {
    root: TempDir,
    pub(crate) attestor: Arc<InsecureSimulatedAttestor>,
    pub(crate) nodes: Vec<TestNode>,
    pub(crate) secrets: Secrets,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn verifier() -> Verifier {
    Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default())).unwrap()
}

pub(crate) async fn open(directory: &PathBuf, attestor: &Arc<InsecureSimulatedAttestor>) -> Result<Node, CeremonyError> {
    let store = Store::open(directory, &**attestor).await?;
    Ok(Node::new(
        store,
        Arc::clone(attestor) as Arc<dyn Attestor>,
        verifier(),
        Arc::new(now),
    ))
}

impl Deployment {
    pub(crate) async fn new(nodes: usize) -> Self {
        let attestor = Arc::new(InsecureSimulatedAttestor::new("ceremony test").unwrap());
        let mut deployment = Self {
            root: tempfile::tempdir().unwrap(),
            attestor,
            nodes: Vec::new(),
            secrets: Secrets::random(16, 24),
        };
        for _ in 0..nodes {
            deployment.add().await;
        }
        deployment
    }

    pub(crate) async fn add(&mut self) {
        let directory = self.root.path().join(format!("node{}", self.nodes.len()));
        let node = Arc::new(open(&directory, &self.attestor).await.unwrap());
        self.nodes.push(TestNode { node, directory });
    }

    /// Starts a node again from its files.
    pub(crate) async fn restart(&mut self, index: usize) {
        let directory = self.nodes[index].directory.clone();
        self.nodes.remove(index);
        let node = Arc::new(open(&directory, &self.attestor).await.unwrap());
        self.nodes.insert(index, TestNode { node, directory });
    }

    pub(crate) fn seats(&self, members: &[usize], threshold: u8, epoch: u64) -> Seats {
        Seats {
            context: B256::with_last_byte(1),
            epoch: epoch_id(epoch),
            threshold,
            members: members.iter().map(|index| self.address(*index)).collect(),
        }
    }

    pub(crate) fn address(&self, index: usize) -> Address {
        self.nodes[index].node.identity().address()
    }

    pub(crate) fn registration(seats: &Seats, former: &[Address]) -> Registration {
        Registration {
            chain_id: CHAIN,
            context: seats.context,
            epoch: seats.epoch,
            threshold: seats.threshold,
            members: seats.members.clone(),
            former_members: former.to_vec(),
        }
    }

    pub(crate) fn links(&self, indices: &[usize], registration: &Registration) -> Vec<Arc<dyn NodeLink>> {
        indices
            .iter()
            .map(|index| Arc::new(LocalLink::new(Arc::clone(&self.nodes[*index].node), registration.clone())) as Arc<dyn NodeLink>)
            .collect()
    }

    /// Deals the key to these nodes in epoch 1.
    pub(crate) async fn deal(&self, members: &[usize], threshold: u8) -> Outcome {
        let seats = self.seats(members, threshold, 1);
        let links = self.links(members, &Self::registration(&seats, &[]));
        self.try_deal(seats, &links).await.unwrap()
    }

    pub(crate) async fn try_deal(&self, seats: Seats, links: &[Arc<dyn NodeLink>]) -> Result<Outcome, CeremonyError> {
        let proposal = Proposal::deal(CHAIN, "toy", seats).unwrap();
        let verifier = verifier();
        let parts = DealingParts {
            attestor: &*self.attestor,
            verifier: &verifier,
            now: now(),
        };
        deal(proposal, links, parts, |_| async { Ok(self.secrets.generated()) }, |_| {}).await
    }

    /// Reads a fresh value with the shares that these nodes hold.
    pub(crate) fn decrypts(&self, members: &[usize], epoch: u64) -> bool {
        let shares: Vec<Arc<KeyShare>> = members
            .iter()
            .map(|index| {
                let held = self.nodes[*index].node.share(KeyId(KEY.0), EpochId(epoch_id(epoch).0)).unwrap();
                held.expect("the node holds a share").share
            })
            .collect();
        KeyKind::ALL.iter().all(|kind| {
            let (ciphertext, value) = self.secrets.encrypt(*kind);
            read(&shares, &ciphertext) == Ok(value)
        })
    }
}

/// Epochs as the chain counts them: the highest byte is 8.
pub(crate) fn epoch_id(counter: u64) -> B256 {
    let mut id = B256::left_padding_from(&counter.to_be_bytes());
    id.0[0] = 8;
    id
}

pub(crate) fn read(shares: &[Arc<KeyShare>], ciphertext: &SquashedCiphertext) -> Result<[u8; 32], ThresholdError> {
    let scope = shares[0].scope();
    let expected = [Expected {
        tag: ciphertext.tag(scope),
        shape: ciphertext.shape(),
    }];
    let contributions: Vec<Contribution> = shares
        .iter()
        .map(|share| Contribution::of_partials(share.party(), &expected, &[share.decrypt(ciphertext).unwrap()]))
        .collect();
    let read = reconstruct(scope.committee.size(), &[ciphertext.shape()], &contributions)?;
    Ok(*read.values[0].little_endian())
}

/// A toy key: short lists of bits.
pub(crate) struct Secrets {
    squashed: Vec<u128>,
    compressed: Vec<u128>,
}

fn word() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    u128::from_le_bytes(bytes)
}

impl Secrets {
    fn random(squashed: usize, compressed: usize) -> Self {
        let bits = |count| (0..count).map(|_| word() & 1).collect();
        Self {
            squashed: bits(squashed),
            compressed: bits(compressed),
        }
    }

    pub(crate) fn generated(&self) -> GeneratedKeys {
        let known = KeyKind::ALL.iter().map(|kind| {
            let (ciphertext, little_endian) = self.encrypt(*kind);
            KnownValue { ciphertext, little_endian }
        });
        GeneratedKeys {
            key_id: KEY,
            squashed: Zeroizing::new(self.squashed.clone()),
            compressed: Zeroizing::new(self.compressed.clone()),
            material: vec![Material {
                name: "public_key.bin".into(),
                digest: B256::repeat_byte(9),
                size_bytes: 12345,
            }],
            known: known.collect(),
        }
    }

    /// Encrypts a random byte as noise squashing leaves it.
    pub(crate) fn encrypt(&self, kind: KeyKind) -> (SquashedCiphertext, [u8; 32]) {
        let key = match kind {
            KeyKind::Squashed => &self.squashed,
            KeyKind::Compressed => &self.compressed,
        };
        let mut value = [0; 32];
        value[0] = word().to_le_bytes()[0];
        let mut words = Vec::new();
        for digit in [value[0] & 15, value[0] >> 4] {
            let noise = (word() >> (128 - 71)).wrapping_sub(1 << 70);
            let mut body = (u128::from(digit) << 123).wrapping_add(noise);
            for bit in key {
                let number = word();
                words.push(number);
                body = body.wrapping_add(number.wrapping_mul(*bit));
            }
            words.push(body);
        }
        let shape = ValueShape::new(8).unwrap();
        (SquashedCiphertext::new(kind, shape, key.len(), words).unwrap(), value)
    }
}
