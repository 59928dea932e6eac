//! What a deployment would take, and what came of it.

use std::path::Path;

use alloy::primitives::U256;
use cipherloom_chain::{Deployment, fees};
use cipherloom_contracts::{DeploymentConfig, HostContract};
use serde_json::{Value, json};

use super::{AccountStep, DeployOptions};
use crate::contracts::{cost::Cost, reports};

/// Prints what is there now.
pub(super) fn report(options: &DeployOptions, record: &Deployment, file: &Path, env_files: &[String], sent: usize) {
    let gas_used: u64 = record.steps.iter().filter_map(|step| step.gas_used).sum();
    if options.json {
        let mut summary = json!({
            "chainId": record.chain_id,
            "sent": sent,
            "gasUsed": gas_used,
            "deploymentFile": file,
            "envFiles": env_files.iter().map(|path| options.out.join(path)).collect::<Vec<_>>(),
            "contracts": reports::named_addresses(&record.addresses()),
        });
        if let (Some(summary), Ok(deployment)) = (summary.as_object_mut(), serde_json::to_value(record)) {
            summary.insert("deployment".to_owned(), deployment);
        }
        println!("{summary}");
        return;
    }
    println!(
        "host contracts of {} on chain {}, {gas_used} gas in all:",
        record.deployer, record.chain_id
    );
    for contract in HostContract::ALL {
        println!("  {:<16} {}", contract.name(), contract.address(&record.addresses()));
    }
    if record.owner != record.deployer {
        println!(
            "{} is offered the ownership and has to accept it with `cipherloom contracts owner accept`; until then {} has it",
            record.owner, record.deployer
        );
    }
    println!("written down in {}; keep it: upgrades are checked against it", file.display());
    if !env_files.is_empty() {
        println!(
            "addresses for other programs in {}: {}",
            options.out.display(),
            env_files.join(", ")
        );
    }
}

/// Prints what would be sent, with what it would cost on a chain if one was asked: also what was simulated and what its node estimates for the next step.
pub(super) fn print_dry_run(
    options: &DeployOptions,
    config: &DeploymentConfig,
    steps: &[AccountStep],
    gas: &[u64],
    chain: Option<(Cost, Option<(u64, u64)>)>,
) {
    let left: u64 = steps.iter().zip(gas).filter(|(step, _)| !step.is_done).map(|(_, gas)| *gas).sum();
    if options.json {
        let listed: Vec<Value> = steps
            .iter()
            .zip(gas)
            .map(|(step, gas)| {
                json!({ "name": step.step.name, "from": reports::checksummed(step.account), "gas": gas, "done": step.is_done })
            })
            .collect();
        let cost = chain.map(|(cost, estimated)| {
            json!({
                "gasWithRoom": cost.gas,
                "pricePerGasWei": cost.price.to_string(),
                "mostWei": cost.most().to_string(),
                "balanceWei": cost.balance.to_string(),
                "isAffordable": cost.balance >= U256::from(cost.most()),
                "nextStep": estimated.map(|(simulated, node)| json!({ "simulatedGas": simulated, "nodeEstimate": node })),
            })
        });
        let summary = json!({
            "dryRun": true,
            "chainId": config.domains.host_chain_id,
            "deployer": reports::checksummed(config.deployer),
            "contracts": reports::named_addresses(&config.addresses()),
            "steps": listed,
            "gas": left,
            "cost": cost,
        });
        println!("{summary}");
        return;
    }
    println!("dry run on chain {}: nothing is sent", config.domains.host_chain_id);
    for (step, gas) in steps.iter().zip(gas) {
        let state = if step.is_done { "done" } else { "" };
        println!("  {:<36} {gas:>9} gas  {state}", step.step.name);
    }
    println!("  {:<36} {left:>9} gas", "left to send");
    if let Some((cost, estimated)) = chain {
        println!("with room for gas limits: {}", cost.sentence());
        if let Some((simulated, node)) = estimated {
            println!("the node estimates {node} gas for the next step, and the simulation used {simulated}");
        }
        if cost.balance < U256::from(cost.most()) {
            println!(
                "the deployer {} lacks {} ether",
                config.deployer,
                fees::ether(cost.most().saturating_sub(cost.balance.saturating_to()))
            );
        }
    }
}
