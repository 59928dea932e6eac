//! `cipherloom contracts deploy`: plan, dry run, deployment, and the files about it.

pub(super) mod plan;
mod report;

use std::path::{Path, PathBuf};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{
    DeployEvent, Deployers, Deployment, DeploymentRun, HostChain, LocalProfile,
    deployment::{self, call_of},
};
use cipherloom_contracts::{DeploymentConfig, DeploymentStep, HostAddresses, deployment_steps, gateway_deployment_steps};
use clap::Args;

use self::{
    plan::PlanOptions,
    report::{print_dry_run, report},
};
use super::{
    environment::Environment,
    keys::{self, KeyOptions},
    options::{ChainOptions, SendingOptions},
    reports::{self, Progress},
    simulation,
};

pub(crate) const HELP: &str = "\
Deploy the host contracts, or go on with a deployment that was stopped.

Addresses depend on the deployer's nonces, so the account must not have sent anything before. Every transaction is written down in deployment-ID.json before it is waited \
for; after a failure at any step the same command goes on where it was, and even without the file, because the chain shows what is done. \
A transaction that stays out is replaced by one that pays more.

On the chains 31337 and 12345 the published address plans are used, with their public deployers; coprocessors and KMS nodes have to be named everywhere.";

/// Everything about a deployment.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeployOptions {
    #[command(flatten)]
    chain: ChainOptions,

    #[command(flatten)]
    key: KeyOptions,

    /// The account that deploys, for a dry run without its key.
    #[arg(long, value_name = "ADDRESS", requires = "dry_run")]
    deployer: Option<Address>,

    /// Deploy the GatewayContract with the key in this file, from the account's nonce 0 on [default: PRIVATE_KEY_GATEWAY_DEPLOYER in the environment,
    /// or else the deployer deploys it].
    #[arg(long, value_name = "FILE")]
    gateway_deployer_key_file: Option<PathBuf>,

    #[command(flatten)]
    plan: PlanOptions,

    #[command(flatten)]
    sending: SendingOptions,

    /// The chain's id, for a dry run without a node.
    #[arg(long, value_name = "ID", requires = "dry_run")]
    chain_id: Option<u64>,

    /// Where to write the files about the deployment.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Where to write the file about the deployment, or to go on with it [default: deployment-ID.json below --out].
    #[arg(long, value_name = "FILE")]
    deployment: Option<PathBuf>,

    /// Do not write the .env files with addresses.
    #[arg(long)]
    no_env_files: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A step of an account.
struct AccountStep {
    account: Address,
    step: DeploymentStep,
    is_done: bool,
}

/// Deploys, or says what deploying would take.
///
/// # Errors
/// If the plan is incomplete or refused, the chain fails, or a file cannot be written. What is done is kept.
pub(crate) async fn run(options: &DeployOptions) -> Result<()> {
    let environment = options.chain.environment()?;
    if options.sending.dry_run && !options.chain.is_named(&environment) {
        return offline(options, &environment);
    }
    let unknown = options.chain.connect(&environment, HostAddresses::of_deployer(Address::ZERO))?;
    let chain_id = unknown.chain_id().await.context("cannot ask the chain")?;
    if let Some(expected) = options.chain_id {
        ensure!(expected == chain_id, "the node serves chain {chain_id}, not {expected}");
    }
    let file = options.file(chain_id);
    let accounts = options.accounts(&environment, chain_id)?;
    let config = options.config(&environment, chain_id, &accounts, &file)?;
    let chain = options.chain.connect(&environment, config.addresses())?;
    let steps = remaining(&chain, &config).await?;
    let gas = simulated_gas(chain_id, &steps)?;
    if options.sending.dry_run {
        return dry_run(options, &chain, &config, &steps, &gas).await;
    }
    let Accounts::Keys(deployers) = accounts else {
        bail!("a deployment needs the deployer's key; --deployer alone is for a dry run");
    };
    let progress = Progress::new(options.json);
    let left = ask(options, &chain, &steps, &gas, &progress).await?;
    let record = execute(options, &chain, &config, &deployers, &file, &progress, steps.len()).await?;
    let env_files = if options.no_env_files {
        Vec::new()
    } else {
        reports::write_env_files(&options.out, &record)?
    };
    report(options, &record, &file, &env_files, left);
    Ok(())
}

/// Who deploys.
enum Accounts {
    /// Accounts that can sign.
    Keys(Box<Deployers>),
    /// An account that cannot.
    Address(Address),
}

impl Accounts {
    fn deployer(&self) -> Address {
        match self {
            Self::Keys(keys) => keys.deployer.address(),
            Self::Address(address) => *address,
        }
    }

    fn gateway_deployer(&self) -> Option<Address> {
        match self {
            Self::Keys(keys) => keys.gateway_deployer.as_ref().map(PrivateKeySigner::address),
            Self::Address(_) => None,
        }
    }
}

impl DeployOptions {
    fn file(&self, chain_id: u64) -> PathBuf {
        self.deployment
            .clone()
            .unwrap_or_else(|| self.out.join(Deployment::file_name(chain_id)))
    }

    fn accounts(&self, environment: &Environment, chain_id: u64) -> Result<Accounts> {
        if let Some(deployer) = self.deployer {
            return Ok(Accounts::Address(deployer));
        }
        Ok(Accounts::Keys(Box::new(Deployers {
            deployer: self.key.signer(environment, chain_id)?,
            gateway_deployer: keys::gateway_deployer(self.gateway_deployer_key_file.as_deref(), environment)?,
        })))
    }

    /// Makes the plan: of options, of the file if there is one, and of what is usual.
    fn config(&self, environment: &Environment, chain_id: u64, accounts: &Accounts, file: &Path) -> Result<DeploymentConfig> {
        let recorded = file.exists().then(|| Deployment::read(file)).transpose()?;
        self.plan.config(
            environment,
            chain_id,
            accounts.deployer(),
            accounts.gateway_deployer(),
            recorded.as_ref(),
        )
    }
}

/// Lists the steps of both deployers with what the chain says is done.
async fn remaining(chain: &HostChain, config: &DeploymentConfig) -> Result<Vec<AccountStep>> {
    let mut all = Vec::new();
    let plans = [
        (Some(config.deployer), deployment_steps(config)),
        (config.gateway.deployer, gateway_deployment_steps(config)),
    ];
    for (account, steps) in plans {
        let Some(account) = account else { continue };
        let done = deployment::progress(chain, &steps, account).await?.done;
        // What is left names implementations where they really are, which a failed transaction may have moved.
        all.extend(steps.into_iter().enumerate().map(|(index, mut step)| {
            step.data = call_of(&step, account, &done).data;
            AccountStep {
                account,
                step,
                is_done: index < done.len(),
            }
        }));
    }
    Ok(all)
}

/// Carries the whole deployment out in this process.
fn simulated_gas(chain_id: u64, steps: &[AccountStep]) -> Result<Vec<u64>> {
    let planned: Vec<_> = steps.iter().map(|step| (step.account, &step.step)).collect();
    simulation::gas_of(chain_id, &planned)
}

/// Says what is to be sent, checks that it can be paid, and asks whether it should. Returns how many steps are left.
async fn ask(options: &DeployOptions, chain: &HostChain, steps: &[AccountStep], gas: &[u64], progress: &Progress) -> Result<usize> {
    let chain_id = chain.chain_id().await?;
    let left = steps.iter().filter(|step| !step.is_done).count();
    if left == 0 {
        progress.say(&format!("everything is deployed on chain {chain_id}; nothing is sent"));
        return Ok(0);
    }
    let mut payers: Vec<Address> = steps.iter().map(|step| step.account).collect();
    payers.dedup();
    let mut sentences = Vec::new();
    for payer in payers {
        let own: u64 = steps
            .iter()
            .zip(gas)
            .filter(|(step, _)| step.account == payer && !step.is_done)
            .map(|(_, gas)| *gas)
            .sum();
        let cost = options.sending.cost(chain, payer, with_room(own)).await?;
        cost.require_funds(payer)?;
        sentences.push(format!("{payer}: {}", cost.sentence()));
    }
    progress.say(&format!("deploying on chain {chain_id}: {left} of {} transactions", steps.len()));
    sentences.iter().for_each(|sentence| progress.say(&format!("  {sentence}")));
    let question = format!("Send {left} transactions on chain {chain_id}, {}?", sentences.join("; "));
    options.sending.confirm(chain_id, &question)?;
    Ok(left)
}

/// Gas limits have a fifth of room, and the account must be able to pay for them.
const fn with_room(gas: u64) -> u64 {
    gas.saturating_add(gas / 5)
}

async fn execute(
    options: &DeployOptions,
    chain: &HostChain,
    config: &DeploymentConfig,
    deployers: &Deployers,
    file: &Path,
    progress: &Progress,
    total: usize,
) -> Result<Deployment> {
    let run = DeploymentRun {
        config,
        options: options.sending.on(config.domains.host_chain_id),
        file: Some(file),
    };
    let first_account_steps = deployment_steps(config).len();
    let mut observer = |event: DeployEvent<'_>| match event {
        DeployEvent::Transaction(event) => progress.transaction(event),
        DeployEvent::Included {
            account,
            index,
            call,
            included,
        } => {
            let before = if account == config.deployer { 0 } else { first_account_steps };
            progress.included(&format!("{}/{total}", before + index + 1), call, included);
        }
    };
    let deployed = Box::pin(run.execute(chain, deployers, &mut observer)).await;
    deployed.with_context(|| {
        format!(
            "the deployment is not finished; the same command goes on where it was, with what is written down in {}",
            file.display()
        )
    })
}

/// Says what would be sent on a chain.
async fn dry_run(options: &DeployOptions, chain: &HostChain, config: &DeploymentConfig, steps: &[AccountStep], gas: &[u64]) -> Result<()> {
    let left: u64 = steps.iter().zip(gas).filter(|(step, _)| !step.is_done).map(|(_, gas)| *gas).sum();
    let cost = options.sending.cost(chain, config.deployer, with_room(left)).await?;
    // The node's own estimate of the next step shows whether its chain counts gas as Ethereum does.
    let next = steps.iter().zip(gas).find(|(step, _)| !step.is_done);
    let estimated = match next {
        Some((step, simulated)) => {
            let call = call_of(&step.step, step.account, &[]);
            let node = chain.gas_of(step.account, &call).await;
            node.ok().map(|node| (*simulated, node))
        }
        None => None,
    };
    print_dry_run(options, config, steps, gas, Some((cost, estimated)));
    Ok(())
}

/// Says what would be sent, without a chain.
fn offline(options: &DeployOptions, environment: &Environment) -> Result<()> {
    let known = options
        .plan
        .profile
        .and_then(super::addresses::Profile::local)
        .map(|profile: LocalProfile| profile.chain_id());
    let Some(chain_id) = options.chain_id.or(known) else {
        bail!("a dry run without a node needs the chain's id: --chain-id, or name the node with --rpc");
    };
    let accounts = options.accounts(environment, chain_id)?;
    let config = options.config(environment, chain_id, &accounts, &options.file(chain_id))?;
    let accounts = [
        (Some(config.deployer), deployment_steps(&config)),
        (config.gateway.deployer, gateway_deployment_steps(&config)),
    ];
    let steps: Vec<AccountStep> = accounts
        .into_iter()
        .filter_map(|(account, steps)| Some((account?, steps)))
        .flat_map(|(account, steps)| {
            steps.into_iter().map(move |step| AccountStep {
                account,
                step,
                is_done: false,
            })
        })
        .collect();
    let gas = simulated_gas(chain_id, &steps)?;
    print_dry_run(options, &config, &steps, &gas, None);
    Ok(())
}
