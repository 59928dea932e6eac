//! What became of a block's input checks, kept so that nobody has to repeat them.
//!
//! To check the proof of an input takes long. A node that executes a block notes what the checks said and keeps it with the block; whoever executes
//! the block again (after a restart, or catching up from a peer) is told. That needs no trust: an untrue answer leads to another state or other
//! receipts than the header's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy::primitives::{B256, Keccak256, keccak256};
use cipherloom_primitives::FheType;
use cipherloom_primitives::input::InputMetadata;

use super::work::{CheckInputs, InputRefused};

/// By key of the check: the types of the list's values, or nothing if it was refused.
pub(crate) type Verdicts = BTreeMap<B256, Option<Vec<FheType>>>;

/// Answers what is known, asks for the rest, and notes everything.
pub(crate) struct NotedChecks {
    inner: Arc<dyn CheckInputs>,
    known: Verdicts,
    noted: Mutex<Verdicts>,
}

impl NotedChecks {
    pub(crate) fn new(inner: Arc<dyn CheckInputs>, known: Verdicts) -> Self {
        Self {
            inner,
            known,
            noted: Mutex::default(),
        }
    }

    /// What was asked so far.
    pub(crate) fn noted(&self) -> Verdicts {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CheckInputs for NotedChecks {
    fn check(&self, list: &[u8], context: &InputMetadata) -> Result<Vec<FheType>, InputRefused> {
        let key = key(list, context);
        let verdict = match self.known.get(&key) {
            Some(Some(types)) => Ok(types.clone()),
            Some(None) => Err(InputRefused::new("it was refused before")),
            None => self.inner.check(list, context),
        };
        let noted = verdict.as_ref().ok().cloned();
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(key, noted);
        verdict
    }

    fn types(&self, list: &[u8]) -> Result<Vec<FheType>, InputRefused> {
        self.inner.types(list)
    }
}

/// What tells checks apart: the list and what its proof is bound to.
fn key(list: &[u8], context: &InputMetadata) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(keccak256(list));
    hasher.update(context.to_bytes());
    hasher.finalize()
}
