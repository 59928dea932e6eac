//! What a party proves of itself, and what it believes of others: its attestor, its policy, and the endpoint made of both.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use cipherloom_attest::{Attestor, CollateralStore, Policy, Role, TeeKind, Verifier, ra_tls::Endpoint};
use cipherloom_chain::CommitteeOnChain;
use cipherloom_primitives::Address;
use cipherloom_service::attestation::{committee_endpoint, hardware, read_collateral, read_policy};

use super::options::PartyOptions;

/// What a party proves with, and what it believes.
#[derive(Clone)]
pub struct Attestation {
    /// Makes its evidence and its sealing keys.
    pub attestor: Arc<dyn Attestor>,
    /// What it accepts of others.
    pub policy: Policy,
    /// The manufacturer's statements that it judges by.
    pub collateral: Arc<CollateralStore>,
}

impl Attestation {
    /// Takes what the options name.
    ///
    /// # Errors
    /// If there is no guest agent, or policy or collateral cannot be used.
    pub(crate) fn of_options(options: &PartyOptions) -> Result<Self> {
        let collateral = read_collateral(options.collateral.as_deref())?;
        let policy = match &options.policy {
            Some(path) => read_policy(path)?,
            None if options.insecure_simulated_attestation => Policy::insecure_simulated_only(),
            None => bail!(
                "no policy: name the file with --policy that lists the software whose evidence counts; without one nobody could be believed"
            ),
        };
        ensure!(
            options.insecure_simulated_attestation || !policy.allow_insecure_simulated,
            "the policy allows simulated evidence, and this node proves itself by real hardware: take `allow-insecure-simulated` out of it"
        );
        Ok(Self {
            attestor: attestor(options)?,
            policy,
            collateral: Arc::new(collateral),
        })
    }

    /// Returns what verifies evidence by the policy.
    ///
    /// # Errors
    /// If the policy cannot be applied, or accepts nothing.
    pub fn verifier(&self) -> Result<Verifier> {
        Ok(Verifier::new(self.policy.clone(), Arc::clone(&self.collateral))?)
    }

    /// Tells whether the evidence proves nothing.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.attestor.kind() == TeeKind::InsecureSimulated
    }

    /// Makes the endpoint of a member of a committee. Gateways and dealers may call it, and other members.
    ///
    /// # Errors
    /// If the hardware gives no evidence, or the policy cannot be applied.
    pub(crate) async fn endpoint(&self, committee: &CommitteeOnChain, party: u32, signer: Address) -> Result<Arc<Endpoint>> {
        let peers = [Role::Gateway, Role::Dealer, Role::KmsNode];
        let (attestor, member) = (Arc::clone(&self.attestor), Some((party, signer)));
        committee_endpoint(attestor, self.verifier()?, committee.into(), Role::KmsNode, member, &peers).await
    }
}

#[cfg(feature = "insecure-simulated")]
fn attestor(options: &PartyOptions) -> Result<Arc<dyn Attestor>> {
    if options.insecure_simulated_attestation {
        tracing::warn!("INSECURE: attestation is simulated; it proves nothing, and everybody can open sealed files");
        return Ok(Arc::new(cipherloom_attest::simulated::InsecureSimulatedAttestor::new(
            "cipherloom-kms",
        )?));
    }
    hardware(options.dstack_socket.as_deref())
}

#[cfg(not(feature = "insecure-simulated"))]
fn attestor(options: &PartyOptions) -> Result<Arc<dyn Attestor>> {
    ensure!(
        !options.insecure_simulated_attestation,
        "this build has no simulated attestation: it is for production"
    );
    hardware(options.dstack_socket.as_deref())
}
