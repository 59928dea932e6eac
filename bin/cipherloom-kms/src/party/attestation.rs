//! What a party proves of itself, and what it believes of others: its attestor, its policy, and the endpoint made of both.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use cipherloom_attest::{
    Attestor, CollateralStore, DstackAttestor, Policy, Role, Statement, TeeKind, Verifier,
    ra_tls::{Endpoint, Expected},
};
use cipherloom_chain::CommitteeOnChain;
use cipherloom_kms::{Clock as _, SystemClock};
use cipherloom_primitives::Address;

use super::options::PartyOptions;

/// The longest policy that is read, in bytes.
const MAX_POLICY_BYTES: u64 = 1 << 20;

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
        let collateral = match &options.collateral {
            Some(directory) => CollateralStore::read_directory(directory)
                .with_context(|| format!("cannot use the collateral in {}", directory.display()))?,
            None => CollateralStore::default(),
        };
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
        let statement = Statement {
            role: Role::KmsNode,
            chain_id: committee.chain_id,
            context: committee.context_id,
            party,
            signer,
        };
        let expected = Expected {
            chain_id: committee.chain_id,
            context: committee.context_id,
            roles: vec![Role::Gateway, Role::Dealer, Role::KmsNode],
            members: committee.members(),
            party: None,
        };
        let clock = Arc::new(|| SystemClock.now_seconds());
        let endpoint = Endpoint::new(statement, Arc::clone(&self.attestor), self.verifier()?, expected, clock);
        Ok(Arc::new(Box::pin(endpoint).await.context("cannot prove what runs here")?))
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
    hardware(options)
}

#[cfg(not(feature = "insecure-simulated"))]
fn attestor(options: &PartyOptions) -> Result<Arc<dyn Attestor>> {
    ensure!(
        !options.insecure_simulated_attestation,
        "this build has no simulated attestation: it is for production"
    );
    hardware(options)
}

fn hardware(options: &PartyOptions) -> Result<Arc<dyn Attestor>> {
    Ok(match &options.dstack_socket {
        Some(socket) => Arc::new(DstackAttestor::new(socket)),
        None => Arc::new(DstackAttestor::find()?),
    })
}

fn read_policy(path: &Path) -> Result<Policy> {
    let cannot_use = || format!("cannot use the policy {}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).with_context(cannot_use)?;
    file.take(MAX_POLICY_BYTES + 1).read_to_end(&mut text).with_context(cannot_use)?;
    Policy::from_json(&text).with_context(cannot_use)
}
