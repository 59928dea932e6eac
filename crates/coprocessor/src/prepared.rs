//! Ciphertexts in the form in which they are handed out, ready before somebody asks.
//!
//! A value is stored raw while it is likely to be computed with, and handed out packed, which takes as long as some bootstraps. What a contract makes
//! public will be asked for within moments; so it is packed when the chain says so, or as soon as it is computed. What accounts were granted may be asked for;
//! it is packed, one value after the other, while nothing is to be computed. None of it is in vain: what is packed here need not be when it cools.
//!
//! **What is served is what the store has.** A ciphertext is found by the digest of the stored bytes that it was packed from, which the store is asked for
//! each time: after a reorganisation or under other keys there is another digest.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cipherloom_chain::{FollowUpdate, GrantEvent};
use cipherloom_primitives::{B256, Handle};
use cipherloom_store::{CiphertextHead, StoredCiphertext};
use lru::LruCache;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{Coprocessor, HandleStatus};

/// The most bytes of packed ciphertexts kept; one of 64 bits has about 3 KB.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// How many values may wait to be prepared; more are packed when they are asked for.
const MAX_WAITING: usize = 4096;

/// How many values are waited for at once.
const CONCURRENT_WAITS: usize = 8;

/// How often it is looked whether there is nothing to compute.
const IDLE_CHECK: std::time::Duration = std::time::Duration::from_millis(50);

/// How long a value is waited for. What takes longer is packed when it is asked for.
const WAIT: std::time::Duration = std::time::Duration::from_secs(600);

/// Packed ciphertexts in memory. What was not asked for for the longest time makes room.
pub(crate) struct Prepared {
    kept: Mutex<Kept>,
}

struct Kept {
    ciphertexts: LruCache<Key, StoredCiphertext>,
    bytes: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    handle: Handle,
    key_set_id: B256,
    stored_digest: B256,
}

impl Key {
    const fn of_stored(stored: &StoredCiphertext) -> Self {
        Self {
            handle: stored.handle,
            key_set_id: stored.key_set_id,
            stored_digest: stored.digest,
        }
    }

    const fn of(head: &CiphertextHead) -> Self {
        Self {
            handle: head.handle,
            key_set_id: head.key_set_id,
            stored_digest: head.digest,
        }
    }
}

impl Prepared {
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::new(Kept {
                ciphertexts: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    /// Returns the packed form of what the store has.
    pub(crate) fn get(&self, head: &CiphertextHead) -> Option<StoredCiphertext> {
        self.lock().ciphertexts.get(&Key::of(head)).cloned()
    }

    /// Returns the packed form of what was read from the store.
    pub(crate) fn of(&self, stored: &StoredCiphertext) -> Option<StoredCiphertext> {
        self.lock().ciphertexts.get(&Key::of_stored(stored)).cloned()
    }

    /// Keeps the packed form of what the store has.
    pub(crate) fn put(&self, head: &CiphertextHead, packed: &StoredCiphertext) {
        if packed.bytes.len() > MAX_KEPT_BYTES {
            return;
        }
        let mut kept = self.lock();
        if let Some(old) = kept.ciphertexts.put(Key::of(head), packed.clone()) {
            kept.bytes = kept.bytes.saturating_sub(old.bytes.len());
        }
        kept.bytes = kept.bytes.saturating_add(packed.bytes.len());
        while kept.bytes > MAX_KEPT_BYTES {
            let Some((_, oldest)) = kept.ciphertexts.pop_lru() else { return };
            kept.bytes = kept.bytes.saturating_sub(oldest.bytes.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where values are announced that may soon be asked for. What does not fit is prepared when it is asked for.
pub(crate) struct Announcements {
    public: mpsc::Sender<Handle>,
    granted: mpsc::Sender<Handle>,
}

/// Where they arrive.
pub(crate) struct Announced {
    public: mpsc::Receiver<Handle>,
    granted: mpsc::Receiver<Handle>,
}

/// Connects those who follow the chain with those who prepare.
pub(crate) fn announcements() -> (Announcements, Announced) {
    let (public, public_announced) = mpsc::channel(MAX_WAITING);
    let (granted, granted_announced) = mpsc::channel(MAX_WAITING);
    let announced = Announced {
        public: public_announced,
        granted: granted_announced,
    };
    (Announcements { public, granted }, announced)
}

impl Announcements {
    /// Announces the values that new blocks give rights to.
    pub(crate) fn announce(&self, update: &FollowUpdate) {
        let FollowUpdate::Blocks(blocks) = update else { return };
        for transaction in blocks.iter().flat_map(|block| &block.transactions) {
            let mut granted = BTreeSet::new();
            for grant in &transaction.grants {
                // A channel that is full, or whose end is gone, costs only time later.
                match grant {
                    GrantEvent::PublicDecryption { handle } => {
                        let _ = self.public.try_send(*handle);
                    }
                    GrantEvent::Account { handle, .. } => {
                        granted.insert(*handle);
                    }
                }
            }
            for handle in granted {
                let _ = self.granted.try_send(handle);
            }
        }
    }
}

impl Coprocessor {
    /// Prepares announced values as they come, until nobody announces any.
    pub(crate) async fn prepare(&self, announced: Announced) {
        let Announced { mut public, mut granted } = announced;
        let prepare_public = async {
            let mut waiting = JoinSet::new();
            while let Some(handle) = public.recv().await {
                if waiting.len() >= CONCURRENT_WAITS {
                    waiting.join_next().await;
                }
                let coprocessor = self.clone();
                waiting.spawn(async move {
                    coprocessor.prepare_one(handle).await;
                    coprocessor.squash_public(handle).await;
                });
            }
            while waiting.join_next().await.is_some() {}
        };
        let prepare_granted = async {
            while let Some(handle) = granted.recv().await {
                while self.engine_statistics().programs > 0 {
                    tokio::time::sleep(IDLE_CHECK).await;
                }
                self.prepare_one(handle).await;
            }
        };
        tokio::join!(prepare_public, prepare_granted);
    }

    async fn prepare_one(&self, handle: Handle) {
        match self.wait_for(handle, WAIT).await {
            Ok(HandleStatus::Computed) => {}
            // Whoever asks for it is told why there is none.
            Ok(_) | Err(_) => return,
        }
        if let Err(error) = self.signed_ciphertext(handle).await {
            tracing::debug!(%handle, %error, "a value could not be prepared");
        }
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{CiphertextForm, FheType};

    use super::*;

    fn head(tag: u8, digest: u8) -> CiphertextHead {
        CiphertextHead {
            handle: Handle::computed(B256::repeat_byte(tag), 31337, FheType::Uint8),
            key_set_id: B256::repeat_byte(1),
            created_block: Some(1),
            raw_digest: B256::repeat_byte(digest),
            form: CiphertextForm::Raw,
            digest: B256::repeat_byte(digest),
        }
    }

    fn packed(head: &CiphertextHead, bytes: usize) -> StoredCiphertext {
        StoredCiphertext {
            handle: head.handle,
            key_set_id: head.key_set_id,
            created_block: head.created_block,
            raw_digest: head.raw_digest,
            form: CiphertextForm::Packed,
            digest: B256::repeat_byte(9),
            bytes: vec![0; bytes],
        }
    }

    #[test]
    fn other_stored_bytes_are_not_answered_with_what_was_packed_before() {
        let (prepared, before, after) = (Prepared::new(), head(1, 1), head(1, 2));
        prepared.put(&before, &packed(&before, 10));
        assert_eq!(prepared.get(&before), Some(packed(&before, 10)));
        assert_eq!(prepared.get(&after), None);
        let other_keys = CiphertextHead {
            key_set_id: B256::repeat_byte(2),
            ..before
        };
        assert_eq!(prepared.get(&other_keys), None);
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let prepared = Prepared::new();
        let heads: Vec<CiphertextHead> = (1..=3).map(|tag| head(tag, tag)).collect();
        let half = MAX_KEPT_BYTES / 2;
        for head in &heads[..2] {
            prepared.put(head, &packed(head, half));
        }
        assert!(prepared.get(&heads[0]).is_some());
        prepared.put(&heads[2], &packed(&heads[2], half));
        assert!(prepared.get(&heads[1]).is_none());
        assert!(prepared.get(&heads[0]).is_some() && prepared.get(&heads[2]).is_some());
        prepared.put(&heads[2], &packed(&heads[2], half));
        assert_eq!(prepared.lock().bytes, 2 * half, "the same one counts once");
        prepared.put(&heads[1], &packed(&heads[1], MAX_KEPT_BYTES + 1));
        assert!(prepared.get(&heads[1]).is_none());
    }
}
