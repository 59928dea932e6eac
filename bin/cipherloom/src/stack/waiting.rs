//! How far computations of this process are, for clients that wait for them.

use std::sync::Arc;

use cipherloom_coprocessor::{Coprocessor, HandleStatus};
use cipherloom_gateway::{ComputationProgress, Progress};
use cipherloom_primitives::Handle;
use cipherloom_store::Store;
use futures_util::future::BoxFuture;

/// How many handles are looked at one by one; a request that names more is told about these.
const LOOKED_AT: usize = 64;

/// What the coprocessor of this process knows.
pub(super) struct ComputedHere {
    /// The coprocessor.
    pub(super) coprocessor: Coprocessor,
    /// Its store.
    pub(super) store: Arc<dyn Store>,
    /// Its chain.
    pub(super) chain_id: u64,
}

impl ComputationProgress for ComputedHere {
    fn progress(&self, handles: Arc<[Handle]>) -> BoxFuture<'static, Option<Progress>> {
        let (coprocessor, store, chain_id) = (self.coprocessor.clone(), Arc::clone(&self.store), self.chain_id);
        Box::pin(async move {
            let mut pending_handles = 0;
            for handle in handles.iter().take(LOOKED_AT) {
                let status = coprocessor.handle_status(*handle).await.ok()?;
                if matches!(status, HandleStatus::Pending | HandleStatus::Unknown) {
                    pending_handles += 1;
                }
            }
            Some(Progress {
                pending_handles,
                pending_computations: store.pending_transactions(chain_id).await.ok(),
            })
        })
    }
}
