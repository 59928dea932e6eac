//! The steps of an evaluation that compute before and after the engine does. Each blocks for as long as it computes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use alloy::primitives::keccak256;
use cipherloom_engine::{Engine, EngineError, NodeError, Outputs, Program};
use cipherloom_fhe::{Ciphertext, FheBackend, FheError};
use cipherloom_primitives::{B256, CiphertextForm, Computation, FheType, Handle, HandleOrigin, HotWindow, Operation, RandomiserContext};
use cipherloom_store::{AdmittedInput, Finished, OutputFailure, StoredCiphertext};

use crate::{CoprocessorError, graph::Plan, loading::Loaded};

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
    pub(crate) chain_id: u64,
    pub(crate) hot_window: HotWindow,
}

/// Which transaction values are taken in for.
#[derive(Clone, Copy)]
pub(crate) struct Reader {
    pub(crate) transaction: B256,
    pub(crate) block: u64,
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
    /// Makes ciphertexts of what was loaded for a transaction, each re-randomised for it.
    pub(crate) fn take_in(&self, loaded: Loaded, reader: Reader) -> Given {
        let mut given = Given::default();
        for (handle, stored) in loaded.boundary {
            let read = stored.and_then(|stored| self.read(&stored, reader.block));
            given.add(
                handle,
                read.and_then(|(value, digest)| self.randomised(handle, value, digest, reader)),
            );
        }
        for (handle, value, list) in self.expand(&loaded.inputs) {
            given.add(handle, value.and_then(|value| self.randomised(handle, value, list, reader)));
        }
        given
    }

    /// Reads a ciphertext that an earlier transaction published, in the form in which a transaction of this block reads it, whatever form is
    /// stored. Returns the digest of that form too.
    fn read(&self, stored: &StoredCiphertext, block: u64) -> Result<(Ciphertext, B256), String> {
        if stored.key_set_id != self.key_set_id {
            return Err(format!(
                "{} is encrypted under key set {}, not {}",
                stored.handle, stored.key_set_id, self.key_set_id
            ));
        }
        let Some(created) = stored.created_block else {
            return Err(format!("{} was not published by a transaction", stored.handle));
        };
        let ty = stored.handle.fhe_type();
        let failed = |error: FheError| error.to_string();
        match (self.hot_window.form_read(created, block), stored.form) {
            (CiphertextForm::Raw, CiphertextForm::Raw) => {
                let value = self.backend.deserialize(ty, &stored.bytes).map_err(failed)?;
                Ok((value, stored.digest))
            }
            (CiphertextForm::Packed, CiphertextForm::Packed) => {
                let value = self.backend.unpack(ty, &stored.bytes).map_err(failed)?;
                Ok((value, stored.digest))
            }
            (CiphertextForm::Packed, CiphertextForm::Raw) => {
                let raw = self.backend.deserialize(ty, &stored.bytes).map_err(failed)?;
                let packed = self.backend.pack(&raw).map_err(failed)?;
                let value = self.backend.unpack(ty, &packed).map_err(failed)?;
                Ok((value, keccak256(&packed)))
            }
            (CiphertextForm::Raw, CiphertextForm::Packed) => Err(format!(
                "the raw form of {} was let go before block {block}: the chain reorganised by more blocks than the margin",
                stored.handle
            )),
        }
    }

    /// Expands the values that are used of each list.
    fn expand(&self, inputs: &BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>) -> Vec<(Handle, Value, B256)> {
        let mut values = Vec::with_capacity(inputs.len());
        let mut by_list = BTreeMap::<B256, (&AdmittedInput, Vec<(Handle, u8)>)>::new();
        for (handle, list) in inputs {
            match list
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|list| Ok((list, position(*handle, list)?)))
            {
                Ok((list, position)) => by_list.entry(list.digest).or_insert((list, Vec::new())).1.push((*handle, position)),
                Err(reason) => values.push((*handle, Err(reason), B256::ZERO)),
            }
        }
        for (digest, (list, wanted)) in by_list {
            let positions: Vec<u8> = wanted.iter().map(|(_, position)| *position).collect();
            match self.backend.expand_values(&list.list, &positions) {
                Ok(expanded) => {
                    let expanded = wanted.into_iter().zip(expanded);
                    values.extend(expanded.map(|((handle, _), value)| (handle, Ok(value), digest)));
                }
                Err(error) => values.extend(wanted.into_iter().map(|(handle, _)| (handle, Err(error.to_string()), digest))),
            }
        }
        values
    }

    /// Re-randomises a value for the transaction that reads it. `digest` is that of what was read.
    fn randomised(&self, handle: Handle, mut value: Ciphertext, digest: B256, reader: Reader) -> Value {
        let context = RandomiserContext {
            key_set_id: self.key_set_id,
            chain_id: self.chain_id,
            transaction: reader.transaction,
        };
        self.backend
            .rerandomise(&mut value, &context.seed(handle, digest))
            .map_err(|error| error.to_string())?;
        Ok(value)
    }

    /// Makes what is published of an evaluation's results. `reasons` are those of values that could not be given to it.
    pub(crate) fn finished(&self, compiled: &Compiled, reasons: &BTreeMap<Handle, String>, outputs: &Outputs) -> Finished {
        let mut finished = Finished::default();
        for (handle, output) in outputs {
            let stored = match output {
                Ok(ciphertext) => self.raw(*handle, ciphertext).map_err(|error| error.to_string()),
                Err(error) => Err(reason_of(error, compiled, reasons)),
            };
            match stored {
                Ok(stored) => finished.ciphertexts.push(stored),
                Err(reason) => finished.failures.push(OutputFailure { handle: *handle, reason }),
            }
        }
        finished
    }

    /// Writes a ciphertext in raw form, in which results are published.
    fn raw(&self, handle: Handle, ciphertext: &Ciphertext) -> Result<StoredCiphertext, FheError> {
        let bytes = self.backend.serialize(ciphertext)?;
        Ok(StoredCiphertext::raw(handle, self.key_set_id, keccak256(&bytes), bytes))
    }

    /// Brings a stored ciphertext to packed form, in which it is vouched for, if it is not in it.
    pub(crate) fn packed(&self, stored: StoredCiphertext) -> Result<StoredCiphertext, FheError> {
        if stored.form == CiphertextForm::Packed {
            return Ok(stored);
        }
        let value = self.backend.deserialize(stored.handle.fhe_type(), &stored.bytes)?;
        let bytes = self.backend.pack(&value)?;
        Ok(stored.packed(keccak256(&bytes), bytes))
    }

    /// Expands an input and writes it in packed form.
    pub(crate) fn packed_input(&self, handle: Handle, list: &AdmittedInput) -> Result<StoredCiphertext, CoprocessorError> {
        let position = position(handle, list).map_err(|reason| CoprocessorError::Failed { handle, reason })?;
        let failed = |source| CoprocessorError::Ciphertext { handle, source };
        let values = self.backend.expand_values(&list.list, &[position]).map_err(failed)?;
        let value = values.first().ok_or_else(|| CoprocessorError::Failed {
            handle,
            reason: "its list could not be expanded".to_owned(),
        })?;
        self.packed(self.raw(handle, value).map_err(failed)?).map_err(failed)
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

/// Finds where in its list the value of an input handle is.
fn position(handle: Handle, list: &AdmittedInput) -> Result<u8, String> {
    let HandleOrigin::Input(position) = handle.origin() else {
        return Err(format!("{handle} is not an input"));
    };
    match list.types.get(usize::from(position)) {
        Some(ty) if *ty == handle.fhe_type() => Ok(position),
        Some(ty) => Err(format!("input {handle} is a {ty} in its list")),
        None => Err(format!("input {handle} is beyond the end of its list of {}", list.types.len())),
    }
}
