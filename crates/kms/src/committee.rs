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
//! the audit log; and only then an answer leaves. On a native chain there are no coprocessors: the party takes the ciphertext that is proven to stand in the chain's state and squashes it itself ([`squashing`]).
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
mod party;
mod shares;
mod sharing;
pub mod squashing;

use std::sync::Arc;

use cipherloom_chain::AclEvidence;
use cipherloom_fhe::ParameterSet;
use cipherloom_primitives::{
    Address,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest},
    eip712::SigningDomains,
};
use futures_util::FutureExt;

use self::party::Party;
pub use self::{
    messages::{Bundle, Fault, PublicSignature, RefusedBundle, ShareRef, UserShare},
    shares::{HeldShares, party_address, party_identity},
    squashing::{OpenedKeys, Squashing, SquashingCounts, SquashingKeys, SquashingLimits, TrustedKeys},
};
use crate::{
    alarms::Alarms,
    audit::AuditLog,
    budgets::Budgets,
    checks::request_digest,
    error::KmsError,
    node::KmsLimits,
    ports::{Clock, HostChainView, SquashedLists},
    signing_key::NodeKey,
    timings::Timings,
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
    pub squashed: SquashedLists,
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

impl CommitteeNode {
    /// Builds a party. Nothing is read yet; it may hold no share yet.
    #[must_use]
    pub fn new(parts: CommitteeParts) -> Self {
        Self(Arc::new(Party::new(parts)))
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
