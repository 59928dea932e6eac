//! One public decryption: shares of all nodes, then signatures of those that sent theirs, again with more shares where that was too little.
//!
//! To sign, a node checks the signatures of all shares that it is given, so nobody is asked whose signature is not needed: as many nodes as the chain wants signatures of, and as many more as may be
//! corrupt, the fastest ones. The others are asked when one of those fails, needs more shares, or takes long.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use cipherloom_gateway::ServiceError;
use cipherloom_primitives::decryption::{PublicDecryptionAnswer, PublicDecryptionRequest};
use futures_util::{FutureExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    carrier::{Carrier, ChainTerms, Deadline, Member},
    checks,
    client::{NodeError, PublicShares, PublicSignature, belonging_together},
    standing::Call,
    verdict::{Need, verdict},
};

/// What a node answered.
enum Event {
    Shares(Box<Result<PublicShares, NodeError>>),
    /// To being asked with so many nodes' shares.
    Signed(usize, Result<PublicSignature, NodeError>),
    /// Nobody's: those who were asked to sign take long.
    Overdue,
}

/// The number of no node, which is what nobody's event has.
const NOBODY: u32 = 0;

/// A request under way.
pub(super) struct Round<'a> {
    carrier: &'a Carrier,
    terms: ChainTerms,
    request: Arc<PublicDecryptionRequest>,
    proofs: Bytes,
    calls: FuturesUnordered<BoxFuture<'a, (u32, Event)>>,
    /// Who was asked for shares and has not answered.
    sharing: BTreeSet<u32>,
    /// Who was asked to sign and has not answered.
    signing: BTreeSet<u32>,
    shares: BTreeMap<u32, PublicShares>,
    /// With how many nodes' shares a node was last asked to sign.
    asked_with: BTreeMap<u32, usize>,
    /// How many nodes are wanted that sign or have signed the same.
    signers: usize,
    /// Who signed which values.
    signatures: BTreeMap<Bytes, BTreeMap<u32, PublicSignature>>,
    /// Who needs more shares than there were, in its words.
    wanting: BTreeMap<u32, NodeError>,
    /// Who will not sign any more, and why.
    failures: BTreeMap<u32, NodeError>,
}

impl<'a> Round<'a> {
    /// Prepares a request; nobody is asked yet.
    pub(super) fn new(carrier: &'a Carrier, terms: ChainTerms, request: &PublicDecryptionRequest, proofs: Bytes) -> Self {
        let signers = terms.signatures.saturating_add(carrier.need_shares().corrupt);
        Self {
            carrier,
            terms,
            signers,
            request: Arc::new(request.clone()),
            proofs,
            calls: FuturesUnordered::new(),
            sharing: BTreeSet::new(),
            signing: BTreeSet::new(),
            shares: BTreeMap::new(),
            asked_with: BTreeMap::new(),
            signatures: BTreeMap::new(),
            wanting: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Asks until enough nodes have signed the same, or cannot any more.
    pub(super) async fn run(mut self) -> Result<PublicDecryptionAnswer, ServiceError> {
        let need = self.carrier.need_shares();
        let patience = *self.carrier.patience();
        for member in self.carrier.members() {
            self.ask_for_shares(member);
        }
        let mut deadline = Deadline::begin();
        while !(self.sharing.is_empty() && self.signing.is_empty()) {
            let Some((party, event)) = deadline.next(&mut self.calls).await else {
                break;
            };
            self.take(party, event);
            if let Some(answer) = self.answer(need.corrupt) {
                self.leave_rest(&deadline);
                return Ok(answer);
            }
            let together = self.together().len();
            if together >= need.answers {
                self.ask_to_sign();
            }
            if together > need.corrupt {
                deadline.within(patience.stragglers);
            }
            if self.is_lost(need) {
                deadline.within(patience.grace);
            }
        }
        Err(self.failure(need, &deadline))
    }

    /// Returns the shares that belong together, of as many nodes as there are.
    fn together(&self) -> BTreeMap<u32, &PublicShares> {
        belonging_together(&self.shares, |shares| shares.made_with).1
    }

    fn ask_for_shares(&mut self, member: &'a Member) {
        self.sharing.insert(member.party);
        let asked = member.client.public_shares(Arc::clone(&self.request), self.proofs.clone());
        let call = self
            .carrier
            .call(member, Call::PublicShares, asked, |shares| checks::shares(member, shares));
        self.calls
            .push(call.map(|(party, outcome)| (party, Event::Shares(Box::new(outcome)))).boxed());
    }

    /// Asks to sign, with all shares there are: those who need more than they were given, and others of those who sent shares while too few sign.
    fn ask_to_sign(&mut self) {
        let together = self.together();
        let (count, parties) = (together.len(), together.keys().copied().collect::<BTreeSet<_>>());
        let all: Arc<[PublicShares]> = together.into_values().cloned().collect();
        let carrier = self.carrier;
        let mut at_it = self.signing.len().saturating_add(self.most_signed());
        // Those who were asked before first.
        let (again, first): (Vec<_>, Vec<_>) = carrier
            .members()
            .iter()
            .partition(|member| self.asked_with.contains_key(&member.party));
        for member in again.into_iter().chain(first) {
            let party = member.party;
            let has_more = self.asked_with.get(&party).is_none_or(|before| *before < count);
            let can = parties.contains(&party) && !self.failures.contains_key(&party) && !self.has_signed(party);
            if at_it >= self.signers {
                break;
            }
            if !has_more || !can || !self.signing.insert(party) {
                continue;
            }
            at_it = at_it.saturating_add(1);
            if self.asked_with.is_empty() {
                let overdue = tokio::time::sleep(carrier.patience().signers);
                self.calls.push(overdue.map(|()| (NOBODY, Event::Overdue)).boxed());
            }
            self.asked_with.insert(party, count);
            self.wanting.remove(&party);
            let (request, domains) = (Arc::clone(&self.request), self.terms.domains);
            let asked = member
                .client
                .public_sign(Arc::clone(&request), self.proofs.clone(), Arc::clone(&all));
            let check = move |signed: &PublicSignature| checks::signature(member, &request, &domains, signed);
            let call = carrier.call(member, Call::PublicSign, asked, check);
            self.calls
                .push(call.map(move |(party, outcome)| (party, Event::Signed(count, outcome))).boxed());
        }
    }

    /// Returns how many nodes have signed the values that most have signed.
    fn most_signed(&self) -> usize {
        self.signatures.values().map(BTreeMap::len).max().unwrap_or_default()
    }

    fn take(&mut self, party: u32, event: Event) {
        match event {
            Event::Shares(outcome) => {
                self.sharing.remove(&party);
                match *outcome {
                    Ok(shares) => drop(self.shares.insert(party, shares)),
                    Err(error) => drop(self.failures.insert(party, error)),
                }
            }
            Event::Signed(count, outcome) => {
                self.signing.remove(&party);
                match outcome {
                    Ok(signed) => {
                        let same = self.signatures.entry(signed.decrypted_result.clone()).or_default();
                        same.insert(party, signed);
                    }
                    Err(NodeError::MoreShares(reason)) => {
                        let reason = format!("{reason} (it was given those of {count})");
                        self.wanting.insert(party, NodeError::MoreShares(reason));
                    }
                    Err(error) => drop(self.failures.insert(party, error)),
                }
            }
            // Everybody, then.
            Event::Overdue => self.signers = usize::MAX,
        }
    }

    /// Returns what enough nodes signed, if they did.
    fn answer(&self, corrupt: usize) -> Option<PublicDecryptionAnswer> {
        let (result, signed) = self.signatures.iter().find(|(_, signed)| signed.len() >= self.terms.signatures)?;
        let mut named: BTreeMap<u32, usize> = BTreeMap::new();
        for faulty in signed.values().flat_map(|signed| signed.faulty.iter().collect::<BTreeSet<_>>()) {
            *named.entry(*faulty).or_default() += 1;
        }
        let wrong = named
            .into_iter()
            .filter(|(_, count)| *count > corrupt)
            .map(|(party, _)| party)
            .collect();
        self.carrier.standing().found_wrong(&wrong, Instant::now());
        Some(PublicDecryptionAnswer {
            decrypted_result: result.clone().into(),
            // More would cost gas and prove nothing.
            signatures: signed
                .values()
                .take(self.terms.signatures)
                .map(|signed| signed.signature.clone().into())
                .collect(),
            extra_data: self.request.extra_data.clone(),
        })
    }

    fn has_signed(&self, party: u32) -> bool {
        self.signatures.values().any(|signed| signed.contains_key(&party))
    }

    /// Says whether too few nodes are left that could still give shares, or sign.
    fn is_lost(&self, need: Need) -> bool {
        let shares = self.together().len().saturating_add(self.sharing.len());
        let can_sign = need.nodes.saturating_sub(self.failures.len());
        shares < need.answers || can_sign < self.terms.signatures
    }

    /// Waits for nobody any more.
    fn leave_rest(&mut self, deadline: &Deadline) {
        drop(std::mem::take(&mut self.calls));
        let (sharing, signing) = (std::mem::take(&mut self.sharing), std::mem::take(&mut self.signing));
        self.carrier.leave(sharing, Call::PublicShares, deadline, &mut self.failures);
        self.carrier.leave(signing, Call::PublicSign, deadline, &mut self.failures);
    }

    fn failure(mut self, need: Need, deadline: &Deadline) -> ServiceError {
        let most = self.most_signed();
        let mut is_most = true;
        for signed in std::mem::take(&mut self.signatures).into_values() {
            // One value is what was signed; whoever signed another contradicts those.
            if signed.len() == most && std::mem::take(&mut is_most) {
                continue;
            }
            for party in signed.into_keys() {
                let contradiction = NodeError::Invalid("signs other values than other nodes do".into());
                self.failures.entry(party).or_insert(contradiction);
            }
        }
        for (party, wanting) in std::mem::take(&mut self.wanting) {
            self.failures.entry(party).or_insert(wanting);
        }
        self.leave_rest(deadline);
        let together: BTreeSet<u32> = self.together().into_keys().collect();
        if together.len() < need.answers {
            for (party, shares) in self.shares.iter().filter(|(party, _)| !together.contains(party)) {
                let other = NodeError::OtherEpoch(shares.made_with.epoch);
                self.failures.entry(*party).or_insert(other);
            }
            return verdict(need, together.len(), &self.failures);
        }
        let signatures = Need {
            answers: self.terms.signatures,
            what: "signatures over the same values",
            ..need
        };
        verdict(signatures, most, &self.failures)
    }
}
