//! The work of a party: judging a request, decrypting as far as one party can, recording it, answering. The order of these is what keeps a share from leaving for a request that should not have it.

use std::{sync::Arc, time::Instant};

use cipherloom_chain::AclEvidence;
use cipherloom_fhe::SquashedValue;
use cipherloom_primitives::{
    Address, B256, Bytes, Handle,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest, abi_words},
};
use cipherloom_signcryption::{AnswerContext, CommitteeParty, Randomness, seal_shares, sign_digest};
use cipherloom_threshold::{Expected, KeyKind, KeyShare, PartialDecryption, SquashedCiphertext, ValueShape};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::try_join, stream};
use tokio::sync::Semaphore;

use super::{
    CommitteeParts,
    messages::{Bundle, PublicSignature, ShareRef, UserShare},
    opening::Accepted,
    shares,
    sharing::{KeepLimits, Outcome, Recent, UnderWay},
};
use crate::{
    admission::Admission,
    alarms::Alarm,
    audit::{AuditEntry, ShareUsed},
    budgets::BudgetExhausted,
    checks::{check_context, request_digest},
    error::KmsError,
    node::{CONCURRENT_FETCHES, unavailable},
    ports::{PinnedView, Provenance, SquashError, SquashedLists, StoredCiphertext},
    provenance,
    timings::{Step, Timings},
};

pub(super) struct Party {
    pub(super) parts: CommitteeParts,
    pub(super) admission: Admission,
    decryptions: Arc<Semaphore>,
    pub(super) timings: Timings,
    pub(super) users: UnderWay<UserShare>,
    public: UnderWay<Accepted>,
    accepted: Recent<Accepted>,
}

/// The squashed list of one handle, known to be the one behind it.
struct List {
    handle: Handle,
    bytes: Arc<Vec<u8>>,
}

/// A value as this party decrypts it: what others must contribute, and its own part.
struct Partial {
    expected: Expected,
    own: PartialDecryption,
}

impl Party {
    pub(super) fn new(parts: CommitteeParts) -> Self {
        let (chain, clock) = (Arc::clone(&parts.chain), Arc::clone(&parts.clock));
        let admission = Admission::new(parts.domains, chain, clock, parts.signing_key.address(), parts.limits.requests);
        Self {
            admission,
            decryptions: Arc::new(Semaphore::new(parts.limits.decryptions.max(1))),
            timings: Timings::default(),
            users: UnderWay::new(),
            public: UnderWay::new(),
            accepted: Recent::new(KeepLimits::OF_REQUESTS),
            parts,
        }
    }

    /// Judges a user's request, and answers it.
    pub(super) async fn answer_user(
        self: Arc<Self>,
        request: UserDecryptionRequest,
        evidence: Option<AclEvidence>,
    ) -> Result<UserShare, KmsError> {
        let start = Instant::now();
        let (held, extra_data, node) = (self.parts.shares.list(), request.extra_data.clone(), self.admission.node);
        let (admitted, public_key) = self
            .admission
            .user(&request, evidence, move |chain| {
                Box::pin(async move { shares::choose(held, chain, &extra_data, node).await })
            })
            .await
            .inspect_err(|error| self.alarm_for(error))?;
        let (share, entry) = (admitted.also, admitted.entry);
        let start = self.timings.lap(Step::Checks, start);
        let lists = self.squashed(&entry, &share, &*admitted.chain, &admitted.provenance).await?;
        self.timings.lap(Step::Ciphertexts, start);
        let party = Arc::clone(&self);
        self.in_turn(move || {
            let digest = entry.request;
            party.decrypt(&share, &lists, entry, |partials| {
                let context = AnswerContext {
                    domains: &party.parts.domains,
                    public_key: &public_key,
                    user: request.user,
                    extra_data: &request.extra_data,
                };
                party.seal(&context, &share, digest, &lists, partials)
            })
        })
        .await
    }

    fn seal(
        &self,
        context: &AnswerContext<'_>,
        share: &KeyShare,
        request: B256,
        lists: &[List],
        partials: &[Partial],
    ) -> Result<UserShare, KmsError> {
        let bytes: Vec<_> = partials.iter().map(|partial| partial.own.share_bytes()).collect();
        let shares: Vec<(Handle, &[u8])> = lists
            .iter()
            .map(|list| list.handle)
            .zip(bytes.iter().map(|bytes| bytes.as_slice()))
            .collect();
        let party = CommitteeParty {
            number: share.party().number().into(),
            threshold: share.scope().committee.size().threshold().into(),
        };
        let key = self.parts.signing_key.signing_key();
        let sealed = seal_shares(context, &shares, party, key, Randomness::generate).map_err(KmsError::Sealing)?;
        let mut answer = UserShare {
            share: sealed,
            made_with: ShareRef::of(share),
            signature: Vec::new().into(),
        };
        answer.signature = self.signature(answer.digest(request))?;
        Ok(answer)
    }

    /// Returns what this party knows of a public request: what it accepted in the last minutes, if the chain still lets it use the same share, or else after judging it.
    pub(super) async fn accepted(self: &Arc<Self>, request: PublicDecryptionRequest, evidence: Option<AclEvidence>) -> Outcome<Accepted> {
        request.validate(self.parts.domains.host_chain_id).map_err(KmsError::from)?;
        let digest = request_digest(&request)?;
        let now = self.parts.clock.now_seconds();
        if let Some(accepted) = self.accepted.find(digest, now)
            && *self.share_for(&request.extra_data).await?.scope() == accepted.scope
        {
            return Ok(accepted);
        }
        let alone = evidence.is_some();
        let party = Arc::clone(self);
        let judged = async move {
            let accepted = Arc::new(Arc::clone(&party).judge_public(request, evidence).await.map_err(Arc::new)?);
            let bytes = 512 + accepted.own.partials.iter().map(|partial| partial.len() + 128).sum::<usize>();
            party.accepted.keep(digest, Arc::clone(&accepted), bytes, now);
            Ok(accepted)
        }
        .boxed();
        if alone {
            judged.await
        } else {
            self.public.join(digest, || judged).await
        }
    }

    async fn judge_public(self: Arc<Self>, request: PublicDecryptionRequest, evidence: Option<AclEvidence>) -> Result<Accepted, KmsError> {
        let start = Instant::now();
        let (held, extra_data, node) = (self.parts.shares.list(), request.extra_data.clone(), self.admission.node);
        let admitted = self
            .admission
            .public(&request, evidence, move |chain| {
                Box::pin(async move { shares::choose(held, chain, &extra_data, node).await })
            })
            .await
            .inspect_err(|error| self.alarm_for(error))?;
        let (share, entry) = (admitted.also, admitted.entry);
        let start = self.timings.lap(Step::Checks, start);
        let lists = self.squashed(&entry, &share, &*admitted.chain, &admitted.provenance).await?;
        self.timings.lap(Step::Ciphertexts, start);
        let party = Arc::clone(&self);
        self.in_turn(move || {
            let request_digest = entry.request;
            party.decrypt(&share, &lists, entry, |partials| {
                let mut own = Bundle {
                    made_with: ShareRef::of(&share),
                    request_digest,
                    partials: partials.iter().map(|partial| partial.own.to_bytes().to_vec().into()).collect(),
                    signature: Vec::new().into(),
                };
                own.signature = party.signature(own.digest())?;
                Ok(Accepted {
                    scope: share.scope().clone(),
                    handles: request.handles,
                    expected: partials.iter().map(|partial| partial.expected).collect(),
                    own,
                })
            })
        })
        .await
    }

    pub(super) fn sign(
        &self,
        request: &PublicDecryptionRequest,
        accepted: &Accepted,
        bundles: Vec<Bundle>,
    ) -> Result<PublicSignature, KmsError> {
        let mut alarms = Vec::new();
        let opened = accepted.open(bundles, &mut alarms);
        alarms.iter().for_each(|alarm| self.parts.alarms.raise(alarm));
        let opened = opened?;
        let result = abi_words(&opened.values);
        let digest = self
            .parts
            .domains
            .public_decryption_digest(&request.handles, &result, &request.extra_data);
        Ok(PublicSignature {
            decrypted_result: result.into(),
            signature: self.signature(digest)?,
            extra_data: request.extra_data.clone(),
            faults: opened.faults,
            refused: opened.refused,
        })
    }

    /// Chooses the share for requests with these extra data, and checks that the chain has this node in the context that they name.
    pub(super) async fn share_for(&self, extra_data: &[u8]) -> Result<Arc<KeyShare>, KmsError> {
        let chain = self.admission.pin(self.parts.clock.now_seconds(), None).await?;
        let chosen = shares::choose(self.parts.shares.list(), &*chain, extra_data, self.admission.node);
        let context = check_context(&*chain, extra_data, self.admission.node);
        let checked = try_join(chosen, context).await;
        checked.map(|(share, ())| share).inspect_err(|error| self.alarm_for(error))
    }

    /// Gets the squashed lists, knows that they are the ones behind their handles, and pays for their decryption.
    async fn squashed(
        &self,
        entry: &AuditEntry,
        share: &KeyShare,
        chain: &dyn PinnedView,
        provenance: &Provenance,
    ) -> Result<Vec<List>, KmsError> {
        let key_set_id = B256::from(share.scope().key.0);
        let exhausted = |error: BudgetExhausted| {
            self.parts.alarms.raise(&Alarm::BudgetExhausted(error.of));
            KmsError::Budget(error)
        };
        // Before anything is squashed, here or elsewhere; paid for only once it is there.
        self.parts
            .budgets
            .covers(entry.requester, &entry.handles, entry.time)
            .map_err(exhausted)?;
        let lists = stream::iter(entry.handles.iter().copied())
            .map(|handle| async move {
                let list = self.list(handle, key_set_id, entry.requester, chain, provenance).await;
                list.inspect_err(|error| self.alarm_for(error))
            })
            .buffered(CONCURRENT_FETCHES)
            .try_collect()
            .await?;
        let left = self
            .parts
            .budgets
            .pay(entry.requester, &entry.handles, entry.time)
            .map_err(exhausted)?;
        if let Some(left_percent) = left {
            self.parts.alarms.raise(&Alarm::BudgetRunningOut { left_percent });
        }
        Ok(lists)
    }

    /// Gets one squashed list by the way that the chain says ciphertexts are known by, and no other.
    async fn list(
        &self,
        handle: Handle,
        key_set_id: B256,
        requester: Option<Address>,
        chain: &dyn PinnedView,
        provenance: &Provenance,
    ) -> Result<List, KmsError> {
        let bytes = match (provenance, &self.parts.squashed) {
            (Provenance::Attestations(coprocessors), SquashedLists::Attested(source)) => {
                let fetched = source.squashed(handle).await;
                let list = fetched.map_err(|source| unavailable(handle, source))?;
                provenance::check(&(&list).into(), handle, key_set_id, coprocessors)?;
                Arc::new(list.bytes)
            }
            (Provenance::ChainState { key_set_id: of_chain }, SquashedLists::MadeHere(squashing)) => {
                provenance::check_stored(*of_chain, handle, key_set_id)?;
                let proven = chain.stored_ciphertext(handle).await;
                let stored = StoredCiphertext {
                    handle,
                    key_set_id,
                    bytes: proven.map_err(|source| unavailable(handle, source))?,
                    requester,
                };
                let squashed = squashing.squash(stored).await;
                squashed.map_err(|error| not_squashed(handle, error))?
            }
            _ => {
                return Err(KmsError::Provenance {
                    handle,
                    reason: "the node is set up for a chain that says otherwise by what its ciphertexts are known".to_owned(),
                });
            }
        };
        Ok(List { handle, bytes })
    }

    /// Runs work on a blocking thread, under the limit of decryptions at once.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, KmsError> + Send + 'static,
    ) -> Result<T, KmsError> {
        let start = Instant::now();
        let turn = Arc::clone(&self.decryptions).acquire_owned().await.map_err(|_| KmsError::Task)?;
        self.timings.lap(Step::Turn, start);
        let work = move || {
            // Held by the work itself: it goes on when the request is abandoned.
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| KmsError::Task)?
    }

    /// Decrypts as far as one party can, records it, then lets `answer` make the answer.
    fn decrypt<T>(
        &self,
        share: &KeyShare,
        lists: &[List],
        mut entry: AuditEntry,
        answer: impl FnOnce(&[Partial]) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        let start = Instant::now();
        let partials = lists.iter().map(|list| self.partial(share, list)).collect::<Result<Vec<_>, _>>()?;
        let start = self.timings.lap(Step::Decryption, start);
        let made_with = ShareRef::of(share);
        entry.share = Some(ShareUsed {
            context: made_with.context,
            epoch: made_with.epoch,
            party: made_with.party,
        });
        let (kind, requester, handles) = (entry.kind, entry.requester, entry.handles.len());
        // On disk before anything leaves: an answer without a record must not exist.
        self.parts.audit.append(entry)?;
        let start = self.timings.lap(Step::Audit, start);
        let answer = answer(&partials)?;
        self.timings.lap(Step::Answer, start);
        self.timings.count();
        tracing::info!(?kind, ?requester, handles, party = made_with.party, "decrypted this party's share");
        Ok(answer)
    }

    fn partial(&self, share: &KeyShare, list: &List) -> Result<Partial, KmsError> {
        let handle = list.handle;
        let malformed = |source| {
            // Coprocessors attested it, or it was made here, yet it is no list of this value.
            self.parts.alarms.raise(&Alarm::UntrustedCiphertext {
                handle,
                reason: "its squashed list is malformed".into(),
            });
            KmsError::Decryption { handle, source }
        };
        let mut values = SquashedValue::from_list(self.parts.parameters, &[handle.fhe_type()], &list.bytes).map_err(malformed)?;
        let value = values.pop().ok_or(KmsError::Task)?;
        let ciphertext = ValueShape::new(value.bits)
            .and_then(|shape| SquashedCiphertext::new(KeyKind::Compressed, shape, value.dimension, value.words))
            .map_err(KmsError::Threshold)?;
        let own = share.decrypt(&ciphertext).map_err(KmsError::Threshold)?;
        let expected = Expected {
            tag: own.tag(),
            shape: ciphertext.shape(),
        };
        Ok(Partial { expected, own })
    }

    fn signature(&self, digest: B256) -> Result<Bytes, KmsError> {
        let signature = sign_digest(self.parts.signing_key.signing_key(), digest).map_err(KmsError::Sealing)?;
        Ok(signature.to_vec().into())
    }

    /// Raises the alarm that an error is, if it is one.
    fn alarm_for(&self, error: &KmsError) {
        let alarm = match error {
            KmsError::Provenance { handle, reason } => Alarm::UntrustedCiphertext {
                handle: *handle,
                reason: reason.clone(),
            },
            KmsError::EpochNotServed { context, epoch } => Alarm::EpochNotServed {
                context: *context,
                epoch: *epoch,
            },
            KmsError::SquashingKeys(reason) => Alarm::SquashingKeys { reason: reason.clone() },
            _ => return,
        };
        self.parts.alarms.raise(&alarm);
    }
}

/// Says why a ciphertext of a native chain was not squashed.
fn not_squashed(handle: Handle, error: SquashError) -> KmsError {
    match error {
        SquashError::NotReady => KmsError::NotReady(handle),
        SquashError::Busy => KmsError::Overloaded,
        SquashError::Keys(reason) => KmsError::SquashingKeys(reason),
        SquashError::Failed(reason) => KmsError::Provenance {
            handle,
            reason: format!("what the chain has stored {reason}"),
        },
    }
}
