//! What a party counts: requests and alarms, connections, and where it stands.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use cipherloom_kms::{Alarm, Alarms, Clock as _, LogAlarms, SquashingCounts, SystemClock};
use cipherloom_service::{attested::AttestedCounts, connections::ConnectionCounts};

use super::{Party, PartyState};
use crate::{metrics::Metrics, public::documents::NodeState};

/// The states that a party can be in, which each have a line.
const STATES: [NodeState; 4] = [
    NodeState::AwaitingRegistration,
    NodeState::AwaitingCeremony,
    NodeState::Serving,
    NodeState::Refusing,
];

/// Requests and alarms.
#[derive(Clone, Default)]
pub(super) struct PartyMetrics {
    requests: Metrics,
    alarms: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Alarms for PartyMetrics {
    fn raise(&self, alarm: &Alarm) {
        LogAlarms.raise(alarm);
        *self
            .alarms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(alarm.name())
            .or_default() += 1;
    }
}

impl PartyMetrics {
    /// Returns what counts requests.
    pub(super) const fn requests(&self) -> &Metrics {
        &self.requests
    }

    /// Writes everything in Prometheus' text format.
    pub(super) fn write(&self, party: &Party) -> Vec<u8> {
        let mut page = Page(String::from_utf8(self.requests.write()).unwrap_or_default());
        page.connections(&party.port.counts());
        page.state(&party.state.borrow());
        page.head(
            "kms_alarms_total",
            "counter",
            "What was not as it should be, by kind; the log says more.",
        );
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for name in Alarm::NAMES {
            let count = alarms.get(name).copied().unwrap_or_default();
            page.line(&format!("kms_alarms_total{{kind=\"{name}\"}}"), count);
        }
        page.head(
            "kms_budget_left_percent",
            "gauge",
            "How much of the key set's decryption budget is left.",
        );
        page.line(
            "kms_budget_left_percent",
            party.budgets.key_set_left_percent(SystemClock.now_seconds()),
        );
        page.head(
            "kms_audit_records",
            "gauge",
            "Records of each chain's audit log. One less than before is an alarm.",
        );
        for (chain, audit) in &party.audits {
            page.line(&format!("kms_audit_records{{chain=\"{chain}\"}}"), audit.head().records);
        }
        let squashing = party.squashing.as_ref().map(|squashing| squashing.service.counts());
        page.squashing(&squashing.unwrap_or_default());
        page.head(
            "kms_simulated_attestation",
            "gauge",
            "1 if the attestation proves nothing, for development.",
        );
        page.line("kms_simulated_attestation", u64::from(party.attestation.is_simulated()));
        page.0.into_bytes()
    }
}

/// A page in Prometheus' text format.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, value: u64) {
        self.push(format_args!("{name} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        let written = self.0.write_fmt(text);
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }

    fn squashing(&mut self, counts: &SquashingCounts) {
        let SquashingCounts {
            made,
            failed,
            refused,
            busy,
            waiting,
            holds_keys,
        } = *counts;
        self.head(
            "kms_squashings_total",
            "counter",
            "Values of native chains that were to be squashed.",
        );
        for (outcome, count) in [("made", made), ("failed", failed), ("refused", refused)] {
            self.line(&format!("kms_squashings_total{{outcome=\"{outcome}\"}}"), count);
        }
        self.head(
            "kms_squashing_seconds_total",
            "counter",
            "How long batches of values were being squashed.",
        );
        self.push(format_args!("kms_squashing_seconds_total {}\n", busy.as_secs_f64()));
        self.head("kms_squashing_waiting", "gauge", "Values that wait or are being squashed now.");
        self.line("kms_squashing_waiting", u64::try_from(waiting).unwrap_or(u64::MAX));
        self.head("kms_squashing_keys", "gauge", "1 while the keys of noise squashing are in memory.");
        self.line("kms_squashing_keys", u64::from(holds_keys));
    }

    fn connections(&mut self, counts: &AttestedCounts) {
        let AttestedCounts {
            attested,
            handshakes,
            failed,
        } = *counts;
        let kinds: [(&str, ConnectionCounts); 2] = [("attested", attested), ("handshake", handshakes)];
        self.head("kms_connections", "gauge", "Connections to the attested port that are open now.");
        for (kind, counts) in kinds {
            let open = u64::try_from(counts.open).unwrap_or(u64::MAX);
            self.line(&format!("kms_connections{{kind=\"{kind}\"}}"), open);
        }
        self.head(
            "kms_connections_refused_total",
            "counter",
            "Connections to the attested port that were closed: too many, or without evidence that is believed.",
        );
        for (kind, counts) in kinds {
            self.line(
                &format!("kms_connections_refused_total{{reason=\"too_many_{kind}\"}}"),
                counts.refused,
            );
        }
        self.line("kms_connections_refused_total{reason=\"evidence\"}", failed);
    }

    fn state(&mut self, now: &PartyState) {
        self.head("kms_party_state", "gauge", "1 for the state that the party is in.");
        for state in STATES {
            let name = state.as_str().replace(' ', "_");
            self.line(&format!("kms_party_state{{state=\"{name}\"}}"), u64::from(now.state == state));
        }
        self.head("kms_party_number", "gauge", "The party's number in the committee; 0 for none.");
        self.line("kms_party_number", now.party.into());
        // Ids have their kind in the highest byte and count up in the lowest.
        let counted = |id: &cipherloom_primitives::B256| id.0.last_chunk::<8>().map_or(0, |low| u64::from_be_bytes(*low));
        self.head(
            "kms_epoch",
            "gauge",
            "The number of the epoch: of the share in use, and of the chain.",
        );
        self.line(
            "kms_epoch{of=\"share\"}",
            now.share.as_ref().map_or(0, |share| counted(&share.epoch)),
        );
        let of_chain = now.committee.as_ref().map_or(0, |committee| counted(&committee.epoch_id));
        self.line("kms_epoch{of=\"chain\"}", of_chain);
    }
}
