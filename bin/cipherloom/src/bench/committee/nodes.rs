//! The processes of the nodes, and the carrier that asks them.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, Bytes},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, ensure};
use cipherloom_contracts::development;
use cipherloom_fhe::{KeySet, SquashingSecrets};
use cipherloom_kms::party_identity;
use cipherloom_primitives::eip712::recover_signer;
use cipherloom_service::attested::attested_channel;
use cipherloom_threshold::{Committee, CommitteeSize, ContextId, EpochId, KeyId, KeyShare, Scope, SecretKeys, deal};
use clap::ValueEnum;
use getrandom::{SysRng, rand_core::UnwrapErr};

use super::{
    message::{Assignment, Spent, write_frame},
    registered,
};
use crate::{
    bench::options::Parameters,
    committee::{Attestation, Carrier, ChainTerms, CommitteeClient, Member, Patience, RemoteNode},
};

/// How often it is looked whether nodes are at work, and the most CPU time that all of them together take meanwhile if they are not, in milliseconds: that of being asked.
const PAUSE: Duration = Duration::from_millis(100);
const IDLE_MS: f64 = 10.0;

/// How long nodes may be at work after the last answer.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// A running committee.
pub(super) struct Nodes {
    processes: Vec<Process>,
    signers: Vec<Address>,
    signatures: usize,
    carrier: Carrier,
}

/// A node; ended when it is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Nodes {
    /// Deals the key and starts a process for each node.
    ///
    /// # Errors
    /// If one does not start.
    pub(super) async fn start(
        size: CommitteeSize,
        parameters: Parameters,
        assignment: Assignment,
        secrets: &SquashingSecrets,
    ) -> Result<Self> {
        let keys: Vec<PrivateKeySigner> = size.ids().map(|_| PrivateKeySigner::random()).collect();
        let signers: Vec<Address> = keys.iter().map(PrivateKeySigner::address).collect();
        let shares = deal_to(size, assignment.key_set_id, &signers, secrets)?;
        let registered = registered(signers.clone(), size);
        let attestation = Attestation::insecure_simulated("cipherloom-bench")?;
        let endpoint = attestation.gateway_endpoint(&registered).await?;
        let (mut processes, mut members) = (Vec::new(), Vec::new());
        for ((share, key), (party, signer)) in shares.iter().zip(&keys).zip(registered.members()) {
            let own = Assignment {
                party,
                signers: signers.clone(),
                ..assignment.clone()
            };
            let mut process = Process::start(parameters, &own, share, key)?;
            let address = process.line()?;
            let channel = attested_channel(Arc::clone(&endpoint), &address, Some(party))?;
            let client: Arc<dyn CommitteeClient> = Arc::new(RemoteNode::new(channel));
            members.push(Member { party, signer, client });
            processes.push(process);
        }
        let signatures = usize::try_from(registered.public_decryption_threshold)?;
        let terms = ChainTerms {
            domains: development::signing_domains(),
            signatures,
        };
        let chains = HashMap::from([(development::HOST_CHAIN_ID, terms)]);
        Ok(Self {
            processes,
            signers,
            signatures,
            carrier: Carrier::new(members, size.threshold(), chains, Patience::default())?,
        })
    }

    /// Returns what asks the nodes.
    pub(super) const fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Checks that enough nodes signed something.
    ///
    /// # Errors
    /// If they did not.
    pub(super) fn check_signatures(&self, digest: B256, signatures: &[Bytes]) -> Result<()> {
        let mut signed: Vec<Address> = signatures
            .iter()
            .filter_map(|signature| recover_signer(digest, signature))
            .collect();
        signed.retain(|signer| self.signers.contains(signer));
        signed.sort_unstable();
        signed.dedup();
        ensure!(
            signed.len() >= self.signatures,
            "{} of {} signatures are good",
            signed.len(),
            self.signatures
        );
        Ok(())
    }

    /// Asks what all nodes together have spent.
    ///
    /// # Errors
    /// If one does not say.
    pub(super) fn spent(&mut self) -> Result<Spent> {
        let mut all = Spent::default();
        for process in &mut self.processes {
            all = all.plus(process.spent()?);
        }
        Ok(all)
    }

    /// Waits until no node is at work: none answers, and what was begun for those who no longer wait has ended.
    ///
    /// # Errors
    /// If that takes too long.
    pub(super) fn settle(&mut self) -> Result<()> {
        let (start, mut before) = (Instant::now(), self.spent()?);
        loop {
            std::thread::sleep(PAUSE);
            let now = self.spent()?;
            if now.in_progress == 0 && now.since(before).cpu_ms < IDLE_MS {
                return Ok(());
            }
            ensure!(start.elapsed() < SETTLED_WITHIN, "nodes are still at work");
            before = now;
        }
    }
}

impl Process {
    fn start(parameters: Parameters, assignment: &Assignment, share: &KeyShare, key: &PrivateKeySigner) -> Result<Self> {
        let parameters = parameters.to_possible_value().context("the parameters have no name")?;
        let executable = std::env::current_exe().context("cannot find this binary")?;
        let mut child = Command::new(executable)
            .args(["bench", "committee-node", "--parameters", parameters.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a node")?;
        let mut input = child.stdin.take().context("a node has no input")?;
        let output = BufReader::new(child.stdout.take().context("a node has no output")?).lines();
        write_frame(&mut input, &serde_json::to_vec(assignment)?)?;
        write_frame(&mut input, &share.to_bytes())?;
        write_frame(&mut input, key.to_bytes().as_slice())?;
        Ok(Self { child, input, output })
    }

    fn line(&mut self) -> Result<String> {
        self.output
            .next()
            .context("a node ended; its errors are above")?
            .context("cannot read what a node says")
    }

    fn spent(&mut self) -> Result<Spent> {
        writeln!(self.input, "spent").context("a node ended; its errors are above")?;
        serde_json::from_str(&self.line()?).context("cannot read what a node says")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nothing that it would have to finish.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Deals a key to a committee whose members nobody is.
///
/// # Errors
/// If the key cannot be shared.
pub(super) fn deal_to_strangers(size: CommitteeSize, keys: &KeySet, secrets: &SquashingSecrets) -> Result<Vec<KeyShare>> {
    let signers: Vec<Address> = size.ids().map(|party| Address::with_last_byte(party.number())).collect();
    deal_to(size, B256::from(*keys.manifest().id.as_bytes()), &signers, secrets)
}

fn deal_to(size: CommitteeSize, key_set_id: B256, signers: &[Address], secrets: &SquashingSecrets) -> Result<Vec<KeyShare>> {
    let members = signers.iter().map(|signer| party_identity(*signer)).collect();
    let registered = registered(signers.to_vec(), size);
    let scope = Scope {
        key: KeyId(key_set_id.0),
        context: ContextId(registered.context_id.0),
        epoch: EpochId(registered.epoch_id.0),
        committee: Committee::new(size.threshold(), members)?,
    };
    let secrets = SecretKeys {
        squashed: secrets.squashed(),
        compressed: secrets.listed(),
    };
    Ok(deal(&scope, secrets, &mut UnwrapErr(SysRng))?.shares)
}
