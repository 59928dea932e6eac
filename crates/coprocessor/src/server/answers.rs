//! Served ciphertexts that are kept to be served again.
//!
//! Packing a value that is stored raw takes as long as several bootstraps, and signing takes longer than everything else of an answer. What was
//! served is kept in memory, up to a number of bytes, and served again as long as the store still has the same value under the same handle, which is
//! asked each time.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use cipherloom_primitives::{B256, Handle};
use cipherloom_rpc::fhevm::coprocessor::FetchedCiphertext;
use lru::LruCache;

/// What an entry takes beside the bytes of ciphertext and name.
const ENTRY_BYTES: usize = 512;

/// Which value of which tenant was served under which name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Served {
    /// The tenant's number.
    pub(super) tenant: i32,
    /// The name it was asked for by, which is signed.
    pub(super) name: Bytes,
    /// The handle that the name stands for.
    pub(super) handle: Handle,
    /// The key set it is encrypted under.
    pub(super) key_set_id: B256,
    /// The hash of the value's raw form, from which the packed form follows.
    pub(super) raw_digest: B256,
}

/// Keeps the answers that were given last.
pub(super) struct AnswerCache {
    limit: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    answers: LruCache<Served, FetchedCiphertext>,
    bytes: usize,
}

impl AnswerCache {
    /// Makes a cache for this many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::new(Kept {
                answers: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    pub(super) fn find(&self, served: &Served) -> Option<FetchedCiphertext> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.answers.get(served).cloned()
    }

    pub(super) fn keep(&self, served: Served, answer: FetchedCiphertext) {
        let added = size(&served, &answer);
        if added > self.limit {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += added;
        let name = served.clone();
        if let Some(former) = kept.answers.put(served, answer) {
            kept.bytes -= size(&name, &former);
        }
        while kept.bytes > self.limit {
            let Some((served, answer)) = kept.answers.pop_lru() else {
                break;
            };
            kept.bytes -= size(&served, &answer);
        }
    }
}

fn size(served: &Served, answer: &FetchedCiphertext) -> usize {
    served.name.len() + answer.ciphertext_bytes.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::FheType;

    use super::*;

    fn served(name: u8) -> Served {
        Served {
            tenant: 1,
            name: vec![name].into(),
            handle: Handle::named(&[name], 1, FheType::Uint8),
            key_set_id: B256::ZERO,
            raw_digest: B256::ZERO,
        }
    }

    fn answer(bytes: usize) -> FetchedCiphertext {
        FetchedCiphertext {
            ciphertext_bytes: vec![0; bytes].into(),
            ..FetchedCiphertext::default()
        }
    }

    #[test]
    fn what_was_served_longest_ago_goes_first() {
        let cache = AnswerCache::new(3 * (1000 + ENTRY_BYTES + 1));
        for name in 0..3 {
            cache.keep(served(name), answer(1000));
        }
        assert!(cache.find(&served(0)).is_some());
        cache.keep(served(3), answer(1000));
        assert!(cache.find(&served(1)).is_none());
        assert!([0, 2, 3].iter().all(|name| cache.find(&served(*name)).is_some()));
    }

    #[test]
    fn replaced_entries_and_too_large_ones_do_not_count() {
        let cache = AnswerCache::new(4000);
        for _ in 0..10 {
            cache.keep(served(1), answer(2000));
        }
        cache.keep(served(2), answer(5000));
        assert!(cache.find(&served(1)).is_some());
        assert!(cache.find(&served(2)).is_none());
        assert_eq!(cache.kept.lock().unwrap().bytes, 2000 + ENTRY_BYTES + 1);
    }

    #[test]
    fn another_value_under_the_same_name_is_another_entry() {
        let cache = AnswerCache::new(4000);
        cache.keep(served(1), answer(10));
        let other = Served {
            raw_digest: B256::repeat_byte(1),
            ..served(1)
        };
        assert!(cache.find(&other).is_none());
        assert!(cache.find(&Served { tenant: 2, ..served(1) }).is_none());
    }
}
