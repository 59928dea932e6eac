//! A backend that counts what it is asked, and can stop or panic in the middle of it.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use cipherloom_fhe::{BackendKind, Block, BlockBackend, BootstrapJob, Ciphertext, EvaluationKeys, FheBackend, FheError, VerifiedInput};
use cipherloom_primitives::{B256, FheType, Operation, TypedOperation, input::InputMetadata};

/// The clear backend under observation.
pub(crate) struct ObservedBackend {
    inner: Arc<dyn FheBackend>,
    bootstraps: AtomicUsize,
    verifications: AtomicUsize,
    /// Values of lists that were expanded.
    pub(crate) expanded: AtomicUsize,
    pub(crate) unpacked: AtomicUsize,
    /// Evaluations of this operation panic. It must be one without kernel, since the engine asks for no other.
    panic_on: Option<Operation>,
    /// Bootstraps, and verifications, from this one on wait until the gate opens.
    gate: Option<Gate>,
    /// The same for values that are unpacked.
    unpacking_gate: Option<Gate>,
}

struct Gate {
    closed_from: usize,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    calls: usize,
    waiting: usize,
    open: bool,
}

impl ObservedBackend {
    pub(crate) fn new(inner: Arc<dyn FheBackend>) -> Self {
        Self {
            inner,
            bootstraps: AtomicUsize::new(0),
            verifications: AtomicUsize::new(0),
            expanded: AtomicUsize::new(0),
            unpacked: AtomicUsize::new(0),
            panic_on: None,
            gate: None,
            unpacking_gate: None,
        }
    }

    /// Panics when this operation is evaluated.
    pub(crate) fn panicking_on(inner: Arc<dyn FheBackend>, operation: Operation) -> Self {
        Self {
            panic_on: Some(operation),
            ..Self::new(inner)
        }
    }

    /// Lets `calls` bootstraps or verifications pass and holds the following ones.
    pub(crate) fn gated_after(inner: Arc<dyn FheBackend>, calls: usize) -> Self {
        Self {
            gate: Some(Gate::closed_after(calls)),
            ..Self::new(inner)
        }
    }

    /// Lets `values` values be unpacked and holds the following ones.
    pub(crate) fn unpacking_only(inner: Arc<dyn FheBackend>, values: usize) -> Self {
        Self {
            unpacking_gate: Some(Gate::closed_after(values)),
            ..Self::new(inner)
        }
    }

    fn a_gate(&self) -> &Gate {
        self.gate.as_ref().or(self.unpacking_gate.as_ref()).unwrap()
    }

    pub(crate) fn open_gate(&self) {
        let gate = self.a_gate();
        gate.state.lock().unwrap().open = true;
        gate.changed.notify_all();
    }

    /// Blocks until a call is held at the gate.
    pub(crate) fn wait_until_held(&self) {
        let gate = self.a_gate();
        let state = gate.state.lock().unwrap();
        drop(gate.changed.wait_while(state, |state| state.waiting == 0).unwrap());
    }

    /// Counts the bootstraps that were done.
    pub(crate) fn bootstraps(&self) -> usize {
        self.bootstraps.load(Ordering::SeqCst)
    }

    pub(crate) fn verifications(&self) -> usize {
        self.verifications.load(Ordering::SeqCst)
    }

    fn pass_gate(&self) {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
    }
}

impl Gate {
    fn closed_after(calls: usize) -> Self {
        Self {
            closed_from: calls,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if state.calls <= self.closed_from {
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }
}

impl FheBackend for ObservedBackend {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        assert_ne!(Some(operation.operation()), self.panic_on, "the test asked for this panic");
        self.inner.evaluate(operation, inputs)
    }

    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
        self.pass_gate();
        self.verifications.fetch_add(1, Ordering::SeqCst);
        self.inner.verify_input(list, metadata)
    }

    fn list_types(&self, list: &[u8]) -> Result<Vec<FheType>, FheError> {
        self.inner.list_types(list)
    }

    fn expand_values(&self, list: &[u8], positions: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.expanded.fetch_add(positions.len(), Ordering::SeqCst);
        self.inner.expand_values(list, positions)
    }

    fn expand_input(&self, list: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        self.inner.expand_input(list)
    }

    fn serialize(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.inner.serialize(ciphertext)
    }

    fn deserialize(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        self.inner.deserialize(ty, bytes)
    }

    fn pack(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        self.inner.pack(ciphertext)
    }

    fn unpack(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        if let Some(gate) = &self.unpacking_gate {
            gate.pass();
        }
        self.unpacked.fetch_add(1, Ordering::SeqCst);
        self.inner.unpack(ty, bytes)
    }

    fn rerandomise(&self, ciphertext: &mut Ciphertext, seed: &B256) -> Result<(), FheError> {
        self.inner.rerandomise(ciphertext, seed)
    }

    fn blocks(&self) -> Option<&dyn BlockBackend> {
        Some(self)
    }

    fn evaluation_keys(&self) -> Option<&Arc<EvaluationKeys>> {
        self.inner.evaluation_keys()
    }
}

impl ObservedBackend {
    fn inner_blocks(&self) -> &dyn BlockBackend {
        self.inner.blocks().unwrap()
    }
}

impl BlockBackend for ObservedBackend {
    fn linear(&self, terms: &[(i8, &Block)], constant: u8) -> Result<Block, FheError> {
        self.inner_blocks().linear(terms, constant)
    }

    fn linear_within(&self, terms: &[(i8, &Block)], constant: u8, max: u8) -> Result<Block, FheError> {
        self.inner_blocks().linear_within(terms, constant, max)
    }

    fn bootstrap_batch(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        self.bootstrap_here(jobs)
    }

    fn bootstrap_here(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        for _ in jobs {
            self.pass_gate();
            self.bootstraps.fetch_add(1, Ordering::SeqCst);
        }
        self.inner_blocks().bootstrap_here(jobs)
    }

    fn preferred_batch(&self) -> usize {
        self.inner_blocks().preferred_batch()
    }

    fn bootstraps(&self) -> u64 {
        self.inner_blocks().bootstraps()
    }

    fn split(&self, ciphertext: &Ciphertext) -> Result<Vec<Block>, FheError> {
        self.inner_blocks().split(ciphertext)
    }

    fn join(&self, ty: FheType, blocks: Vec<Block>) -> Result<Ciphertext, FheError> {
        self.inner_blocks().join(ty, blocks)
    }
}
