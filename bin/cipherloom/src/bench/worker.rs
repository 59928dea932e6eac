//! `cipherloom bench worker`: transactions through the whole worker, from the events of a block to published ciphertexts.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result, ensure};
use cipherloom_chain::{BlockEvents, GrantEvent, TransactionEvents};
use cipherloom_contracts::development;
use cipherloom_coprocessor::{Coprocessor, CoprocessorConfig, KeyedEngine, Machine};
use cipherloom_engine::{Engine, PoolOptions, PoolStatistics};
use cipherloom_primitives::{B256, Computation, FheType, Handle, Operand, Operation, TypedOperation, U256};
use cipherloom_store::{SqliteStore, Store};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    ground::{Ground, SampleList, metadata},
    measurement::{self, Subject},
    options::{Amounts, WorkerOptions},
    report,
    scenario::{Given, Scenario, Transaction},
    workload::Workload,
};

/// How many values one transaction brings into the store before the clock starts.
const MINTED_TOGETHER: usize = 16;

/// How long transactions may take before something must be wrong, each.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures and prints.
///
/// # Errors
/// If anything fails or a result is wrong.
pub(crate) fn run(options: &WorkerOptions) -> Result<()> {
    let ground = Ground::prepare(&options.workload.common)?;
    let samples = ground.sample_ciphertexts(&Workload::TYPES)?;
    let mut pipeline = Pipeline::start(&ground, options)?;
    let measurement = measurement::run(&ground, &samples, &options.workload, &mut pipeline)?;
    pipeline.stop()?;
    let amounts = ("amounts", options.amounts.name());
    report::print("worker", &ground, &options.workload, Some(amounts), &measurement)
}

/// A coprocessor on a store of its own, without a chain: blocks are handed to it.
struct Pipeline<'a> {
    ground: &'a Ground,
    amounts: Amounts,
    runtime: Runtime,
    coprocessor: Coprocessor,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    workers: JoinHandle<()>,
    /// The input handle of every sample.
    inputs: HashMap<(FheType, usize), Handle>,
    /// The input handles of what users bring along, by the scenario's handles.
    brought: HashMap<Handle, Handle>,
    newest_block: u64,
    transactions: u64,
    _directory: TempDir,
}

impl<'a> Pipeline<'a> {
    fn start(ground: &'a Ground, options: &WorkerOptions) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let directory = tempfile::tempdir().context("cannot make a directory for the store")?;
        let store: Arc<dyn Store> = Arc::new(runtime.block_on(SqliteStore::open(&directory.path().join("store.sqlite")))?);
        let key_set_id = B256::from(*ground.keys.manifest().id.as_bytes());
        let engine = KeyedEngine::start(key_set_id, Arc::clone(&ground.backend), pool(ground, options), Machine::whole())?;
        let coprocessor = Coprocessor::new(config(options), engine, Arc::clone(&store), PrivateKeySigner::random());
        let mut inputs = HashMap::new();
        for list in ground.encrypt_samples(&Workload::TYPES)? {
            let samples: Vec<_> = list.samples.iter().map(|sample| (sample.ty, sample.sample)).collect();
            inputs.extend(samples.into_iter().zip(runtime.block_on(admit(&coprocessor, list))?));
        }
        let stop = CancellationToken::new();
        let workers = runtime.spawn({
            let (coprocessor, stop) = (coprocessor.clone(), stop.clone());
            async move { coprocessor.work(stop).await }
        });
        Ok(Self {
            ground,
            amounts: options.amounts,
            brought: HashMap::new(),
            runtime,
            coprocessor,
            store,
            stop,
            workers,
            inputs,
            newest_block: 0,
            transactions: 0,
            _directory: directory,
        })
    }

    fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.runtime.block_on(self.workers).context("the workers ended with a panic")
    }

    /// Hands a block with these transactions to the coprocessor and waits until all of them are computed.
    fn process(&mut self, transactions: &[Transaction]) -> Result<()> {
        let block = self.block(transactions);
        let patience = PATIENCE * u32::try_from(transactions.len()).unwrap_or(u32::MAX);
        self.runtime.block_on(async {
            self.coprocessor.record_blocks(&[block]).await?;
            let start = Instant::now();
            let mut changes = self.coprocessor.changes();
            loop {
                changes.mark_unchanged();
                if self.store.pending_transactions(development::HOST_CHAIN_ID).await? == 0 {
                    return Ok(());
                }
                ensure!(start.elapsed() < patience, "transactions are still not computed after {patience:?}");
                // Every published transaction is a change. The pause is for a failure that never publishes one.
                let _ = tokio::time::timeout(PATIENCE, changes.changed()).await;
            }
        })
    }

    /// Replaces the scenario's handles of what users bring along by those that admission gave.
    fn as_on_chain(&self, computation: &Computation) -> Computation {
        let on_chain = |handle: &Handle| self.brought.get(handle).copied().unwrap_or(*handle);
        Computation {
            inputs: computation.inputs.iter().map(on_chain).collect(),
            ..computation.clone()
        }
    }

    fn block(&mut self, transactions: &[Transaction]) -> BlockEvents {
        let hash = |number: u64| B256::from(U256::from(0xb10c_0000_0000_u64 + number));
        let first = self.transactions;
        self.newest_block += 1;
        self.transactions += transactions.len() as u64;
        let events = (0..).zip(transactions).map(|(index, transaction)| TransactionEvents {
            hash: B256::from(U256::from(0x7_0000_0000_u64 + first + index)),
            index,
            computations: transaction
                .computations
                .iter()
                .map(|computation| self.as_on_chain(computation))
                .collect(),
            grants: transaction
                .outputs
                .iter()
                .map(|handle| GrantEvent::Account {
                    handle: *handle,
                    account: metadata().contract,
                })
                .collect(),
            delegations: Vec::new(),
        });
        BlockEvents {
            number: self.newest_block,
            hash: hash(self.newest_block),
            parent_hash: hash(self.newest_block - 1),
            timestamp: 1_700_000_000 + self.newest_block,
            transactions: events.collect(),
        }
    }
}

impl Subject for Pipeline<'_> {
    /// Publishes what the scenario starts from, computed from admitted inputs in transactions of earlier blocks, and has what users bring along admitted.
    fn prepare(&mut self, scenario: &Scenario) -> Result<()> {
        let is_fresh = |given: &&Given| given.brought && self.amounts == Amounts::Fresh;
        let (fresh, stored): (Vec<Given>, Vec<Given>) = scenario.given.iter().partition(is_fresh);
        let mut handles = fresh.iter().map(|given| given.handle);
        for list in self
            .ground
            .encrypt(fresh.iter().map(|given| (given.handle.fhe_type(), given.sample)))?
        {
            let admitted = self.runtime.block_on(admit(&self.coprocessor, list))?;
            self.brought.extend(handles.by_ref().take(admitted.len()).zip(admitted));
        }
        for given in stored.chunks(MINTED_TOGETHER) {
            let computations = given
                .iter()
                .map(|given| {
                    let ty = given.handle.fhe_type();
                    let input = self.inputs.get(&(ty, given.sample)).context("a sample was not admitted")?;
                    Ok(same_value(*input, given.handle))
                })
                .collect::<Result<Vec<_>>>()?;
            let outputs = given.iter().map(|given| given.handle).collect();
            self.process(&[Transaction { computations, outputs }])?;
        }
        Ok(())
    }

    fn compute(&mut self, scenario: &Scenario) -> Result<()> {
        self.process(&scenario.transactions)
    }

    fn results(&mut self, scenario: &Scenario) -> Result<HashMap<Handle, Vec<u8>>> {
        let outputs = scenario.transactions.iter().flat_map(|transaction| &transaction.outputs);
        outputs
            .map(|output| {
                let signed = self.runtime.block_on(self.coprocessor.signed_ciphertext(*output))?;
                Ok((*output, signed.bytes))
            })
            .collect()
    }

    fn statistics(&self) -> PoolStatistics {
        self.coprocessor.engine_statistics()
    }
}

fn config(options: &WorkerOptions) -> CoprocessorConfig {
    let mut config = CoprocessorConfig::new(development::signing_domains(), development::addresses().acl);
    if let Some(workers) = options.workers {
        config.workers = workers.into();
    }
    config
}

fn pool(ground: &Ground, options: &WorkerOptions) -> PoolOptions {
    PoolOptions {
        engine: Engine {
            policy: options.workload.schedule,
            ..Engine::default()
        },
        threads: Some(ground.threads),
        ..PoolOptions::default()
    }
}

/// Has the coprocessor admit a list, as it does for clients. Returns the handles of its values.
async fn admit(coprocessor: &Coprocessor, list: SampleList) -> Result<Vec<Handle>> {
    let admitted = coprocessor.admit_input(metadata(), list.bytes, Vec::new()).await?;
    ensure!(admitted.handles.len() == list.samples.len(), "a list lost a value");
    Ok(admitted.handles)
}

/// Asks for the value of an input under a handle of its own, as a contract does that adds an input to an empty balance.
fn same_value(input: Handle, result: Handle) -> Computation {
    let operation = TypedOperation::Binary {
        operation: Operation::BitOr,
        ty: input.fhe_type(),
        rhs: Operand::Scalar(U256::ZERO),
    };
    Computation {
        operation,
        inputs: vec![input],
        result,
    }
}
