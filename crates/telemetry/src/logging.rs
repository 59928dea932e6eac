//! Log lines, and what else a process tells as it goes.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt as _};

use crate::{
    TelemetryError,
    traces::{Service, TraceExport},
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line: `timestamp`, `level`, `target`, `fields` with `message`, and `spans` with the fields of what it belongs to, such
    /// as `tenant` and `transaction`.
    Json,
}

/// What a process tells.
#[derive(Clone, Debug, Default)]
pub struct TelemetryOptions<'a> {
    /// Which log lines are written, as directives of `RUST_LOG`, which overrides them.
    pub filter: &'a str,
    /// How log lines are written.
    pub format: LogFormat,
    /// As which service spans are sent, if the environment names a collector. Without it none are.
    pub service: Option<Service<'a>>,
}

/// What a process tells, for as long as this lives.
#[derive(Debug)]
#[must_use = "dropping it ends the sending of traces"]
pub struct Telemetry {
    traces: Option<TraceExport>,
}

impl Telemetry {
    /// Sends log lines to standard error, so that standard output stays what a command prints, and spans to where the environment says.
    ///
    /// Once per process.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`] if the filter cannot be read, [`TelemetryError::Started`] if logging was started before; if the environment
    /// names a collector also [`TelemetryError::Protocol`], [`TelemetryError::Exporter`] and [`TelemetryError::Thread`].
    pub fn start(options: &TelemetryOptions<'_>) -> Result<Self, TelemetryError> {
        let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
            Ok(directives) if !directives.is_empty() => directives,
            _ => options.filter.to_owned(),
        };
        let filter = EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter(error.to_string()))?;
        let traces = match options.service {
            Some(service) => TraceExport::from_environment(service)?,
            None => None,
        };
        // Colours are for people, not for files and journals.
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        let lines: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
            LogFormat::Text => lines.with_filter(filter).boxed(),
            LogFormat::Json => lines.json().with_filter(filter).boxed(),
        };
        let mut layers = vec![lines];
        layers.extend(traces.as_ref().map(TraceExport::layer));
        // Not `try_init`, which takes records of the crate `log` too. A library that asks there whether to log, as sqlx does at every statement, and
        // then does not, leaves the answer of each layer's filter behind on its thread, where it is taken for that of the next span.
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layers)).map_err(|_| TelemetryError::Started)?;
        if let Some(traces) = &traces {
            tracing::info!(endpoint = traces.endpoint(), "traces are sent");
        }
        Ok(Self { traces })
    }

    /// Says whether spans are sent anywhere.
    #[must_use]
    pub const fn sends_traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Sends the spans that are left, within a few seconds. Blocks.
    pub fn finish(mut self) {
        if let Some(traces) = self.traces.take() {
            traces.finish();
        }
    }
}
