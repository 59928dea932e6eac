//! One party of a committee: what it does with requests.
//!
//! # Roles
//! * `n` **parties** hold shares of the secret key; any `t` of them may be corrupt (`3t < n`). Each is a [`CommitteeNode`] per chain, in a process of its own.
//! * The **gateway** carries requests to the parties and answers back. It is trusted with nothing: it can withhold, delay, repeat, mix and forge as it likes.
//! * The **user** opens the shares of a user decryption; for a public decryption every party opens all shares by itself.
//! * Host chain, coprocessors and requesters as for the [centralised node](crate::node), and judged by the same code.
//!
//! # Messages and flow
//!
//! ```text
//!  user decryption                                public decryption
//!  gateway ─ request ─► every party               gateway ─ request ─────────► every party     checks, audit, PublicShares
//!          ◄ UserShare ─ (sealed to the user)             ◄ Bundle (signed) ──
//!  user opens n−t or more                         gateway ─ request, bundles ► every party     PublicSign: opens by itself
//!                                                         ◄ PublicSignature ── (EIP-712)
//! ```
//!
//! A party never calls another one. For each request it does, by itself and in this order: everything the centralised node checks (limits and shape, a block, the permit's signature, context, rights); on the same block **which share answers**
//! ([`HeldShares`]: the newest that the chain knows the epoch of, with this committee as its signers); budgets; the attestations of each squashed list, and that it has the form of its handle's type; partial decryption;
//! the audit log; and only then an answer leaves.
//!
//! [`CommitteeNode::public_sign`] needs a request that this party has accepted itself. It keeps what it accepted for some minutes; otherwise it does all of the above first.
//!
//! # What is signed
//! Bundles and user shares name key, context, epoch, committee, party and the digest of the request, and are signed over all of it ([`messages`]). A wrong one is the proof of who lied ([`Fault`]).
//!
//! # Restart
//! State is the sealed share (kept by the process, not here), the signing key and the audit log. What is cached is lost and done again; the same request gets the same shares.
//!
//! # Assumptions
//! At most `t` parties of an epoch are corrupt. Below the chain's threshold of coprocessors nobody can have a ciphertext decrypted that is not the handle's. `docs/kms-threshold.md` has the threats.

pub mod messages;
mod opening;
mod shares;
mod sharing;

use std::{sync::Arc, time::Instant};

use cipherloom_chain::AclEvidence;
use cipherloom_fhe::{ParameterSet, SquashedValue};
use cipherloom_primitives::{
    Address, B256, Bytes, Handle,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest, abi_words},
    eip712::SigningDomains,
};
use cipherloom_signcryption::{AnswerContext, CommitteeParty, Randomness, seal_shares, sign_digest};
use cipherloom_threshold::{Expected, KeyKind, KeyShare, PartialDecryption, SquashedCiphertext, ValueShape};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::try_join, stream};
use tokio::sync::Semaphore;

pub use self::{
    messages::{Bundle, Fault, PublicSignature, RefusedBundle, ShareRef, UserShare},
    shares::{HeldShares, party_address, party_identity},
};
use self::{
    opening::Accepted,
    sharing::{Outcome, Recent, UnderWay},
};
use crate::{
    admission::Admission,
    alarms::{Alarm, Alarms},
    audit::{AuditEntry, AuditLog, ShareUsed},
    budgets::{BudgetExhausted, Budgets},
    checks::{check_context, request_digest},
    error::KmsError,
    node::{CONCURRENT_FETCHES, KmsLimits, unavailable},
    ports::{Clock, CoprocessorSet, HostChainView, SignedSquashed, SquashedSource},
    provenance,
    signing_key::NodeKey,
    timings::{Step, Timings},
};

/// What a party of a committee is made of, for one chain.
pub struct CommitteeParts {
    /// The parameters of the key set; they say what squashed lists look like.
    pub parameters: ParameterSet,
    /// The shares of the key. The same for all chains.
    pub shares: Arc<HeldShares>,
    /// What answers are signed with; its address is the party's identity.
    pub signing_key: Arc<NodeKey>,
    /// Where signatures are valid.
    pub domains: SigningDomains,
    /// The host chain.
    pub chain: Arc<dyn HostChainView>,
    /// Where squashed ciphertexts come from.
    pub squashed: Arc<dyn SquashedSource>,
    /// Where decryptions are recorded.
    pub audit: Arc<AuditLog>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How much the node does at once.
    pub limits: KmsLimits,
    /// How much it decrypts at most. The same for all chains.
    pub budgets: Arc<Budgets>,
    /// Whom to tell when something is not as it should be.
    pub alarms: Arc<dyn Alarms>,
}

/// One party of a committee, for one chain; see the module's documentation.
///
/// Errors are shared, since equal requests share a computation.
#[derive(Clone)]
pub struct CommitteeNode(Arc<Party>);

struct Party {
    parts: CommitteeParts,
    admission: Admission,
    decryptions: Arc<Semaphore>,
    timings: Timings,
    users: UnderWay<UserShare>,
    public: UnderWay<Accepted>,
    accepted: Recent<Accepted>,
}

/// A value as this party decrypts it: what others must contribute, and its own part.
struct Partial {
    expected: Expected,
    own: PartialDecryption,
}

impl CommitteeNode {
    /// Builds a party. Nothing is read yet; it may hold no share yet.
    #[must_use]
    pub fn new(parts: CommitteeParts) -> Self {
        let (chain, clock) = (Arc::clone(&parts.chain), Arc::clone(&parts.clock));
        let admission = Admission::new(parts.domains, chain, clock, parts.signing_key.address(), parts.limits.requests);
        Self(Arc::new(Party {
            admission,
            decryptions: Arc::new(Semaphore::new(parts.limits.decryptions.max(1))),
            timings: Timings::default(),
            users: UnderWay::new(),
            public: UnderWay::new(),
            accepted: Recent::new(),
            parts,
        }))
    }

    /// Returns the address that the party signs with.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.admission.node
    }

    /// Returns the chain it answers for.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.0.parts.domains.host_chain_id
    }

    /// Returns the shares it holds.
    #[must_use]
    pub fn shares(&self) -> &HeldShares {
        &self.0.parts.shares
    }

    /// Returns the audit log, for its head.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.0.parts.audit
    }

    /// Returns where the time of decryptions goes.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.0.timings
    }

    /// Returns the share that answers requests for the current context at this moment, so that a wrong set-up is seen before the first request.
    ///
    /// # Errors
    /// [`KmsError::NoShare`], [`KmsError::EpochNotServed`], [`KmsError::CommitteeDiffers`] or [`KmsError::NotRegistered`] say why none does; [`KmsError::Chain`] if the chain cannot be read.
    pub async fn check_registration(&self) -> Result<ShareRef, KmsError> {
        Ok(ShareRef::of(&*self.0.share_for(&[]).await?))
    }

    /// Decrypts handles for a user as far as this party can, encrypted to the user's key.
    ///
    /// `evidence` that came with the request can spare this node's endpoints work, and is not believed. Dropping the future abandons the request, unless others wait for the same; a decryption that has
    /// begun still ends and is recorded.
    ///
    /// # Errors
    /// [`KmsError`]; its methods say what to tell the requester.
    pub async fn user_share(&self, request: UserDecryptionRequest, evidence: Option<AclEvidence>) -> Result<UserShare, Arc<KmsError>> {
        let _turn = self.0.admission.enter()?;
        let digest = request_digest(&request)?;
        let alone = evidence.is_some();
        let party = Arc::clone(&self.0);
        let answer = async move { party.answer_user(request, evidence).await.map(Arc::new).map_err(Arc::new) }.boxed();
        // Who brings evidence waits for nobody else's: it may be made to fail.
        let share = if alone {
            answer.await
        } else {
            self.0.users.join(digest, || answer).await
        }?;
        Ok((*share).clone())
    }

    /// Decrypts handles that were made public as far as this party can.
    ///
    /// # Errors
    /// [`KmsError`]; its methods say what to tell the requester.
    pub async fn public_shares(&self, request: PublicDecryptionRequest, evidence: Option<AclEvidence>) -> Result<Bundle, Arc<KmsError>> {
        let _turn = self.0.admission.enter()?;
        let accepted = self.0.accepted(request, evidence).await?;
        Ok(accepted.own.clone())
    }

    /// Puts the shares of handles that were made public together, by itself, and signs the result for contracts to check.
    ///
    /// `bundles` are other parties' answers to the same request, from whomever. Those that are not what they should be are left out and named; wrong shares are corrected and their signers named.
    ///
    /// # Errors
    /// [`KmsError::MoreSharesNeeded`] if the shares do not determine the values, with the bundles that did not count; [`KmsError::OwnShareWrong`] if they contradict this party's; and as [`Self::public_shares`].
    pub async fn public_sign(
        &self,
        request: PublicDecryptionRequest,
        evidence: Option<AclEvidence>,
        bundles: Vec<Bundle>,
    ) -> Result<PublicSignature, Arc<KmsError>> {
        let _turn = self.0.admission.enter()?;
        let accepted = self.0.accepted(request.clone(), evidence).await?;
        let parties = usize::from(accepted.scope.committee.size().parties());
        // Two of each are enough to prove that a party contradicts itself.
        if bundles.len() > 2 * parties {
            return Err(KmsError::TooManyBundles {
                found: bundles.len(),
                most: 2 * parties,
            }
            .into());
        }
        let party = Arc::clone(&self.0);
        let work = move || party.sign(&request, &accepted, bundles);
        let answer = self.0.in_turn(work).await?;
        Ok(answer)
    }
}

impl Party {
    /// Judges a user's request, and answers it.
    async fn answer_user(self: Arc<Self>, request: UserDecryptionRequest, evidence: Option<AclEvidence>) -> Result<UserShare, KmsError> {
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
        let lists = self.squashed(&entry, &share, &admitted.coprocessors).await?;
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
        lists: &[SignedSquashed],
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
    async fn accepted(self: &Arc<Self>, request: PublicDecryptionRequest, evidence: Option<AclEvidence>) -> Outcome<Accepted> {
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
        let lists = self.squashed(&entry, &share, &admitted.coprocessors).await?;
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

    fn sign(&self, request: &PublicDecryptionRequest, accepted: &Accepted, bundles: Vec<Bundle>) -> Result<PublicSignature, KmsError> {
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
    async fn share_for(&self, extra_data: &[u8]) -> Result<Arc<KeyShare>, KmsError> {
        let chain = self.admission.pin(self.parts.clock.now_seconds(), None).await?;
        let chosen = shares::choose(self.parts.shares.list(), &*chain, extra_data, self.admission.node);
        let context = check_context(&*chain, extra_data, self.admission.node);
        let checked = try_join(chosen, context).await;
        checked.map(|(share, ())| share).inspect_err(|error| self.alarm_for(error))
    }

    /// Fetches the squashed lists, checks where they come from, and pays for their decryption.
    async fn squashed(&self, entry: &AuditEntry, share: &KeyShare, coprocessors: &CoprocessorSet) -> Result<Vec<SignedSquashed>, KmsError> {
        let key_set_id = B256::from(share.scope().key.0);
        let exhausted = |error: BudgetExhausted| {
            self.parts.alarms.raise(&Alarm::BudgetExhausted(error.of));
            KmsError::Budget(error)
        };
        // Before coprocessors are made to squash anything; paid for only once it is there.
        self.parts
            .budgets
            .covers(entry.requester, &entry.handles, entry.time)
            .map_err(exhausted)?;
        let lists = stream::iter(entry.handles.iter().copied())
            .map(|handle| async move {
                let fetched = self.parts.squashed.squashed(handle).await;
                let list = fetched.map_err(|source| unavailable(handle, source))?;
                provenance::check(&(&list).into(), handle, key_set_id, coprocessors).inspect_err(|error| self.alarm_for(error))?;
                Ok::<_, KmsError>(list)
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

    /// Runs work on a blocking thread, under the limit of decryptions at once.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, KmsError> + Send + 'static) -> Result<T, KmsError> {
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
        lists: &[SignedSquashed],
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

    fn partial(&self, share: &KeyShare, list: &SignedSquashed) -> Result<Partial, KmsError> {
        let handle = list.handle;
        let malformed = |source| {
            // Coprocessors attested it, yet it is no list of this value.
            self.parts.alarms.raise(&Alarm::UntrustedCiphertext {
                handle,
                reason: "its attested list is malformed".into(),
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
            _ => return,
        };
        self.parts.alarms.raise(&alarm);
    }
}
