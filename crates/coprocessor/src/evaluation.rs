//! The steps of an evaluation that compute before and after the engine does. Each blocks for as long as it computes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use alloy::primitives::keccak256;
use cipherloom_engine::{Engine, EngineError, NodeError, Outputs, Program};
use cipherloom_fhe::{Ciphertext, FheBackend, FheError};
use cipherloom_primitives::{B256, Computation, FheType, Handle, HandleOrigin, Operation};
use cipherloom_store::{AdmittedInput, Finished, OutputFailure, StoredCiphertext};

use crate::{graph::Plan, loading::Loaded};

/// The value of a handle, or why it has none.
type Value = Result<Ciphertext, String>;

/// A transaction that is compiled for its missing outputs.
pub(crate) struct Compiled {
    plan: Plan,
    /// What the engine is to do.
    pub(crate) program: Arc<Program>,
    /// What it needs from outside. Rules of the engine may have found that some operands make no difference.
    pub(crate) needed: BTreeSet<Handle>,
}

impl Compiled {
    /// Compiles what these outputs need.
    ///
    /// # Errors
    /// [`EngineError::TooManyComputations`].
    pub(crate) fn new(engine: &Engine, chain_id: u64, computations: &[Computation], missing: &[Handle]) -> Result<Self, EngineError> {
        let plan = Plan::new(chain_id, computations, missing)?;
        let compiled = engine.compile(&plan.graph);
        Ok(Self {
            plan,
            program: Arc::new(compiled.program),
            needed: compiled.graph.boundary().map(|(handle, _)| handle).collect(),
        })
    }

    /// Lists the operations the transaction asked for, as far as they are needed.
    pub(crate) fn operations(&self) -> Vec<(Operation, FheType)> {
        self.plan.operations()
    }
}

/// Reads, expands and writes ciphertexts under one key set.
#[derive(Clone)]
pub(crate) struct Ciphertexts {
    pub(crate) backend: Arc<dyn FheBackend>,
    pub(crate) key_set_id: B256,
}

/// The values that a transaction gets from outside.
#[derive(Default)]
pub(crate) struct Given {
    /// Those that there are.
    pub(crate) ciphertexts: HashMap<Handle, Ciphertext>,
    /// Why there are no others.
    pub(crate) reasons: BTreeMap<Handle, String>,
}

impl Given {
    fn add(&mut self, handle: Handle, value: Value) {
        match value {
            Ok(ciphertext) => {
                self.ciphertexts.insert(handle, ciphertext);
            }
            Err(reason) => {
                self.reasons.insert(handle, reason);
            }
        }
    }
}

impl Ciphertexts {
    /// Makes ciphertexts of what was loaded for a transaction.
    pub(crate) fn from_outside(&self, loaded: Loaded) -> Given {
        let mut given = Given::default();
        for (handle, stored) in loaded.boundary {
            given.add(handle, stored.and_then(|stored| self.read(&stored)));
        }
        self.expand(&loaded.inputs, &mut given);
        given
    }

    /// Reads a ciphertext that an earlier transaction published.
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

    /// Expands input lists, each once.
    fn expand(&self, inputs: &BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>, given: &mut Given) {
        let mut expanded = BTreeMap::<B256, Result<Vec<Ciphertext>, String>>::new();
        for (handle, list) in inputs {
            let value = list.as_ref().map_err(Clone::clone).and_then(|list| {
                let expanded = expanded
                    .entry(list.digest)
                    .or_insert_with(|| self.backend.expand_input(&list.list).map_err(|error| error.to_string()));
                value_of_list(*handle, expanded.as_ref().map_err(Clone::clone)?)
            });
            given.add(*handle, value);
        }
    }

    /// Makes what is published of an evaluation's results. `reasons` are those of values that could not be given to it.
    pub(crate) fn finished(&self, compiled: &Compiled, reasons: &BTreeMap<Handle, String>, outputs: &Outputs) -> Finished {
        let mut finished = Finished::default();
        for (handle, output) in outputs {
            let stored = match output {
                Ok(ciphertext) => self.stored_form(*handle, ciphertext).map_err(|error| error.to_string()),
                Err(error) => Err(reason_of(error, compiled, reasons)),
            };
            match stored {
                Ok(stored) => finished.ciphertexts.push(stored),
                Err(reason) => finished.failures.push(OutputFailure { handle: *handle, reason }),
            }
        }
        finished
    }

    /// Writes a ciphertext in the form in which it is kept and vouched for.
    pub(crate) fn stored_form(&self, handle: Handle, ciphertext: &Ciphertext) -> Result<StoredCiphertext, FheError> {
        let bytes = self.backend.serialize(ciphertext)?;
        Ok(StoredCiphertext::raw(handle, self.key_set_id, keccak256(&bytes), bytes))
    }
}

/// Says why an output has no value, as far back as we know.
fn reason_of(error: &NodeError, compiled: &Compiled, reasons: &BTreeMap<Handle, String>) -> String {
    if let NodeError::MissingInput(handle) = error
        && let Some(reason) = reasons.get(handle)
    {
        return reason.clone();
    }
    match compiled.plan.refusal(error) {
        Some(reason) => reason.to_owned(),
        None => error.to_string(),
    }
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
