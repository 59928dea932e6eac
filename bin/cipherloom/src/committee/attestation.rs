//! What a process that calls nodes proves of itself, and what it believes of them.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use cipherloom_attest::{Attestor, CollateralStore, Policy, Role, Verifier, ra_tls::Endpoint};
use cipherloom_chain::CommitteeOnChain;
use cipherloom_service::attestation::{committee_endpoint, hardware, read_collateral, read_policy};
use clap::Args;

/// Where these options stand in help texts.
pub(crate) const HEADING: &str = "A committee of KMS nodes, instead of --kms-url";

/// How a caller of nodes proves what it is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AttestationOptions {
    /// The policy: which software on which hardware is believed to be a node, the JSON file that all nodes agree on
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(crate) kms_policy: Option<std::path::PathBuf>,

    /// The manufacturer's statements about platforms, *.json in a directory
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    pub(crate) kms_collateral: Option<std::path::PathBuf>,

    /// The socket of dstack's guest agent, with which this process proves what it is [default: where releases of dstack put it]
    #[arg(long, value_name = "SOCKET", help_heading = HEADING)]
    pub(crate) dstack_socket: Option<std::path::PathBuf>,

    /// INSECURE: prove nothing, and believe nodes that prove nothing; only on chains for development, and in builds for it
    #[arg(long, help_heading = HEADING)]
    pub(crate) insecure_simulated_attestation: bool,
}

/// What a process proves with, and what it believes.
#[derive(Clone)]
pub(crate) struct Attestation {
    /// Makes its evidence.
    pub(crate) attestor: Arc<dyn Attestor>,
    /// What it accepts of others.
    pub(crate) verifier: Verifier,
}

impl Attestation {
    /// Takes what the options name.
    ///
    /// # Errors
    /// If there is no guest agent, or policy or collateral cannot be used.
    pub(crate) fn of_options(options: &AttestationOptions) -> Result<Self> {
        let simulated = options.insecure_simulated_attestation;
        let policy = match &options.kms_policy {
            Some(path) => read_policy(path)?,
            None if simulated => Policy::insecure_simulated_only(),
            None => bail!(
                "no policy: name the file with --kms-policy that lists the software whose evidence counts; without one no node could be believed"
            ),
        };
        ensure!(
            simulated || !policy.allow_insecure_simulated,
            "the policy allows simulated evidence, and this process proves itself by real hardware: take `allow-insecure-simulated` out of it"
        );
        let collateral = read_collateral(options.kms_collateral.as_deref())?;
        let attestor = if simulated {
            tracing::warn!("INSECURE: attestation is simulated; it proves nothing");
            insecure_attestor("cipherloom-gateway")?
        } else {
            hardware(options.dstack_socket.as_deref())?
        };
        Ok(Self {
            attestor,
            verifier: Verifier::new(policy, Arc::new(collateral))?,
        })
    }

    /// Proves and believes nothing: for processes that run a committee for development.
    ///
    /// # Errors
    /// If this build has no simulated attestation.
    pub(crate) fn insecure_simulated(application: &str) -> Result<Self> {
        Ok(Self {
            attestor: insecure_attestor(application)?,
            verifier: Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default()))?,
        })
    }

    /// Makes the end of connections to the nodes of a committee that a gateway has.
    ///
    /// # Errors
    /// If the hardware gives no evidence.
    pub(crate) async fn gateway_endpoint(&self, committee: &CommitteeOnChain) -> Result<Arc<Endpoint>> {
        let (attestor, verifier) = (Arc::clone(&self.attestor), self.verifier.clone());
        committee_endpoint(attestor, verifier, committee.into(), Role::Gateway, None, &[Role::KmsNode]).await
    }
}

/// Makes what proves nothing.
///
/// # Errors
/// If this build has no simulated attestation.
#[cfg(feature = "insecure-development")]
pub(crate) fn insecure_attestor(application: &str) -> Result<Arc<dyn Attestor>> {
    Ok(Arc::new(cipherloom_attest::simulated::InsecureSimulatedAttestor::new(application)?))
}

/// Makes nothing: this build is for production.
///
/// # Errors
/// Always.
#[cfg(not(feature = "insecure-development"))]
pub(crate) fn insecure_attestor(_: &str) -> Result<Arc<dyn Attestor>> {
    bail!("this build has no simulated attestation: it is for production")
}
