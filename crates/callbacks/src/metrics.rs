//! What relays count, in Prometheus' text format. `docs/observability.md` says what each means; a test compares them.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy::primitives::U256;
use cipherloom_store::CallbackState;

use crate::status::{Condition, RelayStatus};

/// The names, kinds and meanings of all metrics.
const METRICS: [(&str, &str, &str); 14] = [
    ("requests", "gauge", "Requests in the store, by site and state."),
    (
        "condition",
        "gauge",
        "1 for what the relay of a site is in: well, low_balance, insufficient_balance, fees_above_limit, not_a_relayer, no_contract, unreachable, standing_by, starting.",
    ),
    ("balance_ether", "gauge", "What the paying account has."),
    ("head_block", "gauge", "The chain's newest block."),
    ("read_block", "gauge", "The last block whose requests and deliveries count."),
    ("transactions_in_flight", "gauge", "Transactions that are out and not included."),
    (
        "transactions_sent_total",
        "counter",
        "Deliveries that were signed and sent for the first time.",
    ),
    (
        "transactions_replaced_total",
        "counter",
        "Transactions that were replaced by ones that pay more.",
    ),
    (
        "transactions_resent_total",
        "counter",
        "Transactions that were sent again as they were.",
    ),
    (
        "transactions_settled_total",
        "counter",
        "Nonces that the chain has settled, by outcome: included, reverted, cancelled, foreign.",
    ),
    ("gas_paid_ether_total", "counter", "What settled transactions have cost."),
    (
        "decryptions_total",
        "counter",
        "Tries to decrypt, by outcome: decrypted, impossible, refused, unavailable.",
    ),
    (
        "failures_total",
        "counter",
        "Steps of a relay that failed and were tried again, by part: chain, store.",
    ),
    (
        "reorganisations_total",
        "counter",
        "How often what was read was withdrawn because the chain has other blocks.",
    ),
];

/// The prefix of all names.
const PREFIX: &str = "cipherloom_callbacks_";

/// The metrics of all relays of a process. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct CallbackMetrics {
    sites: Arc<Mutex<BTreeMap<String, Site>>>,
}

#[derive(Debug, Default)]
struct Site {
    status: RelayStatus,
    requests: BTreeMap<&'static str, u64>,
    /// By metric and outcome.
    counters: BTreeMap<(&'static str, &'static str), u64>,
    /// In wei.
    paid: U256,
}

impl CallbackMetrics {
    /// Names, kinds and meanings, as documents list them.
    #[must_use]
    pub fn descriptions() -> Vec<(String, &'static str, &'static str)> {
        METRICS
            .iter()
            .map(|(name, kind, help)| (format!("{PREFIX}{name}"), *kind, *help))
            .collect()
    }

    fn sites(&self) -> MutexGuard<'_, BTreeMap<String, Site>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, site: &str, change: impl FnOnce(&mut Site)) {
        let mut sites = self.sites();
        if !sites.contains_key(site) {
            sites.insert(site.to_owned(), Site::default());
        }
        if let Some(site) = sites.get_mut(site) {
            change(site);
        }
    }

    pub(crate) fn count(&self, site: &str, metric: &'static str, outcome: &'static str) {
        self.change(site, |site| *site.counters.entry((metric, outcome)).or_default() += 1);
    }

    pub(crate) fn paid(&self, site: &str, wei: U256) {
        self.change(site, |site| site.paid = site.paid.saturating_add(wei));
    }

    pub(crate) fn set_status(&self, site: &str, status: RelayStatus) {
        self.change(site, |site| site.status = status);
    }

    pub(crate) fn set_totals(&self, site: &str, totals: &[(CallbackState, u64)]) {
        self.change(site, |site| {
            site.requests = totals.iter().map(|(state, count)| (state.name(), *count)).collect();
        });
    }

    /// Returns how the relay of a site is; nothing if there is none.
    #[must_use]
    pub fn status(&self, site: &str) -> Option<RelayStatus> {
        self.sites().get(site).map(|site| site.status)
    }

    /// Writes all metrics.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let sites = self.sites();
        for (metric, kind, help) in METRICS {
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {PREFIX}{metric} {help}\n# TYPE {PREFIX}{metric} {kind}\n");
            for (name, site) in sites.iter() {
                let name = name.replace(['\\', '"', '\n'], "_");
                for (labels, value) in values(metric, site) {
                    let _ = writeln!(text, "{PREFIX}{metric}{{site=\"{name}\"{labels}}} {value}");
                }
            }
        }
        text
    }
}

/// Returns the labels beside the site, and the value, of each series of a metric.
fn values(metric: &'static str, site: &Site) -> Vec<(String, String)> {
    let one = |value: String| vec![(String::new(), value)];
    match metric {
        "requests" => site
            .requests
            .iter()
            .map(|(state, count)| (format!(",state=\"{state}\""), count.to_string()))
            .collect(),
        "condition" => Condition::ALL
            .iter()
            .map(|condition| {
                let holds = u8::from(*condition == site.status.condition);
                (format!(",condition=\"{}\"", condition.name()), holds.to_string())
            })
            .collect(),
        "balance_ether" => one(ether(site.status.balance)),
        "gas_paid_ether_total" => one(ether(site.paid)),
        "head_block" => one(site.status.head.to_string()),
        "read_block" => one(site.status.read_to.to_string()),
        "transactions_in_flight" => one(site.status.in_flight.to_string()),
        _ => {
            let counted = site.counters.iter().filter(|((name, _), _)| *name == metric);
            let series: Vec<_> = counted
                .map(|((_, outcome), count)| {
                    let label = match (metric, outcome.is_empty()) {
                        (_, true) => String::new(),
                        ("failures_total", _) => format!(",part=\"{outcome}\""),
                        _ => format!(",outcome=\"{outcome}\""),
                    };
                    (label, count.to_string())
                })
                .collect();
            match series.is_empty() && !matches!(metric, "transactions_settled_total" | "decryptions_total" | "failures_total") {
                true => one("0".to_owned()),
                false => series,
            }
        }
    }
}

fn ether(wei: U256) -> String {
    cipherloom_chain::fees::ether(wei.saturating_to())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_help_and_type_and_its_site() {
        let metrics = CallbackMetrics::default();
        metrics.set_totals("chain-1", &[(CallbackState::Pending, 3)]);
        for (metric, outcome) in [
            ("transactions_sent_total", ""),
            ("transactions_settled_total", "included"),
            ("decryptions_total", "refused"),
            ("failures_total", "chain"),
        ] {
            metrics.count("chain-1", metric, outcome);
        }
        metrics.paid("chain-1", U256::from(2_000_000_000_000_000_000_u64));
        let text = metrics.render();
        for expected in [
            "cipherloom_callbacks_requests{site=\"chain-1\",state=\"pending\"} 3\n",
            "cipherloom_callbacks_transactions_settled_total{site=\"chain-1\",outcome=\"included\"} 1\n",
            "cipherloom_callbacks_failures_total{site=\"chain-1\",part=\"chain\"} 1\n",
            "cipherloom_callbacks_gas_paid_ether_total{site=\"chain-1\"} 2\n",
            "cipherloom_callbacks_condition{site=\"chain-1\",condition=\"starting\"} 1\n",
            "cipherloom_callbacks_transactions_replaced_total{site=\"chain-1\"} 0\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        for series in text.lines().filter(|line| !line.starts_with('#')) {
            let name = series.split('{').next().unwrap();
            assert!(
                text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")),
                "{series}"
            );
        }
    }

    #[test]
    fn every_metric_is_documented_as_it_is() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/observability.md");
        let document = std::fs::read_to_string(path).unwrap();
        for (name, kind, help) in CallbackMetrics::descriptions() {
            let line = document.lines().find(|line| line.starts_with(&format!("| `{name}` | {kind} |")));
            assert!(
                line.is_some_and(|line| line.ends_with(&format!("| {help} |"))),
                "{name} {kind}: {help}"
            );
        }
    }
}
