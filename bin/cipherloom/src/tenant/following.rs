//! `cipherloom tenant follow`, `unfollow` and `rewind`: which chains the coprocessor follows.

use std::path::PathBuf;

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{CallLimits, Deployment, HostChain, redacted_url};
use cipherloom_contracts::HostAddresses;
use cipherloom_store::{FollowState, FollowedChain, Tenant, Tenants};
use clap::Args;
use serde_json::{Value, json};

use super::{OneTenant, find, report};
use crate::database;

/// The longest file with URLs that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

pub(super) const FOLLOW_HELP: &str = "\
Have a tenant's chain followed by the processes with --run-follower, or followed in another way than before. They take it up within seconds.

Several URLs are nodes of the same chain, the preferred one first; while one fails the next is asked. Behind ws:// and wss:// URLs new blocks are \
announced, others are asked for them. Where the host contracts are is read from the deployment's file, or from the tenant's ACL contract. docs/following.md tells more.";

/// Options of `tenant follow`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FollowOptions {
    #[command(flatten)]
    tenant: OneTenant,

    /// The URL of a node of the chain: http, https, ws or wss. Given several times: others to ask while one fails.
    #[arg(long, value_name = "URL", required_unless_present = "rpc_file")]
    rpc: Vec<String>,

    /// Read URLs from this file, a line each. A URL with a key is safer there than on the command line, which other users can see.
    #[arg(long, value_name = "FILE")]
    rpc_file: Option<PathBuf>,

    /// The file about the deployment of the host contracts, deployment-CHAINID.json.
    #[arg(long, value_name = "FILE")]
    deployment: Option<PathBuf>,

    /// Where to begin: the block of the host contracts' deployment or earlier [default: as the deployment's file says, else 0].
    #[arg(long, value_name = "BLOCK")]
    first_block: Option<u64>,

    /// How many blocks at the head of the chain may still be reorganised. Those below are final and never withdrawn.
    #[arg(long, value_name = "BLOCKS", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1023))]
    finality: u64,

    /// Check the logs of each block against its receipts, which takes more calls and a chain with the receipts of Ethereum. A node can then leave out nothing.
    #[arg(long)]
    check_receipts: bool,
}

/// Options of `tenant rewind`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RewindOptions {
    #[command(flatten)]
    tenant: OneTenant,

    /// The newest block that is kept.
    #[arg(long, value_name = "BLOCK")]
    to_block: u64,
}

/// Has a chain followed.
///
/// # Errors
/// If there is no such tenant, no node can be reached, the contracts on the chain are not the tenant's, or the database fails.
pub(super) async fn follow(options: &FollowOptions) -> Result<()> {
    let urls = urls(options)?;
    let deployment = options.deployment.as_deref().map(Deployment::read).transpose()?;
    let (tenants, tenant) = find(&options.tenant).await?;
    if let Some(deployment) = &deployment {
        ensure!(
            deployment.chain_id == tenant.chain_id,
            "the file is about a deployment on chain {}, and the tenant's chain is {}",
            deployment.chain_id,
            tenant.chain_id
        );
        ensure!(
            deployment.contracts.acl == tenant.acl,
            "the file is about another deployment than the tenant's: its ACL is {}, the tenant's {}",
            deployment.contracts.acl,
            tenant.acl
        );
    }
    let executor = executor(&urls, &tenant).await?;
    if let Some(expected) = deployment.as_ref().map(|deployment| deployment.contracts.executor) {
        ensure!(
            executor == expected,
            "the ACL on the chain knows {executor} as FHEVMExecutor; the deployment's file says {expected}"
        );
    }
    let from_file = deployment.and_then(|deployment| deployment.first_block);
    let chain = FollowedChain {
        urls,
        executor,
        first_block: options.first_block.or(from_file).unwrap_or_default(),
        finality_depth: options.finality,
        checks_receipts: options.check_receipts,
    };
    tenants.follow(tenant.id, &chain).await?;
    if options.tenant.common.json {
        println!("{}", json!({ "name": tenant.name, "following": describe(&chain, None) }));
    } else {
        println!(
            "tenant {}: chain {} is followed from block {} on, {} blocks at its head may be reorganised",
            tenant.name, tenant.chain_id, chain.first_block, chain.finality_depth
        );
    }
    Ok(())
}

/// Asks the chain where the executor is, which also shows that there is a chain, and that it is the right one.
async fn executor(urls: &[String], tenant: &Tenant) -> Result<Address> {
    let addresses = HostAddresses {
        acl: tenant.acl,
        // Only the ACL is asked.
        ..HostAddresses::of_deployer(Address::ZERO)
    };
    let chain = HostChain::connect_all(urls, addresses, CallLimits::default(), Some(tenant.chain_id))?;
    let nodes = || urls.iter().map(|url| redacted_url(url)).collect::<Vec<_>>().join(", ");
    let found = chain
        .chain_id()
        .await
        .with_context(|| format!("cannot reach the chain at {}", nodes()))?;
    ensure!(
        found == tenant.chain_id,
        "the node serves chain {found}, and the tenant's chain is {}",
        tenant.chain_id
    );
    chain
        .executor_of_acl()
        .await
        .with_context(|| format!("the tenant's ACL {} is not on the chain at {}", tenant.acl, nodes()))
}

fn urls(options: &FollowOptions) -> Result<Vec<String>> {
    let mut urls = options.rpc.clone();
    if let Some(path) = &options.rpc_file {
        let cannot = || format!("cannot read {}", path.display());
        let size = std::fs::metadata(path).with_context(cannot)?.len();
        ensure!(size <= MAX_FILE_BYTES, "{} is too large for a file of URLs", path.display());
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        let lines = text.lines().map(str::trim);
        urls.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
        ensure!(!urls.is_empty(), "{} has no URL", path.display());
    }
    Ok(urls)
}

/// Ends the following of a chain.
///
/// # Errors
/// If there is no such tenant, its chain is not followed, or the database fails.
pub(super) async fn unfollow(options: &OneTenant) -> Result<()> {
    let (tenants, tenant) = find(options).await?;
    if !tenants.unfollow(tenant.id).await? {
        bail!("the chain of tenant {:?} is not followed", tenant.name);
    }
    report(
        options,
        &tenant,
        "following",
        "ended",
        "its chain is followed no more; what is recorded stays",
    );
    Ok(())
}

/// Withdraws recorded blocks, to be read again.
///
/// # Errors
/// If there is no such tenant, work is pushed to it, or the database fails.
pub(super) async fn rewind(options: &RewindOptions) -> Result<()> {
    let name = &options.tenant.name;
    let database = database::shared(&options.tenant.common.database).await?;
    let all = database.tenants().await?;
    let Some(tenant) = all.into_iter().find(|tenant| tenant.name == *name) else {
        bail!("there is no tenant {name:?}; `cipherloom tenant list` shows all");
    };
    let store = database.store(&tenant);
    store
        .remove_blocks_from(tenant.chain_id, options.to_block.saturating_add(1))
        .await?;
    let newest = store.recent_blocks(tenant.chain_id, 1).await?;
    let newest = newest.first().map_or_else(|| "none".to_owned(), |block| block.number.to_string());
    report(
        &options.tenant,
        &tenant,
        "newestBlock",
        &newest,
        &format!("the newest recorded block is {newest}"),
    );
    Ok(())
}

/// Finds out how a tenant's chain is followed, if it is.
///
/// # Errors
/// If the database fails.
pub(super) async fn of(tenants: &dyn Tenants, tenant: &Tenant) -> Result<Option<(FollowedChain, Option<FollowState>)>> {
    let all = tenants.followed().await?;
    let Some((_, chain)) = all.into_iter().find(|(followed, _)| followed.id == tenant.id) else {
        return Ok(None);
    };
    Ok(Some((chain, tenants.follow_state(tenant.id).await?)))
}

/// Describes how a chain is followed, without what is secret in its URLs.
pub(super) fn describe(chain: &FollowedChain, state: Option<&FollowState>) -> Value {
    json!({
        "nodes": chain.urls.iter().map(|url| redacted_url(url)).collect::<Vec<_>>(),
        "executor": chain.executor.to_checksum(None),
        "firstBlock": chain.first_block,
        "finality": chain.finality_depth,
        "checksReceipts": chain.checks_receipts,
        "follower": state.map(|state| &state.owner),
        "head": state.and_then(|state| state.progress.head),
        "recorded": state.and_then(|state| state.progress.recorded),
        "final": state.and_then(|state| state.progress.final_block),
        "reachedAtMs": state.and_then(|state| state.progress.reached_at_ms),
    })
}

/// Prints how a chain is followed.
pub(super) fn print(chain: &FollowedChain, state: Option<&FollowState>) {
    let nodes: Vec<String> = chain.urls.iter().map(|url| redacted_url(url)).collect();
    println!(
        "followed             from block {}, {} blocks may be reorganised",
        chain.first_block, chain.finality_depth
    );
    println!("nodes                {}", nodes.join(", "));
    let Some(state) = state else {
        println!("follower             none yet; `cipherloom coprocessor --run-follower` is one");
        return;
    };
    let number = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    let progress = &state.progress;
    println!("follower             {}", state.owner);
    println!(
        "blocks               head {}, recorded {}, final {}",
        number(progress.head),
        number(progress.recorded),
        number(progress.final_block)
    );
}
