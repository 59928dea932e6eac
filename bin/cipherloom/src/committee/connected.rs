//! The committee that a chain has registered, connected: a channel to each node at the address that the operator names.
//!
//! Who the nodes are, how many may be corrupt and how many have to sign the chain says, and is asked again from time to time. When it registers another
//! context, or other signers, channels are made anew: their other end has to be a member of that committee.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use cipherloom_chain::{CommitteeOnChain, HostChain};
use cipherloom_gateway::ServiceError;
use cipherloom_primitives::{
    Address,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
};
use cipherloom_service::{attested::attested_channel, chains::Trouble};
use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use tonic::Status;

use super::{
    attestation::Attestation,
    carrier::{Carrier, ChainTerms, Member, Patience},
    client::{CommitteeClient, NodeError, PublicShares, PublicSignature, SealedShares},
    remote::{NodeDescription, RemoteNode},
};
use crate::wiring::Kms;

/// How often chains are asked who is in the committee.
const LOOK: Duration = Duration::from_secs(15);

/// Where a node is: `NUMBER=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlace {
    /// Its number.
    pub(crate) party: u32,
    /// Its host and attested port.
    pub(crate) address: String,
}

impl FromStr for NodePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write NUMBER=HOST:PORT, with the node's number among the signers that are registered on chain, such as 1=10.0.0.6:50061"
                .to_owned()
        };
        let (party, address) = text.split_once('=').ok_or_else(wrong)?;
        let party = party.parse().ok().filter(|party| (1..=15).contains(party)).ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let is_place = !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0);
        match is_place {
            true => Ok(Self {
                party,
                address: address.to_owned(),
            }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.party, self.address)
    }
}

/// A committee that can be asked.
pub(crate) struct ConnectedCommittee {
    places: BTreeMap<u32, String>,
    attestation: Attestation,
    chains: Vec<(u64, HostChain)>,
    current: RwLock<Arc<Connected>>,
}

/// The committee as it was last registered.
pub(crate) struct Connected {
    /// What the first chain says.
    pub(crate) registered: CommitteeOnChain,
    /// The nodes whose address is known: number, address, and how they are asked.
    pub(crate) nodes: Vec<(u32, String, RemoteNode)>,
    /// What carries requests.
    pub(crate) carrier: Carrier,
    terms: HashMap<u64, ChainTerms>,
}

impl ConnectedCommittee {
    /// Reads who is in the committee and prepares channels; nobody is connected to yet. The first chain is the one whose context counts.
    ///
    /// # Errors
    /// If a chain does not answer, the chains have different committees, or the places are not those of the committee.
    pub(crate) async fn connect(places: &[NodePlace], attestation: Attestation, chains: Vec<(u64, HostChain)>) -> Result<Self, Trouble> {
        let mut by_party = BTreeMap::new();
        for place in places {
            if by_party.insert(place.party, place.address.clone()).is_some() {
                return Err(Trouble::Wrong(anyhow!("node {} is named twice", place.party)));
            }
        }
        let connected = Connected::new(&by_party, &attestation, &chains).await?;
        Ok(Self {
            places: by_party,
            attestation,
            chains,
            current: RwLock::new(Arc::new(connected)),
        })
    }

    /// Returns the committee of now.
    pub(crate) fn current(&self) -> Arc<Connected> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the chains from time to time, and takes up what they say. Never ends.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(Trouble::NotYet(error) | Trouble::Wrong(error)) = self.renew().await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "what the chain says of the committee cannot be taken up; the former one is asked"
                );
            }
        }
    }

    /// Looks at the chains once.
    async fn renew(&self) -> Result<(), Trouble> {
        let current = self.current();
        let (registered, terms) = read(&self.chains).await?;
        let is_same = registered.context_id == current.registered.context_id
            && registered.signers == current.registered.signers
            && registered.mpc_threshold == current.registered.mpc_threshold;
        if is_same {
            for (chain, terms) in terms {
                current.carrier.set_terms(chain, terms);
            }
            return Ok(());
        }
        let new = Connected::new(&self.places, &self.attestation, &self.chains).await?;
        tracing::info!(context = %new.registered.context_id, nodes = new.registered.signers.len(), "the chain has another committee, which is asked from now on");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }

    /// Writes what is known of the nodes in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.current().carrier.standing().render()
    }
}

impl Kms for ConnectedCommittee {
    fn public_decrypt<'a>(
        &'a self,
        request: &'a PublicDecryptionRequest,
        proofs: Bytes,
    ) -> BoxFuture<'a, Result<PublicDecryptionAnswer, ServiceError>> {
        async move { self.current().carrier.public_decrypt(request, proofs).await }.boxed()
    }

    fn user_decrypt<'a>(
        &'a self,
        request: &'a UserDecryptionRequest,
        proofs: Bytes,
    ) -> BoxFuture<'a, Result<Vec<UserDecryptionShare>, ServiceError>> {
        async move { self.current().carrier.user_decrypt(request, proofs).await }.boxed()
    }
}

impl Connected {
    async fn new(places: &BTreeMap<u32, String>, attestation: &Attestation, chains: &[(u64, HostChain)]) -> Result<Self, Trouble> {
        let (registered, terms) = read(chains).await?;
        let endpoint = attestation.gateway_endpoint(&registered).await.map_err(Trouble::NotYet)?;
        Self::over(places, registered, terms, |party, address| {
            let channel = attested_channel(Arc::clone(&endpoint), address, Some(party))?;
            Ok(RemoteNode::new(channel))
        })
        .map_err(Trouble::Wrong)
    }

    fn over(
        places: &BTreeMap<u32, String>,
        registered: CommitteeOnChain,
        terms: HashMap<u64, ChainTerms>,
        open: impl Fn(u32, &str) -> Result<RemoteNode>,
    ) -> Result<Self> {
        let count = registered.signers.len();
        if let Some(party) = places
            .keys()
            .find(|party| usize::try_from(**party).is_ok_and(|party| party > count))
        {
            return Err(anyhow!(
                "there is no node {party}: the chain has {count} registered, {}",
                listed(&registered.signers)
            ));
        }
        let threshold = u8::try_from(registered.mpc_threshold).context("the chain's number of nodes that may be corrupt")?;
        let enough = count.saturating_sub(usize::from(threshold));
        ensure!(
            places.len() >= enough,
            "the chain has {count} nodes registered, of which {enough} have to answer, and {} are named with --kms-node",
            places.len()
        );
        let mut nodes = Vec::new();
        let mut members = Vec::new();
        for (party, signer) in registered.members() {
            let client: Arc<dyn CommitteeClient> = match places.get(&party) {
                Some(address) => {
                    let node = open(party, address).with_context(|| format!("node {party}"))?;
                    nodes.push((party, address.clone(), node.clone()));
                    Arc::new(node)
                }
                None => Arc::new(Unnamed),
            };
            members.push(Member { party, signer, client });
        }
        let carrier = Carrier::new(members, threshold, terms.clone(), Patience::default())?;
        Ok(Self {
            registered,
            nodes,
            carrier,
            terms,
        })
    }

    /// Returns what each chain asks for.
    pub(crate) const fn terms(&self) -> &HashMap<u64, ChainTerms> {
        &self.terms
    }

    /// Returns how many nodes have to answer.
    pub(crate) fn enough(&self) -> usize {
        let threshold = usize::try_from(self.registered.mpc_threshold).unwrap_or(usize::MAX);
        self.registered.signers.len().saturating_sub(threshold)
    }

    /// Asks all nodes what they are.
    pub(crate) async fn describe(&self) -> Vec<(u32, Result<NodeDescription, Status>)> {
        join_all(
            self.nodes
                .iter()
                .map(|(party, _, node)| async move { (*party, node.describe().await) }),
        )
        .await
    }
}

/// Reads who is in the committee, which all chains have to agree on, and what each chain asks for.
async fn read(chains: &[(u64, HostChain)]) -> Result<(CommitteeOnChain, HashMap<u64, ChainTerms>), Trouble> {
    let mut first: Option<CommitteeOnChain> = None;
    let mut terms = HashMap::new();
    for (id, host) in chains {
        let unread = |error| Trouble::of(error, || format!("cannot read the committee of chain {id}"));
        let registered = host.kms_committee().await.map_err(unread)?;
        let domains = host.signing_domains().await.map_err(unread)?;
        let signatures = usize::try_from(registered.public_decryption_threshold).unwrap_or(usize::MAX);
        if signatures > registered.signers.len() || registered.signers.is_empty() {
            return Err(Trouble::Wrong(anyhow!(
                "chain {id} asks for {signatures} signatures of {} nodes",
                registered.signers.len()
            )));
        }
        terms.insert(*id, ChainTerms { domains, signatures });
        match &first {
            None => first = Some(registered),
            Some(first) if first.signers == registered.signers && first.mpc_threshold == registered.mpc_threshold => {}
            Some(first) => {
                return Err(Trouble::Wrong(anyhow!(
                    "chain {} has {} registered as its KMS nodes, and chain {id} {}: chains with different committees need gateways of their own",
                    first.chain_id,
                    listed(&first.signers),
                    listed(&registered.signers)
                )));
            }
        }
    }
    let first = first.ok_or_else(|| Trouble::Wrong(anyhow!("there is no chain")))?;
    Ok((first, terms))
}

fn listed(signers: &[Address]) -> String {
    let names: Vec<String> = signers.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// A node whose address nobody has named.
struct Unnamed;

impl Unnamed {
    fn answer<T: Send + 'static>() -> BoxFuture<'static, Result<T, NodeError>> {
        async {
            Err(NodeError::Unreachable(
                "its address is not in the gateway's configuration".to_owned(),
            ))
        }
        .boxed()
    }
}

impl CommitteeClient for Unnamed {
    fn user_share(&self, _: Arc<UserDecryptionRequest>, _: Bytes) -> BoxFuture<'static, Result<SealedShares, NodeError>> {
        Self::answer()
    }

    fn public_shares(&self, _: Arc<PublicDecryptionRequest>, _: Bytes) -> BoxFuture<'static, Result<PublicShares, NodeError>> {
        Self::answer()
    }

    fn public_sign(
        &self,
        _: Arc<PublicDecryptionRequest>,
        _: Bytes,
        _: Arc<[PublicShares]>,
    ) -> BoxFuture<'static, Result<PublicSignature, NodeError>> {
        Self::answer()
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{B256, eip712::SigningDomains};

    use super::*;

    #[test]
    fn a_place_is_a_number_with_a_host_and_a_port() {
        for good in ["1=10.0.0.6:50061", "15=[::1]:1", "2=kms-2.example:50061"] {
            assert_eq!(good.parse::<NodePlace>().unwrap().to_string(), good);
        }
        for wrong in [
            "10.0.0.6:50061",
            "0=10.0.0.6:50061",
            "16=a:1",
            "x=a:1",
            "1=a",
            "1=a:0",
            "1=:1",
            "1=http://a:1",
            "1=user@a:1",
            "1=a:99999",
        ] {
            assert!(wrong.parse::<NodePlace>().is_err(), "{wrong}");
        }
    }

    fn connected(parties: &[u32], count: u8, threshold: u64) -> Result<Connected> {
        let registered = CommitteeOnChain {
            chain_id: 31337,
            context_id: B256::ZERO,
            epoch_id: B256::ZERO,
            signers: (1..=count).map(Address::with_last_byte).collect(),
            public_decryption_threshold: threshold + 1,
            user_decryption_threshold: 2 * threshold + 1,
            mpc_threshold: threshold,
        };
        let terms = ChainTerms {
            domains: SigningDomains {
                host_chain_id: 31337,
                gateway_chain_id: 10901,
                decryption: Address::ZERO,
                input_verification: Address::ZERO,
            },
            signatures: 2,
        };
        let places = parties.iter().map(|party| (*party, "127.0.0.1:1".to_owned())).collect();
        Connected::over(&places, registered, HashMap::from([(31337, terms)]), |_, _| {
            Ok(RemoteNode::new(
                tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy(),
            ))
        })
    }

    #[tokio::test]
    async fn places_have_to_be_those_of_the_committee() {
        let four = connected(&[1, 2, 3, 4], 4, 1).unwrap();
        assert_eq!((four.enough(), four.nodes.len()), (3, 4));
        // A node may be left out as it may be down.
        let three = connected(&[1, 2, 4], 4, 1).unwrap();
        let request = PublicDecryptionRequest {
            handles: vec![cipherloom_primitives::Handle::computed(
                B256::ZERO,
                31337,
                cipherloom_primitives::FheType::Bool,
            )],
            extra_data: vec![].into(),
        };
        let error = three.carrier.public_decrypt(&request, Bytes::new()).await.unwrap_err();
        assert!(
            error
                .message
                .contains("node 3 does not answer: its address is not in the gateway's configuration"),
            "{error}"
        );
        let refused = |parties: &[u32], count, threshold| format!("{:#}", connected(parties, count, threshold).err().unwrap());
        assert!(refused(&[1, 2], 4, 1).contains("2 are named"), "{}", refused(&[1, 2], 4, 1));
        assert!(refused(&[1, 2, 5], 4, 1).contains("no node 5"));
        assert!(refused(&[1, 2, 3], 3, 1).contains("below a third"));
    }
}
