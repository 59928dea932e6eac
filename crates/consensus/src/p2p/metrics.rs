//! What the network counts, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

/// What is counted. Labels are words of this program, never a peer's text, so that there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Count {
    ReceivedBytes,
    SentBytes,
    ReceivedMessages,
    SentMessages,
    Duplicates,
    Dropped,
    Connections,
    Disconnections,
    Offences,
    Bans,
    Requests,
    Discovered,
}

impl Count {
    const ALL: [Self; 12] = [
        Self::ReceivedBytes,
        Self::SentBytes,
        Self::ReceivedMessages,
        Self::SentMessages,
        Self::Duplicates,
        Self::Dropped,
        Self::Connections,
        Self::Disconnections,
        Self::Offences,
        Self::Bans,
        Self::Requests,
        Self::Discovered,
    ];

    /// What its label can be.
    const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::ReceivedBytes | Self::SentBytes | Self::ReceivedMessages | Self::SentMessages => LANES,
            Self::Duplicates => &["consensus", "blocks", "transactions"],
            Self::Dropped => &["peer_slow", "node_slow", "unsendable"],
            Self::Connections => &[
                "connected",
                "failed",
                "not_taken",
                "full",
                "banned",
                "duplicate",
                "own",
                "closed",
                "leaving",
            ],
            Self::Disconnections => &["slow", "timed_out", "protocol", "banned", "replaced", "lost", "shutdown"],
            Self::Offences => &["malformed", "wrong_signature", "excess", "wrong_content", "useless"],
            Self::Bans => &["favoured", "stranger"],
            Self::Requests => &["answered", "no_answer", "not_connected", "not_sent"],
            Self::Discovered => &["noted", "not_noted", "not_public"],
        }
    }

    /// Its name, the name of its label, and what it is.
    const fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ReceivedBytes => ("received_bytes_total", "lane", "Bytes of messages received from peers."),
            Self::SentBytes => ("sent_bytes_total", "lane", "Bytes of messages written to peers."),
            Self::ReceivedMessages => ("received_messages_total", "lane", "Messages received from peers."),
            Self::SentMessages => ("sent_messages_total", "lane", "Messages written to peers."),
            Self::Duplicates => ("duplicates_total", "lane", "Received messages that another peer had sent already."),
            Self::Dropped => (
                "dropped_messages_total",
                "reason",
                "Messages dropped because a peer or this node did not keep up, or that are too long.",
            ),
            Self::Connections => ("connections_total", "result", "Connections made or taken, by what became of them."),
            Self::Disconnections => ("disconnections_total", "reason", "Connections to peers that ended, by why."),
            Self::Offences => ("offences_total", "offence", "What peers did wrong."),
            Self::Bans => ("bans_total", "peer", "Peers banned: favoured ones and strangers."),
            Self::Requests => ("requests_total", "result", "Requests to peers, by what came back."),
            Self::Discovered => ("discovered_addresses_total", "result", "Addresses that peers told of."),
        }
    }
}

/// Lanes whose messages come from and go to users of the network, and those of the network itself.
const LANES: &[&str] = &["control", "consensus", "status", "requests", "blocks", "answers", "transactions"];

/// What a node's network counts.
#[derive(Debug)]
pub(super) struct Metrics {
    counts: Mutex<BTreeMap<(Count, &'static str), u64>>,
}

impl Metrics {
    /// Everything at zero, so that the first event of a kind is seen to happen.
    pub(super) fn new() -> Self {
        let counts = Count::ALL
            .into_iter()
            .flat_map(|count| count.labels().iter().map(move |label| ((count, *label), 0)));
        Self {
            counts: Mutex::new(counts.collect()),
        }
    }

    /// Counts one.
    pub(super) fn count(&self, count: Count, label: &'static str) {
        self.add(count, label, 1);
    }

    /// Counts so many.
    pub(super) fn add(&self, count: Count, label: &'static str, number: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = counts.entry((count, label)).or_default();
        *sum = sum.saturating_add(number);
    }

    /// Writes everything, with the number of peers by direction.
    pub(super) fn render(&self, peers: &[(&'static str, usize)]) -> String {
        let mut text = String::new();
        let name = "cipherloom_network_peers";
        header(&mut text, name, "gauge", "Connected peers, by who made the connection.");
        for (direction, number) in peers {
            line(&mut text, format_args!("{name}{{direction=\"{direction}\"}} {number}"));
        }
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for count in Count::ALL {
            let (name, label, help) = count.describe();
            let name = format!("cipherloom_network_{name}");
            header(&mut text, &name, "counter", help);
            for ((_, value), number) in counts.iter().filter(|((of, _), _)| *of == count) {
                line(&mut text, format_args!("{name}{{{label}=\"{value}\"}} {number}"));
            }
        }
        text
    }
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{content}");
}
