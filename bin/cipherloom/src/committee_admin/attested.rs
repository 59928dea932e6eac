//! What all commands need: the chain, the committee that it has registered, and attested connections to nodes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use cipherloom_attest::{
    CollateralStore, Policy, Role, Statement, Verifier,
    ra_tls::{Endpoint, Expected},
};
use cipherloom_ceremony::{NodeLink, Record, Seats};
use cipherloom_chain::{CallLimits, CommitteeOnChain, Deployment, HostChain, LocalProfile};
use cipherloom_contracts::HostAddresses;
use cipherloom_kms::{Clock as _, SystemClock};
use cipherloom_primitives::{Address, B256};
use cipherloom_service::{attested::attested_channel, ceremony::RemoteNode};
use clap::Args;

use super::read_file;
use crate::committee::{Attestation, AttestationOptions, insecure_attestor};

/// The longest policy that is read, in bytes.
const MAX_POLICY_BYTES: usize = 1 << 20;

/// Where the options of attestation stand in help texts.
const ATTESTATION: &str = "What is proved and believed";

/// The chain that has the committee registered.
#[derive(Clone, Debug, Args)]
pub(super) struct ChainOptions {
    /// A node of the host chain that has the committee registered: JSON-RPC over http, https, ws or wss. Given several times: others to ask while one fails
    #[arg(long, value_name = "URL", required = true)]
    pub(super) rpc_url: Vec<String>,

    /// The file about the deployment of the host contracts, deployment-CHAINID.json [default: the known plan of chain 31337 or 12345]
    #[arg(long, value_name = "FILE")]
    pub(super) deployment: Option<PathBuf>,
}

impl ChainOptions {
    /// Connects to the chain.
    ///
    /// # Errors
    /// If no node answers, or nothing says where the contracts are.
    pub(super) async fn connect(&self) -> Result<HostChain> {
        let connect = |addresses, id| HostChain::connect_all(&self.rpc_url, addresses, CallLimits::default(), id);
        // No contract is asked anything yet, so it does not matter where they are.
        let id = connect(HostAddresses::of_deployer(Address::ZERO), None)?
            .chain_id()
            .await
            .context("the chain does not answer")?;
        let addresses = match (&self.deployment, LocalProfile::of_chain(id)) {
            (Some(file), _) => {
                let record = Deployment::read(file).with_context(|| format!("cannot use the deployment in {}", file.display()))?;
                ensure!(
                    record.chain_id == id,
                    "the deployment in {} is on chain {}, and the node serves chain {id}",
                    file.display(),
                    record.chain_id
                );
                record.addresses()
            }
            (None, Some(profile)) => profile.addresses(),
            (None, None) => bail!(
                "nothing says where the host contracts are on chain {id}: name the file that `cipherloom contracts deploy` wrote with --deployment"
            ),
        };
        Ok(connect(addresses, Some(id))?)
    }

    /// Reads the committee that is registered.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(super) async fn committee(&self) -> Result<CommitteeOnChain> {
        let chain = self.connect().await?;
        chain.kms_committee().await.context("cannot read the committee from the chain")
    }
}

/// What the command proves of itself, and whom it believes.
#[derive(Clone, Debug, Args)]
pub(super) struct ProofOptions {
    /// The policy: which software on which hardware is believed to be a node, the JSON file that all nodes agree on
    #[arg(long, value_name = "FILE", help_heading = ATTESTATION)]
    policy: Option<PathBuf>,

    /// The manufacturer's statements about platforms, *.json in a directory
    #[arg(long, value_name = "DIR", help_heading = ATTESTATION)]
    collateral: Option<PathBuf>,

    /// The socket of dstack's guest agent, with which this command proves what it is [default: where releases of dstack put it]
    #[arg(long, value_name = "SOCKET", help_heading = ATTESTATION)]
    dstack_socket: Option<PathBuf>,

    /// INSECURE: prove nothing, and believe nodes that prove nothing; only on chains for development, and in builds for it
    #[arg(long, help_heading = ATTESTATION)]
    insecure_simulated_attestation: bool,
}

impl ProofOptions {
    /// Takes what the options name.
    ///
    /// # Errors
    /// If there is no guest agent, or policy or collateral cannot be used.
    pub(super) fn attestation(&self) -> Result<Attestation> {
        Attestation::of_options(&AttestationOptions {
            kms_policy: self.policy.clone(),
            kms_collateral: self.collateral.clone(),
            dstack_socket: self.dstack_socket.clone(),
            insecure_simulated_attestation: self.insecure_simulated_attestation,
        })
    }
}

impl ProofOptions {
    /// The same for what runs as a node, and has its sealing keys.
    ///
    /// # Errors
    /// As [`Self::attestation`].
    pub(super) fn attestation_of_node(&self) -> Result<Attestation> {
        let mut attestation = self.attestation()?;
        if self.insecure_simulated_attestation {
            // Real hardware derives keys for the application that it measured; simulated hardware for the one that is named.
            attestation.attestor = insecure_attestor("cipherloom-kms")?;
        }
        Ok(attestation)
    }
}

/// Takes a policy and collateral for somebody who believes others and proves nothing.
///
/// # Errors
/// If they cannot be used, or accept nothing.
pub(super) fn verifier_of(policy: Option<&Path>, collateral: Option<&Path>, is_simulated: bool) -> Result<Verifier> {
    let policy = match policy {
        Some(path) => {
            let cannot_use = || format!("cannot use the policy {}", path.display());
            Policy::from_json(&read_file(path, MAX_POLICY_BYTES)?).with_context(cannot_use)?
        }
        None if is_simulated => Policy::insecure_simulated_only(),
        None => bail!(
            "no policy: name the file with --policy that lists the software whose evidence counts; without one nobody could be believed"
        ),
    };
    ensure!(
        is_simulated || !policy.allow_insecure_simulated,
        "the policy allows simulated evidence: take `allow-insecure-simulated` out of it, or say --insecure-simulated-attestation"
    );
    let collateral = match collateral {
        Some(directory) => {
            CollateralStore::read_directory(directory).with_context(|| format!("cannot use the collateral in {}", directory.display()))?
        }
        None => CollateralStore::default(),
    };
    Ok(Verifier::new(policy, Arc::new(collateral))?)
}

/// The nodes of a ceremony.
#[derive(Clone, Debug, Args)]
pub(super) struct NodeOptions {
    /// The attested port of a node, in any order. Given for every node that takes part
    #[arg(long = "node", value_name = "HOST:PORT", required = true)]
    pub(super) nodes: Vec<String>,

    #[command(flatten)]
    pub(super) chain: ChainOptions,

    #[command(flatten)]
    pub(super) proof: ProofOptions,
}

/// Connected nodes, and the committee that they are to be.
pub(super) struct Connected {
    pub(super) committee: CommitteeOnChain,
    pub(super) attestation: Attestation,
    pub(super) nodes: Vec<RemoteNode>,
    /// The records that nodes hold, each once.
    pub(super) records: Vec<Record>,
    /// Nodes that did not answer, and why.
    pub(super) missing: Vec<(String, String)>,
}

impl NodeOptions {
    /// Reads the registered committee and connects to the nodes. Nodes that do not answer as members of it are asked as members of the one whose shares a
    /// record describes: `previous`, or the newest that others hold. Who does not answer either is named in the result.
    ///
    /// # Errors
    /// If the chain or the hardware does not answer.
    pub(super) async fn connect(&self, previous: Option<Record>) -> Result<Connected> {
        let committee = self.chain.committee().await?;
        let attestation = self.proof.attestation()?;
        let mut connected = Connected {
            attestation,
            nodes: Vec::new(),
            records: previous.into_iter().collect(),
            missing: self.nodes.iter().map(|address| (address.clone(), String::new())).collect(),
            committee,
        };
        let members = connected.committee.members();
        connected.ask(connected.committee.context_id, members).await?;
        let newest = connected.records.iter().max_by_key(|record| record.core.seats.epoch);
        if let Some(seats) = newest
            .map(|record| &record.core.seats)
            .filter(|seats| seats.context != connected.committee.context_id)
        {
            let (context, members) = (seats.context, (1..).zip(seats.members.iter().copied()).collect());
            connected.ask(context, members).await?;
        }
        Ok(connected)
    }
}

impl Connected {
    /// Asks nodes that have not answered yet, as members of a committee.
    async fn ask(&mut self, context: B256, members: Vec<(u32, Address)>) -> Result<()> {
        let unasked = std::mem::take(&mut self.missing);
        if unasked.is_empty() {
            return Ok(());
        }
        let endpoint = dealer_endpoint(&self.attestation, self.committee.chain_id, context, members).await?;
        let asked = unasked.iter().map(|(address, _)| {
            let endpoint = Arc::clone(&endpoint);
            async move {
                let channel = attested_channel(endpoint, address, None)?;
                anyhow::Ok(RemoteNode::connect(address, channel).await?)
            }
        });
        let answers = futures_util::future::join_all(asked).await;
        for ((address, before), answer) in unasked.iter().zip(answers) {
            match answer {
                Ok((node, records)) => {
                    self.nodes.push(node);
                    for record in records {
                        if !self.records.contains(&record) {
                            self.records.push(record);
                        }
                    }
                }
                Err(error) => {
                    let reason = if before.is_empty() { format!("{error:#}") } else { before.clone() };
                    self.missing.push((address.clone(), reason));
                }
            }
        }
        Ok(())
    }

    /// Returns the nodes as ceremonies take them.
    pub(super) fn links(&self) -> Vec<Arc<dyn NodeLink>> {
        self.nodes.iter().map(|node| Arc::new(node.clone()) as Arc<dyn NodeLink>).collect()
    }

    /// Refuses to go on unless every registered member has answered.
    ///
    /// # Errors
    /// Names those that have not.
    pub(super) fn check_complete(&self) -> Result<()> {
        let absent: Vec<String> = self
            .committee
            .signers
            .iter()
            .filter(|signer| self.nodes.iter().all(|node| node.signer() != **signer))
            .map(Address::to_string)
            .collect();
        let reasons: Vec<String> = self
            .missing
            .iter()
            .map(|(address, reason)| format!("{address}: {reason}"))
            .collect();
        ensure!(
            absent.is_empty(),
            "the chain has {} signers registered, and no node answers for {}{}",
            self.committee.signers.len(),
            absent.join(", "),
            if reasons.is_empty() {
                "; name their addresses with --node".to_owned()
            } else {
                format!(" ({})", reasons.join("; "))
            }
        );
        Ok(())
    }

    /// Returns the seats of the registered committee in an epoch.
    ///
    /// # Errors
    /// If its threshold is none.
    pub(super) fn seats(&self, epoch: B256) -> Result<Seats> {
        let threshold = u8::try_from(self.committee.mpc_threshold).context("the committee's threshold")?;
        Ok(Seats {
            context: self.committee.context_id,
            epoch,
            threshold,
            members: self.committee.signers.clone(),
        })
    }
}

async fn dealer_endpoint(attestation: &Attestation, chain_id: u64, context: B256, members: Vec<(u32, Address)>) -> Result<Arc<Endpoint>> {
    let statement = Statement {
        role: Role::Dealer,
        chain_id,
        context,
        party: 0,
        signer: Address::ZERO,
    };
    let expected = Expected {
        chain_id,
        context,
        roles: vec![Role::KmsNode],
        members,
        party: None,
    };
    let endpoint = Endpoint::new(
        statement,
        Arc::clone(&attestation.attestor),
        attestation.verifier.clone(),
        expected,
        Arc::new(|| SystemClock.now_seconds()),
    );
    Ok(Arc::new(Box::pin(endpoint).await.context("cannot prove what runs here")?))
}
