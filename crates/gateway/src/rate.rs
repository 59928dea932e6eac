//! Token buckets: one per known client, and one per address for everybody else.

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;

use crate::{clients::ClientIndex, config::RateLimit};

/// How many addresses are remembered; a forgotten one starts with a full bucket. Known clients are never forgotten.
const MAX_ADDRESSES: NonZeroUsize = NonZeroUsize::new(16_384).expect("the number is not zero");

/// Whose bucket a request is taken from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payer {
    /// A client with a key, wherever it calls from.
    Client(ClientIndex),
    /// Anybody at an address.
    Address(IpAddr),
}

/// Limits how often each client may post.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// The limit of those that have none of their own.
    general: Option<RateLimit>,
    /// The own limits of known clients, by index.
    own: Vec<Option<RateLimit>>,
    clients: Mutex<Vec<Option<Bucket>>>,
    addresses: Mutex<LruCache<IpAddr, Bucket>>,
}

impl RateLimiter {
    /// Makes a limiter with full buckets.
    pub(crate) fn new(general: Option<RateLimit>, own: Vec<Option<RateLimit>>) -> Self {
        Self {
            general,
            clients: Mutex::new(vec![None; own.len()]),
            own,
            addresses: Mutex::new(LruCache::new(MAX_ADDRESSES)),
        }
    }

    /// Takes a request's token, or returns how long the client has to wait for one.
    pub(crate) fn admit(&self, payer: Payer, now: Duration) -> Result<(), Duration> {
        match payer {
            Payer::Client(index) => {
                let own = self.own.get(index).copied().flatten();
                let Some(limit) = own.or(self.general) else { return Ok(()) };
                let mut clients = lock(&self.clients);
                // An index that the limiter was not made with is nobody's, and is not let in for nothing.
                let Some(slot) = clients.get_mut(index) else {
                    return Err(Duration::from_secs(1));
                };
                slot.get_or_insert_with(|| Bucket::full(limit, now)).take(limit, now)
            }
            Payer::Address(address) => {
                let Some(limit) = self.general else { return Ok(()) };
                let mut addresses = lock(&self.addresses);
                addresses
                    .get_or_insert_mut(network(address), || Bucket::full(limit, now))
                    .take(limit, now)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of a request.
    tokens: u64,
    updated_at: Duration,
}

impl Bucket {
    fn full(limit: RateLimit, now: Duration) -> Self {
        Self {
            tokens: capacity(limit),
            updated_at: now,
        }
    }

    fn take(&mut self, limit: RateLimit, now: Duration) -> Result<(), Duration> {
        let per_second = u64::from(limit.per_second.max(1));
        let elapsed_ms = u64::try_from(now.saturating_sub(self.updated_at).as_millis()).unwrap_or(u64::MAX);
        // A request per second is a thousandth per millisecond.
        self.tokens = self
            .tokens
            .saturating_add(elapsed_ms.saturating_mul(per_second))
            .min(capacity(limit));
        self.updated_at = now.max(self.updated_at);
        match self.tokens.checked_sub(1000) {
            Some(rest) => {
                self.tokens = rest;
                Ok(())
            }
            None => Err(Duration::from_millis((1000 - self.tokens).div_ceil(per_second))),
        }
    }
}

fn capacity(limit: RateLimit) -> u64 {
    u64::from(limit.burst.max(1)) * 1000
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what counts as one client: an IPv4 address, or the /64 network that one IPv6 user usually has.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(burst: u32, per_second: u32) -> RateLimiter {
        RateLimiter::new(Some(RateLimit { burst, per_second }), Vec::new())
    }

    fn at(address: &str) -> Payer {
        Payer::Address(address.parse().unwrap())
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let limiter = limiter(2, 4);
        let client = at("10.0.0.1");
        let now = Duration::from_secs(100);
        assert_eq!(limiter.admit(client, now), Ok(()));
        assert_eq!(limiter.admit(client, now), Ok(()));
        assert_eq!(limiter.admit(client, now), Err(Duration::from_millis(250)));
        assert_eq!(limiter.admit(at("10.0.0.2"), now), Ok(()));
        assert_eq!(
            limiter.admit(client, now + Duration::from_millis(249)),
            Err(Duration::from_millis(1))
        );
        assert_eq!(limiter.admit(client, now + Duration::from_millis(250)), Ok(()));
        assert!(limiter.admit(client, now).is_err());
    }

    #[test]
    fn neighbours_in_an_ipv6_network_share_a_bucket() {
        let limiter = limiter(1, 1);
        let now = Duration::ZERO;
        assert!(limiter.admit(at("2001:db8::1"), now).is_ok());
        assert!(limiter.admit(at("2001:db8::2"), now).is_err());
        assert!(limiter.admit(at("2001:db8:0:1::1"), now).is_ok());
        assert!(limiter.admit(at("::ffff:10.0.0.1"), now).is_ok());
        assert!(limiter.admit(at("10.0.0.1"), now).is_err());
    }

    #[test]
    fn known_clients_have_buckets_and_limits_of_their_own() {
        let one = |burst| RateLimit { burst, per_second: 1 };
        let limiter = RateLimiter::new(Some(one(1)), vec![Some(one(2)), None]);
        let now = Duration::ZERO;
        let admitted = |payer| (0..3).filter(|_| limiter.admit(payer, now).is_ok()).count();
        assert_eq!(admitted(Payer::Client(0)), 2);
        assert_eq!(admitted(Payer::Client(1)), 1, "the general limit");
        assert_eq!(admitted(at("10.0.0.1")), 1);
        let unlimited = RateLimiter::new(None, vec![Some(one(2)), None]);
        assert!((0..100).all(|_| unlimited.admit(Payer::Client(1), now).is_ok()));
        assert!((0..100).all(|_| unlimited.admit(at("10.0.0.1"), now).is_ok()));
        assert!(unlimited.admit(Payer::Client(0), now).is_ok() && unlimited.admit(Payer::Client(0), now).is_ok());
        assert!(unlimited.admit(Payer::Client(0), now).is_err());
    }
}
