//! `cipherloom contracts status`: a deployment at a glance.

use alloy::primitives::Address;
use anyhow::Result;
use cipherloom_chain::{
    SignerSetOnChain,
    survey::{ContractSurvey, StateSurvey, Survey},
};
use cipherloom_contracts::{Face, Wiring};
use clap::Args;
use serde_json::{Value, json};

use super::{
    options::{Deployed, DeployedOptions},
    reports::checksummed,
};

/// This many HCU per block are no limit.
const NO_LIMIT_HCU: u64 = (1 << 48) - 1;

/// Which deployment.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    deployed: DeployedOptions,
}

/// Reads and prints.
///
/// # Errors
/// If the chain does not answer. A missing deployment is no error but a status.
pub(crate) async fn run(options: &StatusOptions) -> Result<()> {
    let deployed = options.deployed.find().await?;
    let survey = Survey::take(&deployed.chain).await?;
    if options.deployed.json {
        println!("{}", as_json(&survey, &deployed));
    } else {
        print(&survey, &deployed);
    }
    Ok(())
}

/// Says whose code a contract has.
fn origin(contract: &ContractSurvey, survey: &Survey, deployed: &Deployed) -> &'static str {
    let wirings: Vec<Wiring> = Face::ALL.into_iter().map(|face| survey.wiring(face)).collect();
    let recorded = deployed
        .record
        .as_ref()
        .and_then(|record| record.implementations.get(&contract.contract));
    if contract.code.is_empty() {
        "missing"
    } else if wirings.iter().any(|wiring| contract.is_of_this_build(wiring)) {
        "this build"
    } else if recorded.is_some_and(|recorded| Some(recorded.code_hash) == contract.code_hash()) {
        "as recorded"
    } else {
        "unknown"
    }
}

fn print(survey: &Survey, deployed: &Deployed) {
    println!("chain {} at block {}", survey.chain_id, survey.block);
    println!(
        "  {:<16} {:<42} {:<42} {:<24} code",
        "contract", "address", "implementation", "version"
    );
    for contract in &survey.contracts {
        let behind = contract
            .implementation
            .as_ref()
            .map_or_else(|| "-".to_owned(), |behind| behind.address.to_string());
        println!(
            "  {:<16} {} {behind:<42} {:<24} {}",
            contract.contract.name(),
            contract.address,
            contract.version.as_deref().unwrap_or("-"),
            origin(contract, survey, deployed)
        );
    }
    let Some(state) = &survey.state else {
        println!("the deployment is not complete; `cipherloom contracts deploy` goes on with it");
        return;
    };
    print_state(state);
    if let Some(file) = &deployed.file {
        println!("  {:<18} {}", "file", file.display());
    }
}

fn print_state(state: &StateSurvey) {
    let line = |label: &str, text: &str| println!("  {label:<18} {text}");
    line("owner", &state.owner.to_string());
    if state.pending_owner != Address::ZERO {
        line("offered to", &state.pending_owner.to_string());
    }
    line("state", if state.is_paused { "PAUSED" } else { "running" });
    line("coprocessors", &signers(&state.coprocessors));
    line("KMS", &signers(&state.kms));
    line(
        "KMS thresholds",
        &format!(
            "public decryption {}, user decryption {}, dishonest at most {}",
            state.kms.threshold, state.user_decryption_threshold, state.mpc_threshold
        ),
    );
    line("KMS context", &format!("{:#x}, epoch {:#x}", state.context_id, state.epoch_id));
    let per_block = if state.per_block_hcu == NO_LIMIT_HCU {
        "no limit".to_owned()
    } else {
        state.per_block_hcu.to_string()
    };
    line(
        "HCU limits",
        &format!(
            "block {per_block}, transaction {}, depth {}",
            state.per_transaction_hcu, state.depth_hcu
        ),
    );
    line("gateway chain id", &state.domains.gateway_chain_id.to_string());
    line("Decryption", &state.domains.decryption.to_string());
    line("InputVerification", &state.domains.input_verification.to_string());
}

/// Writes a set of signers in one line.
pub(crate) fn signers(set: &SignerSetOnChain) -> String {
    let names: Vec<String> = set.signers.iter().map(ToString::to_string).collect();
    format!("{} of {}: {}", set.threshold, set.signers.len(), names.join(", "))
}

fn as_json(survey: &Survey, deployed: &Deployed) -> Value {
    let contracts: Vec<Value> = survey
        .contracts
        .iter()
        .map(|contract| {
            json!({
                "contract": contract.contract.name(),
                "address": checksummed(contract.address),
                "implementation": contract.implementation.as_ref().map(|behind| checksummed(behind.address)),
                "version": contract.version,
                "codeHash": contract.code_hash(),
                "code": origin(contract, survey, deployed),
            })
        })
        .collect();
    json!({
        "chainId": survey.chain_id,
        "block": survey.block,
        "deployed": survey.state.is_some(),
        "face": survey.face().map(Face::as_str),
        "contracts": contracts,
        "state": survey.state.as_ref().map(state_json),
        "deploymentFile": deployed.file,
    })
}

fn state_json(state: &StateSurvey) -> Value {
    json!({
        "owner": checksummed(state.owner),
        "pendingOwner": (state.pending_owner != Address::ZERO).then(|| checksummed(state.pending_owner)),
        "isPaused": state.is_paused,
        "coprocessors": signers_json(&state.coprocessors),
        "kms": signers_json(&state.kms),
        "userDecryptionThreshold": state.user_decryption_threshold.to_string(),
        "mpcThreshold": state.mpc_threshold.to_string(),
        "kmsContextId": format!("{:#x}", state.context_id),
        "kmsEpochId": format!("{:#x}", state.epoch_id),
        "hcuLimits": {
            "perBlockHcu": (state.per_block_hcu != NO_LIMIT_HCU).then_some(state.per_block_hcu),
            "perTransactionHcu": state.per_transaction_hcu,
            "depthHcu": state.depth_hcu,
        },
        "gatewayChainId": state.domains.gateway_chain_id,
        "verifyingContracts": {
            "Decryption": checksummed(state.domains.decryption),
            "InputVerification": checksummed(state.domains.input_verification),
        },
    })
}

/// Writes a set of signers.
pub(crate) fn signers_json(set: &SignerSetOnChain) -> Value {
    json!({
        "signers": set.signers.iter().map(|signer| checksummed(*signer)).collect::<Vec<_>>(),
        "threshold": set.threshold.to_string().parse::<u64>().unwrap_or(u64::MAX),
    })
}
