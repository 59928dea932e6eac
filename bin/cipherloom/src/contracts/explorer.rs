//! Verification of sources by a block explorer: every implementation, every proxy, and the link between them.

use std::time::Duration;

use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolConstructor,
};
use anyhow::{Context, Result, bail};
use cipherloom_chain::{
    deployment::proxy_arguments,
    explorer::{ETHERSCAN_URL, Explorer, ExplorerKey, ExplorerPatience, Submission, Verdict},
    survey::{ContractSurvey, Survey},
    upgrade::constructor_arguments,
};
use cipherloom_contracts::{deployment_steps, gateway_deployment_steps};
use clap::Args;
use serde_json::{Value, json};

use super::{
    environment,
    options::Deployed,
    reports::Progress,
    sources::{self, SourceOptions},
};

/// The explorer.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplorerOptions {
    /// Have a block explorer verify the sources too. Etherscan needs a key of its API in ETHERSCAN_API_KEY, in the environment or in --env-file.
    #[arg(long)]
    pub(crate) explorer: bool,

    /// The explorer's API, compatible with Etherscan's, such as that of a Blockscout.
    #[arg(long, value_name = "URL", default_value = ETHERSCAN_URL, requires = "explorer")]
    explorer_url: String,

    #[command(flatten)]
    sources: SourceOptions,

    /// How many seconds to wait before the explorer is asked again.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, hide_short_help = true)]
    explorer_pause: u64,
}

/// Submits everything and reports verdicts. What is verified already stays so.
///
/// # Errors
/// If sources are missing, the contracts are not this build's, or the explorer refuses.
pub(crate) async fn verify(options: &ExplorerOptions, deployed: &Deployed, survey: &Survey, progress: &Progress) -> Result<Vec<Value>> {
    let key = deployed.environment.variable(environment::EXPLORER_KEY).map(ExplorerKey::new);
    if key.is_none() && options.explorer_url == ETHERSCAN_URL {
        bail!(
            "Etherscan needs a key of its API: set {} in the environment, or name another explorer with --explorer-url",
            environment::EXPLORER_KEY
        );
    }
    let patience = ExplorerPatience {
        pause: Duration::from_secs(options.explorer_pause),
        ..ExplorerPatience::default()
    };
    let explorer = Explorer::new(&options.explorer_url, survey.chain_id, key, patience)?;
    let standard_json = sources::standard_json(&options.sources.sources)?;
    let face = survey.face().context("the contracts show no face that this build knows")?;
    let wiring = survey.wiring(face);
    let mut verdicts = Vec::new();
    for contract in &survey.contracts {
        let name = contract.contract.name();
        let Some((logic, _)) = contract.logic() else { continue };
        let mut submit = async |what: &str, address: Address, qualified: String, arguments: &Bytes| -> Result<()> {
            let submission = Submission {
                address,
                contract_name: &qualified,
                compiler: sources::COMPILER,
                standard_json: &standard_json,
                constructor_arguments: arguments,
            };
            let verdict = explorer.verify(&submission).await.with_context(|| format!("{what} at {address}"))?;
            verdicts.push(told(progress, what, address, verdict));
            Ok(())
        };
        if contract.is_of_this_build(&wiring) {
            let arguments = constructor_arguments(contract.contract, &wiring);
            submit(name, logic, sources::qualified_name(contract.contract, wiring.inputs), &arguments).await?;
        } else {
            progress.say(&format!("  {name} at {logic}: not this build's code, so not submitted"));
        }
        if contract.contract.is_upgradeable() {
            let what = format!("{name} proxy");
            match created_with(deployed, contract) {
                Some(arguments) => submit(&what, contract.address, sources::proxy_name(), &arguments).await?,
                None => progress.say(&format!(
                    "  {what}: how it was created is not known without the deployment file, so not submitted"
                )),
            }
            let verdict = explorer.link_proxy(contract.address, logic).await;
            let verdict = verdict.with_context(|| format!("{what} at {}", contract.address))?;
            verdicts.push(told(progress, &format!("{name} proxy, linked"), contract.address, verdict));
        }
    }
    Ok(verdicts)
}

/// Returns what a proxy was created with: the step that created it says so.
fn created_with(deployed: &Deployed, contract: &ContractSurvey) -> Option<Bytes> {
    let config = deployed.record.as_ref()?.config();
    let mut steps = deployment_steps(&config);
    steps.extend(gateway_deployment_steps(&config));
    let creation = steps
        .iter()
        .find(|step| step.creates.is_some_and(|creation| creation.address == contract.address))?;
    proxy_arguments(&creation.data).map(|arguments| arguments.abi_encode().into())
}

fn told(progress: &Progress, what: &str, address: Address, verdict: Verdict) -> Value {
    let words = match verdict {
        Verdict::Verified => "verified",
        Verdict::AlreadyVerified => "was verified already",
    };
    progress.say(&format!("  {what:<28} {address} {words}"));
    json!({ "what": what, "address": address.to_checksum(None), "verdict": words })
}
