//! Who misbehaved, and who is shut out for it.
//!
//! Offences add up and are forgiven at one point in six seconds; 100 points are a ban. Keys cost nothing, so when several peers of one IP address were banned,
//! nobody unknown is let in from there either. Bans outlive the process if the node has a place for them ([`super::ban_file`]); points do not.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::peer::Offence;
use crate::network::PeerId;

/// How many points are a ban.
const BAN_POINTS: f64 = 100.0;

/// How many points are forgiven in a second.
const FORGIVEN_PER_SECOND: f64 = 1.0 / 6.0;

/// After how many bans of its peers an IP address is shut out.
const BANS_PER_ADDRESS: u32 = 4;

/// How many peers, and addresses, are remembered.
pub(super) const MAX_REMEMBERED: usize = 4096;

/// Bans as they are remembered over a restart, with the time that is left of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) peers: BTreeMap<PeerId, Duration>,
    /// How many peers of an address were banned.
    pub(super) addresses: BTreeMap<IpAddr, (u32, Duration)>,
}

/// Points, bans, and shut out addresses.
#[derive(Debug, Default)]
pub(super) struct Bans {
    points: HashMap<PeerId, (f64, Instant)>,
    peers: HashMap<PeerId, Instant>,
    addresses: HashMap<IpAddr, (u32, Instant)>,
}

impl Bans {
    /// Counts an offence; says whether the peer is banned now.
    pub(super) fn offend(&mut self, id: PeerId, offence: Offence, ban: Duration, now: Instant) -> bool {
        if self.points.len() >= MAX_REMEMBERED {
            self.points.retain(|_, (points, since)| left(*points, *since, now) >= 1.0);
        }
        if self.points.len() >= MAX_REMEMBERED && !self.points.contains_key(&id) {
            let oldest = self.points.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| *id);
            oldest.map(|oldest| self.points.remove(&oldest));
        }
        let (points, since) = self.points.entry(id).or_insert((0.0, now));
        *points = left(*points, *since, now) + f64::from(offence.points());
        *since = now;
        if *points < BAN_POINTS {
            return false;
        }
        self.points.remove(&id);
        room(&mut self.peers, |until| *until, now);
        self.peers.insert(id, now + ban);
        true
    }

    /// Counts a ban against the IP address it came from.
    pub(super) fn blame(&mut self, address: IpAddr, ban: Duration, now: Instant) {
        room(&mut self.addresses, |(_, until)| *until, now);
        let (bans, until) = self.addresses.entry(address).or_insert((0, now));
        if *until <= now {
            *bans = 0;
        }
        *bans = bans.saturating_add(1);
        *until = now + ban;
    }

    /// What is to be remembered over a restart, with the time that is left.
    pub(super) fn kept(&self, now: Instant) -> Kept {
        let left = |until: Instant| Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        Kept {
            peers: self.peers.iter().filter_map(|(id, until)| Some((*id, left(*until)?))).collect(),
            addresses: self
                .addresses
                .iter()
                .filter_map(|(address, (bans, until))| Some((*address, (*bans, left(*until)?))))
                .collect(),
        }
    }

    /// Takes what was remembered, none of it for longer than `longest`.
    pub(super) fn restore(&mut self, kept: Kept, longest: Duration, now: Instant) {
        let peers = kept.peers.into_iter().take(MAX_REMEMBERED);
        self.peers = peers.map(|(id, left)| (id, now + left.min(longest))).collect();
        let addresses = kept.addresses.into_iter().take(MAX_REMEMBERED);
        self.addresses = addresses
            .map(|(address, (bans, left))| (address, (bans, now + left.min(longest))))
            .collect();
    }

    /// Says whether a peer is banned.
    pub(super) fn banned(&self, id: &PeerId, now: Instant) -> bool {
        self.peers.get(id).is_some_and(|until| *until > now)
    }

    /// Says whether nobody unknown may come from an address.
    pub(super) fn shut_out(&self, address: &IpAddr, now: Instant) -> bool {
        self.addresses
            .get(address)
            .is_some_and(|(bans, until)| *bans >= BANS_PER_ADDRESS && *until > now)
    }
}

fn left(points: f64, since: Instant, now: Instant) -> f64 {
    (points - now.saturating_duration_since(since).as_secs_f64() * FORGIVEN_PER_SECOND).max(0.0)
}

/// Makes room for one more: what is over goes, else what is over first.
fn room<K: Copy + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, until: impl Fn(&V) -> Instant, now: Instant) {
    if map.len() < MAX_REMEMBERED {
        return;
    }
    map.retain(|_, value| until(value) > now);
    if map.len() >= MAX_REMEMBERED {
        let first = map.iter().min_by_key(|(_, value)| until(value)).map(|(key, _)| *key);
        first.map(|first| map.remove(&first));
    }
}
