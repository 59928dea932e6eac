//! A backend that counts what it is asked, and can stop or panic in the middle of it.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use cipherloom_fhe::{BackendKind, Ciphertext, FheBackend, FheError, VerifiedInput};
use cipherloom_primitives::{FheType, Operation, TypedOperation, input::InputMetadata};

/// The clear backend under observation.
pub(crate) struct ObservedBackend {
    inner: Arc<dyn FheBackend>,
    pub(crate) evaluations: AtomicUsize,
    pub(crate) verifications: AtomicUsize,
    /// Evaluations of this operation panic.
    panic_on: Option<Operation>,
    /// Calls from this one on wait until the gate opens.
    gate: Option<Gate>,
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
            evaluations: AtomicUsize::new(0),
            verifications: AtomicUsize::new(0),
            panic_on: None,
            gate: None,
        }
    }

    /// Panics when this operation is evaluated.
    pub(crate) fn panicking_on(inner: Arc<dyn FheBackend>, operation: Operation) -> Self {
        Self {
            panic_on: Some(operation),
            ..Self::new(inner)
        }
    }

    /// Lets `calls` evaluations or verifications pass and holds the following ones.
    pub(crate) fn gated_after(inner: Arc<dyn FheBackend>, calls: usize) -> Self {
        let gate = Gate {
            closed_from: calls,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            gate: Some(gate),
            ..Self::new(inner)
        }
    }

    pub(crate) fn open_gate(&self) {
        let gate = self.gate.as_ref().unwrap();
        gate.state.lock().unwrap().open = true;
        gate.changed.notify_all();
    }

    /// Blocks until a call is held at the gate.
    pub(crate) fn wait_until_held(&self) {
        let gate = self.gate.as_ref().unwrap();
        let state = gate.state.lock().unwrap();
        drop(gate.changed.wait_while(state, |state| state.waiting == 0).unwrap());
    }

    pub(crate) fn evaluations(&self) -> usize {
        self.evaluations.load(Ordering::SeqCst)
    }

    pub(crate) fn verifications(&self) -> usize {
        self.verifications.load(Ordering::SeqCst)
    }

    fn pass_gate(&self) {
        let Some(gate) = &self.gate else { return };
        let mut state = gate.state.lock().unwrap();
        state.calls += 1;
        if state.calls <= gate.closed_from {
            return;
        }
        state.waiting += 1;
        gate.changed.notify_all();
        drop(gate.changed.wait_while(state, |state| !state.open).unwrap());
    }
}

impl FheBackend for ObservedBackend {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        self.pass_gate();
        assert_ne!(Some(operation.operation()), self.panic_on, "the test asked for this panic");
        self.evaluations.fetch_add(1, Ordering::SeqCst);
        self.inner.evaluate(operation, inputs)
    }

    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
        self.pass_gate();
        self.verifications.fetch_add(1, Ordering::SeqCst);
        self.inner.verify_input(list, metadata)
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
}
