//! Loading what a transaction needs before it is evaluated, so that no database connection waits for FHE.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cipherloom_primitives::{B256, Handle, HandleOrigin};
use cipherloom_store::{AdmittedInput, HandleState, InputKey, Store, StoreError, StoredCiphertext};

/// What the store knows about a transaction's surroundings.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Ciphertexts of earlier transactions, or why there is none.
    pub(crate) boundary: BTreeMap<Handle, Result<StoredCiphertext, String>>,
    /// The list of each input handle, or why there is none.
    pub(crate) inputs: BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>,
}

/// Finds which outputs of a transaction are not stored yet.
pub(crate) async fn missing_outputs(store: &dyn Store, outputs: &[Handle]) -> Result<Vec<Handle>, StoreError> {
    let mut missing = Vec::new();
    for handle in outputs {
        if store.handle_state(*handle).await? != HandleState::Stored {
            missing.push(*handle);
        }
    }
    Ok(missing)
}

/// Loads values from outside.
pub(crate) async fn load(store: &dyn Store, handles: &BTreeSet<Handle>) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    // Values of one list are often used together; its bytes are kept once.
    let mut lists = BTreeMap::<B256, Arc<AdmittedInput>>::new();
    for handle in handles {
        match handle.origin() {
            HandleOrigin::Computed => {
                loaded.boundary.insert(*handle, load_boundary(store, *handle).await?);
            }
            HandleOrigin::Input(_) => {
                let list = store.admitted_input(InputKey::Handle(*handle)).await?;
                let list = list
                    .map(|list| Arc::clone(lists.entry(list.digest).or_insert_with(|| Arc::new(list))))
                    .ok_or_else(|| format!("input {handle} is not in any list this coprocessor admitted"));
                loaded.inputs.insert(*handle, list);
            }
        }
    }
    Ok(loaded)
}

async fn load_boundary(store: &dyn Store, handle: Handle) -> Result<Result<StoredCiphertext, String>, StoreError> {
    if let Some(stored) = store.ciphertext(handle).await? {
        return Ok(Ok(stored));
    }
    Ok(Err(match store.handle_state(handle).await? {
        HandleState::Failed(reason) => reason,
        _ => format!("operand {handle} is unknown: no followed transaction published it"),
    }))
}
