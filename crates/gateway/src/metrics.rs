//! Counters in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::StatusCode;

use crate::{
    clients::{ClientIndex, Operation},
    jobs::JobCounts,
};

/// What a request without a known client counts as. No client has this name: clients of the configuration are counted by theirs.
const NOBODY: &str = "";

/// What became of a request at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Admittance {
    Admitted,
    Limited,
    Unauthorized,
}

impl Admittance {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Limited => "rate_limited",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// A request at the door: whose, for what, and what became of it.
type Post = (Option<ClientIndex>, Operation, Admittance);

/// What the gateway counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By route and status; routes are ours, never a client's text, so the map stays small.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// The names of the known clients, by index.
    clients: OnceLock<Vec<String>>,
    /// By client, operation and what became of them.
    posts: Mutex<BTreeMap<Post, u64>>,
    jobs_started: AtomicU64,
    jobs_shared: AtomicU64,
    jobs_succeeded: AtomicU64,
    jobs_failed: AtomicU64,
    jobs_taken_up: AtomicU64,
    job_database_errors: AtomicU64,
    connections: AtomicU64,
    certificates: AtomicU64,
    panics: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, route: &'static str, status: StatusCode) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status.as_u16())).or_default() += 1;
    }

    /// Names the known clients; only the first call counts.
    pub(crate) fn name_clients(&self, names: Vec<String>) {
        let _ = self.clients.set(names);
    }

    pub(crate) fn posted(&self, client: Option<ClientIndex>, operation: Operation, admittance: Admittance) {
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        *posts.entry((client, operation, admittance)).or_default() += 1;
    }

    pub(crate) fn job_taken_up(&self) {
        self.jobs_taken_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn job_database_failed(&self) {
        self.job_database_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn certificate_loaded(&self) {
        self.certificates.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn job_started(&self) {
        self.jobs_started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn job_shared(&self) {
        self.jobs_shared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn job_finished(&self, succeeded: bool) {
        let counter = if succeeded { &self.jobs_succeeded } else { &self.jobs_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes all counters.
    pub(crate) fn render(&self, jobs: JobCounts) -> String {
        let mut text = String::new();
        let name = "cipherloom_gateway_requests_total";
        header(&mut text, name, "counter", "HTTP requests answered, by route and status.");
        for ((route, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            line(&mut text, &format!("{name}{{route=\"{route}\",status=\"{status}\"}}"), *count);
        }
        let name = "cipherloom_gateway_client_requests_total";
        header(
            &mut text,
            name,
            "counter",
            "Requests posted, by client (empty without a known key), operation and what became of them at the door.",
        );
        let names = self.clients.get().map_or(&[][..], Vec::as_slice);
        for ((client, operation, admittance), count) in self.posts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let client = client.and_then(|index| names.get(index)).map_or(NOBODY, String::as_str);
            let (operation, result) = (operation.as_str(), admittance.as_str());
            line(
                &mut text,
                &format!("{name}{{client=\"{client}\",operation=\"{operation}\",result=\"{result}\"}}"),
                *count,
            );
        }
        let counters = [
            ("jobs_started_total", "Jobs started.", &self.jobs_started),
            (
                "jobs_shared_total",
                "Requests that were given the job of an equal request.",
                &self.jobs_shared,
            ),
            ("jobs_succeeded_total", "Jobs that ended with an answer.", &self.jobs_succeeded),
            ("jobs_failed_total", "Jobs that ended with an error.", &self.jobs_failed),
            (
                "jobs_taken_up_total",
                "Jobs taken up that another process, or this one before a restart, had begun.",
                &self.jobs_taken_up,
            ),
            (
                "job_database_errors_total",
                "Calls to the database of jobs that failed; they are repeated where a job depends on it.",
                &self.job_database_errors,
            ),
            (
                "certificates_loaded_total",
                "Certificates taken into use, the one at the start included.",
                &self.certificates,
            ),
            ("connections_total", "Connections accepted.", &self.connections),
            ("panics_total", "Panics caught; each is a defect.", &self.panics),
        ];
        for (name, help, counter) in counters {
            let name = format!("cipherloom_gateway_{name}");
            header(&mut text, &name, "counter", help);
            line(&mut text, &name, counter.load(Ordering::Relaxed));
        }
        let gauges = [
            ("jobs_unfinished", "Jobs waiting or running.", jobs.unfinished),
            ("jobs_finished", "Finished jobs whose answers are kept.", jobs.finished),
        ];
        for (name, help, value) in gauges {
            let name = format!("cipherloom_gateway_{name}");
            header(&mut text, &name, "gauge", help);
            line(&mut text, &name, value);
        }
        text
    }
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_help_and_type() {
        let metrics = Metrics::default();
        metrics.answered("/v2/keyurl", StatusCode::OK);
        metrics.answered("/v2/keyurl", StatusCode::OK);
        metrics.job_finished(false);
        metrics.name_clients(vec!["shop".to_owned()]);
        metrics.posted(Some(0), Operation::PublicDecrypt, Admittance::Limited);
        metrics.posted(None, Operation::InputProof, Admittance::Admitted);
        let text = metrics.render(JobCounts {
            unfinished: 3,
            finished: 4,
        });
        assert!(text.contains("cipherloom_gateway_requests_total{route=\"/v2/keyurl\",status=\"200\"} 2\n"));
        assert!(text.contains("cipherloom_gateway_jobs_failed_total 1\n"));
        let posts = "cipherloom_gateway_client_requests_total";
        let (limited, admitted) = (
            "{client=\"shop\",operation=\"public-decrypt\",result=\"rate_limited\"} 1\n",
            "{client=\"\",operation=\"input-proof\",result=\"admitted\"} 1\n",
        );
        assert!(
            text.contains(&format!("{posts}{limited}")) && text.contains(&format!("{posts}{admitted}")),
            "{text}"
        );
        assert!(text.contains("cipherloom_gateway_jobs_unfinished 3\n"));
        for series in text.lines().filter(|line| !line.starts_with('#')) {
            let name = series.split(['{', ' ']).next().unwrap();
            assert!(
                text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")),
                "{series}"
            );
        }
    }
}
