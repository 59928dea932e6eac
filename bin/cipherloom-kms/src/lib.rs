//! A node of the key-management system as a process: `cipherloom kms node`, and `cipherloom-kms`, which is that and nothing else.
//!
//! The second exists to be measured: what runs inside attested hardware should be as little as possible, and hold no part that is for development. This
//! crate depends on nothing that only the complete stack needs.
#![expect(clippy::print_stdout, reason = "a command-line tool prints its results")]

mod check;
mod ciphertexts;
pub mod key_set;
mod metrics;
mod options;
pub mod party;
mod process;
pub mod public;
mod server;
pub mod squashed;

use std::{ffi::OsString, process::ExitCode};

use anyhow::{Result, bail, ensure};
use cipherloom_service::{
    chains,
    config_file::Schema,
    line::{self, finish},
    log::LogOptions,
    report::{Report, Unwell},
    runtime,
    settings::Settings,
};
use cipherloom_telemetry::{Service, Telemetry};
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::options::{CENTRALISED, NodeOptions};
use self::party::PartyOptions;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum KmsCommand {
    /// Serve decryptions as a node: as one party of a committee, or with the whole secret key.
    #[command(long_about = NODE_HELP)]
    Node(Box<NodeOptions>),
}

const NODE_HELP: &str = "\
Serve decryptions as a node: as one party of a committee, or with the whole secret key.

The node checks every request by itself: the signature, the window, the access list on the chain, and that the ciphertext is the coprocessor's. It trusts \
neither gateways nor coprocessors.

PARTY: with --party-dir the node is one party of a committee and holds a share of the secret key, sealed to its hardware. No party can decrypt alone. It \
starts with nothing and prints the address that it signs with; once all parties' addresses are registered on the chain, `cipherloom kms ceremony` deals \
their shares. It talks to gateways, dealers and other parties only after both ends proved what they run.

  cipherloom kms node --party-dir /var/lib/cipherloom/party --policy policy.json --collateral /var/lib/cipherloom/collateral \\
      --rpc-url https://rpc.example --rpc-url https://other.example --rpc-quorum 2 --deployment deployment-1.json \\
      --coprocessor-url http://10.0.0.5:50051 --coprocessor-api-key-file tenant.key

CENTRALISED: with --keys this one process holds the whole secret key. Whoever controls the process or its machine can decrypt everything.

  cipherloom keys generate /var/lib/cipherloom/keys
  cipherloom keys signing-key kms.key
  cipherloom kms node --keys /var/lib/cipherloom/keys --signing-key-file kms.key --audit-dir /var/lib/cipherloom/audit \\
      --rpc-url https://rpc.example --deployment deployment-1.json \\
      --coprocessor-url http://10.0.0.5:50051 --coprocessor-api-key-file tenant.key


NATIVE: where the validators of a chain compute in its blocks, --native-genesis stands instead of a deployment and a coprocessor. The node follows the \
validators from the chain's first block, believes no node about rights and ciphertexts, and needs none that it trusts (docs/native-kms.md).

  cipherloom kms node --keys /var/lib/cipherloom/keys --signing-key-file kms.key --audit-dir /var/lib/cipherloom/audit \\
      --rpc-url http://10.0.0.7:8545 --native-genesis genesis.json

A party has --keys there as well, without anything secret: it squashes the noise of proven ciphertexts itself, with the keys that its committee's record names.

  cipherloom kms node --party-dir /var/lib/cipherloom/party --policy policy.json --collateral /var/lib/cipherloom/collateral \\
      --rpc-url http://10.0.0.7:8545 --native-genesis genesis.json --keys /var/lib/cipherloom/public-keys

Every option can stand in a file instead, under its name: see --config, and deploy/kms.toml and deploy/kms-threshold.toml. docs/deployment.md tells how \
the parts of a deployment are run as processes, docs/kms-threshold.md about committees.";

/// The options as a command of their own, which describes the config file.
#[derive(Parser)]
#[command(name = "cipherloom-kms", version, max_term_width = 110, long_about = NODE_HELP)]
struct NodeArguments {
    #[command(flatten)]
    options: Box<NodeOptions>,
    #[command(flatten)]
    log: LogOptions,
}

/// Runs the binary `cipherloom-kms`: reads the command line and does what it says.
#[must_use]
pub fn cipherloom_kms() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let result = node_arguments(&line).and_then(|NodeArguments { options, log }| {
        let command = KmsCommand::Node(options);
        let telemetry = start_logging(&command, log)?;
        let result = run(&command);
        telemetry.finish();
        result
    });
    line::exit_code(result)
}

/// Reads a command line that is a node's options, with their config file. Usage errors, `--help` and `--version` end the process.
fn node_arguments(line: &[OsString]) -> Result<NodeArguments> {
    let root = NodeArguments::command;
    let mut arguments = finish(NodeArguments::from_arg_matches(&root().get_matches_from(line)), root());
    let schema = schema();
    let file = line::read(arguments.options.config.as_deref(), &schema)?;
    let matches = file.clone().unwrap_or_default().apply(root(), &[]).get_matches_from(line);
    arguments = finish(NodeArguments::from_arg_matches(&matches), root());
    arguments.options.settings = Settings::new(&schema.command, &matches, file.as_ref());
    arguments.options.take_tables(file.as_ref())?;
    Ok(arguments)
}

/// Describes the config file of a node.
pub fn schema() -> Schema {
    Schema {
        command: node_command(),
        tables: vec![chains::table()],
    }
}

/// Describes the options of a node.
pub fn node_command() -> Command {
    NodeArguments::command()
}

/// Starts to log, and to send traces if the environment says where to.
///
/// # Errors
/// As [`LogOptions::start`].
pub fn start_logging(command: &KmsCommand, log: LogOptions) -> Result<Telemetry> {
    let KmsCommand::Node(options) = command;
    log.of_service().start(Some(Service {
        name: &options.service_name,
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// Does what the command says.
///
/// # Errors
/// If the options do not go together, or what they name cannot be used.
pub fn run(command: &KmsCommand) -> Result<()> {
    let KmsCommand::Node(options) = command;
    if options.process.print_config {
        print!("{}", options.settings.to_toml());
        return Ok(());
    }
    options.check_together()?;
    runtime::run(options.process.tokio_threads, async {
        match (options.process.check, options.is_party()) {
            (true, _) => examine(options).await,
            (false, true) => Box::pin(party::run(options)).await,
            (false, false) => Box::pin(process::run(options)).await,
        }
    })
}

/// Looks at everything that the node needs, and prints what was found.
async fn examine(options: &NodeOptions) -> Result<()> {
    let mut report = Report::default();
    look(options, &mut report).await;
    match report.print(options.process.json)? {
        0 => Ok(()),
        exit_code => Err(Unwell { exit_code }.into()),
    }
}

/// Looks at everything that a node with these options needs.
pub async fn look(options: &NodeOptions, report: &mut Report) {
    if let Err(error) = options.check_together() {
        report.fail("options", format!("{error:#}"), "`cipherloom kms node --help` tells about each");
        return;
    }
    let examination = match options.is_party() {
        true => party::look(options).await,
        false => Box::pin(check::look(options)).await.0,
    };
    report.append(examination.report);
}

impl NodeOptions {
    /// Refuses options that do not go together. Those of a config file count, so that the command line's own rules would not do.
    pub fn check_together(&self) -> Result<()> {
        chains::all(&self.chain, &self.chains)?;
        match self.is_party() {
            true => self.check_party(),
            false => self.check_centralised(),
        }
    }

    fn check_party(&self) -> Result<()> {
        let others = [
            ("--tls-certificate", self.tls_certificate.is_some()),
            ("--tls-private-key", self.tls_private_key.is_some()),
            ("--insecure-plaintext", self.insecure_plaintext),
            ("--access-token-file", self.access_token_file.is_some()),
        ];
        if let Some((option, _)) = others.into_iter().find(|(_, is_given)| *is_given) {
            bail!("{option} is for a centralised node; connections to a party are encrypted to what both ends proved");
        }
        let mut native = chains::all(&self.chain, &self.chains)?;
        native.retain(|chain| chain.native_genesis.is_some());
        match (native.is_empty(), self.keys.is_some()) {
            (true, true) => bail!(
                "--keys and --party-dir: a node holds the whole key or a share of it; name one of them. Beside --party-dir, --keys is for native chains, \
                 whose ciphertexts the party squashes itself"
            ),
            (false, false) => bail!(
                "native-genesis: no coprocessor squashes the ciphertexts of a native chain, so that the party does it itself: name the chain's key set with \
                 --keys, without its secret key, as `cipherloom keys export` writes it"
            ),
            (true, false) | (false, true) => {}
        }
        ensure!(
            native.iter().all(|chain| chain.native_trusted_set.is_none()),
            "native-trusted-set is for a centralised node: a party believes nothing on its disk that is not sealed, and follows the validators from the genesis \
             at every start"
        );
        Ok(())
    }

    fn check_centralised(&self) -> Result<()> {
        ensure!(
            self.keys.is_some(),
            "no keys: name the directory of the key set, secret key included, with --keys; or be a party of a committee with --party-dir"
        );
        ensure!(
            self.audit_dir.is_some(),
            "no audit log: name a directory for it with --audit-dir; every decryption is written down there before its answer leaves"
        );
        let PartyOptions {
            policy,
            collateral,
            dstack_socket,
            insecure_simulated_attestation,
            recovery_key,
            ..
        } = &self.party;
        ensure!(
            policy.is_none()
                && collateral.is_none()
                && dstack_socket.is_none()
                && !insecure_simulated_attestation
                && recovery_key.is_none(),
            "attestation and recovery are for a party of a committee: --party-dir is missing"
        );
        ensure!(
            self.tls_certificate.is_some() == self.tls_private_key.is_some(),
            "--tls-certificate and --tls-private-key belong together: give both, or none for connections without encryption"
        );
        ensure!(
            self.tls_certificate.is_some() || self.server_addr.ip().is_loopback() || self.insecure_plaintext,
            "{} can be reached from other machines and connections to it are not encrypted: give --tls-certificate and --tls-private-key, or \
             --insecure-plaintext if the network between gateway and KMS is yours alone",
            self.server_addr
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(more: &[&str]) -> Result<()> {
        let chain = ["cipherloom-kms", "--rpc-url=http://chain", "--coprocessor-url=http://coprocessor"];
        let arguments = NodeArguments::try_parse_from(chain.iter().chain(more)).unwrap();
        arguments.options.check_together()
    }

    #[test]
    fn a_party_of_native_chains_has_a_key_set_to_squash_with() {
        let native = |more: &[&str]| {
            let line = [
                "cipherloom-kms",
                "--party-dir=party",
                "--rpc-url=http://chain",
                "--native-genesis=file",
            ];
            let arguments = NodeArguments::try_parse_from(line.iter().chain(more)).unwrap();
            arguments.options.check_together()
        };
        native(&["--keys=keys"]).unwrap();
        for (arguments, why) in [
            (&[][..], "the party does it itself"),
            (&["--keys=keys", "--native-trusted-set=file"], "from the genesis at every start"),
        ] {
            let refused = format!("{:#}", native(arguments).unwrap_err());
            assert!(refused.contains(why), "{arguments:?}: {refused}");
        }
    }

    #[test]
    fn one_party_serves_chains_of_both_kinds() {
        let config = |tables: &[&str]| -> Result<()> {
            let file = cipherloom_service::config_file::ConfigFile::parse(
                &tables.iter().map(|table| format!("[[chain]]\n{table}\n")).collect::<String>(),
                &schema(),
            )?;
            let mut arguments = NodeArguments::try_parse_from(["cipherloom-kms", "--party-dir=party", "--keys=keys"])?;
            arguments.options.take_tables(Some(&file))?;
            arguments.options.check_together()
        };
        let coprocessor = "rpc-url = [\"http://one\"]\ncoprocessor-url = [\"http://coprocessor\"]";
        let native = "rpc-url = [\"http://two\"]\nnative-genesis = \"genesis.json\"";
        config(&[coprocessor, native]).unwrap();
        config(&[native, coprocessor]).unwrap();
        config(&[native]).unwrap();
        let refused = format!("{:#}", config(&[coprocessor]).unwrap_err());
        assert!(refused.contains("for native chains"), "{refused}");
    }

    #[test]
    fn a_node_holds_the_whole_key_or_a_share_and_not_both() {
        checked(&["--party-dir=party"]).unwrap();
        checked(&["--keys=keys", "--audit-dir=audit"]).unwrap();
        for (arguments, why) in [
            (&["--audit-dir=audit"][..], "--party-dir"),
            (&["--party-dir=party", "--keys=keys"], "name one of them"),
            (
                &["--party-dir=party", "--tls-certificate=file"],
                "--tls-certificate is for a centralised node",
            ),
            (
                &["--party-dir=party", "--insecure-plaintext"],
                "--insecure-plaintext is for a centralised node",
            ),
            (
                &["--party-dir=party", "--access-token-file=file"],
                "--access-token-file is for a centralised node",
            ),
            (&["--keys=keys", "--audit-dir=audit", "--policy=file"], "--party-dir is missing"),
            (
                &["--keys=keys", "--audit-dir=audit", "--insecure-simulated-attestation"],
                "--party-dir is missing",
            ),
            (&["--keys=keys", "--audit-dir=audit", "--server-addr=0.0.0.0:1"], "not encrypted"),
        ] {
            let refused = format!("{:#}", checked(arguments).unwrap_err());
            assert!(refused.contains(why), "{arguments:?}: {refused}");
        }
    }
}
