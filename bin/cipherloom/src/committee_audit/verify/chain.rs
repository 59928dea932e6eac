//! What the chain says about the committee.

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{CallLimits, CommitteeOnChain, HostChain, redacted_url};
use cipherloom_contracts::HostAddresses;
use cipherloom_service::{chains::contract_addresses, report::Report};

use super::VerifyOptions;
use crate::committee_audit::ids::counted;

const AREA: &str = "chain";

/// Reads the current committee from every endpoint.
///
/// # Errors
/// If one does not answer, or they do not agree: nothing else can be judged then.
pub(super) async fn committee(options: &VerifyOptions, report: &mut Report) -> Result<CommitteeOnChain> {
    let mut agreed: Option<CommitteeOnChain> = None;
    for url in &options.rpc_url {
        let shown = redacted_url(url);
        let committee = read(url, options).await.with_context(|| format!("the chain's node at {shown}"))?;
        match &agreed {
            Some(other) => ensure!(
                *other == committee,
                "the chain's nodes do not agree about the KMS: {shown} says something else than the first one"
            ),
            None => agreed = Some(committee),
        }
    }
    let Some(committee) = agreed else {
        bail!("no node of the chain is named")
    };
    let signers: Vec<String> = committee.signers.iter().map(|signer| signer.to_checksum(None)).collect();
    report.ok(
        AREA,
        format!(
            "chain {}, context {}, epoch {}: {} signers, {}",
            committee.chain_id,
            counted(committee.context_id),
            counted(committee.epoch_id),
            signers.len(),
            signers.join(", ")
        ),
    );
    report.ok(
        AREA,
        format!(
            "as {} say{}",
            match options.rpc_url.len() {
                1 => "one endpoint".to_owned(),
                several => format!("{several} endpoints"),
            },
            if options.rpc_url.len() == 1 {
                "s; it is believed, so name several, or your own node"
            } else {
                ""
            }
        ),
    );
    Ok(committee)
}

async fn read(url: &String, options: &VerifyOptions) -> Result<CommitteeOnChain> {
    let connect = |addresses, id| HostChain::connect_all(std::slice::from_ref(url), addresses, CallLimits::default(), id);
    // No contract is asked anything yet, so it does not matter where they are.
    let chain_id = connect(HostAddresses::of_deployer(Address::ZERO), None)?.chain_id().await?;
    let addresses = contract_addresses(chain_id, options.deployment.as_deref(), options.native_genesis.as_deref())?;
    let chain = connect(addresses, Some(chain_id))?;
    chain.check_deployment(chain_id).await?;
    let committee = chain.kms_committee().await?;
    // Contracts ask the verifier, and that asks the configuration; both must name the same.
    let verifier = chain.kms_signers().await?;
    ensure!(
        verifier.signers == committee.signers && verifier.threshold == alloy::primitives::U256::from(committee.public_decryption_threshold),
        "KMSVerifier and ProtocolConfig name different signers or thresholds"
    );
    Ok(committee)
}
