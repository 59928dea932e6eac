//! A hundred blocks of everything, on ciphertexts, and three ways to the same state: from the data directory, from peers, and by computing all of it again.

use std::{path::Path, sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, B256, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolCall,
};
use cipherloom_engine::Policy;
use cipherloom_node::{
    ManualClock,
    native::{BlockWork, ComputeBlock, ComputeUnavailable, NativeChain, NativeConfig, Results, Verdict},
};
use cipherloom_primitives::{
    FheType, Handle, Operation,
    quorum::{CommitCertificate, CommitSignature, VoteKind},
};
use cipherloom_validator::{EmbeddedExecutor, EmbeddedOptions, NodeParts, Peers, ProofChecks, RunningNode};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    cluster::timeouts,
    ground::{
        Founded, WORKSHOP, balance, ciphertext, eventually, found, host, key_set_id, mint, results, state_root, token_creation, transfer,
    },
    program::{Arg, Program, byte},
    scripts::{BATCH, Batch, STORE, with_scripts},
};

const BLOCKS: u64 = 100;
/// Slots of [`STORE`] that are written to.
const SLOTS: u64 = 6;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Whoever replays without computing.
struct Idle;

impl ComputeBlock for Idle {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        panic!("block {} was given to the executor of a node that only replays", work.number);
    }
}

/// The chain while it is made.
struct Making {
    founded: Founded,
    chain: NativeChain,
    clock: Arc<ManualClock>,
    token: Address,
    dice: Dice,
    /// What the token's balances must be.
    balances: [u64; 2],
    /// Transactions that were sent since the last block.
    sent: Vec<B256>,
    /// Of the last transaction that stored nothing.
    unstored: Option<B256>,
    succeeded: u32,
    failed: u32,
    inputs: u32,
    several: u32,
}

impl Making {
    fn begin(directory: &Path) -> Self {
        let mut founded = found(1);
        founded.genesis = with_scripts(founded.genesis);
        let clock = Arc::new(ManualClock::new(founded.genesis.timestamp));
        let config = NativeConfig {
            data_dir: Some(directory.to_owned()),
            clock: Arc::clone(&clock) as _,
            ..NativeConfig::new(founded.genesis.clone())
        };
        let chain = NativeChain::open(config, Arc::clone(&WORKSHOP.executor) as _, Arc::clone(&WORKSHOP.checks) as _).unwrap();
        Self {
            token: founded.alice.address().create(0),
            founded,
            chain,
            clock,
            dice: Dice(2_026),
            balances: [0, 0],
            sent: Vec::new(),
            unstored: None,
            succeeded: 0,
            failed: 0,
            inputs: 0,
            several: 0,
        }
    }

    /// Makes the next block of what was sent, and has its one validator sign it.
    async fn decide(&mut self) {
        let height = self.chain.head().unwrap().number + 1;
        self.clock.set(self.founded.genesis.timestamp + 2 * height);
        let signer = &self.founded.validators[0];
        let block = self.chain.propose(height, 0, signer.address(), soon()).await.unwrap();
        let digest = self.chain.domain().vote_digest(VoteKind::Precommit, height, 0, Some(block.hash));
        let certificate = CommitCertificate {
            height,
            round: 0,
            block_hash: block.hash,
            signatures: vec![CommitSignature {
                validator: signer.address(),
                signature: signer.sign_hash_sync(&digest).unwrap().as_bytes(),
            }],
        };
        self.chain.commit(block.hash, certificate).await.unwrap();
        let mut here = 0;
        let chain = &self.chain;
        let (succeeded, failed) = (&mut self.succeeded, &mut self.failed);
        // What did not fit waits.
        self.sent.retain(|hash| {
            let Some((block, index)) = chain.mined_transaction(hash).unwrap() else {
                return true;
            };
            here += 1;
            *(if block.receipts[index].is_success() {
                &mut *succeeded
            } else {
                &mut *failed
            }) += 1;
            false
        });
        self.several += u32::from(here > 1);
    }

    fn run(&self, program: &Program) -> B256 {
        let run = Batch::runCall {
            calls: program.calls.clone(),
        };
        self.founded.bob.send(&self.chain, TxKind::Call(BATCH), run.abi_encode())
    }

    fn stored(&self, slot: u64) -> Option<Handle> {
        let word = self.chain.storage(STORE, U256::from(slot), alloy::eips::BlockId::latest()).unwrap();
        Handle::try_from(B256::from(word)).ok()
    }

    /// Sends one transaction of a kind.
    fn send(&mut self, kind: u64) {
        let (slot, number) = (self.dice.roll(SLOTS), self.dice.roll(200));
        let mut program = Program::new();
        let sent = match kind {
            0 => self.founded.bob.pay(&self.chain, self.founded.alice.address(), 1 + number),
            1 => {
                self.balances[0] += number;
                let call = mint(self.founded.alice.address(), number);
                self.founded.alice.send(&self.chain, TxKind::Call(self.token), call)
            }
            // Not the owner: reverts.
            2 => {
                let call = mint(self.founded.bob.address(), number);
                self.founded.bob.send(&self.chain, TxKind::Call(self.token), call)
            }
            3 => {
                let random = program.operation(Operation::Rand, &[FheType::Uint8.into()]);
                program.keep(random);
                program.store(slot, random);
                self.run(&program)
            }
            // Of two results only one is stored, and is computed from the other.
            4 => {
                let value = program.value(number, FheType::Uint8);
                let sum = program.operation(Operation::Add, &[value, 7.into(), byte(1)]);
                let product = program.operation(Operation::Mul, &[sum, value, byte(0)]);
                program.keep(product);
                program.store(slot, product);
                self.run(&program)
            }
            // Allowed for ever, and never stored: a name without a value.
            5 => {
                let value = program.value(number, FheType::Uint8);
                let sum = program.operation(Operation::Add, &[value, 9.into(), byte(1)]);
                program.keep(sum);
                let sent = self.run(&program);
                self.unstored = Some(sent);
                sent
            }
            // A frame computes and stores, and reverts; the transaction goes on and stores something else.
            6 => {
                let mut inner = Program::new();
                let lost = inner.value(number, FheType::Uint16);
                let lost = inner.operation(Operation::Add, &[lost, 1.into(), byte(1)]);
                inner.store(slot, lost);
                inner.call(BATCH, b"none", &[]);
                let inner = Batch::runCall { calls: inner.calls };
                program.call(BATCH, &inner.abi_encode(), &[]);
                let value = program.value(number, FheType::Uint16);
                let other = program.operation(Operation::Sub, &[value, 3.into(), byte(1)]);
                program.keep(other);
                program.store((slot + 1) % SLOTS, other);
                let attempt = Batch::attemptCall { calls: program.calls };
                self.founded.bob.send(&self.chain, TxKind::Call(BATCH), attempt.abi_encode())
            }
            // The whole transaction reverts.
            7 => {
                let value = program.value(number, FheType::Uint8);
                program.store(slot, value);
                program.call(BATCH, b"none", &[]);
                self.run(&program)
            }
            // With a value that an earlier block stored, if there is one.
            8 => {
                let old = self.stored(slot).filter(|old| old.fhe_type() == FheType::Uint8);
                let old = old.map_or_else(|| program.value(number, FheType::Uint8), Arg::from);
                let sum = program.operation(Operation::Add, &[old, 5.into(), byte(1)]);
                program.keep(sum);
                program.store(slot, sum);
                self.run(&program)
            }
            // With a value that nobody has any more.
            9 => {
                let executor = host(&self.founded.genesis).executor;
                let mined = self.unstored.filter(|sent| self.chain.mined_transaction(sent).unwrap().is_some());
                let gone = mined.and_then(|sent| results(&self.chain, sent, executor).last().copied());
                let gone = gone.map_or_else(|| program.value(number, FheType::Uint8), Arg::from);
                let sum = program.operation(Operation::Add, &[gone, 5.into(), byte(1)]);
                program.store(slot, sum);
                self.run(&program)
            }
            // An encrypted input with its proof.
            _ => {
                let amount = 1 + self.dice.roll(self.balances[0]);
                self.balances[0] -= amount;
                self.balances[1] += amount;
                self.inputs += 1;
                let (alice, bob) = (&self.founded.alice, &self.founded.bob);
                let call = transfer(&self.founded.genesis, self.token, alice.address(), bob.address(), amount);
                alice.send(&self.chain, TxKind::Call(self.token), call)
            }
        };
        self.sent.push(sent);
    }

    /// Makes all blocks.
    async fn make(&mut self) {
        let alice = &self.founded.alice;
        let creation = token_creation(&host(&self.founded.genesis));
        self.sent.push(alice.send(&self.chain, TxKind::Create, creation));
        self.decide().await;
        for height in 2..BLOCKS {
            if height == 2 || height % 25 == 0 {
                self.balances[0] += 1000;
                let call = mint(self.founded.alice.address(), 1000);
                self.sent.push(self.founded.alice.send(&self.chain, TxKind::Call(self.token), call));
            } else if height % 20 == 3 {
                self.send(10);
            }
            for _ in 0..self.dice.roll(4) {
                let kind = self.dice.roll(10);
                self.send(kind);
            }
            self.decide().await;
        }
        // For what was left over.
        self.decide().await;
        assert!(self.sent.is_empty(), "left out: {:?}", self.sent);
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The state roots of all blocks.
fn roots(chain: &NativeChain) -> Vec<B256> {
    assert_eq!(chain.head().unwrap().number, BLOCKS);
    (0..=BLOCKS).map(|number| state_root(chain, number)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_blocks_of_mixed_traffic_lead_to_the_same_state_again_on_every_way() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("chain");
    let mut making = Making::begin(&directory);
    making.make().await;
    let expected = roots(&making.chain);
    let told = (making.succeeded, making.failed, making.inputs, making.several);
    assert!(told.0 > 80 && told.1 > 10 && told.2 >= 4 && told.3 > 20, "{told:?}");
    let different = expected.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(different > 60, "{different}");
    let stored = (0..SLOTS).filter_map(|slot| making.stored(slot)).collect::<Vec<_>>();
    assert!(
        stored.iter().any(|handle| ciphertext(&making.chain, *handle).is_some()),
        "{stored:?}"
    );
    let executor = host(&making.founded.genesis).executor;
    for unstored in results(&making.chain, making.unstored.unwrap(), executor) {
        assert_eq!(ciphertext(&making.chain, unstored), None);
    }
    let balances =
        |chain: &NativeChain| [&making.founded.alice, &making.founded.bob].map(|account| balance(chain, making.token, account.address()));
    assert_eq!(balances(&making.chain), making.balances);

    computed_again(&making, &expected).await;

    // From the data directory, by executing every block, with the ciphertexts that are kept beside it.
    let genesis = making.founded.genesis.clone();
    let (token, accounts, sums) = (
        making.token,
        [making.founded.alice.address(), making.founded.bob.address()],
        making.balances,
    );
    drop(making);
    let restored = NativeChain::open(
        NativeConfig {
            data_dir: Some(directory.clone()),
            ..NativeConfig::new(genesis.clone())
        },
        Arc::new(Idle),
        Arc::clone(&WORKSHOP.checks) as _,
    )
    .unwrap();
    assert_eq!((restored.restored().state, restored.restored().executed), (None, BLOCKS));
    assert_eq!(roots(&restored), expected);
    assert_eq!(accounts.map(|account| balance(&restored, token, account)), sums);
    restored.close();
    drop(restored);

    // From a peer, with sidecars, over the real network.
    let start = async |name: &str, known: Vec<_>| {
        let parts = NodeParts {
            genesis: genesis.clone(),
            data_dir: place.path().join(name),
            state_interval: 16,
            key: PrivateKeySigner::random(),
            votes: false,
            compute: Arc::new(Idle),
            checks: Arc::clone(&WORKSHOP.checks) as _,
            peers: Peers::local(known),
            rpc: None,
            timeouts: timeouts(),
        };
        Box::pin(RunningNode::start(parts)).await.unwrap()
    };
    let early = start("", Vec::new()).await;
    assert_eq!(roots(early.chain()), expected);
    let late = start("late", early.peer_address().into_iter().collect()).await;
    eventually("the late node has all blocks", || async {
        late.chain().head().unwrap().number == BLOCKS
    })
    .await;
    assert_eq!(roots(late.chain()), expected);
    assert_eq!(accounts.map(|account| balance(late.chain(), token, account)), sums);
    late.shutdown().await.unwrap();
    early.shutdown().await.unwrap();
}

/// A fresh node takes only blocks and certificates: it computes every ciphertext itself, in another order and on one thread, and checks every proof again.
async fn computed_again(making: &Making, expected: &[B256]) {
    let options = EmbeddedOptions {
        schedule: Policy::Loop,
        threads: std::num::NonZeroUsize::new(1),
    };
    let executor = EmbeddedExecutor::start(Arc::clone(&WORKSHOP.backend), key_set_id(&WORKSHOP.keys), options).unwrap();
    let config = NativeConfig::new(making.founded.genesis.clone());
    let checks = Arc::new(ProofChecks::new(Arc::clone(&WORKSHOP.backend)));
    let chain = NativeChain::open(config, Arc::new(executor), checks).unwrap();
    for height in 1..=BLOCKS {
        let decided = making.chain.decided(height).await.unwrap().unwrap();
        let hash = decided.certificate.block_hash;
        let proposer = making.founded.validators[0].address();
        let verdict = chain.validate(height, 0, proposer, decided.block, soon()).await.unwrap();
        assert_eq!(verdict, Verdict::Valid { hash }, "block {height}");
        chain.commit(hash, decided.certificate).await.unwrap();
        let found = state_root(&chain, height);
        assert_eq!(found, expected[usize::try_from(height).unwrap()], "block {height}");
        let again = chain.decided(height).await.unwrap().unwrap();
        assert_eq!(again.sidecar, decided.sidecar, "block {height}");
    }
    assert_eq!(roots(&chain), expected);
}
