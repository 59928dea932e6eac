//! Where peers were heard to be.
//!
//! Addresses come from peers, who may lie: a wrong one costs an attempt, and who answers there must prove to be the node that was named. Only IP addresses are
//! taken, no names; addresses outside of the internet only if configured so; never more than a fixed number, and few from one peer.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::Instant;

use crate::network::PeerId;

/// How many addresses are kept.
const MAX_ENTRIES: usize = 1024;

/// How many of them may come from one peer.
const MAX_FROM_ONE: usize = 64;

/// After how many attempts without success an address is forgotten.
const MAX_FAILURES: u32 = 5;

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: SocketAddr,
    told_by: PeerId,
    failures: u32,
    next_try: Instant,
}

/// Where peers were heard to be.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<PeerId, Entry>,
}

impl Book {
    /// Notes an address, unless there is no room or the node is known; says whether it was noted.
    pub(super) fn note(&mut self, id: PeerId, address: SocketAddr, told_by: PeerId, now: Instant) -> bool {
        if self.entries.contains_key(&id) {
            // What a node says about itself is more than what others say.
            if let Some(entry) = self.entries.get_mut(&id).filter(|_| told_by == id) {
                entry.address = address;
                entry.told_by = id;
            }
            return false;
        }
        let from_one = self.entries.values().filter(|entry| entry.told_by == told_by).count();
        if self.entries.len() >= MAX_ENTRIES || from_one >= MAX_FROM_ONE {
            return false;
        }
        let entry = Entry {
            address,
            told_by,
            failures: 0,
            next_try: now,
        };
        self.entries.insert(id, entry);
        true
    }

    /// Who may be tried now.
    pub(super) fn candidates(&self, now: Instant) -> Vec<(PeerId, SocketAddr)> {
        let ready = self.entries.iter().filter(|(_, entry)| entry.next_try <= now);
        ready.map(|(id, entry)| (*id, entry.address)).collect()
    }

    /// Notes what became of an attempt.
    pub(super) fn tried(&mut self, id: &PeerId, succeeded: bool, first_retry: Duration, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.failures = if succeeded { 0 } else { entry.failures + 1 };
        entry.next_try = now + first_retry * 2_u32.saturating_pow(entry.failures.min(16));
        if entry.failures >= MAX_FAILURES {
            self.entries.remove(id);
        }
    }
}

/// Says whether an address is one of the internet: not private, local, reserved or for many.
pub(super) const fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_broadcast()
                || ip.is_documentation()
                || ip.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18)
                || (a == 192 && b == 0))
        }
        // Addresses of the internet are 2000::/3; of them, 2001:db8::/32 is for documents, and 2002::/16 and 2001::/32 wrap IPv4 addresses.
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            a & 0xe000 == 0x2000 && a != 0x2002 && !(a == 0x2001 && (b == 0xdb8 || b == 0))
        }
    }
}

/// The network an address belongs to, of which not too many peers should be: /16 of IPv4, /32 of IPv6.
pub(super) const fn neighbourhood(ip: IpAddr) -> (u16, u16) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            (0, u16::from_be_bytes([a, b]))
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            (a, b)
        }
    }
}
