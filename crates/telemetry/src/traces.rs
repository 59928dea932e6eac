//! Spans, sent to an OpenTelemetry collector over gRPC.
//!
//! The environment says where to: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`; without them nothing is sent. The standard
//! variables for headers, timeouts, batches, limits and sampling are read by the SDK. Spans are sent from a thread of their own, and dropped if
//! the collector is too slow: nothing waits for it.

use std::{env, io, time::Duration};

use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Runtime;
use tracing::{Level, Metadata};
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use crate::{TelemetryError, transaction};

/// The variables that switch the export on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The variables that choose a transport.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// How long the last spans may take.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// As what a process sends spans.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Its name, `service.name`.
    pub name: &'a str,
    /// Its version, `service.version`.
    pub version: &'a str,
}

/// Sends spans.
#[derive(Debug)]
pub(crate) struct TraceExport {
    provider: SdkTracerProvider,
    endpoint: String,
    /// Where the exporter's connection is served; `None` once it is over.
    runtime: Option<Runtime>,
}

impl TraceExport {
    /// Starts sending spans if the environment asks for it.
    pub(crate) fn from_environment(service: Service<'_>) -> Result<Option<Self>, TelemetryError> {
        let set = |variable: &str| env::var(variable).ok().filter(|value| !value.is_empty());
        let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let Some(endpoint) = ENDPOINTS.into_iter().find_map(set).filter(|_| !off) else {
            return Ok(None);
        };
        for variable in PROTOCOLS {
            if let Some(value) = set(variable).filter(|value| value != "grpc") {
                return Err(TelemetryError::Protocol { variable, value });
            }
        }
        Self::start(service, endpoint).map(Some)
    }

    fn start(service: Service<'_>, endpoint: String) -> Result<Self, TelemetryError> {
        // The connection needs a runtime for as long as it lives; that of the process may not be there yet, or be busy.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map_err(TelemetryError::Thread)?;
        let exporter = {
            let _inside = runtime.enter();
            SpanExporter::builder()
                .with_tonic()
                .build()
                .map_err(|error| TelemetryError::Exporter(error.to_string()))?
        };
        let resource = Resource::builder()
            .with_service_name(service.name.to_owned())
            .with_attributes([
                KeyValue::new("service.version", service.version.to_owned()),
                KeyValue::new("service.instance.id", instance()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_id_generator(transaction::Ids::default())
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        global::set_tracer_provider(provider.clone());
        transaction::begin_sending();
        Ok(Self {
            provider,
            endpoint,
            runtime: Some(runtime),
        })
    }

    /// Returns where spans are sent, without what may be secret in it.
    pub(crate) fn endpoint(&self) -> &str {
        let end = self.endpoint.find('?').unwrap_or(self.endpoint.len());
        let endpoint = self.endpoint.get(..end).unwrap_or_default();
        // A name and password before the host.
        endpoint.rsplit('@').next().unwrap_or_default()
    }

    /// Makes spans and events of our own crates into what is sent. Those of the exporter itself would go round in circles.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let ours = |metadata: &Metadata<'_>| metadata.target().starts_with("cipherloom") && *metadata.level() <= Level::INFO;
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(transaction::TRACER))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(ours))
            .boxed()
    }

    /// Sends what is left and ends.
    pub(crate) fn finish(mut self) {
        transaction::end_sending();
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for TraceExport {
    fn drop(&mut self) {
        self.end();
    }
}

/// Names this process among those of its service.
fn instance() -> String {
    let host = env::var("HOSTNAME").or_else(|_| host_name());
    format!("{}-{}", host.unwrap_or_else(|_| "host".to_owned()), std::process::id())
}

fn host_name() -> Result<String, io::Error> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}
