//! How often strangers may ask.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cipherloom_service::connections::network;

/// The limits of the public port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicLimits {
    /// Connections open at a time.
    pub connections: usize,
    /// How old a connection may become.
    pub connection_age: Duration,
    /// Quotes being made at a time.
    pub quotes_at_a_time: usize,
    /// Requests for quotes that wait for their turn; further ones are refused.
    pub quotes_waiting: usize,
    /// Requests that one network may send at once.
    pub requests: u32,
    /// How long until it may send one more.
    pub request_every: Duration,
    /// Quotes that one network may ask for at once.
    pub quotes: u32,
    /// How long until it may ask for one more.
    pub quote_every: Duration,
}

impl Default for PublicLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            connection_age: Duration::from_secs(120),
            quotes_at_a_time: 2,
            quotes_waiting: 16,
            requests: 60,
            request_every: Duration::from_millis(200),
            quotes: 6,
            quote_every: Duration::from_secs(10),
        }
    }
}

/// The most networks that are told apart. When there are more, those that have asked for nothing lately are forgotten, and then new ones share one allowance.
const MAX_NETWORKS: usize = 8192;

/// What each network may still ask for.
pub(super) struct Allowances {
    requests: Buckets,
    quotes: Buckets,
}

impl Allowances {
    pub(super) fn new(limits: PublicLimits) -> Self {
        Self {
            requests: Buckets::new(limits.requests, limits.request_every),
            quotes: Buckets::new(limits.quotes, limits.quote_every),
        }
    }

    pub(super) fn take_request(&self, address: IpAddr) -> bool {
        self.requests.take(address, Instant::now())
    }

    pub(super) fn take_quote(&self, address: IpAddr) -> bool {
        self.quotes.take(address, Instant::now())
    }
}

/// Token buckets: each network has one that holds `size` and gets one token in each `every`.
///
/// What is kept of a bucket is the time at which it is full again, so that a full one need not be kept at all.
struct Buckets {
    size: u32,
    every: Duration,
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl Buckets {
    fn new(size: u32, every: Duration) -> Self {
        Self {
            size,
            every,
            full_at: Mutex::default(),
        }
    }

    fn take(&self, address: IpAddr, now: Instant) -> bool {
        /// Stands for all networks for which there is no room.
        const OTHERS: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = network(address);
        if full_at.len() >= MAX_NETWORKS && !full_at.contains_key(&network) {
            full_at.retain(|_, time| *time > now);
            if full_at.len() >= MAX_NETWORKS {
                network = OTHERS;
            }
        }
        let before = full_at.get(&network).copied().filter(|time| *time > now).unwrap_or(now);
        let after = before + self.every;
        if after.duration_since(now) > self.every.saturating_mul(self.size) {
            return false;
        }
        full_at.insert(network, after);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn each_network_has_an_allowance_that_comes_back() {
        let buckets = Buckets::new(3, Duration::from_secs(10));
        let now = Instant::now();
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!((0..3).all(|_| buckets.take(here, now)));
        assert!(!buckets.take(here, now));
        assert!(buckets.take(Ipv4Addr::new(10, 0, 0, 1).into(), now), "others are not affected");
        assert!(!buckets.take(here, now + Duration::from_secs(9)));
        assert!(buckets.take(here, now + Duration::from_secs(10)));
        assert!(!buckets.take(here, now + Duration::from_secs(10)));
        assert!((0..3).all(|_| buckets.take(here, now + Duration::from_secs(100))));
    }

    #[test]
    fn a_network_of_many_addresses_counts_once() {
        let buckets = Buckets::new(1, Duration::from_secs(10));
        let now = Instant::now();
        let address = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, last));
        assert!(buckets.take(address(1), now));
        assert!(!buckets.take(address(2), now));
        let mapped = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert!(buckets.take(mapped, now));
        assert!(!buckets.take(Ipv4Addr::new(10, 0, 0, 1).into(), now));
    }

    #[test]
    fn memory_is_bounded_and_strangers_then_share() {
        let buckets = Buckets::new(1, Duration::from_secs(10));
        let now = Instant::now();
        let address = |number: usize| IpAddr::from(Ipv4Addr::from(u32::try_from(number).unwrap_or(0) + 1));
        assert!((0..MAX_NETWORKS).all(|number| buckets.take(address(number), now)));
        assert!(buckets.take(address(MAX_NETWORKS + 1), now), "the first of those who share");
        assert!(!buckets.take(address(MAX_NETWORKS + 2), now));
        assert!(buckets.full_at.lock().is_ok_and(|map| map.len() <= MAX_NETWORKS + 1));
        let later = now + Duration::from_secs(11);
        assert!(buckets.take(address(MAX_NETWORKS + 2), later));
        assert!(
            buckets.full_at.lock().is_ok_and(|map| map.len() == 1),
            "those who are done are forgotten"
        );
    }
}
