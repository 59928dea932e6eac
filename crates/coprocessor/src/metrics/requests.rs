//! What callers ask for over gRPC.

use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::Registrar;

/// Requests take a few milliseconds, those with proofs up to some seconds.
const SECONDS: [f64; 16] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// A call of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `AsyncCompute`.
    AsyncCompute,
    /// `UploadInputs`.
    UploadInputs,
    /// `GetCiphertexts`.
    GetCiphertexts,
    /// `TrivialEncryptCiphertexts`.
    TrivialEncrypt,
    /// `Describe`.
    Describe,
    /// `GetKeyFile`.
    GetKeyFile,
    /// `AdmitInput`.
    AdmitInput,
    /// `WatchHandles`.
    WatchHandles,
    /// `GetSignedCiphertext`.
    GetSignedCiphertext,
    /// `GetSquashedCiphertext`.
    GetSquashedCiphertext,
}

impl Method {
    const ALL: [Self; 10] = [
        Self::AsyncCompute,
        Self::UploadInputs,
        Self::GetCiphertexts,
        Self::TrivialEncrypt,
        Self::Describe,
        Self::GetKeyFile,
        Self::AdmitInput,
        Self::WatchHandles,
        Self::GetSignedCiphertext,
        Self::GetSquashedCiphertext,
    ];

    /// Says whether the method is of the 0.6 generation, whose metrics keep their names.
    const fn is_of_generation_0_6(self) -> bool {
        matches!(
            self,
            Self::AsyncCompute | Self::UploadInputs | Self::GetCiphertexts | Self::TrivialEncrypt
        )
    }

    /// Returns the name that labels carry.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AsyncCompute => "async_compute",
            Self::UploadInputs => "upload_inputs",
            Self::GetCiphertexts => "get_ciphertexts",
            Self::TrivialEncrypt => "trivial_encrypt",
            Self::Describe => "describe",
            Self::GetKeyFile => "get_key_file",
            Self::AdmitInput => "admit_input",
            Self::WatchHandles => "watch_handles",
            Self::GetSignedCiphertext => "get_signed_ciphertext",
            Self::GetSquashedCiphertext => "get_squashed_ciphertext",
        }
    }
}

/// What callers ask for, and how it went.
#[derive(Clone)]
pub struct RequestMetrics {
    /// Requests and failed requests of each method; those of the 0.6 generation under its names.
    counts: [(IntCounter, IntCounter); 10],
    seconds: HistogramVec,
    refused: IntCounterVec,
    in_progress: IntGaugeVec,
    items: IntCounterVec,
    proof_seconds: Histogram,
    proofs_refused: IntCounter,
}

impl RequestMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        let counts = Method::ALL.map(|method| {
            let (label, rpc) = (method.label(), rpc(method));
            let (calls, errors, callers) = if method.is_of_generation_0_6() {
                ("count", "errors", "")
            } else {
                ("calls_total", "errors_total", " by gateways and KMS nodes")
            };
            (
                registrar.counter(&format!("coprocessor_{label}_{calls}"), &format!("Calls of {rpc}{callers}.")),
                registrar.counter(
                    &format!("coprocessor_{label}_{errors}"),
                    &format!("Calls of {rpc}{callers} that failed."),
                ),
            )
        });
        let metrics = Self {
            counts,
            seconds: registrar.histograms(
                "coprocessor_request_seconds",
                "Time from a call's arrival to its answer, failed calls included.",
                &["method"],
                &SECONDS,
            ),
            refused: registrar.counters(
                "coprocessor_requests_failed_total",
                "Calls that failed, by gRPC status code; `cancelled` if the caller went away.",
                &["method", "code"],
            ),
            in_progress: registrar.gauges(
                "coprocessor_requests_in_progress",
                "Calls that are being answered now.",
                &["method"],
            ),
            items: registrar.counters(
                "coprocessor_request_items_total",
                "What calls that succeeded carried: computations, input lists, handles or public values.",
                &["method"],
            ),
            proof_seconds: registrar.histogram(
                "coprocessor_proof_seconds",
                "Time to verify the zero-knowledge proof of one input list.",
                &SECONDS,
            ),
            proofs_refused: registrar.counter("coprocessor_proofs_refused_total", "Input lists whose proof or form was not valid."),
        };
        for method in Method::ALL {
            let label = [method.label()];
            metrics.seconds.with_label_values(&label);
            metrics.in_progress.with_label_values(&label);
            metrics.items.with_label_values(&label);
        }
        metrics
    }

    /// Notes that a call arrived. If what is returned is dropped before it is told how the call went, the caller went away.
    #[must_use]
    pub fn begin(&self, method: Method) -> RequestInProgress {
        if let Some((count, _)) = self.counts.get(method as usize) {
            count.inc();
        }
        self.in_progress.with_label_values(&[method.label()]).inc();
        RequestInProgress {
            metrics: self.clone(),
            method,
            start: Instant::now(),
            over: false,
        }
    }

    /// Notes that the proof of an input list was checked, which took this long.
    pub fn proof_checked(&self, took: Duration, accepted: bool) {
        self.proof_seconds.observe(took.as_secs_f64());
        if !accepted {
            self.proofs_refused.inc();
        }
    }
}

const fn rpc(method: Method) -> &'static str {
    match method {
        Method::AsyncCompute => "AsyncCompute",
        Method::UploadInputs => "UploadInputs",
        Method::GetCiphertexts => "GetCiphertexts",
        Method::TrivialEncrypt => "TrivialEncryptCiphertexts",
        Method::Describe => "Describe",
        Method::GetKeyFile => "GetKeyFile",
        Method::AdmitInput => "AdmitInput",
        Method::WatchHandles => "WatchHandles",
        Method::GetSignedCiphertext => "GetSignedCiphertext",
        Method::GetSquashedCiphertext => "GetSquashedCiphertext",
    }
}

/// A call that is being answered.
pub struct RequestInProgress {
    metrics: RequestMetrics,
    method: Method,
    start: Instant,
    over: bool,
}

impl RequestInProgress {
    /// Notes that the call succeeded and carried this many items.
    pub fn succeeded(mut self, items: usize) {
        self.over = true;
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        self.metrics.items.with_label_values(&[self.method.label()]).inc_by(items);
    }

    /// Notes that the call failed with this gRPC status code, such as `invalid_argument`.
    pub fn failed(mut self, code: &'static str) {
        self.fail(code);
    }

    fn fail(&mut self, code: &'static str) {
        self.over = true;
        if let Some((_, errors)) = self.metrics.counts.get(self.method as usize) {
            errors.inc();
        }
        self.metrics.refused.with_label_values(&[self.method.label(), code]).inc();
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        if !self.over {
            self.fail("cancelled");
        }
        let label = [self.method.label()];
        self.metrics.in_progress.with_label_values(&label).dec();
        self.metrics
            .seconds
            .with_label_values(&label)
            .observe(self.start.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn has(metrics: &Metrics, line: &str) -> bool {
        String::from_utf8(metrics.encode()).unwrap().lines().any(|found| found == line)
    }

    #[test]
    fn a_call_counts_once_with_its_items_or_its_code() {
        let metrics = Metrics::new();
        metrics.requests().begin(Method::AsyncCompute).succeeded(7);
        metrics.requests().begin(Method::AsyncCompute).failed("invalid_argument");
        assert!(has(&metrics, "coprocessor_async_compute_count 2"));
        assert!(has(&metrics, "coprocessor_async_compute_errors 1"));
        assert!(has(&metrics, r#"coprocessor_request_items_total{method="async_compute"} 7"#));
        assert!(has(
            &metrics,
            r#"coprocessor_requests_failed_total{code="invalid_argument",method="async_compute"} 1"#
        ));
        assert!(has(&metrics, r#"coprocessor_request_seconds_count{method="async_compute"} 2"#));
        assert!(has(&metrics, r#"coprocessor_requests_in_progress{method="async_compute"} 0"#));
        assert!(has(&metrics, "coprocessor_upload_inputs_count 0"));
    }

    #[test]
    fn a_caller_that_goes_away_is_an_error_and_in_progress_no_more() {
        let metrics = Metrics::new();
        let call = metrics.requests().begin(Method::UploadInputs);
        assert!(has(&metrics, r#"coprocessor_requests_in_progress{method="upload_inputs"} 1"#));
        drop(call);
        assert!(has(&metrics, r#"coprocessor_requests_in_progress{method="upload_inputs"} 0"#));
        assert!(has(&metrics, "coprocessor_upload_inputs_errors 1"));
        assert!(has(
            &metrics,
            r#"coprocessor_requests_failed_total{code="cancelled",method="upload_inputs"} 1"#
        ));
    }
}
