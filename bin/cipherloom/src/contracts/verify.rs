//! `cipherloom contracts verify`: the chain against this build, and the sources at an explorer.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use cipherloom_chain::{
    survey::Survey,
    verification::{Expected, Finding, verify},
};
use cipherloom_contracts::Face;
use clap::Args;
use serde_json::{Value, json};

use super::{
    explorer::{self, ExplorerOptions},
    options::{Deployed, DeployedOptions},
    reports::Progress,
};

pub(crate) const HELP: &str = "\
Compare what is on chain with this build, and have a block explorer verify the sources.

The code at every address is compared byte by byte with this build's, its immutables filled in; proxies must be ours and past their empty implementations, implementations locked, \
and the contracts must know each other. With the file about the deployment, owner, signers, thresholds and domains are compared too. \
Exits with 1 if anything is not as it should be.";

/// What to compare.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    deployed: DeployedOptions,

    /// The version of the protocol that the contracts should speak for: 0.12 or 0.14 [default: the one in the file, or the one they show].
    #[arg(long, value_name = "VERSION", value_parser = str::parse::<Face>)]
    face: Option<Face>,

    #[command(flatten)]
    explorer: ExplorerOptions,
}

/// Compares and reports.
///
/// # Errors
/// If something is not as it should be, the chain does not answer, or the explorer refuses.
pub(crate) async fn run(options: &VerifyOptions) -> Result<()> {
    let deployed = options.deployed.find().await?;
    let findings = compare(&deployed, options.face).await?;
    let problems = findings.iter().filter(|finding| finding.problem.is_some()).count();
    let json = options.deployed.json;
    let mut verdicts = None;
    if options.explorer.explorer && problems == 0 {
        let survey = Survey::take(&deployed.chain).await?;
        let progress = Progress::new(json);
        verdicts = Some(explorer::verify(&options.explorer, &deployed, &survey, &progress).await?);
    }
    if json {
        let findings: Vec<Value> = findings.iter().map(as_json).collect();
        println!(
            "{}",
            json!({ "ok": problems == 0, "chainId": deployed.chain_id, "findings": findings, "explorer": verdicts })
        );
    } else {
        print_findings(&findings);
    }
    if problems > 0 {
        bail!("{problems} of {} comparisons show a difference", findings.len());
    }
    Ok(())
}

/// Compares a deployment with this build, and with the file about it.
///
/// # Errors
/// If the chain does not answer.
pub(crate) async fn compare(deployed: &Deployed, face: Option<Face>) -> Result<Vec<Finding>> {
    let expected = Expected {
        manifest: deployed.record.as_ref(),
        face,
    };
    Ok(verify(&deployed.chain, expected).await?)
}

/// Prints findings, one contract a line as long as all is well.
pub(crate) fn print_findings(findings: &[Finding]) {
    // The deployment as a whole comes first, as `None` does.
    let subjects: BTreeSet<_> = findings.iter().map(|finding| finding.contract).collect();
    for subject in subjects {
        let of_subject = findings.iter().filter(|finding| finding.contract == subject);
        let (wrong, right): (Vec<_>, Vec<_>) = of_subject.partition(|finding| finding.problem.is_some());
        let name = subject.map_or("deployment", |contract| contract.name());
        let well: Vec<_> = right.iter().map(|finding| finding.what).collect();
        println!("  {:<4} {name:<16} {}", if wrong.is_empty() { "ok" } else { "" }, well.join(", "));
        for finding in wrong {
            println!(
                "  FAIL {name:<16} {}: {}",
                finding.what,
                finding.problem.as_deref().unwrap_or_default()
            );
        }
    }
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "contract": finding.contract.map(|contract| contract.name()),
        "what": finding.what,
        "ok": finding.problem.is_none(),
        "problem": finding.problem,
    })
}
