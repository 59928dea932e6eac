//! One computation for requests that are the same: while it runs, and for some minutes after.
//!
//! A gateway that tries again, and several gateways that carry the same request, would otherwise have a node check, fetch and decrypt it as often. Only requests equal in every byte, permit and signature
//! included, share a computation.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use cipherloom_primitives::B256;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

use crate::error::KmsError;

/// How much of outcomes is kept.
#[derive(Clone, Copy)]
pub(super) struct KeepLimits {
    /// How long one is kept, in seconds.
    pub(super) seconds: u64,
    /// How many bytes of all are kept.
    pub(super) bytes: usize,
}

impl KeepLimits {
    /// Those for accepted requests.
    pub(super) const OF_REQUESTS: Self = Self {
        seconds: 300,
        bytes: 64 << 20,
    };
}

/// What a computation gives to all who wait for it.
pub(super) type Outcome<T> = Result<Arc<T>, Arc<KmsError>>;

/// Computations under way. One ends when nobody waits for it any more.
pub(super) struct UnderWay<T>(Mutex<HashMap<B256, WeakShared<BoxFuture<'static, Outcome<T>>>>>);

impl<T: Send + Sync + 'static> UnderWay<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Waits for the computation of a request, and begins it if none is under way.
    pub(super) async fn join(&self, request: B256, begin: impl FnOnce() -> BoxFuture<'static, Outcome<T>>) -> Outcome<T> {
        let outcome = self.find_or(request, begin).await;
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, weak| weak.upgrade().is_some_and(|computation| computation.peek().is_none()));
        outcome
    }

    fn find_or(&self, request: B256, begin: impl FnOnce() -> BoxFuture<'static, Outcome<T>>) -> Shared<BoxFuture<'static, Outcome<T>>> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = under_way.get(&request).and_then(WeakShared::upgrade);
        if let Some(computation) = found.filter(|computation| computation.peek().is_none()) {
            return computation;
        }
        let computation = begin().shared();
        if let Some(weak) = computation.downgrade() {
            under_way.insert(request, weak);
        }
        computation
    }
}

/// Outcomes of the last minutes, within a bound of bytes; the oldest go first.
pub(super) struct Recent<T> {
    limits: KeepLimits,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    outcomes: HashMap<B256, Entry<T>>,
    order: VecDeque<B256>,
    bytes: usize,
}

struct Entry<T> {
    until: u64,
    bytes: usize,
    outcome: Arc<T>,
}

impl<T> Recent<T> {
    pub(super) fn new(limits: KeepLimits) -> Self {
        Self {
            limits,
            kept: Mutex::new(Kept {
                outcomes: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    pub(super) fn find(&self, request: B256, now: u64) -> Option<Arc<T>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.outcomes.get(&request)?;
        (now < found.until).then(|| Arc::clone(&found.outcome))
    }

    /// Keeps an outcome of about this many bytes.
    pub(super) fn keep(&self, request: B256, outcome: Arc<T>, bytes: usize, now: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now.saturating_add(self.limits.seconds);
        kept.forget(request);
        kept.order.retain(|other| *other != request);
        kept.bytes = kept.bytes.saturating_add(bytes);
        kept.outcomes.insert(request, Entry { until, bytes, outcome });
        kept.order.push_back(request);
        while kept.has_too_much(self.limits.bytes, now) {
            let Some(oldest) = kept.order.pop_front() else { return };
            kept.forget(oldest);
        }
    }
}

impl<T> Kept<T> {
    fn has_too_much(&self, most: usize, now: u64) -> bool {
        let oldest = self.order.front().and_then(|request| self.outcomes.get(request));
        self.bytes > most || oldest.is_some_and(|oldest| oldest.until <= now)
    }

    fn forget(&mut self, request: B256) {
        if let Some(forgotten) = self.outcomes.remove(&request) {
            self.bytes = self.bytes.saturating_sub(forgotten.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join;
    use tokio::sync::oneshot;

    use super::*;

    const REQUEST: B256 = B256::repeat_byte(1);
    const LIMITS: KeepLimits = KeepLimits::OF_REQUESTS;

    #[tokio::test]
    async fn equal_requests_share_a_computation_and_later_ones_begin_anew() {
        let under_way = UnderWay::<u8>::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let computation = |wait: oneshot::Receiver<()>| {
            let begun = Arc::clone(&begun);
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                async move {
                    let _ = wait.await;
                    Err(Arc::new(KmsError::NoShare))
                }
                .boxed()
            }
        };
        let ((go, first), (_, second), (other_go, other)) = (oneshot::channel(), oneshot::channel::<()>(), oneshot::channel());
        let two = join(
            under_way.join(REQUEST, computation(first)),
            under_way.join(REQUEST, computation(second)),
        );
        let mut two = Box::pin(two);
        assert!(futures_util::poll!(&mut two).is_pending());
        let another = under_way.join(B256::repeat_byte(2), computation(other));
        other_go.send(()).unwrap();
        assert!(another.await.is_err());
        go.send(()).unwrap();
        let (one, same) = two.await;
        assert!(Arc::ptr_eq(&one.unwrap_err(), &same.unwrap_err()), "both have the one outcome");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        let (go, third) = oneshot::channel();
        go.send(()).unwrap();
        assert!(under_way.join(REQUEST, computation(third)).await.is_err());
        assert_eq!(begun.load(Ordering::SeqCst), 3, "an error is not kept");
        assert!(under_way.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_computation_nobody_waits_for_ends() {
        let under_way = UnderWay::<u8>::new();
        let (_go, wait) = oneshot::channel::<()>();
        let abandoned = under_way.join(REQUEST, || {
            async move {
                let _ = wait.await;
                Ok(Arc::new(1))
            }
            .boxed()
        });
        let mut abandoned = Box::pin(abandoned);
        assert!(futures_util::poll!(&mut abandoned).is_pending());
        drop(abandoned);
        let outcome = under_way.join(REQUEST, || async { Ok(Arc::new(2)) }.boxed()).await;
        assert_eq!(outcome.map(|value| *value).ok(), Some(2));
    }

    #[test]
    fn outcomes_are_kept_for_minutes_and_within_bounds() {
        let recent = Recent::new(LIMITS);
        recent.keep(REQUEST, Arc::new(1), 10, 1000);
        assert_eq!(recent.find(REQUEST, 1000 + LIMITS.seconds - 1).as_deref(), Some(&1));
        assert_eq!(recent.find(REQUEST, 1000 + LIMITS.seconds), None);
        recent.keep(B256::repeat_byte(2), Arc::new(2), LIMITS.bytes, 1001);
        assert_eq!(recent.find(REQUEST, 1001), None, "the oldest makes room");
        recent.keep(B256::repeat_byte(2), Arc::new(3), 10, 1002);
        assert_eq!(recent.find(B256::repeat_byte(2), 1002).as_deref(), Some(&3));
        assert_eq!(recent.kept.lock().unwrap().bytes, 10);
        recent.keep(REQUEST, Arc::new(4), LIMITS.bytes + 1, 1003);
        assert_eq!(recent.find(REQUEST, 1003), None, "one that is too large is not kept");
        recent.keep(REQUEST, Arc::new(5), 10, 1004);
        recent.keep(B256::repeat_byte(3), Arc::new(6), 10, 1004 + LIMITS.seconds);
        assert_eq!(recent.kept.lock().unwrap().outcomes.len(), 1, "what is too old is dropped");
    }
}
