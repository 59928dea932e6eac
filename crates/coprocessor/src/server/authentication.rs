//! Whose request it is.
//!
//! A request carries `authorization: Bearer <API key>`. The database knows the digest of each key; what it says counts for a few seconds, so that a
//! busy tenant does not ask it for every request, and a key that was replaced ends soon. Digests are compared in constant time. Unknown keys are
//! not remembered, and few are looked up at a time: who guesses keys waits for other guesses, and tenants who were here before do not.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cipherloom_store::{ApiKey, ApiKeyDigest, Database, Store, Tenant};
use lru::LruCache;
use subtle::ConstantTimeEq as _;
use tokio::{sync::Semaphore, time::Instant};
use tonic::codegen::http::HeaderMap;

use super::error::RequestError;

/// How many keys are remembered.
const REMEMBERED_KEYS: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");
/// How many keys are looked up at a time, of those that were known before and of others.
const LOOKUPS: usize = 4;
/// How many others may wait.
const WAITING: usize = 256;

/// A tenant that asks for something.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) tenant: Tenant,
    pub(super) store: Arc<dyn Store>,
}

/// Finds out whose requests they are.
pub(super) struct Authentication {
    database: Arc<dyn Database>,
    lifetime: Duration,
    /// By a keyed hash of the digest, so that finding an entry does not compare digests.
    remembered: Mutex<LruCache<u64, Remembered>>,
    hasher: RandomState,
    /// For keys that were known before.
    returning: Semaphore,
    lookups: Semaphore,
    waiting: Semaphore,
}

struct Remembered {
    digest: ApiKeyDigest,
    until: Instant,
    caller: Arc<Caller>,
}

/// What is remembered of a key.
enum Remembrance {
    /// Whose it is.
    Current(Arc<Caller>),
    /// That it was somebody's, some time ago.
    Former,
    /// Nothing.
    Unknown,
}

impl Authentication {
    pub(super) fn new(database: Arc<dyn Database>, lifetime: Duration) -> Self {
        Self {
            database,
            lifetime,
            remembered: Mutex::new(LruCache::new(REMEMBERED_KEYS)),
            hasher: RandomState::new(),
            returning: Semaphore::new(LOOKUPS),
            lookups: Semaphore::new(LOOKUPS),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// Finds the tenant whose key a request carries.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, RequestError> {
        let digest = api_key(headers).ok_or(RequestError::Unauthenticated)?.digest();
        let before = match self.remembered(&digest) {
            Remembrance::Current(caller) => return Ok(caller),
            other => other,
        };
        let (turns, _waiting) = match before {
            Remembrance::Former => (&self.returning, None),
            _ => (&self.lookups, Some(self.waiting.try_acquire().map_err(|_| RequestError::Busy)?)),
        };
        let _turn = turns.acquire().await.map_err(|_| RequestError::Stopping)?;
        // Another request of the tenant may have looked meanwhile.
        if let Remembrance::Current(caller) = self.remembered(&digest) {
            return Ok(caller);
        }
        // From before the question: what changes while it is answered is not missed for longer.
        let until = Instant::now() + self.lifetime;
        let Some(tenant) = self.database.tenant_with_key(digest).await? else {
            self.kept().pop(&self.place(&digest));
            return Err(RequestError::Unauthenticated);
        };
        let caller = Arc::new(Caller {
            store: self.database.store(&tenant),
            tenant,
        });
        let remembered = Remembered {
            digest,
            until,
            caller: Arc::clone(&caller),
        };
        self.kept().put(self.place(&digest), remembered);
        Ok(caller)
    }

    fn remembered(&self, digest: &ApiKeyDigest) -> Remembrance {
        let mut kept = self.kept();
        match kept.get(&self.place(digest)) {
            Some(found) if !bool::from(found.digest.as_bytes().ct_eq(digest.as_bytes())) => Remembrance::Unknown,
            Some(found) if Instant::now() < found.until => Remembrance::Current(Arc::clone(&found.caller)),
            Some(_) => Remembrance::Former,
            None => Remembrance::Unknown,
        }
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<u64, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, digest: &ApiKeyDigest) -> u64 {
        self.hasher.hash_one(digest.as_bytes())
    }
}

/// Reads the key of a request: `Bearer` and a UUID, in upper or lower case.
fn api_key(headers: &HeaderMap) -> Option<ApiKey> {
    let mut values = headers.get_all("authorization").iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, key) = value.to_str().ok()?.split_at_checked("bearer ".len())?;
    if !scheme.eq_ignore_ascii_case("bearer ") {
        return None;
    }
    let key = uuid::Uuid::try_parse(key.trim()).ok()?;
    ApiKey::parse(key.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a1503fb6-d79b-4e9e-826d-44cf262f3e05";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("authorization", value.parse().unwrap());
        }
        headers
    }

    fn key(values: &[&str]) -> Option<String> {
        api_key(&headers(values)).map(|key| key.expose().to_owned())
    }

    #[test]
    fn a_key_is_read_whatever_its_case() {
        let digits = KEY.replace('-', "");
        for value in [
            format!("Bearer {KEY}"),
            format!("bearer {KEY}"),
            format!("BEARER {}", KEY.to_uppercase()),
            format!("Bearer {digits}"),
        ] {
            assert_eq!(key(&[&value]).as_deref(), Some(KEY), "{value}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        let bearer = format!("Bearer {KEY}");
        for values in [
            vec![],
            vec![""],
            vec!["Bearer"],
            vec!["Bearer "],
            vec![KEY],
            vec!["Basic YTpi"],
            vec!["Bearer a1503fb6-d79b-4e9e-826d-44cf262f3e0"],
            vec![bearer.as_str(), bearer.as_str()],
        ] {
            assert_eq!(key(&values), None, "{values:?}");
        }
    }
}
