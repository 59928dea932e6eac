//! Values in memory, as they are before a transaction re-randomises them: what was published or read a short time ago is likely to be read again.
//!
//! **What is served is what the store has.** A value is found by the digest of the bytes it was read from and by the form in which they are read, not by its
//! handle. A transaction asks the store for the digest first; so a value whose block was withdrawn, which was packed meanwhile, or which another tenant
//! has under the same handle cannot be taken for another one: other bytes have another digest. Values of lists are found by the list's digest and the
//! position in it.
//!
//! The cache is bounded by the memory that its values take. What was not used for the longest time makes room.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cipherloom_fhe::Ciphertext;
use cipherloom_primitives::{B256, CiphertextForm, FheType};
use lru::LruCache;

/// What a value was made of. Together with the key set and the type it decides all bytes of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// Stored bytes.
    Stored {
        /// The Keccak hash of the bytes.
        digest: B256,
        /// Which form they are.
        form: CiphertextForm,
        /// The form that is read.
        read: CiphertextForm,
    },
    /// A value of an input list.
    Input {
        /// The Keccak hash of the list.
        list: B256,
        /// The position in it.
        position: u8,
    },
}

/// What a value is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) key_set_id: B256,
    pub(crate) ty: FheType,
    pub(crate) source: Source,
}

/// A value, and the digest of what is read: what its re-randomisation depends on.
pub(crate) struct CachedValue {
    pub(crate) ciphertext: Ciphertext,
    pub(crate) digest: B256,
}

/// What a cache served and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// How many values were there when they were asked for.
    pub hits: u64,
    /// How many were not.
    pub misses: u64,
    /// How many were dropped to make room.
    pub evictions: u64,
    /// How many there are.
    pub values: usize,
    /// How many bytes of memory they take.
    pub bytes: usize,
}

/// Values in memory, up to a number of bytes.
pub(crate) struct CiphertextCache {
    limit_bytes: usize,
    held: Mutex<Held>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

struct Held {
    /// Bounded by bytes, below, and not by their number.
    values: LruCache<CacheKey, Entry>,
    bytes: usize,
}

struct Entry {
    value: Arc<CachedValue>,
    bytes: usize,
}

impl CiphertextCache {
    /// Makes a cache of this many bytes; with 0 it keeps nothing.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            held: Mutex::new(Held {
                values: LruCache::unbounded(),
                bytes: 0,
            }),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Says whether anything can be in it.
    pub(crate) const fn is_on(&self) -> bool {
        self.limit_bytes > 0
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<CachedValue>> {
        let found = self.lock().values.get(key).map(|entry| Arc::clone(&entry.value));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn put(&self, key: CacheKey, value: Arc<CachedValue>) {
        let bytes = value.ciphertext.memory_bytes();
        if bytes > self.limit_bytes {
            return;
        }
        let mut held = self.lock();
        if held.values.get(&key).is_some() {
            return;
        }
        let mut evicted = Vec::new();
        while held.bytes.saturating_add(bytes) > self.limit_bytes {
            let Some(oldest) = held.remove_oldest() else { break };
            evicted.push(oldest);
        }
        held.insert(key, value, bytes);
        drop(held);
        self.evictions.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        // Half a megabyte each is given back outside of the lock.
        drop(evicted);
    }

    pub(crate) fn statistics(&self) -> CacheStatistics {
        let held = self.lock();
        CacheStatistics {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            values: held.values.len(),
            bytes: held.bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn insert(&mut self, key: CacheKey, value: Arc<CachedValue>, bytes: usize) {
        self.values.put(key, Entry { value, bytes });
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove_oldest(&mut self) -> Option<Entry> {
        let (_, entry) = self.values.pop_lru()?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry)
    }
}

impl fmt::Debug for CiphertextCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CiphertextCache")
            .field("limit_bytes", &self.limit_bytes)
            .field("statistics", &self.statistics())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_fhe::{BlockBackend, ClearBlocks};

    use super::*;

    fn key(tag: u8) -> CacheKey {
        CacheKey {
            key_set_id: B256::repeat_byte(1),
            ty: FheType::Uint8,
            source: Source::Stored {
                digest: B256::repeat_byte(tag),
                form: CiphertextForm::Raw,
                read: CiphertextForm::Raw,
            },
        }
    }

    fn value(tag: u8) -> Arc<CachedValue> {
        let blocks = ClearBlocks::insecure_new();
        let digits = (0..4).map(|digit| ClearBlocks::insecure_secret((tag >> (2 * digit)) & 3, 3).unwrap());
        Arc::new(CachedValue {
            ciphertext: blocks.join(FheType::Uint8, digits.collect()).unwrap(),
            digest: B256::repeat_byte(tag),
        })
    }

    fn bytes_of_one() -> usize {
        value(1).ciphertext.memory_bytes()
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let cache = CiphertextCache::new(2 * bytes_of_one());
        cache.put(key(1), value(1));
        cache.put(key(2), value(2));
        assert!(cache.get(&key(1)).is_some());
        cache.put(key(3), value(3));
        assert!(cache.get(&key(2)).is_none());
        assert_eq!(cache.get(&key(1)).unwrap().digest, B256::repeat_byte(1));
        assert_eq!(cache.get(&key(3)).unwrap().digest, B256::repeat_byte(3));
        let statistics = cache.statistics();
        assert_eq!((statistics.hits, statistics.misses, statistics.evictions), (3, 1, 1));
        assert_eq!((statistics.values, statistics.bytes), (2, 2 * bytes_of_one()));
    }

    #[test]
    fn nothing_larger_than_the_limit_is_kept() {
        let (off, small) = (CiphertextCache::new(0), CiphertextCache::new(bytes_of_one() - 1));
        for cache in [&off, &small] {
            cache.put(key(1), value(1));
            assert!(cache.get(&key(1)).is_none());
            assert_eq!(cache.statistics().bytes, 0);
        }
    }

    #[test]
    fn the_same_value_put_twice_counts_once() {
        let cache = CiphertextCache::new(10 * bytes_of_one());
        cache.put(key(1), value(1));
        cache.put(key(1), value(1));
        assert_eq!(cache.statistics().bytes, bytes_of_one());
    }

    #[test]
    fn key_set_type_form_and_position_tell_values_apart() {
        let cache = CiphertextCache::new(100 * bytes_of_one());
        let first = key(1);
        cache.put(first, value(1));
        let digest = B256::repeat_byte(1);
        let source = |form, read| Source::Stored { digest, form, read };
        let others = [
            CacheKey {
                key_set_id: B256::repeat_byte(2),
                ..first
            },
            CacheKey {
                ty: FheType::Uint16,
                ..first
            },
            CacheKey {
                source: source(CiphertextForm::Raw, CiphertextForm::Packed),
                ..first
            },
            CacheKey {
                source: source(CiphertextForm::Packed, CiphertextForm::Packed),
                ..first
            },
            CacheKey {
                source: Source::Input { list: digest, position: 0 },
                ..first
            },
        ];
        assert!(others.iter().all(|other| cache.get(other).is_none()));
        assert!(cache.get(&first).is_some());
    }
}
