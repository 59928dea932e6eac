//! Parts of keys that this process holds, shared by digest.
//!
//! The cache keeps nothing alive: it hands out again what somebody still holds. So the memory of a process is that of the key sets it uses,
//! whatever the number of tenants.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use cipherloom_primitives::B256;
use tokio::sync::Mutex;

use crate::StoreError;

/// Parts by digest.
#[derive(Default)]
pub(crate) struct KeyPartCache {
    /// Locked while a part is read, so that callers who ask for the same one at the same time read it once. Parts are read at start-up
    /// and when keys change; nobody else waits here.
    parts: Mutex<HashMap<B256, Weak<[u8]>>>,
}

impl KeyPartCache {
    /// Returns a part that is held, or reads it.
    pub(crate) async fn get_or_read(
        &self,
        digest: B256,
        read: impl Future<Output = Result<Option<Vec<u8>>, StoreError>>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        let mut parts = self.parts.lock().await;
        if let Some(part) = parts.get(&digest).and_then(Weak::upgrade) {
            return Ok(Some(part));
        }
        let Some(bytes) = read.await? else {
            return Ok(None);
        };
        let part: Arc<[u8]> = bytes.into();
        parts.retain(|_, held| held.strong_count() > 0);
        parts.insert(digest, Arc::downgrade(&part));
        Ok(Some(part))
    }
}
