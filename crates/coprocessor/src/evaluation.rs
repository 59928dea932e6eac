//! The steps of an evaluation that compute before and after the engine does. Each blocks for as long as it computes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use alloy::primitives::keccak256;
use cipherloom_engine::{Engine, EngineError, NodeError, Outputs, Program};
use cipherloom_fhe::{Ciphertext, FheBackend, FheError};
use cipherloom_primitives::{B256, CiphertextForm, Computation, FheType, Handle, HandleOrigin, HotWindow, Operation, RandomiserContext};
use cipherloom_store::{AdmittedInput, CiphertextHead, Finished, OutputFailure, StoredCiphertext};

use crate::{
    CoprocessorError,
    ciphertext_cache::{CacheKey, CachedValue, CiphertextCache, Source},
    graph::Plan,
    loading::{Boundary, Loaded},
};

/// The value of a handle, or why it has none.
type Value = Result<Ciphertext, String>;

/// A transaction that is compiled for its missing outputs.
pub(crate) struct Compiled {
    plan: Plan,
    /// What the engine is to do.
    pub(crate) program: Arc<Program>,
    /// How many of its bootstraps are for which operation, and the type that works on.
    pub(crate) bootstraps: BTreeMap<(Operation, FheType), u64>,
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
            bootstraps: compiled.bootstraps_by_operation(),
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
    pub(crate) cache: Arc<CiphertextCache>,
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

/// The results of an evaluation.
#[derive(Default)]
pub(crate) struct Results {
    /// What is published.
    pub(crate) finished: Finished,
    /// The same values, to be kept in memory once they are published.
    pub(crate) values: Vec<(CacheKey, Arc<CachedValue>)>,
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
        for (handle, boundary) in loaded.boundary {
            let value = match boundary {
                Ok(Boundary::Held(held)) => Ok(held),
                Ok(Boundary::Stored(stored)) => self.read(&stored, reader.block),
                Err(reason) => Err(reason),
            };
            given.add(handle, value.and_then(|value| self.randomised(handle, value, reader)));
        }
        for (handle, value) in self.expand(&loaded.inputs) {
            given.add(handle, value.and_then(|value| self.randomised(handle, value, reader)));
        }
        given
    }

    /// Finds a value in memory that is what would be read for a transaction of this block.
    pub(crate) fn held(&self, head: &CiphertextHead, block: u64) -> Option<Arc<CachedValue>> {
        if head.key_set_id != self.key_set_id {
            return None;
        }
        self.cache.get(&self.key(head, self.form_read(head.created_block, block)))
    }

    const fn key(&self, head: &CiphertextHead, read: CiphertextForm) -> CacheKey {
        CacheKey {
            key_set_id: self.key_set_id,
            ty: head.handle.fhe_type(),
            source: Source::Stored {
                digest: head.digest,
                form: head.form,
                read,
            },
        }
    }

    /// Says in which form a transaction of this block reads a value. One that no transaction published is read packed always.
    fn form_read(&self, created_block: Option<u64>, block: u64) -> CiphertextForm {
        created_block.map_or(CiphertextForm::Packed, |created| self.hot_window.form_read(created, block))
    }

    /// Reads a stored ciphertext in the form in which a transaction of this block reads it, whatever form is stored.
    fn read(&self, stored: &StoredCiphertext, block: u64) -> Result<Arc<CachedValue>, String> {
        if stored.key_set_id != self.key_set_id {
            return Err(format!(
                "{} is encrypted under key set {}, not {}",
                stored.handle, stored.key_set_id, self.key_set_id
            ));
        }
        let ty = stored.handle.fhe_type();
        let failed = |error: FheError| error.to_string();
        let read = self.form_read(stored.created_block, block);
        let (ciphertext, digest) = match (read, stored.form) {
            (CiphertextForm::Raw, CiphertextForm::Raw) => {
                let value = self.backend.deserialize(ty, &stored.bytes).map_err(failed)?;
                (value, stored.digest)
            }
            (CiphertextForm::Packed, CiphertextForm::Packed) => {
                let value = self.backend.unpack(ty, &stored.bytes).map_err(failed)?;
                (value, stored.digest)
            }
            (CiphertextForm::Packed, CiphertextForm::Raw) => {
                let raw = self.backend.deserialize(ty, &stored.bytes).map_err(failed)?;
                let packed = self.backend.pack(&raw).map_err(failed)?;
                let value = self.backend.unpack(ty, &packed).map_err(failed)?;
                (value, keccak256(&packed))
            }
            (CiphertextForm::Raw, CiphertextForm::Packed) => {
                return Err(format!(
                    "the raw form of {} was let go before block {block}: the chain reorganised by more blocks than the margin",
                    stored.handle
                ));
            }
        };
        let value = Arc::new(CachedValue { ciphertext, digest });
        self.cache.put(self.key(&stored.head(), read), Arc::clone(&value));
        Ok(value)
    }

    /// Expands the values that are used of each list, those that are not in memory.
    fn expand(&self, inputs: &BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>) -> Vec<(Handle, Result<Arc<CachedValue>, String>)> {
        let mut values = Vec::with_capacity(inputs.len());
        let mut by_list = BTreeMap::<B256, (&AdmittedInput, Vec<(Handle, u8)>)>::new();
        for (handle, list) in inputs {
            let placed = list.as_ref().map_err(Clone::clone);
            let (list, position) = match placed.and_then(|list| Ok((list, position(*handle, list)?))) {
                Ok(placed) => placed,
                Err(reason) => {
                    values.push((*handle, Err(reason)));
                    continue;
                }
            };
            if let Some(held) = self.cache.get(&self.input_key(*handle, list.digest, position)) {
                values.push((*handle, Ok(held)));
            } else {
                by_list.entry(list.digest).or_insert((list, Vec::new())).1.push((*handle, position));
            }
        }
        for (digest, (list, wanted)) in by_list {
            let positions: Vec<u8> = wanted.iter().map(|(_, position)| *position).collect();
            match self.backend.expand_values(&list.list, &positions) {
                Ok(expanded) => values.extend(wanted.into_iter().zip(expanded).map(|((handle, position), ciphertext)| {
                    let value = Arc::new(CachedValue { ciphertext, digest });
                    self.cache.put(self.input_key(handle, digest, position), Arc::clone(&value));
                    (handle, Ok(value))
                })),
                Err(error) => values.extend(wanted.into_iter().map(|(handle, _)| (handle, Err(error.to_string())))),
            }
        }
        values
    }

    const fn input_key(&self, handle: Handle, list: B256, position: u8) -> CacheKey {
        CacheKey {
            key_set_id: self.key_set_id,
            ty: handle.fhe_type(),
            source: Source::Input { list, position },
        }
    }

    /// Re-randomises a value for the transaction that reads it.
    fn randomised(&self, handle: Handle, read: Arc<CachedValue>, reader: Reader) -> Value {
        let context = RandomiserContext {
            key_set_id: self.key_set_id,
            chain_id: self.chain_id,
            transaction: reader.transaction,
        };
        let digest = read.digest;
        // What is kept in memory stays as it is.
        let mut value = Arc::try_unwrap(read).map_or_else(|kept| kept.ciphertext.clone(), |own| own.ciphertext);
        self.backend
            .rerandomise(&mut value, &context.seed(handle, digest))
            .map_err(|error| error.to_string())?;
        Ok(value)
    }

    /// Makes what is published of an evaluation's results. `reasons` are those of values that could not be given to it.
    pub(crate) fn finished(&self, compiled: &Compiled, reasons: &BTreeMap<Handle, String>, outputs: Outputs) -> Results {
        let mut results = Results::default();
        for (handle, output) in outputs {
            let written = match output {
                Ok(ciphertext) => match self.raw(handle, &ciphertext) {
                    Ok(stored) => Ok((stored, ciphertext)),
                    Err(error) => Err(error.to_string()),
                },
                Err(error) => Err(reason_of(&error, compiled, reasons)),
            };
            match written {
                Ok((stored, ciphertext)) => {
                    if self.cache.is_on() {
                        let key = self.key(&stored.head(), CiphertextForm::Raw);
                        let digest = stored.digest;
                        results.values.push((key, Arc::new(CachedValue { ciphertext, digest })));
                    }
                    results.finished.ciphertexts.push(stored);
                }
                Err(reason) => results.finished.failures.push(OutputFailure { handle, reason }),
            }
        }
        results
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
