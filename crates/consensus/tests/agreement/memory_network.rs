//! A network in memory: links that can be cut, channels that can be lost, and everything that was ever sent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use alloy::primitives::{Address, B256, Bytes, keccak256};
use cipherloom_consensus::{Channel, Network, NetworkError, PeerId, Received};
use cipherloom_rpc::cipherloom::consensus::v1::{Message, Vote, message::Content};
use futures_util::future::BoxFuture;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<PeerId, mpsc::UnboundedSender<Received>>,
    cut: BTreeSet<(PeerId, PeerId)>,
    /// Nodes that get nothing on these channels.
    deaf: HashSet<(PeerId, Channel)>,
    /// Nodes that were given these messages already.
    delivered: HashMap<PeerId, HashSet<B256>>,
    votes: Vec<(PeerId, Vote)>,
    punished: Vec<(PeerId, PeerId, String)>,
}

/// All wires.
#[derive(Clone, Default)]
pub(crate) struct MemoryNetwork(Arc<Mutex<Wires>>);

impl MemoryNetwork {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap()
    }

    /// Connects a node to all others.
    pub(crate) fn join(&self, id: PeerId) -> (Arc<Port>, mpsc::Receiver<Received>) {
        let (sender, mut unbounded) = mpsc::unbounded_channel();
        let (bounded, receiver) = mpsc::channel(1_024);
        tokio::spawn(async move {
            while let Some(received) = unbounded.recv().await {
                if bounded.send(received).await.is_err() {
                    return;
                }
            }
        });
        let mut wires = self.wires();
        let others: Vec<PeerId> = wires.nodes.keys().copied().collect();
        for other in others {
            wires.deliver(id, other, Received::Connected(id));
            let _ = sender.send(Received::Connected(other));
        }
        wires.delivered.remove(&id);
        wires.nodes.insert(id, sender);
        let port = Port {
            id,
            network: self.clone(),
            favoured: Mutex::default(),
        };
        (Arc::new(port), receiver)
    }

    /// Takes a node off.
    pub(crate) fn leave(&self, id: PeerId) {
        let mut wires = self.wires();
        wires.nodes.remove(&id);
        let others: Vec<PeerId> = wires.nodes.keys().copied().collect();
        for other in others {
            wires.deliver(id, other, Received::Disconnected(id));
        }
    }

    /// Cuts all links between two groups.
    pub(crate) fn cut(&self, group: &[PeerId], other: &[PeerId]) {
        let mut wires = self.wires();
        for a in group {
            for b in other {
                wires.cut.insert((*a, *b));
                wires.cut.insert((*b, *a));
            }
        }
    }

    /// Mends all links.
    pub(crate) fn mend(&self) {
        self.wires().cut.clear();
    }

    /// Loses everything that goes to a node on a channel.
    pub(crate) fn deafen(&self, id: PeerId, channel: Channel) {
        self.wires().deaf.insert((id, channel));
    }

    /// Every vote that was sent, and who sent it.
    pub(crate) fn votes(&self) -> Vec<(PeerId, Vote)> {
        self.wires().votes.clone()
    }

    /// Who punished whom, and for what.
    pub(crate) fn punished(&self) -> Vec<(PeerId, PeerId, String)> {
        self.wires().punished.clone()
    }
}

impl Wires {
    fn is_linked(&self, from: PeerId, to: PeerId) -> bool {
        from != to && self.nodes.contains_key(&from) && self.nodes.contains_key(&to) && !self.cut.contains(&(from, to))
    }

    fn deliver(&self, from: PeerId, to: PeerId, received: Received) {
        if let Some(node) = self.nodes.get(&to)
            && !self.cut.contains(&(from, to))
        {
            let _ = node.send(received);
        }
    }

    fn message(&mut self, from: PeerId, to: PeerId, channel: Channel, message: &Bytes) {
        if !self.is_linked(from, to) || self.deaf.contains(&(to, channel)) {
            return;
        }
        // As the real network: who has it is not given it again.
        let hash = keccak256(message);
        self.delivered.entry(from).or_default().insert(hash);
        if channel == Channel::Consensus && !self.delivered.entry(to).or_default().insert(hash) {
            return;
        }
        let message = message.clone();
        self.deliver(
            from,
            to,
            Received::Message {
                peer: from,
                channel,
                message,
            },
        );
    }

    fn note(&mut self, from: PeerId, channel: Channel, message: &Bytes) {
        if channel == Channel::Consensus
            && let Ok(Message {
                content: Some(Content::Vote(vote)),
                ..
            }) = Message::decode(message.as_ref())
        {
            self.votes.push((from, vote));
        }
    }
}

/// A node's end.
pub(crate) struct Port {
    id: PeerId,
    network: MemoryNetwork,
    favoured: Mutex<HashSet<PeerId>>,
}

impl Network for Port {
    fn broadcast(&self, channel: Channel, message: Bytes) {
        let mut wires = self.network.wires();
        wires.note(self.id, channel, &message);
        let others: Vec<PeerId> = wires.nodes.keys().copied().collect();
        for other in others {
            wires.message(self.id, other, channel, &message);
        }
    }

    fn relay(&self, from: PeerId, channel: Channel, message: Bytes) {
        let mut wires = self.network.wires();
        let others: Vec<PeerId> = wires.nodes.keys().copied().filter(|other| *other != from).collect();
        for other in others {
            wires.message(self.id, other, channel, &message);
        }
    }

    fn send(&self, peer: PeerId, channel: Channel, message: Bytes) {
        self.network.wires().message(self.id, peer, channel, &message);
    }

    fn request(&self, peer: PeerId, request: Bytes) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        let (answer, wait) = oneshot::channel();
        let wires = self.network.wires();
        if wires.is_linked(self.id, peer) {
            let request = Received::Request {
                peer: self.id,
                request,
                answer,
            };
            wires.deliver(self.id, peer, request);
        }
        Box::pin(async move {
            match tokio::time::timeout(Duration::from_secs(2), wait).await {
                Ok(Ok(answer)) => Ok(answer),
                _ => Err(NetworkError::NoAnswer(peer)),
            }
        })
    }

    fn punish(&self, peer: PeerId, reason: &str) {
        self.network.wires().punished.push((self.id, peer, reason.to_owned()));
    }

    fn peers(&self) -> Vec<PeerId> {
        let wires = self.network.wires();
        wires
            .nodes
            .keys()
            .copied()
            .filter(|other| wires.is_linked(self.id, *other))
            .collect()
    }

    fn favour(&self, validators: HashSet<PeerId>) {
        *self.favoured.lock().unwrap() = validators;
    }

    fn is_favoured(&self, peer: &PeerId) -> bool {
        self.favoured.lock().unwrap().contains(peer)
    }
}

/// What a validator voted for, by kind, height and round.
pub(crate) type VotesByPlace = BTreeMap<(Address, i32, u64, u32), BTreeSet<Option<Vec<u8>>>>;

/// Sorts votes by who cast them where.
pub(crate) fn by_place(votes: &[(PeerId, Vote)]) -> VotesByPlace {
    let mut places = VotesByPlace::new();
    // Others may invent votes; who casts them sends them.
    for (_, vote) in votes.iter().filter(|(from, vote)| from.as_slice() == vote.validator.as_ref()) {
        let place = (Address::from_slice(&vote.validator), vote.kind, vote.height, vote.round);
        places
            .entry(place)
            .or_default()
            .insert(vote.block.as_ref().map(|block| block.to_vec()));
    }
    places
}
