//! What a node counts.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cipherloom_service::connections::ConnectionCounts;

/// The format of what is written.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests by what was asked and how it went. Labels are those of the protocol, so that there are few.
#[derive(Clone, Default)]
pub(crate) struct Metrics(Arc<Counts>);

/// What was asked and how it went.
type Kind = (&'static str, String);

#[derive(Default)]
struct Counts {
    /// How many there were of each kind, and how many seconds they took together.
    answered: Mutex<BTreeMap<Kind, (u64, f64)>>,
    in_progress: AtomicI64,
}

impl Metrics {
    /// Notes that a request arrived.
    pub(crate) fn begin(&self) -> InProgress {
        self.0.in_progress.fetch_add(1, Ordering::Relaxed);
        InProgress(Arc::clone(&self.0))
    }

    /// Notes how a request went: `ok`, or the label of its failure.
    pub(crate) fn answered(&self, what: &'static str, outcome: &str, took: Duration) {
        let mut answered = self.0.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, seconds) = answered.entry((what, outcome.to_owned())).or_default();
        *count += 1;
        *seconds += took.as_secs_f64();
    }

    /// Writes them in Prometheus' text format, with the connections of the port.
    pub(crate) fn write_with_connections(&self, connections: ConnectionCounts) -> Vec<u8> {
        let mut page = String::from_utf8(self.write()).unwrap_or_default();
        page += "# HELP kms_connections Connections that are open now.\n# TYPE kms_connections gauge\n";
        written(writeln!(page, "kms_connections{{kind=\"plain\"}} {}", connections.open));
        page += "# HELP kms_connections_refused_total Connections that were closed because there were too many.\n# TYPE kms_connections_refused_total counter\n";
        written(writeln!(
            page,
            "kms_connections_refused_total{{reason=\"too_many_plain\"}} {}",
            connections.refused
        ));
        page.into_bytes()
    }

    /// Writes them in Prometheus' text format.
    pub(crate) fn write(&self) -> Vec<u8> {
        let answered = self.0.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = String::from(
            "# HELP kms_requests_total Requests that were answered, by what was asked and how it went.\n# TYPE kms_requests_total counter\n",
        );
        for ((what, outcome), (count, _)) in &answered {
            written(writeln!(
                page,
                "kms_requests_total{{method=\"{what}\",outcome=\"{outcome}\"}} {count}"
            ));
        }
        page += "# HELP kms_request_seconds_total Time that answering took, by what was asked and how it went.\n# TYPE kms_request_seconds_total counter\n";
        for ((what, outcome), (_, seconds)) in &answered {
            written(writeln!(
                page,
                "kms_request_seconds_total{{method=\"{what}\",outcome=\"{outcome}\"}} {seconds}"
            ));
        }
        let in_progress = self.0.in_progress.load(Ordering::Relaxed);
        page += "# HELP kms_requests_in_progress Requests that are being answered now.\n# TYPE kms_requests_in_progress gauge\n";
        written(writeln!(page, "kms_requests_in_progress {in_progress}"));
        page.into_bytes()
    }
}

fn written(result: std::fmt::Result) {
    debug_assert!(result.is_ok(), "writing to a string does not fail");
}

/// A request that is being answered.
pub(crate) struct InProgress(Arc<Counts>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_how_they_went() {
        let metrics = Metrics::default();
        let in_progress = metrics.begin();
        metrics.answered("public_decrypt", "ok", Duration::from_millis(500));
        metrics.answered("public_decrypt", "ok", Duration::from_millis(500));
        metrics.answered("user_decrypt", "not_allowed_on_host_acl", Duration::ZERO);
        let page = String::from_utf8(metrics.write()).unwrap();
        for line in [
            "kms_requests_total{method=\"public_decrypt\",outcome=\"ok\"} 2",
            "kms_request_seconds_total{method=\"public_decrypt\",outcome=\"ok\"} 1",
            "kms_requests_total{method=\"user_decrypt\",outcome=\"not_allowed_on_host_acl\"} 1",
            "kms_requests_in_progress 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        drop(in_progress);
        assert!(String::from_utf8(metrics.write()).unwrap().contains("kms_requests_in_progress 0"));
    }
}
