//! `cipherloom doctor`: looks at a deployment from where it runs, and says what to do about what it finds.
//!
//! It takes the options and the config file of `cipherloom coprocessor`, so that it looks at what that would use. It changes nothing.

mod ciphertexts;
mod database;
mod host;
mod metrics;
pub(crate) mod server;
mod signer;
mod tenants;
mod workers;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use cipherloom_kms_node as kms;
use cipherloom_service::report::{Report, Unwell};
use clap::Args;

use crate::{coprocessor::CoprocessorOptions, gateway, line};

/// How long any one thing is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `cipherloom doctor --help` begins with.
pub(crate) const HELP: &str = "\
Check a deployment and say what to do about each finding.

It takes the options, the environment and the config file of `cipherloom coprocessor` and looks at what that would use: this machine, the database and its schema, tenants and \
their keys, the signing key, the API server, metrics, workers, failed computations, and the store of ciphertexts. It changes nothing. Run it on every machine of a deployment, \
with the config file of the process there:

  cipherloom doctor --config /etc/cipherloom/coprocessor.toml
  cipherloom doctor --config coprocessor.toml --rpc-url https://rpc.example --deep

With --gateway-config or --kms-config it looks at a gateway or a KMS node instead, from where that would run, as their own --check does:

  cipherloom doctor --gateway-config /etc/cipherloom/gateway.toml --kms-config /etc/cipherloom/kms.toml

It exits with 0 if all is well, 1 if there are warnings, and 2 if something does not work.";

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Read all key parts and all ciphertexts, and check their digests, instead of a sample
    #[arg(long, help_heading = "Options of doctor")]
    deep: bool,

    /// A host chain's JSON-RPC: checks that its InputVerifier knows the signing key. May be given once per chain
    #[arg(long, value_name = "URL", help_heading = "Options of doctor")]
    rpc_url: Vec<String>,

    /// Where the API server is reached [default: --server-addr, over TLS if --tls-certificate is given]
    #[arg(long, value_name = "URL", help_heading = "Options of doctor")]
    server_url: Option<String>,

    /// The PEM file of whoever issued the server's certificate [default: --tls-certificate]
    #[arg(long, value_name = "FILE", help_heading = "Options of doctor")]
    server_ca: Option<PathBuf>,

    /// Where the metrics are [default: --metrics-addr]
    #[arg(long, value_name = "URL", help_heading = "Options of doctor")]
    metrics_url: Option<String>,

    /// Look at a gateway with this config file instead of at a coprocessor
    #[arg(long, value_name = "FILE", help_heading = "Options of doctor")]
    gateway_config: Option<PathBuf>,

    /// Look at a KMS node with this config file instead of at a coprocessor
    #[arg(long, value_name = "FILE", help_heading = "Options of doctor")]
    kms_config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) coprocessor: Box<CoprocessorOptions>,
}

/// Which processes the options are for. Without either flag both are looked at.
#[derive(Clone, Copy)]
struct Roles {
    server: bool,
    worker: bool,
    /// Whether the options say so, so that one should be running.
    stated: bool,
}

impl Roles {
    const fn of(options: &CoprocessorOptions) -> Self {
        let stated = options.run_server || options.run_bg_worker;
        Self {
            server: options.run_server || !stated,
            worker: options.run_bg_worker || !stated,
            stated,
        }
    }
}

/// Looks at everything and prints what was found.
///
/// # Errors
/// [`Unwell`] if something should be otherwise, and whatever keeps the result from being printed.
pub(crate) async fn run(options: &DoctorOptions) -> Result<()> {
    let mut report = Report::default();
    if options.gateway_config.is_some() || options.kms_config.is_some() {
        look_around(options, &mut report).await?;
        return finish(&report, options.coprocessor.json);
    }
    let roles = Roles::of(&options.coprocessor);
    host::check(&options.coprocessor, roles, &mut report);
    let signer = signer::check(&options.coprocessor, roles, &mut report);
    ciphertexts::check_places(options, &mut report).await;
    if let Some(database) = database::check(&options.coprocessor, &mut report).await {
        let found = tenants::check(database.as_ref(), options, &mut report).await;
        host::check_memory_for_keys(&options.coprocessor, &found, &mut report);
        signer::check_on_chains(&options.rpc_url, signer, &found, &mut report).await;
        workers::check(database.as_ref(), &found, roles, &mut report).await;
        ciphertexts::check(database.as_ref(), options, &found, &mut report).await;
    }
    if roles.server {
        server::check(options, roles, &mut report).await;
    }
    metrics::check(options, roles, &mut report).await;
    finish(&report, options.coprocessor.json)
}

/// Looks at the parts around the coprocessor.
async fn look_around(options: &DoctorOptions, report: &mut Report) -> Result<()> {
    if let Some(path) = &options.gateway_config {
        let gateway = line::gateway_of_file(path)?;
        gateway::look(&gateway, report).await;
    }
    if let Some(path) = &options.kms_config {
        let node = line::kms_node_of_file(path)?;
        kms::look(&node, report).await;
    }
    Ok(())
}

/// Prints what was found.
fn finish(report: &Report, as_json: bool) -> Result<()> {
    match report.print(as_json)? {
        0 => Ok(()),
        exit_code => Err(Unwell { exit_code }.into()),
    }
}
