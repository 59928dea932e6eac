//! A token bucket per client address.

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;

use crate::config::RateLimit;

/// How many clients are remembered; a forgotten one starts with a full bucket.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::new(16_384).expect("the number is not zero");

/// Limits how often each client may post.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: RateLimit,
    buckets: Mutex<LruCache<IpAddr, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of a request.
    tokens: u64,
    updated_at: Duration,
}

impl RateLimiter {
    /// Makes a limiter with full buckets.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            buckets: Mutex::new(LruCache::new(MAX_CLIENTS)),
        }
    }

    /// Takes a request's token, or returns how long the client has to wait for one.
    pub(crate) fn admit(&self, client: IpAddr, now: Duration) -> Result<(), Duration> {
        let capacity = u64::from(self.limit.burst.max(1)) * 1000;
        let per_second = u64::from(self.limit.per_second.max(1));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut(network(client), || Bucket {
            tokens: capacity,
            updated_at: now,
        });
        let elapsed_ms = u64::try_from(now.saturating_sub(bucket.updated_at).as_millis()).unwrap_or(u64::MAX);
        // A request per second is a thousandth per millisecond.
        let tokens = bucket.tokens.saturating_add(elapsed_ms.saturating_mul(per_second)).min(capacity);
        *bucket = Bucket {
            tokens,
            updated_at: now.max(bucket.updated_at),
        };
        match tokens.checked_sub(1000) {
            Some(rest) => {
                bucket.tokens = rest;
                Ok(())
            }
            None => Err(Duration::from_millis((1000 - tokens).div_ceil(per_second))),
        }
    }
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

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let limiter = RateLimiter::new(RateLimit { burst: 2, per_second: 4 });
        let client = IpAddr::from([10, 0, 0, 1]);
        let now = Duration::from_secs(100);
        assert_eq!(limiter.admit(client, now), Ok(()));
        assert_eq!(limiter.admit(client, now), Ok(()));
        assert_eq!(limiter.admit(client, now), Err(Duration::from_millis(250)));
        assert_eq!(limiter.admit(IpAddr::from([10, 0, 0, 2]), now), Ok(()));
        assert_eq!(
            limiter.admit(client, now + Duration::from_millis(249)),
            Err(Duration::from_millis(1))
        );
        assert_eq!(limiter.admit(client, now + Duration::from_millis(250)), Ok(()));
        assert!(limiter.admit(client, now).is_err());
    }

    #[test]
    fn neighbours_in_an_ipv6_network_share_a_bucket() {
        let limiter = RateLimiter::new(RateLimit { burst: 1, per_second: 1 });
        let now = Duration::ZERO;
        assert!(limiter.admit("2001:db8::1".parse().unwrap(), now).is_ok());
        assert!(limiter.admit("2001:db8::2".parse().unwrap(), now).is_err());
        assert!(limiter.admit("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
        assert!(limiter.admit("::ffff:10.0.0.1".parse().unwrap(), now).is_ok());
        assert!(limiter.admit("10.0.0.1".parse().unwrap(), now).is_err());
    }
}
