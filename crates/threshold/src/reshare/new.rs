//! A member of the new committee, stage by stage.

use std::ops::Deref;

use rand_core::TryCryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    committee::{CommitteeSize, PartyId, PartySet},
    correction,
    dealing::{Manifest, random_set_key},
    error::ThresholdError,
    prss::{SetKey, SetKeys, sets_of},
    reconstruct::{Contribution, Expected, reconstruct},
    reshare::{
        Message, Outgoing, Plan, Recipient, Sender,
        combine::SharesOfShares,
        message::{Body, Outcome, is_whole},
    },
    ring::Element,
    share::{KeyShare, ShareParts},
    sharing::fill,
};

/// One new party's side of a resharing.
///
/// [`Self::receive`] takes messages in any order; those of later stages wait. A stage ends by itself when everybody has been heard, and by [`Self::close_stage`] when enough time has passed.
///
/// The plan is a reference, counted or not.
pub struct NewMember<P> {
    plan: P,
    party: PartyId,
    salt: [u8; 32],
    stage: Stage,
    set_keys: Vec<(PartySet, SetKey)>,
    keys: Option<SetKeys>,
    /// From every new party, in the order of their numbers.
    digests: Inbox<Vec<[u8; 32]>>,
    masked: Inbox<Vec<Element>>,
    votes: Inbox<Vec<Option<[u8; 32]>>>,
    checks: Inbox<Vec<Element>>,
    outcomes: Inbox<Outcome>,
    /// What counts of each old party, by digest.
    accepted: Vec<Option<[u8; 32]>>,
    /// Who was sent which old party's numbers on request.
    forwarded: Vec<(PartyId, PartyId)>,
    shares: Option<SharesOfShares>,
    wrong_old: PartySet,
    wrong_new: PartySet,
    share: Option<KeyShare>,
    finished: Option<Reshared>,
}

/// What came out of a resharing.
pub struct Reshared {
    /// The new share.
    pub share: KeyShare,
    /// Commitments to all new shares and set keys. A new party that was missing at the end has no commitment: 32 zero bytes.
    pub manifest: Manifest,
    /// Old parties that sent something wrong.
    pub wrong_old: PartySet,
    /// Old parties of which nothing usable arrived.
    pub missing_old: PartySet,
    /// New parties that sent something wrong, or nothing at the end.
    pub wrong_new: PartySet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Set keys are on their way.
    SetKeys,
    /// Their digests are compared.
    Digests,
    /// Old parties publish masked shares.
    Masked,
    /// What they published is compared.
    Votes,
    /// What counts, but did not arrive here, is asked for.
    Fetch,
    /// Checks are opened.
    Checks,
    /// Outcomes are compared and known values decrypted.
    Outcome,
    /// Nothing more to do.
    Finished,
    /// Nothing can be done any more.
    Failed,
}

impl<P: Deref<Target = Plan>> NewMember<P> {
    /// Begins a resharing as party `party` of the new committee.
    ///
    /// # Errors
    /// [`ThresholdError::NoSuchParty`], or [`ThresholdError::Randomness`] if `rng` fails.
    pub fn new<R: TryCryptoRng + ?Sized>(plan: P, party: PartyId, rng: &mut R) -> Result<(Self, Vec<Outgoing>), ThresholdError> {
        let (old, new) = (plan.from.committee.size(), plan.to.committee.size());
        let party = new.party(party.number().into())?;
        let mut salt = [0; 32];
        fill(rng, &mut salt)?;
        let mut set_keys = Vec::new();
        for set in sets_of(new, party).into_iter().filter(|set| picker(*set) == Some(party)) {
            set_keys.push((set, random_set_key(rng)?));
        }
        let others = new.ids().filter(|other| *other != party);
        let messages = others.filter_map(|other| {
            let theirs: Vec<_> = set_keys
                .iter()
                .filter(|(set, _)| set.contains(other))
                .map(|(set, key)| (*set, key.copy()))
                .collect();
            (!theirs.is_empty()).then(|| send(Recipient::New(other), Body::SetKeys(theirs)))
        });
        let mut out: Vec<Outgoing> = messages.collect();
        let mut member = Self {
            plan,
            party,
            salt,
            stage: Stage::SetKeys,
            set_keys,
            keys: None,
            digests: Inbox::new(new),
            masked: Inbox::new(old),
            votes: Inbox::new(new),
            checks: Inbox::new(new),
            outcomes: Inbox::new(new),
            accepted: Vec::new(),
            forwarded: Vec::new(),
            shares: None,
            wrong_old: PartySet::EMPTY,
            wrong_new: PartySet::EMPTY,
            share: None,
            finished: None,
        };
        out.extend(member.advance()?);
        Ok((member, out))
    }

    /// Takes a message. The channel says who sent it. What came first of a kind counts.
    ///
    /// # Errors
    /// [`ThresholdError::UnexpectedMessage`] if it is not to be had from this sender; it is ignored then. Any other error ends the resharing.
    pub fn receive(&mut self, from: Sender, message: Message) -> Result<Vec<Outgoing>, ThresholdError> {
        let unexpected = |reason| Err(ThresholdError::UnexpectedMessage(reason));
        if self.stage == Stage::Failed {
            return unexpected("the resharing has failed");
        }
        let whole = |elements: &[Element]| is_whole(elements, self.plan.dimensions);
        let fresh = match (from, message.0) {
            (Sender::New(from), Body::SetKeys(keys)) => self.take_set_keys(from, keys)?,
            (Sender::New(from), Body::SetKeyDigests(digests)) => self.digests.put(from, digests),
            (Sender::Old(from), Body::Masked(elements)) if whole(&elements) => self.take_masked(from, elements),
            (Sender::New(from), Body::Votes(votes)) => self.votes.put(from, votes),
            (Sender::New(from), Body::Request(of)) => return Ok(self.forward(from, of)),
            (Sender::New(_), Body::Forwarded(of, elements)) if whole(&elements) && self.stage == Stage::Fetch => {
                self.take_masked(of, elements)
            }
            (Sender::New(from), Body::Checks(checks)) => self.checks.put(from, checks),
            (Sender::New(from), Body::Outcome(outcome)) => self.outcomes.put(from, outcome),
            _ => return unexpected("this sender does not send this, or it has a wrong length"),
        };
        if !fresh {
            return unexpected("there is one already, or nobody asked");
        }
        self.advance()
    }

    /// Ends the stage with what has arrived, once enough time has passed.
    ///
    /// # Errors
    /// [`ThresholdError::Resharing`], [`ThresholdError::NotEnoughShares`] or [`ThresholdError::TooManyWrongShares`] if that is not enough; then the
    /// resharing has failed.
    pub fn close_stage(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        let mut out = self.end_stage(true)?;
        out.extend(self.advance()?);
        Ok(out)
    }

    /// Takes what came out, once the last stage has ended.
    pub fn take_finished(&mut self) -> Option<Reshared> {
        self.finished.take()
    }

    fn advance(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        let mut out = Vec::new();
        loop {
            let before = self.stage;
            out.extend(self.end_stage(false)?);
            if self.stage == before {
                return Ok(out);
            }
        }
    }

    /// Ends the stage if everybody was heard, or if it must be ended.
    fn end_stage(&mut self, must: bool) -> Result<Vec<Outgoing>, ThresholdError> {
        let ended = match self.stage {
            Stage::SetKeys => self.end_set_keys(must),
            Stage::Digests if must || self.digests.full() => self.end_digests(),
            Stage::Masked if must || self.masked.full() => Ok(self.end_masked()),
            Stage::Votes if must || self.votes.full() => self.end_votes(),
            Stage::Fetch => self.end_fetch(must),
            Stage::Checks if must || self.checks.full() => self.end_checks(),
            Stage::Outcome if must || self.outcomes.full() => self.end_outcome(),
            _ => Ok(Vec::new()),
        };
        if ended.is_err() {
            self.stage = Stage::Failed;
        }
        ended
    }

    fn size(&self) -> CommitteeSize {
        self.plan.to.committee.size()
    }

    fn take_set_keys(&mut self, from: PartyId, keys: Vec<(PartySet, SetKey)>) -> Result<bool, ThresholdError> {
        let sets = sets_of(self.size(), self.party);
        let theirs: Vec<PartySet> = sets.into_iter().filter(|set| picker(*set) == Some(from)).collect();
        let fits = keys.len() == theirs.len() && keys.iter().all(|(set, _)| theirs.contains(set));
        if !fits || from == self.party {
            return Err(ThresholdError::UnexpectedMessage(
                "these are not the sets whose keys the sender picks",
            ));
        }
        let fresh = keys.iter().all(|(set, _)| self.set_keys.iter().all(|(have, _)| have != set));
        if fresh {
            self.set_keys.extend(keys);
        }
        Ok(fresh)
    }

    fn end_set_keys(&mut self, must: bool) -> Result<Vec<Outgoing>, ThresholdError> {
        let size = self.size();
        let sets = sets_of(size, self.party);
        let missing = || sets.iter().filter(|set| self.set_keys.iter().all(|(have, _)| have != *set));
        if missing().next().is_some() {
            return match must {
                true => Err(failed(
                    "keys of sets have not arrived",
                    missing().filter_map(|set| picker(*set)).collect(),
                )),
                false => Ok(Vec::new()),
            };
        }
        self.set_keys.sort_unstable_by_key(|(set, _)| *set);
        let scope = self.plan.to.digest();
        let digests: Vec<[u8; 32]> = self.set_keys.iter().map(|(set, key)| key.digest(&scope, *set)).collect();
        self.digests.put(self.party, digests.clone());
        let keys = std::mem::take(&mut self.set_keys).into_iter().map(|(_, key)| key).collect();
        self.keys = Some(SetKeys::new(size, self.party, keys));
        self.stage = Stage::Digests;
        Ok(vec![send(Recipient::AllNew, Body::SetKeyDigests(digests))])
    }

    fn end_digests(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        self.common_set_keys()?;
        let keys = self.keys.as_ref().ok_or(BROKEN)?;
        self.stage = Stage::Masked;
        let old = self.plan.from.committee.size();
        let mask = |party| keys.elements(&self.plan.mask_tag(party), self.plan.dimensions.total());
        Ok(old
            .ids()
            .map(|party| send(Recipient::Old(party), Body::MaskShare(mask(party))))
            .collect())
    }

    /// Returns the digest of every set's key, if all members of each set have the same.
    fn common_set_keys(&self) -> Result<Vec<[u8; 32]>, ThresholdError> {
        let size = self.size();
        let silent = self.digests.missing();
        if !silent.is_empty() {
            return Err(failed("not all members have named their set keys", silent));
        }
        // Every member names its sets in the order of all sets, so that each list is read once from the front.
        let mut lists: Vec<_> = size
            .ids()
            .map(|member| self.digests.get(member).map(|digests| digests.iter()))
            .collect();
        let mut common = Vec::new();
        for set in size.mask_sets() {
            let members = size.ids().zip(&mut lists).filter(|(member, _)| set.contains(*member));
            let named: Vec<Option<[u8; 32]>> = members.map(|(_, list)| list.as_mut()?.next().copied()).collect();
            match named.first() {
                Some(Some(digest)) if named.iter().all(|other| *other == Some(*digest)) => common.push(*digest),
                // Whoever picked the key, or anybody who says something else than most.
                _ => return Err(failed("members of a set have different keys", disagreeing(set, &named))),
            }
        }
        Ok(common)
    }

    fn end_masked(&mut self) -> Vec<Outgoing> {
        let votes: Vec<_> = self
            .plan
            .from
            .committee
            .size()
            .ids()
            .map(|old| self.masked.get(old).map(|masked| digest_of(masked)))
            .collect();
        self.votes.put(self.party, votes.clone());
        self.stage = Stage::Votes;
        vec![send(Recipient::AllNew, Body::Votes(votes))]
    }

    fn end_votes(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        let size = self.size();
        let needed = usize::from(size.parties() - size.threshold());
        let old = self.plan.from.committee.size();
        let accept = |party: PartyId| {
            let index = usize::from(party.number()) - 1;
            let votes: Vec<[u8; 32]> = self
                .votes
                .values()
                .filter_map(|votes| votes.get(index).copied().flatten())
                .collect();
            votes
                .iter()
                .find(|digest| votes.iter().filter(|other| other == digest).count() >= needed)
                .copied()
        };
        self.accepted = old.ids().map(accept).collect();
        let present = self.accepted.iter().flatten().count();
        if present < usize::from(old.quorum()) {
            return Err(ThresholdError::NotEnoughShares {
                present,
                needed: old.quorum().into(),
            });
        }
        // What is here but does not count is dropped, so that the right thing can take its place.
        for (party, accepted) in old.ids().zip(&self.accepted) {
            if self.masked.get(party).map(|masked| digest_of(masked)) != *accepted {
                self.masked.remove(party);
            }
        }
        self.stage = Stage::Fetch;
        Ok(self.wanted().iter().map(|of| send(Recipient::AllNew, Body::Request(of))).collect())
    }

    /// Old parties whose numbers count but are not here.
    fn wanted(&self) -> PartySet {
        let old = self.plan.from.committee.size().ids().zip(&self.accepted);
        old.filter(|(party, accepted)| accepted.is_some() && self.masked.get(*party).is_none())
            .map(|(party, _)| party)
            .collect()
    }

    /// Answers a request, each only once: the answer is much longer than the question.
    fn forward(&mut self, to: PartyId, of: PartyId) -> Vec<Outgoing> {
        if to == self.party || self.forwarded.contains(&(to, of)) {
            return Vec::new();
        }
        let Some(elements) = self.masked.get(of).cloned() else {
            return Vec::new();
        };
        self.forwarded.push((to, of));
        vec![send(Recipient::New(to), Body::Forwarded(of, elements))]
    }

    /// Keeps what an old party published. Once it is known what counts, nothing else is kept.
    fn take_masked(&mut self, of: PartyId, elements: Vec<Element>) -> bool {
        let accepted = self.accepted.get(usize::from(of.number()) - 1).copied().flatten();
        let counts = self.stage < Stage::Fetch || accepted == Some(digest_of(&elements));
        counts && self.masked.put(of, elements)
    }

    fn end_fetch(&mut self, must: bool) -> Result<Vec<Outgoing>, ThresholdError> {
        let wanted = self.wanted();
        if !wanted.is_empty() {
            return match must {
                true => Err(failed("what old members published has not arrived", wanted)),
                false => Ok(Vec::new()),
            };
        }
        let keys = self.keys.as_ref().ok_or(BROKEN)?;
        let old = self.plan.from.committee.size();
        let parts = old.ids().filter_map(|party| {
            let masked = self.masked.get(party)?.clone();
            Some((
                party,
                masked,
                keys.elements(&self.plan.mask_tag(party), self.plan.dimensions.total()),
            ))
        });
        let shares = SharesOfShares::new(parts);
        let checks = shares.checks(old, &self.challenge());
        self.shares = Some(shares);
        self.checks.put(self.party, checks.clone());
        self.stage = Stage::Checks;
        Ok(vec![send(Recipient::AllNew, Body::Checks(checks))])
    }

    /// What the checks' coefficients are derived from: everything the old committee said, so that nobody could know them before.
    fn challenge(&self) -> [u8; 32] {
        let mut hasher = Sha256::new()
            .chain_update(b"cipherloom/threshold/resharing/checks/1")
            .chain_update(self.plan.digest());
        for accepted in &self.accepted {
            hasher.update([u8::from(accepted.is_some())]);
            hasher.update(accepted.unwrap_or_default());
        }
        hasher.finalize().into()
    }

    fn end_checks(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        let (size, old) = (self.size(), self.plan.from.committee.size());
        let shares = self.shares.take().ok_or(BROKEN)?;
        let count = shares.check_count(old);
        let vectors: Vec<(PartyId, &[Element])> = self
            .checks
            .iter()
            .filter(|(_, checks)| checks.len() == count)
            .map(|(party, checks)| (party, checks.as_slice()))
            .collect();
        let opened = correction::open(size, &vectors)?;
        self.wrong_new = self.wrong_new.union(opened.wrong);
        self.wrong_old = shares.wrong(old, &opened.values)?;
        let mut squashed = shares.new_share(old, self.wrong_old);
        let compressed = Zeroizing::new(squashed.split_off(self.plan.dimensions.squashed));
        let keys = self.keys.take().ok_or(BROKEN)?;
        let share = KeyShare::new(ShareParts {
            scope: self.plan.to.clone(),
            party: self.party,
            salt: self.salt,
            squashed,
            compressed,
            set_keys: keys.iter().map(|(_, key)| key.copy()).collect(),
        });
        let decrypt = || {
            self.plan
                .known
                .iter()
                .map(|known| share.decrypt(&known.ciphertext))
                .collect::<Result<Vec<_>, _>>()
        };
        let outcome = |partials| Outcome {
            transcript: self.transcript(),
            share: share.digest(),
            partials,
        };
        // Once for itself and once to send: partial decryptions cannot be copied.
        let (own, sent) = (outcome(decrypt()?), outcome(decrypt()?));
        self.outcomes.put(self.party, own);
        self.share = Some(share);
        self.stage = Stage::Outcome;
        Ok(vec![send(Recipient::AllNew, Body::Outcome(sent))])
    }

    /// Digest of what must be the same for all new members: set keys, what counts of the old committee, and who of it was wrong.
    fn transcript(&self) -> [u8; 32] {
        let mut hasher = Sha256::new()
            .chain_update(b"cipherloom/threshold/resharing/transcript/1")
            .chain_update(self.challenge())
            .chain_update(self.wrong_old.bits().to_le_bytes());
        for digests in self.digests.values() {
            digests.iter().for_each(|digest| hasher.update(digest));
        }
        hasher.finalize().into()
    }

    fn end_outcome(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        let size = self.size();
        let transcript = self.transcript();
        let expected: Vec<Expected> = self
            .plan
            .known
            .iter()
            .map(|known| Expected {
                tag: known.ciphertext.tag(&self.plan.to),
                shape: known.ciphertext.shape(),
            })
            .collect();
        let agree = |outcome: &Outcome| outcome.transcript == transcript;
        let same: PartySet = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| agree(outcome))
            .map(|(party, _)| party)
            .collect();
        if same.len() < usize::from(size.parties() - size.threshold()) {
            return Err(failed("the members saw different things", size.everyone().without(same)));
        }
        let contributions: Vec<Contribution> = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| agree(outcome))
            .map(|(party, outcome)| Contribution::of_partials(party, &expected, &outcome.partials))
            .collect();
        let shapes: Vec<_> = expected.iter().map(|expected| expected.shape).collect();
        let read = reconstruct(size, &shapes, &contributions)?;
        let mut values = read.values.iter().zip(&self.plan.known);
        if !values.all(|(value, known)| *value.little_endian() == known.little_endian) {
            return Err(failed("the new shares do not decrypt a known value", PartySet::EMPTY));
        }
        if read.wrong.contains(self.party) {
            return Err(failed("this member's own share is wrong", PartySet::EMPTY));
        }
        let wrong_new = self.wrong_new.union(read.wrong).union(size.everyone().without(same));
        let commitment = |party| {
            self.outcomes
                .get(party)
                .filter(|outcome| agree(outcome))
                .map_or([0; 32], |outcome| outcome.share)
        };
        let commitments = size.ids().map(commitment).collect();
        let manifest = Manifest::new(self.plan.to.clone(), self.plan.dimensions, commitments, self.common_set_keys()?);
        let missing = self
            .plan
            .from
            .committee
            .size()
            .ids()
            .zip(&self.accepted)
            .filter(|(_, accepted)| accepted.is_none());
        self.finished = Some(Reshared {
            share: self.share.take().ok_or(BROKEN)?,
            manifest,
            wrong_old: self.wrong_old,
            missing_old: missing.map(|(party, _)| party).collect(),
            wrong_new,
        });
        self.stage = Stage::Finished;
        Ok(Vec::new())
    }
}

/// What a stage needs was left by the one before it.
const BROKEN: ThresholdError = ThresholdError::UnexpectedMessage("the stages are out of order");

const fn failed(reason: &'static str, suspects: PartySet) -> ThresholdError {
    ThresholdError::Resharing { reason, suspects }
}

const fn send(to: Recipient, body: Body) -> Outgoing {
    Outgoing {
        to,
        message: Message(body),
    }
}

/// Who picks a set's key: its member with the lowest number. A corrupt one gains nothing, since it knows the key anyway.
fn picker(set: PartySet) -> Option<PartyId> {
    set.iter().next()
}

/// The picker of a set's key, and those who name another than most do.
fn disagreeing(set: PartySet, named: &[Option<[u8; 32]>]) -> PartySet {
    let count = |digest: &Option<[u8; 32]>| named.iter().filter(|other| *other == digest).count();
    let most = named.iter().map(count).max().unwrap_or_default();
    let few = set
        .iter()
        .zip(named)
        .filter(|(_, digest)| count(digest) < most)
        .map(|(member, _)| member);
    few.chain(picker(set)).collect()
}

fn digest_of(elements: &[Element]) -> [u8; 32] {
    let mut hasher = Sha256::new().chain_update(b"cipherloom/threshold/resharing/masked/1");
    elements.iter().for_each(|element| hasher.update(element.to_bytes()));
    hasher.finalize().into()
}

/// What arrived from whom; the first of each counts.
struct Inbox<T> {
    size: CommitteeSize,
    arrived: Vec<Option<T>>,
}

impl<T> Inbox<T> {
    fn new(size: CommitteeSize) -> Self {
        Self {
            size,
            arrived: size.ids().map(|_| None).collect(),
        }
    }

    /// Keeps what arrived, unless something did before or the committee has no such party.
    fn put(&mut self, from: PartyId, item: T) -> bool {
        match self.arrived.get_mut(usize::from(from.number()) - 1) {
            Some(place @ None) => {
                *place = Some(item);
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, from: PartyId) {
        if let Some(place) = self.arrived.get_mut(usize::from(from.number()) - 1) {
            *place = None;
        }
    }

    fn get(&self, from: PartyId) -> Option<&T> {
        self.arrived.get(usize::from(from.number()) - 1)?.as_ref()
    }

    fn iter(&self) -> impl Iterator<Item = (PartyId, &T)> {
        self.size
            .ids()
            .zip(&self.arrived)
            .filter_map(|(party, item)| item.as_ref().map(|item| (party, item)))
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.arrived.iter().flatten()
    }

    fn missing(&self) -> PartySet {
        self.size.ids().filter(|party| self.get(*party).is_none()).collect()
    }

    fn full(&self) -> bool {
        self.arrived.iter().all(Option::is_some)
    }
}
