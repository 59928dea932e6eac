//! Lists in memory. Those that were not asked for for the longest time make room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::{ListKey, SignedSquashed};

/// Lists by what decides their bytes.
pub(super) struct ListMemory {
    limit_bytes: usize,
    held: Mutex<Held>,
}

struct Held {
    /// Bounded by bytes, below, and not by their number.
    lists: LruCache<ListKey, Arc<SignedSquashed>>,
    bytes: usize,
}

impl ListMemory {
    /// Makes room for this many bytes; with 0 nothing is kept.
    pub(super) fn new(limit_bytes: usize) -> Self {
        let held = Held {
            lists: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            limit_bytes,
            held: Mutex::new(held),
        }
    }

    pub(super) fn get(&self, key: &ListKey) -> Option<Arc<SignedSquashed>> {
        self.lock().lists.get(key).map(Arc::clone)
    }

    pub(super) fn put(&self, key: ListKey, list: &Arc<SignedSquashed>) {
        if list.bytes.len() > self.limit_bytes {
            return;
        }
        let mut held = self.lock();
        if let Some(former) = held.lists.put(key, Arc::clone(list)) {
            held.bytes = held.bytes.saturating_sub(former.bytes.len());
        }
        held.bytes = held.bytes.saturating_add(list.bytes.len());
        while held.bytes > self.limit_bytes {
            let Some((_, oldest)) = held.lists.pop_lru() else { return };
            held.bytes = held.bytes.saturating_sub(oldest.bytes.len());
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::U256, signers::Signature};
    use cipherloom_engine::GroupId;
    use cipherloom_primitives::{B256, FheType, Handle};

    use super::*;

    fn key(tag: u8) -> ListKey {
        ListKey {
            group: GroupId::default(),
            handle: Handle::computed(B256::repeat_byte(tag), 1, FheType::Uint8),
            key_set_id: B256::repeat_byte(1),
            raw_digest: B256::repeat_byte(2),
            squashing_keys: B256::repeat_byte(3),
        }
    }

    fn list(tag: u8, bytes: usize) -> Arc<SignedSquashed> {
        Arc::new(SignedSquashed {
            handle: key(tag).handle,
            key_set_id: key(tag).key_set_id,
            bytes: vec![tag; bytes],
            digest: B256::repeat_byte(tag),
            signature: Signature::new(U256::from(1), U256::from(1), false),
        })
    }

    #[test]
    fn what_was_not_asked_for_for_the_longest_time_makes_room() {
        let memory = ListMemory::new(20);
        memory.put(key(1), &list(1, 10));
        memory.put(key(2), &list(2, 10));
        assert!(memory.get(&key(1)).is_some());
        memory.put(key(3), &list(3, 10));
        assert!(memory.get(&key(2)).is_none());
        assert!(memory.get(&key(1)).is_some() && memory.get(&key(3)).is_some());
        assert_eq!(memory.bytes(), 20);
        memory.put(key(3), &list(3, 10));
        assert_eq!(memory.bytes(), 20, "the same one counts once");
        memory.put(key(4), &list(4, 21));
        assert!(
            memory.get(&key(4)).is_none() && memory.get(&key(1)).is_some(),
            "what is larger than all is not kept"
        );
    }

    #[test]
    fn a_list_of_another_ciphertext_or_other_keys_is_not_served() {
        let memory = ListMemory::new(100);
        memory.put(key(1), &list(1, 10));
        let other = B256::repeat_byte(9);
        for wrong in [
            ListKey {
                raw_digest: other,
                ..key(1)
            },
            ListKey {
                key_set_id: other,
                ..key(1)
            },
            ListKey {
                squashing_keys: other,
                ..key(1)
            },
            ListKey {
                group: GroupId(7),
                ..key(1)
            },
        ] {
            assert!(memory.get(&wrong).is_none());
        }
    }
}
