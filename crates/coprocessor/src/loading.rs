//! Loading what a transaction needs before it is evaluated, so that no database connection waits for FHE.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cipherloom_primitives::Handle;
use cipherloom_store::{AdmittedInput, HandleState, InputKey, LeasedTransaction, Store, StoreError, StoredCiphertext};

use crate::graph::Plan;

/// What the store knows about a transaction's surroundings.
pub(crate) struct Loaded {
    /// The outputs that are not stored yet.
    pub(crate) missing: Vec<Handle>,
    /// Ciphertexts of earlier transactions, or why there is none.
    pub(crate) boundary: BTreeMap<Handle, Result<StoredCiphertext, String>>,
    /// The list of each input handle, or why there is none.
    pub(crate) inputs: BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>,
}

/// Loads what the outputs that are not stored yet need.
pub(crate) async fn load(store: &dyn Store, transaction: &LeasedTransaction) -> Result<Loaded, StoreError> {
    let mut missing = Vec::new();
    for handle in &transaction.outputs {
        if store.handle_state(*handle).await? != HandleState::Stored {
            missing.push(*handle);
        }
    }
    let plan = Plan::new(&transaction.computations, &missing);
    let mut boundary = BTreeMap::new();
    for handle in &plan.boundary {
        boundary.insert(*handle, load_boundary(store, *handle).await?);
    }
    let inputs = load_inputs(store, &plan.inputs).await?;
    Ok(Loaded { missing, boundary, inputs })
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

async fn load_inputs(
    store: &dyn Store,
    handles: &BTreeSet<Handle>,
) -> Result<BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>, StoreError> {
    // Values of one list are often used together; its bytes are kept once.
    let mut lists = BTreeMap::<cipherloom_primitives::B256, Arc<AdmittedInput>>::new();
    let mut inputs = BTreeMap::new();
    for handle in handles {
        let list = store.admitted_input(InputKey::Handle(*handle)).await?;
        let list = list
            .map(|list| Arc::clone(lists.entry(list.digest).or_insert_with(|| Arc::new(list))))
            .ok_or_else(|| format!("input {handle} is not in any list this coprocessor admitted"));
        inputs.insert(*handle, list);
    }
    Ok(inputs)
}
