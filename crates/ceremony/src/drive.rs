//! Driving a ceremony: asking all nodes in order, and carrying letters between them.
//!
//! A driver can make a ceremony fail, by losing or delaying what it carries. It learns nothing secret from what it carries, and can make nodes agree to nothing that the chain does not say. If anything goes
//! wrong before the record is complete, all nodes are told to wipe what they have; once it is complete, activation can be repeated until all have followed.

use std::{collections::VecDeque, sync::Arc};

use alloy_primitives::{Address, B256};
use cipherloom_attest::{Attestor, Evidence, Verifier};
use futures_util::future::{BoxFuture, join_all};

use crate::{
    Acceptance, Accepted, Card, CeremonyError, Core, Dealer, Delivered, GeneratedKeys, Letter, Node, Proposal, Record, Registration, Seed,
    dealer::complete,
};

/// A node as its driver sees it. Calls are those of [`Node`].
pub trait NodeLink: Send + Sync {
    /// Returns the node's signing address.
    fn signer(&self) -> Address;
    /// See [`Node::begin`]; the node finds out by itself what is registered.
    fn begin<'a>(&'a self, proposal: &'a Proposal, dealer: Option<&'a Card>) -> BoxFuture<'a, Result<Card, CeremonyError>>;
    /// See [`Node::cards`].
    fn cards<'a>(&'a self, session: B256, cards: &'a [Card]) -> BoxFuture<'a, Result<Delivered, CeremonyError>>;
    /// See [`Node::deal`].
    fn deal<'a>(
        &'a self,
        core: &'a Core,
        dealer_evidence: &'a Evidence,
        letter: &'a Letter,
    ) -> BoxFuture<'a, Result<Acceptance, CeremonyError>>;
    /// See [`Node::deliver`].
    fn deliver(&self, session: B256, letters: Vec<Letter>) -> BoxFuture<'_, Result<Delivered, CeremonyError>>;
    /// See [`Node::close`].
    fn close(&self, session: B256) -> BoxFuture<'_, Result<Delivered, CeremonyError>>;
    /// See [`Node::accept`].
    fn accept(&self, session: B256) -> BoxFuture<'_, Result<Accepted, CeremonyError>>;
    /// See [`Node::activate`].
    fn activate<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), CeremonyError>>;
    /// See [`Node::abort`].
    fn abort(&self, session: B256) -> BoxFuture<'_, Result<(), CeremonyError>>;
}

/// How far a ceremony has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nodes show their cards.
    Cards,
    /// Entropy is collected.
    Entropy,
    /// The key is generated.
    Keys,
    /// The key is shared, or shares are reshared.
    Shares,
    /// Nodes check and sign.
    Acceptance,
    /// Nodes put their new shares into use.
    Activation,
}

/// What came of a ceremony.
#[derive(Debug)]
pub struct Outcome {
    /// The record, to be published.
    pub record: Record,
    /// Nodes that have not followed the record yet, and why. It can be delivered to them again.
    pub not_activated: Vec<(Address, CeremonyError)>,
}

/// What a dealer needs besides the nodes.
pub struct DealingParts<'a> {
    /// The dealer's hardware.
    pub attestor: &'a dyn Attestor,
    /// Whose evidence the dealer believes.
    pub verifier: &'a Verifier,
    /// The time in seconds since 1970.
    pub now: u64,
}

/// Makes a new key and deals it to the nodes of the proposal. `generate` makes the key; it may take long.
///
/// # Errors
/// [`CeremonyError`] naming what failed and where; then nothing has changed, and all nodes have wiped what they had.
pub async fn deal<F>(
    proposal: Proposal,
    nodes: &[Arc<dyn NodeLink>],
    parts: DealingParts<'_>,
    generate: impl FnOnce(Seed) -> F + Send,
    mut progress: impl FnMut(Step) + Send,
) -> Result<Outcome, CeremonyError>
where
    F: Future<Output = Result<GeneratedKeys, CeremonyError>> + Send,
{
    let nodes = in_order(&proposal.target.members, nodes)?;
    let mut dealer = Dealer::new(proposal, parts.attestor).await?;
    let session = dealer.session();
    let dealt = Box::pin(deal_steps(&mut dealer, &nodes, &parts, generate, &mut progress)).await;
    finish(session, &nodes, dealt, progress).await
}

async fn deal_steps<F>(
    dealer: &mut Dealer,
    nodes: &[Arc<dyn NodeLink>],
    parts: &DealingParts<'_>,
    generate: impl FnOnce(Seed) -> F + Send,
    progress: &mut (impl FnMut(Step) + Send),
) -> Result<Record, CeremonyError>
where
    F: Future<Output = Result<GeneratedKeys, CeremonyError>> + Send,
{
    let session = dealer.session();
    progress(Step::Cards);
    let cards = all(nodes, |node| node.begin(dealer.proposal(), Some(dealer.card()))).await?;
    let cards = dealer.take_cards(cards, parts.verifier, parts.now)?.to_vec();
    progress(Step::Entropy);
    let revealed = all(nodes, |node| node.cards(session, &cards)).await?;
    let letters: Vec<Letter> = revealed.into_iter().flat_map(|delivered| delivered.letters).collect();
    let seed = dealer.take_entropy(&letters)?;
    progress(Step::Keys);
    let keys = generate(seed.clone()).await?;
    progress(Step::Shares);
    let dealt = dealer.deal(&seed, keys, parts.attestor).await?;
    drop(seed);
    progress(Step::Acceptance);
    let asked = nodes
        .iter()
        .zip(&dealt.letters)
        .map(|(node, letter)| node.deal(&dealt.core, &dealt.evidence, letter));
    let acceptances = join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    dealt.record(acceptances)
}

/// Replaces the shares that a record describes, by carrying letters between the nodes of both committees. Old nodes may be missing, as many as were allowed to be wrong; new ones may not.
///
/// # Errors
/// As [`deal`]; the old shares stay in use.
pub async fn carry_resharing(
    proposal: Proposal,
    nodes: &[Arc<dyn NodeLink>],
    mut progress: impl FnMut(Step) + Send,
) -> Result<Outcome, CeremonyError> {
    let session = proposal.session()?;
    let new = in_order(&proposal.target.members, nodes)?;
    progress(Step::Cards);
    let begun = join_all(nodes.iter().map(|node| node.begin(&proposal, None))).await;
    let mut taking_part = Vec::new();
    let mut cards = Vec::new();
    let mut failure = None;
    for (node, card) in nodes.iter().zip(begun) {
        match card {
            Ok(card) => {
                taking_part.push(Arc::clone(node));
                cards.push(card);
            }
            Err(error) if proposal.target.party_of(node.signer()).is_some() => failure = Some(error),
            // An old node that is gone, or refuses, is one of those that may be missing.
            Err(_) => {}
        }
    }
    let reshared = match failure {
        Some(error) => Err(error),
        None => {
            progress(Step::Shares);
            let mut carrier = Carrier {
                session,
                new,
                nodes: taking_part.clone(),
                waiting: taking_part.iter().map(|_| VecDeque::new()).collect(),
                finished: vec![false; taking_part.len()],
                gone: vec![false; taking_part.len()],
            };
            carrier.reshare(&cards, &mut progress).await
        }
    };
    finish(session, &taking_part, reshared, progress).await
}

/// Delivers a complete record to nodes that have not followed it yet.
///
/// # Errors
/// [`CeremonyError`] if the record does not hold.
pub async fn activate(record: Record, nodes: &[Arc<dyn NodeLink>]) -> Result<Outcome, CeremonyError> {
    record.check()?;
    let followed = join_all(nodes.iter().map(|node| node.activate(&record))).await;
    let not_activated = nodes
        .iter()
        .zip(followed)
        .filter_map(|(node, result)| result.err().map(|error| (node.signer(), error)))
        .collect();
    Ok(Outcome { record, not_activated })
}

async fn finish(
    session: B256,
    nodes: &[Arc<dyn NodeLink>],
    result: Result<Record, CeremonyError>,
    mut progress: impl FnMut(Step) + Send,
) -> Result<Outcome, CeremonyError> {
    match result {
        Ok(record) => {
            progress(Step::Activation);
            activate(record, nodes).await
        }
        Err(error) => {
            // Whoever cannot be told now wipes it at the next ceremony.
            join_all(nodes.iter().map(|node| node.abort(session))).await;
            Err(error)
        }
    }
}

fn in_order(members: &[Address], nodes: &[Arc<dyn NodeLink>]) -> Result<Vec<Arc<dyn NodeLink>>, CeremonyError> {
    members
        .iter()
        .map(|member| {
            nodes
                .iter()
                .find(|node| node.signer() == *member)
                .cloned()
                .ok_or(CeremonyError::Missing {
                    what: "the node",
                    signer: *member,
                })
        })
        .collect()
}

async fn all<'a, T>(
    nodes: &'a [Arc<dyn NodeLink>],
    ask: impl Fn(&'a dyn NodeLink) -> BoxFuture<'a, Result<T, CeremonyError>>,
) -> Result<Vec<T>, CeremonyError> {
    join_all(nodes.iter().map(|node| ask(&**node))).await.into_iter().collect()
}

/// Carries the letters of one resharing.
struct Carrier {
    session: B256,
    new: Vec<Arc<dyn NodeLink>>,
    nodes: Vec<Arc<dyn NodeLink>>,
    /// What each node is to get.
    waiting: Vec<VecDeque<Letter>>,
    finished: Vec<bool>,
    /// Nodes of the old committee that stopped answering.
    gone: Vec<bool>,
}

/// Closing stages this often ends every resharing: it has nine stages.
const MAX_ROUNDS: usize = 32;
/// The most bytes delivered in one call, and the most letters.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_LETTERS: usize = 256;

impl Carrier {
    async fn reshare(&mut self, cards: &[Card], progress: &mut (impl FnMut(Step) + Send)) -> Result<Record, CeremonyError> {
        let session = self.session;
        let begun = join_all(self.nodes.iter().map(|node| node.cards(session, cards))).await;
        self.take(begun)?;
        for _ in 0..MAX_ROUNDS {
            self.deliver_all().await?;
            if self.all_new_finished() {
                progress(Step::Acceptance);
                return self.accept().await;
            }
            self.close().await?;
        }
        Err(CeremonyError::OutOfOrder("the resharing did not come to an end"))
    }

    /// Delivers until nothing is on its way any more.
    async fn deliver_all(&mut self) -> Result<(), CeremonyError> {
        while self.waiting.iter().any(|letters| !letters.is_empty()) {
            let batches: Vec<Vec<Letter>> = self.waiting.iter_mut().map(batch).collect();
            let session = self.session;
            let asked = self.nodes.iter().zip(batches).map(|(node, letters)| async move {
                match letters.is_empty() {
                    true => Ok(None),
                    false => node.deliver(session, letters).await.map(Some),
                }
            });
            let delivered = join_all(asked).await;
            self.take_some(delivered)?;
        }
        Ok(())
    }

    /// Lets nodes go on without what has not come: old ones first, since new ones wait for them.
    async fn close(&mut self) -> Result<(), CeremonyError> {
        let session = self.session;
        let is_new: Vec<bool> = self.nodes.iter().map(|node| self.is_new(node)).collect();
        let old_waits = is_new
            .iter()
            .zip(&self.finished)
            .zip(&self.gone)
            .any(|((is_new, finished), gone)| !is_new && !finished && !gone);
        let asked = self
            .nodes
            .iter()
            .zip(&is_new)
            .zip(&self.finished)
            .map(|((node, is_new), finished)| async move {
                match *finished || (old_waits && *is_new) {
                    true => Ok(None),
                    false => node.close(session).await.map(Some),
                }
            });
        let closed = join_all(asked).await;
        self.take_some(closed)
    }

    async fn accept(&self) -> Result<Record, CeremonyError> {
        let accepted = all(&self.new, |node| node.accept(self.session)).await?;
        let mut cores = accepted.iter().map(|accepted| &accepted.core);
        let core = cores.next().ok_or(CeremonyError::Refused("there are no members"))?.clone();
        if cores.any(|other| *other != core) {
            return Err(CeremonyError::Refused("members saw different things"));
        }
        complete(core, None, accepted.into_iter().map(|accepted| accepted.acceptance).collect())
    }

    fn take(&mut self, delivered: Vec<Result<Delivered, CeremonyError>>) -> Result<(), CeremonyError> {
        self.take_some(delivered.into_iter().map(|result| result.map(Some)).collect())
    }

    fn take_some(&mut self, delivered: Vec<Result<Option<Delivered>, CeremonyError>>) -> Result<(), CeremonyError> {
        for (index, result) in delivered.into_iter().enumerate() {
            match result {
                Ok(None) => {}
                Ok(Some(delivered)) => {
                    if let Some(finished) = self.finished.get_mut(index) {
                        *finished = delivered.finished;
                    }
                    delivered.letters.into_iter().for_each(|letter| self.post(letter));
                }
                Err(error) if self.nodes.get(index).is_some_and(|node| self.is_new(node)) => return Err(error),
                Err(_) => {
                    if let (Some(gone), Some(finished)) = (self.gone.get_mut(index), self.finished.get_mut(index)) {
                        *gone = true;
                        *finished = true;
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts a letter where it is to be delivered.
    fn post(&mut self, letter: Letter) {
        for ((node, waiting), gone) in self.nodes.iter().zip(&mut self.waiting).zip(&self.gone) {
            let is_reader = match letter.to {
                Address::ZERO => node.signer() != letter.from && self.new.iter().any(|new| new.signer() == node.signer()),
                to => node.signer() == to,
            };
            if is_reader && !gone {
                waiting.push_back(letter.clone());
            }
        }
    }

    fn is_new(&self, node: &Arc<dyn NodeLink>) -> bool {
        self.new.iter().any(|new| new.signer() == node.signer())
    }

    fn all_new_finished(&self) -> bool {
        let mut new = self.nodes.iter().zip(&self.finished).filter(|(node, _)| self.is_new(node));
        new.all(|(_, finished)| *finished)
    }
}

/// Takes as many letters as fit into one call; at least one.
fn batch(letters: &mut VecDeque<Letter>) -> Vec<Letter> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(letter) = letters.front() {
        bytes += letter.body.len();
        if taken.len() == BATCH_LETTERS || (!taken.is_empty() && bytes > BATCH_BYTES) {
            break;
        }
        taken.extend(letters.pop_front());
    }
    taken
}

/// A node in the same process.
pub struct LocalLink {
    node: Arc<Node>,
    registration: Registration,
}

impl LocalLink {
    /// Makes a link to a node that reads this from the chain.
    #[must_use]
    pub const fn new(node: Arc<Node>, registration: Registration) -> Self {
        Self { node, registration }
    }
}

impl NodeLink for LocalLink {
    fn signer(&self) -> Address {
        self.node.identity().address()
    }

    fn begin<'a>(&'a self, proposal: &'a Proposal, dealer: Option<&'a Card>) -> BoxFuture<'a, Result<Card, CeremonyError>> {
        Box::pin(self.node.begin(proposal.clone(), dealer.cloned(), &self.registration))
    }

    fn cards<'a>(&'a self, session: B256, cards: &'a [Card]) -> BoxFuture<'a, Result<Delivered, CeremonyError>> {
        Box::pin(async move { self.node.cards(session, cards.to_vec()) })
    }

    fn deal<'a>(
        &'a self,
        core: &'a Core,
        dealer_evidence: &'a Evidence,
        letter: &'a Letter,
    ) -> BoxFuture<'a, Result<Acceptance, CeremonyError>> {
        Box::pin(async move { self.node.deal(core, dealer_evidence, letter) })
    }

    fn deliver(&self, session: B256, letters: Vec<Letter>) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        Box::pin(async move { self.node.deliver(session, &letters) })
    }

    fn close(&self, session: B256) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        Box::pin(async move { self.node.close(session) })
    }

    fn accept(&self, session: B256) -> BoxFuture<'_, Result<Accepted, CeremonyError>> {
        Box::pin(async move { self.node.accept(session) })
    }

    fn activate<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), CeremonyError>> {
        Box::pin(async move { self.node.activate(record) })
    }

    fn abort(&self, session: B256) -> BoxFuture<'_, Result<(), CeremonyError>> {
        Box::pin(async move { self.node.abort(session) })
    }
}
