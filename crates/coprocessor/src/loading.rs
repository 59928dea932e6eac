//! Loading what a transaction needs before it is evaluated, so that no database connection waits for FHE.
//!
//! Two calls do for all ciphertexts: the first asks for everything but the bytes, of results and operands alike; the second fetches the bytes of
//! those operands that are not in memory. Each input list is fetched once, however many of its values are used.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use cipherloom_primitives::{Computation, Handle, HandleOrigin, input::input_handles};
use cipherloom_store::{AdmittedInput, CiphertextHead, HandleState, InputKey, Store, StoreError, StoredCiphertext};

use crate::{ciphertext_cache::CachedValue, evaluation::Ciphertexts};

/// What the store has of a transaction's results and operands, without bytes.
pub(crate) struct Heads {
    heads: HashMap<Handle, CiphertextHead>,
    /// The outputs that are not stored yet.
    pub(crate) missing: Vec<Handle>,
}

impl Heads {
    /// Asks for the heads of everything that a transaction publishes or may take in.
    pub(crate) async fn load(store: &dyn Store, computations: &[Computation], outputs: &[Handle]) -> Result<Self, StoreError> {
        let results: HashSet<Handle> = computations.iter().map(|computation| computation.result).collect();
        let operands = computations.iter().flat_map(|computation| &computation.inputs);
        let outside = operands.filter(|handle| handle.origin() == HandleOrigin::Computed && !results.contains(*handle));
        let asked: BTreeSet<Handle> = outside.chain(outputs).copied().collect();
        let asked: Vec<Handle> = asked.into_iter().collect();
        let mut heads = HashMap::with_capacity(asked.len());
        if !asked.is_empty() {
            let found = store.ciphertext_heads(&asked).await?;
            heads.extend(asked.into_iter().zip(found).filter_map(|(handle, head)| Some((handle, head?))));
        }
        let missing = outputs.iter().filter(|output| !heads.contains_key(*output)).copied().collect();
        Ok(Self { heads, missing })
    }
}

/// A value of an earlier transaction.
pub(crate) enum Boundary {
    /// As it was in memory.
    Held(Arc<CachedValue>),
    /// As it was stored.
    Stored(StoredCiphertext),
}

/// What the store and the cache have of a transaction's operands.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Values of earlier transactions, or why there is none.
    pub(crate) boundary: BTreeMap<Handle, Result<Boundary, String>>,
    /// The list of each input handle, or why there is none.
    pub(crate) inputs: BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>,
}

/// Loads values from outside, for a transaction of this block.
pub(crate) async fn load(
    store: &dyn Store,
    ciphertexts: &Ciphertexts,
    needed: &BTreeSet<Handle>,
    heads: &Heads,
    block: u64,
) -> Result<Loaded, StoreError> {
    let (computed, inputs): (Vec<Handle>, Vec<Handle>) = needed.iter().partition(|handle| handle.origin() == HandleOrigin::Computed);
    let mut loaded = Loaded {
        inputs: load_inputs(store, &inputs).await?,
        ..Loaded::default()
    };
    let mut absent = Vec::new();
    for handle in computed {
        let held = heads.heads.get(&handle).and_then(|head| ciphertexts.held(head, block));
        match held {
            Some(held) => {
                loaded.boundary.insert(handle, Ok(Boundary::Held(held)));
            }
            None => absent.push(handle),
        }
    }
    if absent.is_empty() {
        return Ok(loaded);
    }
    for (handle, stored) in absent.iter().zip(store.ciphertexts(&absent).await?) {
        let value = match stored {
            Some(stored) => Ok(Boundary::Stored(stored)),
            None => Err(why_absent(store, *handle).await?),
        };
        loaded.boundary.insert(*handle, value);
    }
    Ok(loaded)
}

async fn why_absent(store: &dyn Store, handle: Handle) -> Result<String, StoreError> {
    Ok(match store.handle_state(handle).await? {
        HandleState::Failed(reason) => reason,
        _ => format!("operand {handle} is unknown: no recorded transaction published it"),
    })
}

async fn load_inputs(store: &dyn Store, handles: &[Handle]) -> Result<BTreeMap<Handle, Result<Arc<AdmittedInput>, String>>, StoreError> {
    let mut loaded = BTreeMap::new();
    for handle in handles {
        if loaded.contains_key(handle) {
            continue;
        }
        let Some(list) = store.admitted_input(InputKey::Handle(*handle)).await? else {
            loaded.insert(*handle, Err(format!("input {handle} is not in any list this coprocessor admitted")));
            continue;
        };
        let list = Arc::new(list);
        loaded.insert(*handle, Ok(Arc::clone(&list)));
        // Values of one list are often used together; its bytes are fetched and kept once.
        if list.types.len() > 1 && handles.len() > loaded.len() {
            for other in handles_of(&list) {
                if handles.contains(&other) {
                    loaded.insert(other, Ok(Arc::clone(&list)));
                }
            }
        }
    }
    Ok(loaded)
}

fn handles_of(list: &AdmittedInput) -> Vec<Handle> {
    let AdmittedInput { metadata, types, list, .. } = list;
    input_handles(list, types, metadata.acl, metadata.chain_id).unwrap_or_default()
}
