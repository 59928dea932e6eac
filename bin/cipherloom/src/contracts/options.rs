//! What the commands share: the chain, the deployment, and how transactions are sent.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{CallLimits, Deployment, HostChain, LocalProfile, SendOptions, fees::GWEI};
use cipherloom_contracts::HostAddresses;
use clap::Args;

use super::environment::Environment;

/// Chains on which ether is worth nothing: their usual ids.
const DEVELOPMENT_CHAINS: [u64; 4] = [31337, 12345, 1337, 8009];

/// The chain.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChainOptions {
    /// The chain's node: JSON-RPC over http://, https://, ws:// or wss://. Given several times, the others are used when the first fails
    /// [default: CIPHERLOOM_RPC_URL, RPC_URL or SEPOLIA_RPC_URL in the environment].
    #[arg(long, value_name = "URL")]
    rpc: Vec<String>,

    /// Take variables from this file too: NAME=value in lines, such as the .env of the 0.6 generation's deployment scripts.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

impl ChainOptions {
    /// Reads the variables.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub(crate) fn environment(&self) -> Result<Environment> {
        Environment::load(self.env_file.as_deref())
    }

    /// Sets up calls to the chain's nodes.
    ///
    /// # Errors
    /// If none is named, or a URL is none of a node.
    pub(crate) fn connect(&self, environment: &Environment, addresses: HostAddresses) -> Result<HostChain> {
        let variables = ["CIPHERLOOM_RPC_URL", "RPC_URL", "SEPOLIA_RPC_URL"];
        let named = if self.rpc.is_empty() {
            let found = variables.into_iter().find_map(|name| environment.variable(name));
            found.map(|url| url.as_str().to_owned()).into_iter().collect()
        } else {
            self.rpc.clone()
        };
        ensure!(
            !named.is_empty(),
            "no node is named: give its URL with --rpc, or in CIPHERLOOM_RPC_URL in the environment"
        );
        Ok(HostChain::connect_all(&named, addresses, CallLimits::default(), None)?)
    }

    /// Says whether a node is named, here or in the environment.
    pub(crate) fn is_named(&self, environment: &Environment) -> bool {
        !self.rpc.is_empty()
            || ["CIPHERLOOM_RPC_URL", "RPC_URL", "SEPOLIA_RPC_URL"]
                .into_iter()
                .any(|name| environment.variable(name).is_some())
    }
}

/// A deployment that is there.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeployedOptions {
    #[command(flatten)]
    pub(crate) chain: ChainOptions,

    /// The file about the deployment [default: deployment-ID.json in the current directory].
    #[arg(long, value_name = "FILE")]
    deployment: Option<PathBuf>,

    /// Find the contracts by the account that deployed them instead of by a file.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "deployment")]
    deployer: Option<Address>,

    /// The account that deployed the GatewayContract, if it is another.
    #[arg(long, value_name = "ADDRESS", requires = "deployer")]
    gateway_deployer: Option<Address>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A deployment, found.
pub(crate) struct Deployed {
    /// The chain it is on.
    pub(crate) chain: HostChain,
    /// The chain's id.
    pub(crate) chain_id: u64,
    /// What is known about it.
    pub(crate) record: Option<Deployment>,
    /// Where that is written down.
    pub(crate) file: Option<PathBuf>,
    /// Variables of the environment and of a file.
    pub(crate) environment: Environment,
}

impl DeployedOptions {
    /// Finds the deployment: by the file, by the deployer, or by the published plan of a local chain.
    ///
    /// # Errors
    /// If the chain does not answer, nothing says where the contracts are, or the file is about another chain.
    pub(crate) async fn find(&self) -> Result<Deployed> {
        let environment = self.chain.environment()?;
        // Which chain it is says which file it is about, so that the contracts' addresses come later.
        let unknown = self.chain.connect(&environment, HostAddresses::of_deployer(Address::ZERO))?;
        let chain_id = unknown.chain_id().await.context("cannot ask the chain")?;
        let usual = PathBuf::from(Deployment::file_name(chain_id));
        let file = match (&self.deployment, self.deployer) {
            (Some(file), _) => Some(file.clone()),
            (None, None) if usual.exists() => Some(usual),
            (None, _) => None,
        };
        let record = file.as_deref().map(|file| read(file, chain_id)).transpose()?;
        let addresses = match (&record, self.deployer, LocalProfile::of_chain(chain_id)) {
            (Some(record), ..) => record.addresses(),
            (None, Some(deployer), _) => self.gateway_deployer.map_or_else(
                || HostAddresses::of_deployer(deployer),
                |gateway| HostAddresses::of_deployers(deployer, gateway),
            ),
            (None, None, Some(profile)) => profile.addresses(),
            (None, None, None) => bail!(
                "nothing says where the host contracts are on chain {chain_id}: name the file about the deployment with --deployment, or the account \
                 that deployed them with --deployer"
            ),
        };
        Ok(Deployed {
            chain: self.chain.connect(&environment, addresses)?,
            chain_id,
            record,
            file,
            environment,
        })
    }
}

impl Deployed {
    /// Writes what is known now, if it is written down somewhere.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn save(&self) -> Result<()> {
        if let (Some(record), Some(file)) = (&self.record, &self.file) {
            record.write(file)?;
        }
        Ok(())
    }
}

fn read(file: &Path, chain_id: u64) -> Result<Deployment> {
    let record = Deployment::read(file)?;
    ensure!(
        record.chain_id == chain_id,
        "the deployment in {} is on chain {}, and the node serves chain {chain_id}",
        file.display(),
        record.chain_id
    );
    Ok(record)
}

/// How transactions are sent.
#[derive(Clone, Debug, Args)]
pub(crate) struct SendingOptions {
    /// Say what would be sent and what it would cost, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not ask before ether is spent. Nothing is asked on development chains.
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// How many blocks make a transaction final enough, the one it is in counted [default: 1 on development chains, 3 on others].
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    confirmations: Option<u64>,

    /// The most that a unit of gas may cost, in gwei; with less, it is waited for cheaper times.
    #[arg(long, value_name = "GWEI", value_parser = parse_gwei)]
    max_fee: Option<u128>,

    /// Send transactions with a gas price even if the chain has a base fee (EIP-1559).
    #[arg(long)]
    pub(super) legacy: bool,

    /// After how many seconds a transaction that is not included is replaced by one that pays a quarter more.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    replace_after: u64,

    /// How many seconds to wait for one transaction in all. Whatever is done then stays done, and the same command goes on with the rest.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86400))]
    give_up_after: u64,
}

impl SendingOptions {
    /// Returns the options for sending on a chain.
    pub(crate) fn on(&self, chain_id: u64) -> SendOptions {
        SendOptions {
            confirmations: self.confirmations.unwrap_or(if is_development(chain_id) { 1 } else { 3 }),
            max_fee_per_gas: self.max_fee,
            force_legacy: self.legacy,
            stuck_after: Duration::from_secs(self.replace_after),
            patience: Duration::from_secs(self.give_up_after),
        }
    }

    /// Asks whether ether may be spent, unless it is worth nothing or the answer was given.
    ///
    /// # Errors
    /// If the answer is no, or nobody can be asked.
    pub(crate) fn confirm(&self, chain_id: u64, question: &str) -> Result<()> {
        if self.yes || is_development(chain_id) {
            return Ok(());
        }
        let input = std::io::stdin();
        ensure!(
            input.is_terminal(),
            "{question} Nobody can be asked here; --yes says that it is meant so, and --dry-run only tells what would be sent"
        );
        eprint!("{question} [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        input.lock().read_line(&mut answer)?;
        ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "stopped; nothing was sent");
        Ok(())
    }
}

/// Says whether ether of a chain is worth nothing.
pub(crate) fn is_development(chain_id: u64) -> bool {
    DEVELOPMENT_CHAINS.contains(&chain_id)
}

/// Reads gwei, with a fraction or not.
fn parse_gwei(text: &str) -> Result<u128, String> {
    let wrong = || format!("{text:?} is no amount in gwei, such as 30 or 0.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let fraction: u128 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(GWEI).and_then(|wei| wei.checked_add(fraction)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gwei_are_read_with_and_without_a_fraction() {
        assert_eq!(parse_gwei("30"), Ok(30_000_000_000));
        assert_eq!(parse_gwei("0.5"), Ok(500_000_000));
        assert_eq!(parse_gwei("1.000000001"), Ok(1_000_000_001));
        for wrong in ["", ".", "1.", "-1", "1.0000000001", "1e9", "999999999999999999999999999999999999"] {
            assert!(parse_gwei(wrong).is_err(), "{wrong}");
        }
    }
}
