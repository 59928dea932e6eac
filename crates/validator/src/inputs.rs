//! The proofs of encrypted inputs, checked by every validator for itself.
//!
//! A proof takes tens of milliseconds on production parameters, and the same transaction is looked at several times: when it comes into the pool, when a
//! block with it is made or checked, and again in a later round. Verdicts are a pure function of list and context, so that they are remembered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use alloy::primitives::{B256, Keccak256};
use cipherloom_fhe::FheBackend;
use cipherloom_node::native::{CheckInputs, InputRefused};
use cipherloom_primitives::{FheType, input::InputMetadata};

/// How many verdicts are remembered at least: those of some blocks full of inputs.
const REMEMBERED: usize = 4096;

/// A verdict that is known, or being found. Whoever wants it meanwhile waits for it.
type Verdict = Arc<OnceLock<Result<Vec<FheType>, String>>>;

/// Checks the proofs of input lists under one key set.
pub struct ProofChecks {
    backend: Arc<dyn FheBackend>,
    verdicts: Mutex<Verdicts>,
}

/// Two generations of verdicts: when the younger one is full, the older one is forgotten. What is asked for becomes young again.
#[derive(Default)]
struct Verdicts {
    young: HashMap<B256, Verdict>,
    old: HashMap<B256, Verdict>,
}

impl ProofChecks {
    /// Checks with the key set of a backend.
    #[must_use]
    pub fn new(backend: Arc<dyn FheBackend>) -> Self {
        Self {
            backend,
            verdicts: Mutex::default(),
        }
    }

    fn verdict(&self, key: B256) -> Verdict {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.of(key)
    }
}

impl Verdicts {
    fn of(&mut self, key: B256) -> Verdict {
        if let Some(verdict) = self.young.get(&key) {
            return Arc::clone(verdict);
        }
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        let verdict = self.old.remove(&key).unwrap_or_default();
        self.young.insert(key, Arc::clone(&verdict));
        verdict
    }
}

/// Names a list together with what its proof is bound to. The latter has a fixed length and comes first.
fn key(list: &[u8], context: &InputMetadata) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(context.to_bytes());
    hasher.update(list);
    hasher.finalize()
}

impl CheckInputs for ProofChecks {
    fn check(&self, list: &[u8], context: &InputMetadata) -> Result<Vec<FheType>, InputRefused> {
        let verdict = self.verdict(key(list, context));
        let found = verdict.get_or_init(|| {
            let verified = self.backend.verify_input(list, context);
            verified.map(|verified| verified.types).map_err(|error| error.to_string())
        });
        found.clone().map_err(InputRefused::new)
    }

    fn types(&self, list: &[u8]) -> Result<Vec<FheType>, InputRefused> {
        self.backend.list_types(list).map_err(|error| InputRefused::new(error.to_string()))
    }
}

impl std::fmt::Debug for ProofChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProofChecks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_that_nobody_asks_for_are_forgotten_and_others_stay() {
        let mut verdicts = Verdicts::default();
        let key = |number: usize| B256::from(alloy::primitives::U256::from(number));
        let known = verdicts.of(key(0));
        known.set(Err("no".to_owned())).unwrap();
        for number in 1..10 * REMEMBERED {
            verdicts.of(key(number));
            assert!(verdicts.of(key(0)).get().is_some(), "{number}");
            assert!(verdicts.young.len() + verdicts.old.len() <= 2 * REMEMBERED);
        }
        for number in 1..=2 * REMEMBERED {
            verdicts.of(key(number));
        }
        assert!(verdicts.of(key(0)).get().is_none());
    }
}
