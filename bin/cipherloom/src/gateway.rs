//! `cipherloom gateway`: the HTTP interface that client SDKs talk to, as a process.

mod check;
mod clients;
mod deposits;
mod kms;
mod options;
mod process;

use anyhow::{Result, bail, ensure};
use cipherloom_service::{
    chains,
    config_file::Schema,
    log::LogOptions,
    report::{Report, Unwell},
    runtime,
};
use cipherloom_telemetry::{Service, Telemetry};
use clap::{Command, CommandFactory, Parser};

pub(crate) use self::options::GatewayOptions;

/// What the help begins with.
pub(crate) const HELP: &str = "\
Serve the HTTP interface that client SDKs talk to, for the chains of a deployment.

The gateway holds no secrets and decides nothing: it hands encrypted inputs to the coprocessor of their chain and requests for decryptions to the KMS, which check \
everything by themselves, and serves the public key. It can withhold answers, and not forge them.

  cipherloom gateway --rpc-url https://rpc.example --deployment deployment-1.json \\
      --coprocessor-url http://10.0.0.5:50051 --coprocessor-api-key-file tenant.key \\
      --kms-url http://10.0.0.6:50061 --jobs-database-url sqlite:/var/lib/cipherloom/gateway.sqlite --key-cache /var/lib/cipherloom/key-cache

The KMS is one node that has the whole key, or a committee whose nodes have a share each: instead of --kms-url, --kms-node for each of them, over \
connections whose both ends prove by attestation what runs there.

  … --kms-node 1=10.0.0.11:50061 --kms-node 2=10.0.1.11:50061 --kms-node 3=10.0.2.11:50061 --kms-node 4=10.0.3.11:50061 \\
      --kms-policy policy.json --kms-collateral collateral/

NATIVE: where the validators of a chain compute in its blocks, --native-genesis stands instead of a deployment and a coprocessor, and --keys names the chain's \
public key set (docs/native-kms.md).

  cipherloom gateway --rpc-url http://10.0.0.7:8545 --native-genesis genesis.json --keys /var/lib/cipherloom/public-keys \\
      --kms-url http://10.0.0.6:50061 --jobs-database-url sqlite:/var/lib/cipherloom/gateway.sqlite

There, applications with published SDKs need --native-deposits-key-file: the gateway brings the encrypted inputs to the chain, and pays for that.

Before it serves it checks that all parts belong together: chain ids, contracts, registered signers, and that coprocessor and KMS have the same keys. Parts that \
do not answer are waited for. With --check it does only that, and says what to do about each finding.

Every option can stand in a file instead, under its name, and several chains in [[chain]] tables: see --config and deploy/gateway.toml. \
docs/deployment.md tells how the parts of a deployment are run as processes.";

/// The options as a command of their own, which describes the config file.
#[derive(Parser)]
#[command(name = "cipherloom gateway")]
struct GatewayArguments {
    #[command(flatten)]
    _options: Box<GatewayOptions>,
    #[command(flatten)]
    _log: LogOptions,
}

/// Describes the config file.
pub(crate) fn schema() -> Schema {
    Schema {
        command: gateway_command(),
        tables: vec![chains::table(), clients::table()],
    }
}

/// Describes the options.
pub(crate) fn gateway_command() -> Command {
    GatewayArguments::command()
}

/// Starts to log, and to send traces if the environment says where to.
///
/// # Errors
/// As [`LogOptions::start`].
pub(crate) fn start_logging(options: &GatewayOptions, log: LogOptions) -> Result<Telemetry> {
    let telemetry = log.of_service().start(Some(Service {
        name: &options.service_name,
        version: env!("CARGO_PKG_VERSION"),
    }))?;
    if options.settings.exposes_secret {
        tracing::warn!("the config file has URLs that may hold passwords, and others can read it; run chmod 600");
    }
    Ok(telemetry)
}

/// Does what the options say.
///
/// # Errors
/// If they do not go together, or what they name cannot be used.
pub(crate) fn run(options: &GatewayOptions) -> Result<()> {
    if options.process.print_config {
        print!("{}", options.settings.to_toml());
        return Ok(());
    }
    if options.new_client_key {
        return clients::make_key(options.process.json);
    }
    options.check_together()?;
    runtime::run(options.process.tokio_threads, async {
        match options.process.check {
            true => examine(options).await,
            false => Box::pin(process::run(options)).await,
        }
    })
}

/// Looks at everything that the gateway needs, and prints what was found.
async fn examine(options: &GatewayOptions) -> Result<()> {
    let mut report = Report::default();
    look(options, &mut report).await;
    match report.print(options.process.json)? {
        0 => Ok(()),
        exit_code => Err(Unwell { exit_code }.into()),
    }
}

/// Looks at everything that a gateway with these options needs.
pub(crate) async fn look(options: &GatewayOptions, report: &mut Report) {
    if let Err(error) = options.check_together() {
        report.fail("options", format!("{error:#}"), "`cipherloom gateway --help` tells about each");
        return;
    }
    let (examination, _) = Box::pin(check::look(options)).await;
    report.append(examination.report);
}

impl GatewayOptions {
    /// Refuses options that do not go together. Those of a config file count, so that the command line's own rules would not do.
    pub(crate) fn check_together(&self) -> Result<()> {
        self.check_kms()?;
        ensure!(
            self.tls_certificate.is_some() == self.tls_private_key.is_some(),
            "--tls-certificate and --tls-private-key belong together: give both, or none for connections without encryption"
        );
        ensure!(
            self.tls_certificate.is_some() || self.listen.ip().is_loopback() || self.insecure_plaintext,
            "{} can be reached from other machines and connections to it are not encrypted: give --tls-certificate and --tls-private-key, or \
             --insecure-plaintext behind a proxy that encrypts",
            self.listen
        );
        ensure!(
            self.jobs_database_url.is_some() || self.jobs_in_memory,
            "nothing says where jobs are kept: name a database with --jobs-database-url, sqlite:FILE for one gateway or postgres://… for several; \
             with --jobs-in-memory a restart loses them, and clients have to ask again"
        );
        ensure!(
            self.rate_limit_per_second.is_some() || self.rate_limit_burst.is_none(),
            "--rate-limit-burst needs --rate-limit-per-second"
        );
        clients::configured(&self.clients)?;
        chains::all(&self.chain, &self.chains).map(|_| ())
    }

    /// Refuses a KMS that is none or both kinds at once.
    fn check_kms(&self) -> Result<()> {
        let attestation = &self.attestation;
        let attests = attestation.kms_policy.is_some()
            || attestation.kms_collateral.is_some()
            || attestation.dstack_socket.is_some()
            || attestation.insecure_simulated_attestation;
        match (self.kms_url.is_empty(), self.kms_node.is_empty()) {
            (true, true) => bail!("no KMS: name an endpoint of it with --kms-url, or the nodes of a committee with --kms-node"),
            (false, false) => bail!("--kms-url is for a KMS of one node and --kms-node for a committee: give one of them"),
            (false, true) => ensure!(
                !attests,
                "--kms-policy, --kms-collateral, --dstack-socket and --insecure-simulated-attestation are for a committee: name its nodes with --kms-node"
            ),
            (true, false) => ensure!(
                self.kms_access_token_file.is_none() && self.kms_ca.is_none(),
                "--kms-access-token-file and --kms-ca are for a KMS of one node: those of a committee prove by attestation what they are"
            ),
        }
        Ok(())
    }
}
