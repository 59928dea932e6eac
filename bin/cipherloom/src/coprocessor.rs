//! `cipherloom coprocessor`: the backend that operators run, as a process.

mod generate;
mod health;
pub(crate) mod line;
mod options;
mod process;
mod sampling;
mod serve;
mod setup;

use anyhow::{Context, Result, ensure};
use cipherloom_service::{database_url::DatabaseUrl, log::LogOptions};
use cipherloom_telemetry::{Service, Telemetry};

pub(crate) use self::options::{CoprocessorOptions, HELP};
/// Starts to log, and to send traces if the environment says where to. A service says what it does without being asked: one -v less is needed.
///
/// # Errors
/// As [`LogOptions::start`].
pub(crate) fn start_logging(options: &CoprocessorOptions, log: LogOptions) -> Result<Telemetry> {
    let telemetry = log.of_service().start(Some(Service {
        name: &options.service_name,
        version: env!("CARGO_PKG_VERSION"),
    }))?;
    if options.settings.exposes_secret {
        tracing::warn!("the config file has the database's URL and others can read it; run chmod 600 if it holds a password");
    }
    Ok(telemetry)
}

/// Does what the options say: generates keys, or serves until it is told to stop.
///
/// # Errors
/// If the options do not go together, or what they name cannot be used.
pub(crate) fn run(options: &CoprocessorOptions) -> Result<()> {
    if options.print_config {
        print!("{}", options.settings.to_toml());
        return Ok(());
    }
    if options.generate_fhe_keys {
        return generate::run(options);
    }
    serve::run(options, check(options)?)
}

/// Refuses options that do not go together, and returns the database's URL. Those of a config file count, so that the command line's own rules
/// would not do.
fn check(options: &CoprocessorOptions) -> Result<&str> {
    ensure!(
        options.run_server || options.run_bg_worker || options.run_follower,
        "nothing to do: --run-server serves the API, --run-bg-worker computes, --run-follower follows chains, and all may be given; --generate-fhe-keys makes a key set, and --help shows everything"
    );
    ensure!(
        options.tls_certificate.is_some() == options.tls_private_key.is_some(),
        "--tls-certificate and --tls-private-key belong together: give both, or none for connections without encryption"
    );
    if let Some(mirror) = &options.mirror {
        ensure!(
            mirror.is_writable(),
            "--mirror {mirror} can only be read; name the place that is published there"
        );
    }
    let url = options.database_url.as_ref().map(DatabaseUrl::expose);
    url.filter(|url| !url.is_empty())
        .context("no database: give its URL in the environment as DATABASE_URL, or with --database-url, or in the config file; postgres://USER@HOST/DATABASE, or sqlite:FILE for one process alone")
}
