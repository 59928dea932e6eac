//! `cipherloom bench engine`: transactions through the engine alone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result};
use cipherloom_engine::{Engine, EnginePool, Evaluation, Graph, Policy, PoolOptions, PoolStatistics, Program};
use cipherloom_fhe::Ciphertext;
use cipherloom_primitives::Handle;

use super::{
    ground::{Ground, Samples},
    measurement::{self, Subject},
    options::WorkloadOptions,
    report,
    scenario::{Scenario, Transaction},
    workload::Workload,
};

/// Measures and prints.
///
/// # Errors
/// If anything fails or a result is wrong.
pub(crate) fn run(options: &WorkloadOptions) -> Result<()> {
    let ground = Ground::prepare(&options.common)?;
    let samples = ground.sample_ciphertexts(&Workload::TYPES)?;
    let mut subject = InMemory::start(&ground, &samples, options.schedule)?;
    let measurement = measurement::run(&ground, &samples, options, &mut subject)?;
    report::print("engine", &ground, options, None, &measurement)
}

/// The engine, from ciphertexts in memory to ciphertexts in memory.
pub(crate) struct InMemory<'a> {
    ground: &'a Ground,
    samples: &'a Samples,
    pool: EnginePool,
    values: HashMap<Handle, Ciphertext>,
}

impl<'a> InMemory<'a> {
    /// Starts the engine's threads.
    ///
    /// # Errors
    /// If they cannot be started.
    pub(crate) fn start(ground: &'a Ground, samples: &'a Samples, policy: Policy) -> Result<Self> {
        let options = PoolOptions {
            engine: Engine {
                policy,
                ..Engine::default()
            },
            threads: Some(ground.threads),
            ..PoolOptions::default()
        };
        Ok(Self {
            ground,
            samples,
            pool: EnginePool::start(Arc::clone(&ground.backend), options)?,
            values: HashMap::new(),
        })
    }

    /// Compiles a transaction.
    ///
    /// # Errors
    /// If it has too many computations.
    pub(crate) fn compile(&self, transaction: &Transaction) -> Result<Program> {
        let made: HashSet<Handle> = transaction.computations.iter().map(|computation| computation.result).collect();
        let operands = transaction.computations.iter().flat_map(|computation| &computation.inputs).copied();
        let boundary = operands.filter(|operand| !made.contains(operand));
        let graph = Graph::record(&transaction.computations, transaction.outputs.iter().copied(), boundary)?;
        Ok(self.pool.engine().compile(&graph).program)
    }
    fn submit(&self, transaction: &Transaction) -> Result<Evaluation> {
        let program = self.compile(transaction)?;
        let operands = transaction.computations.iter().flat_map(|computation| &computation.inputs);
        let known = |operand: &Handle| Some((*operand, self.values.get(operand)?.clone()));
        let inputs = operands.filter_map(known).collect();
        Ok(self.pool.submit(Arc::new(program), inputs))
    }
}

impl Subject for InMemory<'_> {
    fn prepare(&mut self, scenario: &Scenario) -> Result<()> {
        self.values.clear();
        for given in &scenario.given {
            self.values.insert(given.handle, self.samples.of(given)?.clone());
        }
        Ok(())
    }

    fn compute(&mut self, scenario: &Scenario) -> Result<()> {
        for wave in scenario.waves() {
            let evaluations = wave.into_iter().map(|transaction| self.submit(transaction));
            for evaluation in evaluations.collect::<Result<Vec<_>>>()? {
                for (handle, value) in evaluation.wait()?.outputs {
                    self.values.insert(handle, value?);
                }
            }
        }
        Ok(())
    }

    fn results(&mut self, scenario: &Scenario) -> Result<HashMap<Handle, Vec<u8>>> {
        let outputs = scenario.transactions.iter().flat_map(|transaction| &transaction.outputs);
        outputs
            .map(|output| {
                let value = self.values.get(output).with_context(|| format!("{output} was not computed"))?;
                Ok((*output, self.ground.backend.serialize(value)?))
            })
            .collect()
    }

    fn statistics(&self) -> PoolStatistics {
        self.pool.statistics()
    }
}
