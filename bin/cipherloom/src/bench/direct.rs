//! The baseline: tfhe-rs called directly on the operations of a scenario, one after the other, without anything around it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use cipherloom_fhe::{Ciphertext, DirectVariant};
use cipherloom_primitives::Handle;
use rayon::prelude::*;

use super::{
    clock::{Cost, measure},
    ground::{Ground, Samples},
    scenario::{Scenario, Transaction},
};

/// Both variants, in the order of the tables.
pub(crate) const VARIANTS: [DirectVariant; 2] = [DirectVariant::Usual, DirectVariant::Best];

/// Computes a scenario with tfhe-rs, checks all results, and returns what it cost and how many results there were.
///
/// Transactions that do not depend on each other run side by side in one pool of threads, as in tfhe-rs's own throughput benchmarks; each operation
/// uses the pool's idle threads too.
///
/// # Errors
/// If an operation fails or a result is wrong.
pub(crate) fn run(ground: &Ground, samples: &Samples, variant: DirectVariant, scenario: &Scenario) -> Result<(Cost, usize)> {
    let mut values: HashMap<Handle, Ciphertext> = HashMap::new();
    for given in &scenario.given {
        values.insert(given.handle, samples.of(given)?.clone());
    }
    let (cost, outputs) = measure(|| {
        let mut outputs = HashMap::new();
        for wave in scenario.waves() {
            let results: Vec<HashMap<Handle, Ciphertext>> = ground.direct_threads.install(|| {
                wave.par_iter()
                    .map(|transaction| transact(ground, variant, transaction, &values))
                    .collect::<Result<_>>()
            })?;
            for result in results {
                values.extend(result.iter().map(|(handle, value)| (*handle, value.clone())));
                outputs.extend(result);
            }
        }
        Ok(outputs)
    })?;
    let stored = outputs
        .into_iter()
        .map(|(handle, value)| Ok((handle, ground.backend.serialize(&value)?)))
        .collect::<Result<HashMap<_, _>>>()?;
    let checked = ground
        .check(&stored, &scenario.expected()?)
        .with_context(|| format!("tfhe-rs computed something wrong ({variant:?})"))?;
    Ok((cost, checked))
}

/// Computes one transaction and returns what it publishes.
fn transact(
    ground: &Ground,
    variant: DirectVariant,
    transaction: &Transaction,
    before: &HashMap<Handle, Ciphertext>,
) -> Result<HashMap<Handle, Ciphertext>> {
    let mut values: HashMap<Handle, Ciphertext> = HashMap::new();
    for computation in &transaction.computations {
        let operands = computation
            .inputs
            .iter()
            .map(|input| values.get(input).or_else(|| before.get(input)))
            .collect::<Option<Vec<_>>>()
            .context("an operand does not exist yet")?;
        let result = ground.direct.evaluate(variant, &computation.operation, &operands)?;
        values.insert(computation.result, result);
    }
    values.retain(|handle, _| transaction.outputs.contains(handle));
    Ok(values)
}
