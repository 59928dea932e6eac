//! Asking all nodes, and knowing when enough have answered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cipherloom_gateway::{Label, ServiceError};
use cipherloom_primitives::{
    Address, Handle,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
    eip712::SigningDomains,
};
use cipherloom_threshold::{CommitteeSize, ThresholdError};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    checks::SealedFor,
    client::{CommitteeClient, NodeError, Outcome, SealedShares, belonging_together},
    public,
    standing::{Call, Standing},
    verdict::{Need, verdict},
};

/// A node and how to reach it.
pub(crate) struct Member {
    /// Its number, from 1: its place among the signers registered on chain.
    pub(crate) party: u32,
    /// The address that it signs with.
    pub(crate) signer: Address,
    /// How it is asked.
    pub(crate) client: Arc<dyn CommitteeClient>,
}

/// What a chain says of decryptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainTerms {
    /// Where answers are valid.
    pub(crate) domains: SigningDomains,
    /// How many signatures its contracts ask for under public values.
    pub(crate) signatures: usize,
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a node's answer, with whatever it waits for itself.
    pub(crate) call: Duration,
    /// For the others once so many answered that one of them is honest: all wait for the same values.
    pub(crate) stragglers: Duration,
    /// For the others once enough answered, but suspects among them.
    pub(crate) suspects: Duration,
    /// For signatures of those who were asked first, until all others are asked as well.
    pub(crate) signers: Duration,
    /// For the others once it is decided what becomes of the request.
    pub(crate) grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(120),
            stragglers: Duration::from_secs(20),
            suspects: Duration::from_secs(2),
            signers: Duration::from_millis(500),
            grace: Duration::from_millis(500),
        }
    }
}

/// Why nodes are no committee.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierError {
    /// Numbers are missing or given twice.
    #[error("the nodes of a committee are numbered from 1 on, and these are {0:?}")]
    Numbers(Vec<u32>),
    /// Two nodes would sign as one.
    #[error("two nodes sign as {0}")]
    SameSigner(Address),
    /// There are too few or too many.
    #[error(transparent)]
    Size(#[from] ThresholdError),
}

/// Carries requests to the nodes of a committee.
pub(crate) struct Carrier {
    members: Vec<Member>,
    size: CommitteeSize,
    chains: RwLock<HashMap<u64, ChainTerms>>,
    patience: Patience,
    standing: Arc<Standing>,
}

impl Carrier {
    /// Takes the nodes of a committee, of which `threshold` may be corrupt, and what the chains say whose values they decrypt.
    ///
    /// # Errors
    /// [`CarrierError`] if they are none.
    pub(crate) fn new(
        mut members: Vec<Member>,
        threshold: u8,
        chains: HashMap<u64, ChainTerms>,
        patience: Patience,
    ) -> Result<Self, CarrierError> {
        members.sort_by_key(|member| member.party);
        let numbers: Vec<u32> = members.iter().map(|member| member.party).collect();
        if !numbers.iter().copied().eq((1..).take(members.len())) {
            return Err(CarrierError::Numbers(numbers));
        }
        let mut signers = BTreeSet::new();
        if let Some(twice) = members.iter().find(|member| !signers.insert(member.signer)) {
            return Err(CarrierError::SameSigner(twice.signer));
        }
        let size = CommitteeSize::new(u8::try_from(members.len()).unwrap_or(u8::MAX), threshold)?;
        let standing = Arc::new(Standing::of(members.iter().map(|member| (member.party, member.signer))));
        Ok(Self {
            members,
            size,
            chains: RwLock::new(chains),
            patience,
            standing,
        })
    }

    /// Returns what is known of each node.
    pub(crate) const fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Takes up what a chain says from now on.
    pub(crate) fn set_terms(&self, chain_id: u64, terms: ChainTerms) {
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        chains.insert(chain_id, terms);
    }

    /// Has values decrypted that were made public, with storage proofs or none.
    ///
    /// # Errors
    /// What the nodes agree on, and `gateway_not_reachable` if too few of them can be used; with each node's reason.
    pub(crate) async fn public_decrypt(
        &self,
        request: &PublicDecryptionRequest,
        proofs: Bytes,
    ) -> Result<PublicDecryptionAnswer, ServiceError> {
        let terms = self.terms(&request.handles)?;
        public::Round::new(self, terms, request, proofs).run().await
    }

    /// Has values decrypted to a user's key, with storage proofs or none: one answer per node, in the order of their numbers, at least as many as a
    /// client needs.
    ///
    /// # Errors
    /// As [`Self::public_decrypt`].
    pub(crate) async fn user_decrypt(
        &self,
        request: &UserDecryptionRequest,
        proofs: Bytes,
    ) -> Result<Vec<UserDecryptionShare>, ServiceError> {
        let terms = self.terms(&request.handles())?;
        let need = self.need_shares();
        let sealed_for = SealedFor::of(request, terms.domains, self.size.threshold());
        let request = Arc::new(request.clone());
        let mut calls: FuturesUnordered<_> = self
            .members
            .iter()
            .map(|member| {
                let asked = member.client.user_share(Arc::clone(&request), proofs.clone());
                let check = |share: &SealedShares| match &sealed_for {
                    Some(sealed_for) => sealed_for.check(member, share),
                    None => Err(NodeError::Invalid("it sealed something to a key that is none".into())),
                };
                self.call(member, Call::UserShare, asked, check)
            })
            .collect();
        let mut asked = self.parties();
        let (mut answers, mut failures) = (BTreeMap::new(), BTreeMap::new());
        let made_with = |shares: &SealedShares| shares.made_with;
        let mut deadline = Deadline::begin();
        let suspects = self.standing.suspects(Instant::now());
        while let Some((party, outcome)) = deadline.next(&mut calls).await {
            asked.remove(&party);
            match outcome {
                Ok(shares) => drop(answers.insert(party, shares)),
                Err(error) => drop(failures.insert(party, error)),
            }
            let (_, together) = belonging_together(&answers, made_with);
            if together.len() > need.corrupt {
                deadline.within(self.patience.stragglers);
            }
            if together.len() >= need.answers {
                deadline.within(self.patience.suspects);
            }
            let unsuspected = together.keys().filter(|party| !suspects.contains(party)).count();
            let can_answer = together.len().saturating_add(asked.len());
            if unsuspected >= need.answers || can_answer < need.answers {
                deadline.within(self.patience.grace);
            }
        }
        drop(calls);
        self.leave(asked, Call::UserShare, &deadline, &mut failures);
        let (set, _) = belonging_together(&answers, made_with);
        let (together, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, shares)| Some(shares.made_with) == set);
        if together.len() < need.answers {
            failures.extend(
                others
                    .iter()
                    .map(|(party, shares)| (*party, NodeError::OtherEpoch(shares.made_with.epoch))),
            );
            return Err(verdict(need, together.len(), &failures));
        }
        Ok(together.into_iter().map(|(_, shares)| shares.share).collect())
    }

    /// Asks one node and checks what it answers.
    pub(super) async fn call<T>(
        &self,
        member: &Member,
        call: Call,
        answer: BoxFuture<'static, Result<T, NodeError>>,
        check: impl FnOnce(&T) -> Result<(), NodeError>,
    ) -> (u32, Result<T, NodeError>) {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(self.patience.call, answer).await {
            Ok(answered) => answered.and_then(|answer| check(&answer).map(|()| answer)),
            Err(_) => Err(NodeError::Late(self.patience.call.as_secs_f64())),
        };
        let word = outcome.as_ref().err().map_or(Outcome::Answered, NodeError::outcome);
        let reason = outcome.as_ref().err().map(ToString::to_string);
        self.standing.called(member.party, call, word, started.elapsed(), reason.as_deref());
        (member.party, outcome)
    }

    /// Notes that nobody waits for these nodes any more.
    pub(super) fn leave(
        &self,
        parties: impl IntoIterator<Item = u32>,
        call: Call,
        deadline: &Deadline,
        failures: &mut BTreeMap<u32, NodeError>,
    ) {
        let waited = deadline.began.elapsed();
        for party in parties {
            self.standing.called(party, call, Outcome::Left, waited, None);
            failures.entry(party).or_insert(NodeError::Late(waited.as_secs_f64()));
        }
    }

    /// Returns all nodes.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns all numbers.
    pub(super) fn parties(&self) -> BTreeSet<u32> {
        self.members.iter().map(|member| member.party).collect()
    }

    /// Returns how long is waited for what.
    pub(super) const fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Returns how many nodes have to give shares: all but those that may be corrupt, so that any so many of them can be silent.
    pub(super) fn need_shares(&self) -> Need {
        let (nodes, corrupt) = (usize::from(self.size.parties()), usize::from(self.size.threshold()));
        Need {
            answers: nodes.saturating_sub(corrupt),
            nodes,
            corrupt,
            what: "shares",
        }
    }

    fn terms(&self, handles: &[Handle]) -> Result<ChainTerms, ServiceError> {
        let chain = handles.first().map(Handle::chain_id).unwrap_or_default();
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        chains
            .get(&chain)
            .copied()
            .ok_or_else(|| ServiceError::new(Label::RequestError, format!("chain {chain} is not served here")))
    }
}

/// Until when is waited. It only comes nearer.
pub(super) struct Deadline {
    began: Instant,
    at: Option<Instant>,
}

impl Deadline {
    /// Begins without an end.
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            at: None,
        }
    }

    /// Ends at the latest after so long from now.
    pub(super) fn within(&mut self, duration: Duration) {
        let at = Instant::now() + duration;
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// Returns the next that is ready; nothing if there is no more, or at the end.
    pub(super) async fn next<F: Future>(&self, calls: &mut FuturesUnordered<F>) -> Option<F::Output> {
        match self.at {
            None => calls.next().await,
            Some(at) => tokio::time::timeout_at(at.into(), calls.next()).await.ok().flatten(),
        }
    }
}
