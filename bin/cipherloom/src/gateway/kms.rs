//! The KMS of a gateway: one node that has the whole key, or a committee; and what has to be so before the gateway serves.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use cipherloom_primitives::B256;
use cipherloom_service::{
    chains::{Chain, Trouble},
    endpoints::{Place, is_unanswered, with_causes},
    examination::Examination,
};
use tonic::Status;

use super::{
    check::{KMS, check_signer},
    options::GatewayOptions,
};
use crate::{
    committee::{Attestation, Connected, ConnectedCommittee, NodeDescription},
    remote::kms::{self, RemoteKms},
    wiring::Kms,
};

/// The KMS of a gateway.
#[derive(Clone)]
pub(super) enum GatewayKms {
    /// One node, at one of several endpoints.
    Node(Arc<RemoteKms>),
    /// A committee.
    Committee(Arc<ConnectedCommittee>),
}

impl GatewayKms {
    /// Sets up calls to what the options name.
    ///
    /// # Errors
    /// If it cannot be used, or the chains cannot be read that say who is in the committee.
    pub(super) async fn open(options: &GatewayOptions, chains: &[&Chain]) -> Result<Self, Trouble> {
        if options.kms_node.is_empty() {
            let node = RemoteKms::new(&Place {
                part: kms::PART,
                urls: &options.kms_url,
                ca: options.kms_ca.as_deref(),
                key: options.kms_access_token_file.as_ref(),
            });
            return node.map(|node| Self::Node(Arc::new(node))).map_err(Trouble::Wrong);
        }
        let attestation = Attestation::of_options(&options.attestation).map_err(Trouble::Wrong)?;
        let hosts = chains.iter().map(|chain| (chain.id, chain.host.clone())).collect();
        let committee = ConnectedCommittee::connect(&options.kms_node, attestation, hosts).await?;
        Ok(Self::Committee(Arc::new(committee)))
    }

    /// Returns it as requests for decryptions see it.
    pub(super) fn asked(&self) -> Arc<dyn Kms> {
        match self {
            Self::Node(node) => Arc::clone(node) as _,
            Self::Committee(committee) => Arc::clone(committee) as _,
        }
    }

    /// Returns the committee, if it is one.
    pub(super) const fn committee(&self) -> Option<&Arc<ConnectedCommittee>> {
        match self {
            Self::Node(_) => None,
            Self::Committee(committee) => Some(committee),
        }
    }

    /// Asks which key set it has: of a committee what enough nodes have.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(super) async fn key_set_id(&self) -> Result<B256, String> {
        match self {
            Self::Node(node) => node
                .describe()
                .await
                .map(|described| described.key_set_id)
                .map_err(|status| with_causes(&status)),
            Self::Committee(committee) => {
                let current = committee.current();
                let described = current.describe().await;
                agreed_key_set(&current, &described).ok_or_else(|| told(&described))
            }
        }
    }

    /// Looks at it, and returns its key set.
    pub(super) async fn check(&self, options: &GatewayOptions, chains: &[&Chain], examination: &mut Examination) -> Option<B256> {
        match self {
            Self::Node(node) => check_node(options, node, chains, examination).await,
            Self::Committee(committee) => check_committee(&committee.current(), chains, options, examination).await,
        }
    }
}

async fn check_node(options: &GatewayOptions, kms: &RemoteKms, chains: &[&Chain], examination: &mut Examination) -> Option<B256> {
    let at = options.kms_url.join(", ");
    let described = match kms.describe().await {
        Ok(described) => described,
        Err(status) if is_unanswered(&status) => {
            examination.not_yet(
                KMS,
                format!("{at} does not answer: {}", with_causes(&status)),
                "start it, or correct its URL",
            );
            return None;
        }
        Err(status) => {
            examination.wrong(
                KMS,
                format!("{at}: {}", status.message()),
                "check the access token, and that a KMS listens there",
            );
            return None;
        }
    };
    let kind = if described.centralised {
        "CENTRALISED: one process holds the whole secret key"
    } else {
        "a node of several"
    };
    examination.ok(KMS, format!("{at} answers, version {}, {kind}", described.version));
    for chain in chains {
        expect_chain(&at, &described.chain_ids, chain.id, examination);
        // Unreadable chains were told of before.
        if let Ok(registered) = chain.host.kms_signers().await {
            check_signer(KMS, chain.id, described.signer, &registered, examination);
        }
    }
    Some(described.key_set_id)
}

fn expect_chain(at: &str, answered: &[u64], chain: u64, examination: &mut Examination) {
    examination.expect(KMS, answered.contains(&chain), format!("{at}: answers for chain {chain}"), || {
        (
            format!("{at} does not answer for chain {chain}, but for {answered:?}"),
            "add the chain to its config file".to_owned(),
        )
    });
}

async fn check_committee(current: &Connected, chains: &[&Chain], options: &GatewayOptions, examination: &mut Examination) -> Option<B256> {
    let described = current.describe().await;
    let (count, enough) = (current.registered.signers.len(), current.enough());
    for chain in chains {
        let signatures = current.terms().get(&chain.id).map_or(0, |terms| terms.signatures);
        examination.ok(
            KMS,
            format!("chain {}: {count} nodes are registered, and {signatures} have to sign", chain.id),
        );
    }
    let key_set = agreed_key_set(current, &described);
    // So many may be away, or wrong, and the others answer.
    let fit: Vec<(u32, Vec<String>)> = described
        .iter()
        .map(|(party, outcome)| (*party, faults(current, *party, outcome, chains, key_set)))
        .collect();
    let well = fit.iter().filter(|(_, faults)| faults.is_empty()).count();
    for ((party, faults), (_, address, _)) in fit.iter().zip(&current.nodes) {
        let at = format!("node {party} at {address}");
        if faults.is_empty() {
            examination.ok(KMS, format!("{at} is the one that the chain knows, and has its share"));
            continue;
        }
        let message = format!("{at} {}", faults.join("; "));
        let remedy = "start it or look at its log; if another process is there, correct the address or the policy";
        match well >= enough {
            true => examination.warn(KMS, message, remedy),
            false => examination.not_yet(KMS, message, remedy),
        }
    }
    for (party, signer) in current.registered.members() {
        if !current.nodes.iter().any(|(named, _, _)| *named == party) {
            examination.warn(
                KMS,
                format!("node {party}, {signer}, is not named, so that it counts as one that is down"),
                "name its address with --kms-node",
            );
        }
    }
    let insecure = described
        .iter()
        .any(|(_, outcome)| outcome.as_ref().is_ok_and(|node| node.simulated_attestation));
    if insecure {
        examination.warn(
            KMS,
            "INSECURE: the attestation of nodes is simulated and proves nothing",
            "for development only; real nodes run in trusted hardware",
        );
    }
    if options.attestation.insecure_simulated_attestation && !insecure {
        examination.warn(
            KMS,
            "the gateway believes simulated attestation, which no node shows",
            "leave out --insecure-simulated-attestation, and name a policy",
        );
    }
    key_set
}

/// Says what is wrong with a node, if anything is.
fn faults(
    current: &Connected,
    party: u32,
    outcome: &Result<NodeDescription, Status>,
    chains: &[&Chain],
    key_set: Option<B256>,
) -> Vec<String> {
    let node = match outcome {
        Ok(node) => node,
        Err(status) if is_unanswered(status) => return vec![format!("does not answer: {}", with_causes(status))],
        Err(status) => return vec![with_causes(status)],
    };
    let mut faults = Vec::new();
    let registered = &current.registered;
    if registered.party_of(node.signer) != Some(party) {
        faults.push(format!("signs as {}, and not as the chain has it", node.signer));
    }
    let missing: Vec<String> = chains
        .iter()
        .filter(|chain| !node.chain_ids.contains(&chain.id))
        .map(|chain| chain.id.to_string())
        .collect();
    if !missing.is_empty() {
        faults.push(format!("does not answer for chain {}", missing.join(", ")));
    }
    let share = node.shares.iter().find(|held| held.made_with.context == registered.context_id);
    match share {
        None if node.shares.is_empty() => faults.push("has no share: it waits for the ceremony".to_owned()),
        None => faults.push(format!("has no share of context {}", registered.context_id)),
        Some(held) => {
            if held.party != party || held.members != registered.signers || u64::from(held.threshold) != registered.mpc_threshold {
                faults.push("has a share of another committee than the chain has registered".to_owned());
            }
            if key_set.is_some_and(|key_set| held.made_with.key_set_id != key_set) {
                faults.push(format!(
                    "has a share of key set {}, and most have another",
                    hex::encode(held.made_with.key_set_id)
                ));
            }
        }
    }
    faults
}

/// Returns the key set that enough nodes have a share of.
fn agreed_key_set(current: &Connected, described: &[(u32, Result<NodeDescription, Status>)]) -> Option<B256> {
    let mut counts: BTreeMap<B256, usize> = BTreeMap::new();
    for node in described.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()) {
        let held = node
            .shares
            .iter()
            .find(|held| held.made_with.context == current.registered.context_id);
        if let Some(held) = held {
            *counts.entry(held.made_with.key_set_id).or_default() += 1;
        }
    }
    counts.into_iter().find(|(_, count)| *count >= current.enough()).map(|(id, _)| id)
}

/// Says why too few nodes have a share.
fn told(described: &[(u32, Result<NodeDescription, Status>)]) -> String {
    let each: Vec<String> = described
        .iter()
        .map(|(party, outcome)| match outcome {
            Ok(node) if node.shares.is_empty() => format!("node {party} has no share"),
            Ok(_) => format!("node {party} answers"),
            Err(status) => format!("node {party} does not answer: {}", with_causes(status)),
        })
        .collect();
    format!("too few nodes have a share of one key set: {}", each.join("; "))
}
