//! What a process logs: options that every command has.

use anyhow::{Context, Result};
use cipherloom_telemetry::{LogFormat, Service, Telemetry, TelemetryOptions};
use clap::Args;

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Args)]
pub struct LogOptions {
    /// Log more: -v what happens, -vv details, -vvv everything. `RUST_LOG` overrides it.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Write log lines as JSON objects.
    #[arg(long, global = true)]
    pub log_json: bool,
}

impl LogOptions {
    /// The same for a service, which says what it does without being asked: one -v less is needed.
    pub const fn of_service(self) -> Self {
        Self {
            verbose: self.verbose.saturating_add(1),
            ..self
        }
    }

    /// Returns what of our own crates is logged, and what of others', for how often -v is given.
    const fn filter(self) -> &'static str {
        match self.verbose {
            0 => "warn",
            1 => {
                "warn,cipherloom=info,cipherloom_chain=info,cipherloom_consensus=info,cipherloom_coprocessor=info,cipherloom_engine=info,cipherloom_executor=info,cipherloom_gateway=info,cipherloom_kms=info,cipherloom_attest=info,cipherloom_ceremony=info,cipherloom_service=info,cipherloom_node=info,cipherloom_fhe=info,cipherloom_store=info,cipherloom_telemetry=info,cipherloom_validator=info"
            }
            2 => {
                "info,arc_malachitebft_core_consensus=warn,arc_malachitebft_core_driver=warn,arc_malachitebft_core_votekeeper=warn,cipherloom=debug,cipherloom_chain=debug,cipherloom_consensus=debug,cipherloom_coprocessor=debug,cipherloom_engine=debug,cipherloom_executor=debug,cipherloom_gateway=debug,cipherloom_kms=debug,cipherloom_attest=debug,cipherloom_ceremony=debug,cipherloom_service=debug,cipherloom_node=debug,cipherloom_fhe=debug,cipherloom_store=debug,cipherloom_telemetry=debug,cipherloom_validator=debug"
            }
            _ => "trace",
        }
    }

    /// Sends log lines to standard error, so that standard output stays what a command prints; and, as this service, traces to where the
    /// environment says.
    ///
    /// # Errors
    /// If `RUST_LOG` or what the environment says about traces cannot be used.
    pub fn start(self, service: Option<Service<'_>>) -> Result<Telemetry> {
        let format = if self.log_json { LogFormat::Json } else { LogFormat::Text };
        Telemetry::start(&TelemetryOptions {
            filter: self.filter(),
            format,
            service,
        })
        .context("cannot start logging")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the library of agreement does at each step is of use to whoever asks for everything.
    #[test]
    fn the_steps_of_agreement_are_logged_only_on_demand() {
        let filter = |verbose: u8| LogOptions { verbose, log_json: false }.of_service().filter();
        for verbose in 0..=1 {
            let directives: Vec<&str> = filter(verbose).split(',').collect();
            let usual = directives.first().copied().unwrap_or_default();
            for part in ["consensus", "driver", "votekeeper"] {
                let named = format!("arc_malachitebft_core_{part}=warn");
                assert!(usual == "warn" || directives.contains(&named.as_str()), "{verbose}: {part}");
            }
        }
        assert_eq!(filter(2), "trace");
    }
}
