//! What all commands need: the chain, the committee that it has registered, and attested connections to nodes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use cipherloom_attest::{Policy, Role, Verifier};
use cipherloom_ceremony::{NodeLink, Record, Seats};
use cipherloom_chain::{CallLimits, CommitteeOnChain, HostChain};
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::{Address, B256};
use cipherloom_service::{
    attestation::{CommitteeSeats, committee_endpoint, read_collateral, read_policy},
    attested::attested_channel,
    ceremony::RemoteNode,
    chains::contract_addresses,
};
use clap::Args;
use tokio::time::Instant;

use crate::committee::{Attestation, AttestationOptions, insecure_attestor};

/// Where the options of attestation stand in help texts.
const ATTESTATION: &str = "What is proved and believed";
/// How long nodes may take to follow the chain: a command is often run right after a committee was registered.
const FOLLOWING: Duration = Duration::from_secs(10);
/// How often nodes that have not answered are asked again meanwhile.
const PAUSE: Duration = Duration::from_millis(250);

/// The chain that has the committee registered.
#[derive(Clone, Debug, Args)]
pub(super) struct ChainOptions {
    /// A node of the host chain that has the committee registered: JSON-RPC over http, https, ws or wss. Given several times: others to ask while one fails
    #[arg(long, value_name = "URL", required = true)]
    pub(super) rpc_url: Vec<String>,

    /// The file about the deployment of the host contracts, deployment-CHAINID.json [default: the known plan of chain 31337 or 12345]
    #[arg(long, value_name = "FILE")]
    pub(super) deployment: Option<PathBuf>,

    /// The chain is a native one: the genesis.json that it began with, instead of a deployment
    #[arg(long, value_name = "FILE", conflicts_with = "deployment")]
    pub(super) native_genesis: Option<PathBuf>,
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
        let addresses = contract_addresses(id, self.deployment.as_deref(), self.native_genesis.as_deref())?;
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
        Some(path) => read_policy(path)?,
        None if is_simulated => Policy::insecure_simulated_only(),
        None => bail!(
            "no policy: name the file with --policy that lists the software whose evidence counts; without one nobody could be believed"
        ),
    };
    ensure!(
        is_simulated || !policy.allow_insecure_simulated,
        "the policy allows simulated evidence: take `allow-insecure-simulated` out of it, or say --insecure-simulated-attestation"
    );
    Ok(Verifier::new(policy, Arc::new(read_collateral(collateral)?))?)
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
        let start = Instant::now();
        loop {
            connected.ask_all().await?;
            if connected.missing.is_empty() || start.elapsed() > FOLLOWING {
                return Ok(connected);
            }
            tracing::info!(
                missing = connected.missing.len(),
                "waits for nodes that do not speak for the registered committee yet"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Connected {
    /// Asks nodes that have not answered yet as members of the registered committee, and then those that it does not list as members of the one before.
    async fn ask_all(&mut self) -> Result<()> {
        for (_, reason) in &mut self.missing {
            reason.clear();
        }
        self.ask(self.committee.context_id, self.committee.members()).await?;
        let newest = self.records.iter().max_by_key(|record| record.core.seats.epoch);
        let Some(seats) = newest.map(|record| &record.core.seats) else {
            return Ok(());
        };
        // Whoever is in both committees speaks for the registered one as soon as it has noticed.
        let former = (1..)
            .zip(seats.members.iter().copied())
            .filter(|(_, member)| !self.committee.signers.contains(member));
        let (context, former) = (seats.context, former.collect::<Vec<_>>());
        if context != self.committee.context_id && !former.is_empty() {
            self.ask(context, former).await?;
        }
        Ok(())
    }

    /// Asks nodes that have not answered yet, as members of a committee.
    async fn ask(&mut self, context: B256, members: Vec<(u32, Address)>) -> Result<()> {
        let unasked = std::mem::take(&mut self.missing);
        if unasked.is_empty() {
            return Ok(());
        }
        let seats = CommitteeSeats {
            chain_id: self.committee.chain_id,
            context,
            members,
        };
        let Attestation { attestor, verifier } = self.attestation.clone();
        let endpoint = committee_endpoint(attestor, verifier, seats, Role::Dealer, None, &[Role::KmsNode]).await?;
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
