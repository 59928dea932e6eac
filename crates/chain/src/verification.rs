//! Whether what is on chain is what this build deploys, wired as it should be, and owned and signed for by whom it should be.
//!
//! Code is compared byte by byte, with the immutables filled in, so that nothing that calls itself a host contract and is another passes. Findings
//! are collected, not thrown: an operator wants to see all of them.

use alloy::primitives::{Address, B256, U256};
use cipherloom_contracts::{Face, HostContract, proxy_runtime_code};

use crate::{
    error::ChainError,
    host_chain::{HostChain, SignerSetOnChain},
    manifest::Deployment,
    proxy::{self, ADMIN_SLOT, BEACON_SLOT},
    survey::{ContractSurvey, StateSurvey, Survey},
};

/// The initialized version from which on a proxy is past its empty implementation.
const FIRST_VERSION: u64 = 2;

/// One thing that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// About which contract; `None` for the deployment as a whole.
    pub contract: Option<HostContract>,
    /// What was compared.
    pub what: &'static str,
    /// Why it is not right; `None` if it is.
    pub problem: Option<String>,
}

/// What a deployment is compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// The file about it; without, owner, signers and domains are only required to be there.
    pub manifest: Option<&'a Deployment>,
    /// The face that the contracts should show [default: the manifest's, or the one they show].
    pub face: Option<Face>,
}

/// Compares a deployment with this build.
///
/// # Errors
/// As all reads of a chain. What is wrong with the deployment is no error but a [`Finding`].
pub async fn verify(chain: &HostChain, expected: Expected<'_>) -> Result<Vec<Finding>, ChainError> {
    let survey = Survey::take(chain).await?;
    let mut findings = Findings::default();
    if let Some(manifest) = expected.manifest {
        findings.equal(None, "chain", &manifest.chain_id, &survey.chain_id);
    }
    let face = expected
        .face
        .or_else(|| expected.manifest.map(|manifest| manifest.face))
        .or_else(|| survey.face())
        .unwrap_or_default();
    for contract in &survey.contracts {
        code(&mut findings, &survey, contract, face, expected.manifest);
        if contract.contract.is_upgradeable() {
            slots(&mut findings, chain, contract).await?;
        }
        let version = contract.version.as_deref().unwrap_or("no answer");
        findings.equal(Some(contract.contract), "version", &contract.contract.version(face), &version);
    }
    match &survey.state {
        Some(state) => {
            let wired = chain.check_deployment(survey.chain_id).await;
            findings.add(None, "contracts know each other", wired.err().map(|error| error.to_string()));
            if let Some(manifest) = expected.manifest {
                settings(&mut findings, state, manifest);
            }
        }
        None => findings.add(None, "all contracts answer", Some("see above".to_owned())),
    }
    Ok(findings.0)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, contract: Option<HostContract>, what: &'static str, problem: Option<String>) {
        self.0.push(Finding { contract, what, problem });
    }

    fn equal<T: PartialEq + ToString>(&mut self, contract: Option<HostContract>, what: &'static str, expected: &T, found: &T) {
        let problem = (expected != found).then(|| format!("{} instead of {}", found.to_string(), expected.to_string()));
        self.add(contract, what, problem);
    }
}

/// Compares the code at and behind a contract's address.
fn code(findings: &mut Findings, survey: &Survey, contract: &ContractSurvey, face: Face, manifest: Option<&Deployment>) {
    let name = Some(contract.contract);
    if contract.code.is_empty() {
        findings.add(name, "code", Some(format!("there is none at {}", contract.address)));
        return;
    }
    if contract.contract.is_upgradeable() {
        let is_proxy = contract.code == *proxy_runtime_code();
        findings.add(name, "proxy code", (!is_proxy).then(|| "another contract's".to_owned()));
    }
    let Some((address, found)) = contract.logic() else {
        findings.add(name, "implementation", Some("the proxy points nowhere".to_owned()));
        return;
    };
    let wiring = survey.wiring(face);
    let is_ours = *found == contract.contract.runtime_code(&wiring, address);
    let recorded = manifest.and_then(|manifest| manifest.implementations.get(&contract.contract));
    let problem = if is_ours {
        None
    } else if Face::ALL
        .into_iter()
        .any(|other| *found == contract.contract.runtime_code(&survey.wiring(other), address))
    {
        Some(format!("this build's with another face than {face}"))
    } else if recorded.is_some_and(|recorded| Some(recorded.code_hash) == contract.code_hash()) {
        Some("another build's, the one that the deployment file records; `cipherloom contracts upgrade` replaces it".to_owned())
    } else {
        Some(format!(
            "neither this build's nor recorded: hash {}",
            contract.code_hash().unwrap_or_default()
        ))
    };
    findings.add(name, "code", problem);
    if let Some(recorded) = recorded {
        findings.equal(name, "implementation", &recorded.address, &address);
    }
}

/// Compares a proxy's slots.
async fn slots(findings: &mut Findings, chain: &HostChain, contract: &ContractSurvey) -> Result<(), ChainError> {
    let name = Some(contract.contract);
    for (what, slot) in [("no proxy administrator", ADMIN_SLOT), ("no beacon", BEACON_SLOT)] {
        let word = chain.storage(contract.address, slot).await?;
        findings.add(name, what, (word != B256::ZERO).then(|| format!("the slot holds {word}")));
    }
    let version = proxy::initialized_version(chain, contract.address).await?;
    let problem = (version < FIRST_VERSION || version == u64::MAX).then(|| format!("the proxy is at version {version}"));
    findings.add(name, "initialized", problem);
    if let Some(behind) = &contract.implementation {
        let version = proxy::initialized_version(chain, behind.address).await?;
        let problem = (version != u64::MAX).then(|| format!("anybody could initialize the implementation at version {version}"));
        findings.add(name, "implementation locked", problem);
    }
    Ok(())
}

/// Compares what the contracts say with what the file says.
fn settings(findings: &mut Findings, state: &StateSurvey, manifest: &Deployment) {
    // Ownership is offered first and accepted later; until then somebody else has it.
    let owner_is_right = state.owner == manifest.owner || state.pending_owner == manifest.owner;
    let problem = (!owner_is_right).then(|| format!("{} instead of {}", state.owner, manifest.owner));
    findings.add(None, "owner", problem);
    let someone_else = state.pending_owner != Address::ZERO && state.pending_owner != manifest.owner;
    let problem = someone_else.then(|| format!("offered to {}", state.pending_owner));
    findings.add(None, "ownership not offered to others", problem);
    signers(
        findings,
        "coprocessors",
        &manifest.coprocessors.signers,
        manifest.coprocessors.threshold,
        &state.coprocessors,
    );
    signers(
        findings,
        "KMS",
        &manifest.kms.signers,
        manifest.kms.public_decryption_threshold,
        &state.kms,
    );
    for (what, expected, found) in [
        (
            "user decryption threshold",
            manifest.kms.user_decryption_threshold,
            state.user_decryption_threshold,
        ),
        ("MPC threshold", manifest.kms.mpc_threshold, state.mpc_threshold),
    ] {
        findings.equal(None, what, &U256::from(expected), &found);
    }
    let domains = manifest.signing_domains();
    let problem = (domains != state.domains).then(|| format!("{:?} instead of {domains:?}", state.domains));
    findings.add(None, "domains", problem);
}

fn signers(findings: &mut Findings, what: &'static str, expected: &[Address], threshold: u64, found: &SignerSetOnChain) {
    let (mut wanted, mut have) = (expected.to_vec(), found.signers.clone());
    wanted.sort_unstable();
    have.sort_unstable();
    let list = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let problem = if wanted != have {
        Some(format!("{} instead of {}", list(&have), list(&wanted)))
    } else if found.threshold != U256::from(threshold) {
        Some(format!("threshold {} instead of {threshold}", found.threshold))
    } else {
        None
    };
    findings.add(None, what, problem);
}
