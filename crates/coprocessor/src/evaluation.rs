//! Evaluation of one transaction in memory. Blocks for as long as the backend computes.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use alloy::primitives::keccak256;
use cipherloom_fhe::{Ciphertext, FheBackend, FheError};
use cipherloom_primitives::{B256, Computation, Handle, HandleOrigin};
use cipherloom_store::{Finished, LeasedTransaction, OutputFailure, StoredCiphertext};

use crate::{graph::Plan, loading::Loaded, progress::ComputationFinished};

/// The value of a handle, or why it has none.
type Value = Result<Ciphertext, String>;

/// What an evaluation is done with and under.
pub(crate) struct Evaluator<'a> {
    pub(crate) backend: &'a dyn FheBackend,
    pub(crate) chain_id: u64,
    pub(crate) key_set_id: B256,
    /// Set from outside to end the evaluation after the computation it is at.
    pub(crate) stop: &'a AtomicBool,
    pub(crate) finished: &'a dyn Fn(ComputationFinished),
}

impl Evaluator<'_> {
    /// Computes the transaction's missing outputs from what was loaded for it. Returns `None` if told to stop.
    pub(crate) fn evaluate(&self, transaction: &LeasedTransaction, loaded: Loaded) -> Option<Finished> {
        let plan = Plan::new(&transaction.computations, &loaded.missing);
        let mut uses = plan.uses();
        let mut values = self.values_from_outside(&plan, loaded.boundary, &loaded.inputs);
        let mut results = Finished::default();
        for computation in &plan.computations {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let value = self.compute(transaction.hash, computation, &values);
            if loaded.missing.contains(&computation.result) {
                self.publish(computation.result, &value, &mut results);
            }
            values.insert(computation.result, value);
            drop_used_up(&mut values, &mut uses, computation);
        }
        Some(results)
    }

    fn values_from_outside(
        &self,
        plan: &Plan<'_>,
        boundary: BTreeMap<Handle, Result<StoredCiphertext, String>>,
        lists: &BTreeMap<Handle, Result<std::sync::Arc<cipherloom_store::AdmittedInput>, String>>,
    ) -> BTreeMap<Handle, Value> {
        let mut values: BTreeMap<Handle, Value> = boundary
            .into_iter()
            .map(|(handle, stored)| (handle, stored.and_then(|stored| self.read(&stored))))
            .collect();
        let mut expanded = BTreeMap::<B256, Result<Vec<Ciphertext>, String>>::new();
        for handle in &plan.inputs {
            let value = match lists.get(handle) {
                Some(Ok(list)) => expanded
                    .entry(list.digest)
                    .or_insert_with(|| self.backend.expand_input(&list.list).map_err(|error| error.to_string()))
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|list| value_of_list(*handle, list)),
                Some(Err(reason)) => Err(reason.clone()),
                None => Err(format!("input {handle} was not loaded")),
            };
            values.insert(*handle, value);
        }
        values
    }

    fn read(&self, stored: &StoredCiphertext) -> Value {
        if stored.key_set_id != self.key_set_id {
            return Err(format!(
                "{} is encrypted under key set {}, not {}",
                stored.handle, stored.key_set_id, self.key_set_id
            ));
        }
        self.backend
            .deserialize(stored.handle.fhe_type(), &stored.bytes)
            .map_err(|error| error.to_string())
    }

    fn compute(&self, transaction: B256, computation: &Computation, values: &BTreeMap<Handle, Value>) -> Value {
        let foreign = computation
            .inputs
            .iter()
            .chain([&computation.result])
            .find(|handle| handle.chain_id() != self.chain_id);
        if let Some(foreign) = foreign {
            return Err(format!(
                "{foreign} is a handle of chain {}, not {}",
                foreign.chain_id(),
                self.chain_id
            ));
        }
        let mut operands = Vec::with_capacity(computation.inputs.len());
        for input in &computation.inputs {
            match values.get(input) {
                Some(Ok(value)) => operands.push(value),
                Some(Err(reason)) => return Err(reason.clone()),
                None => return Err(format!("operand {input} was not loaded")),
            }
        }
        let start = Instant::now();
        let value = self
            .backend
            .evaluate(&computation.operation, &operands)
            .map_err(|error| error.to_string())?;
        (self.finished)(ComputationFinished {
            transaction,
            operation: computation.operation.operation(),
            ty: computation.operation.result_type(),
            seconds: start.elapsed().as_secs_f64(),
        });
        Ok(value)
    }

    fn publish(&self, handle: Handle, value: &Value, results: &mut Finished) {
        let stored = value
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|ciphertext| stored_form(self.backend, self.key_set_id, handle, ciphertext).map_err(|error| error.to_string()));
        match stored {
            Ok(stored) => results.ciphertexts.push(stored),
            Err(reason) => results.failures.push(OutputFailure { handle, reason }),
        }
    }
}

/// Writes a ciphertext in the form in which it is kept and vouched for.
pub(crate) fn stored_form(
    backend: &dyn FheBackend,
    key_set_id: B256,
    handle: Handle,
    ciphertext: &Ciphertext,
) -> Result<StoredCiphertext, FheError> {
    let bytes = backend.serialize(ciphertext)?;
    Ok(StoredCiphertext::raw(handle, key_set_id, keccak256(&bytes), bytes))
}

/// Picks the value of an input handle from its expanded list.
pub(crate) fn value_of_list(handle: Handle, list: &[Ciphertext]) -> Value {
    let HandleOrigin::Input(index) = handle.origin() else {
        return Err(format!("{handle} is not an input"));
    };
    match list.get(usize::from(index)) {
        Some(value) if value.fhe_type() == handle.fhe_type() => Ok(value.clone()),
        Some(value) => Err(format!("input {handle} is a {} in its list", value.fhe_type())),
        None => Err(format!("input {handle} is beyond the end of its list of {}", list.len())),
    }
}

fn drop_used_up(values: &mut BTreeMap<Handle, Value>, uses: &mut BTreeMap<Handle, usize>, computation: &Computation) {
    for input in &computation.inputs {
        if let Some(left) = uses.get_mut(input) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                values.remove(input);
            }
        }
    }
    if !uses.contains_key(&computation.result) {
        values.remove(&computation.result);
    }
}
