//! The shares that a node holds, and which of them answers.
//!
//! Normally it is one. While a committee changes to a new epoch there are two, and **the chain decides**: the newest share answers whose context and epoch the chain knows, with exactly
//! this committee's signers for it. So a new share waits until the chain has its epoch, all nodes change over at the same block, and an epoch that the chain destroys ends at once, whatever nodes hold.
//! Epochs only go up; a share of an earlier epoch than one held before is a file that somebody put back, and is refused.

use std::sync::{Arc, PoisonError, RwLock};

use cipherloom_chain::ContextOnChain;
use cipherloom_primitives::{
    Address, B256,
    decryption::{ContextSelector, context_selector},
};
use cipherloom_threshold::{EpochId, KeyId, KeyShare, PartyIdentity, Scope, ThresholdError};

use crate::{error::KmsError, ports::PinnedView};

/// How many shares are held at most: that of the current epoch, and its successor or predecessor.
const MAX_SHARES: usize = 2;

/// The shares of one key set that a node holds. All chains that the node answers for use the same.
#[derive(Default)]
pub struct HeldShares(RwLock<Held>);

#[derive(Default)]
struct Held {
    /// The newest first.
    shares: Vec<Arc<KeyShare>>,
    /// The highest epoch there ever was here, also after its share was given up.
    highest: Option<(KeyId, EpochId)>,
}

impl HeldShares {
    /// Holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up a share. The oldest is given up if there are too many.
    ///
    /// # Errors
    /// [`ThresholdError::OtherScope`] if it is of another key than those before it, or of an epoch that is held already with another committee; [`ThresholdError::EpochNotLater`] if it is of an earlier epoch
    /// than one that was held before.
    pub fn activate(&self, share: Arc<KeyShare>) -> Result<(), ThresholdError> {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, highest)) = held.highest {
            share.check_not_older(key, highest)?;
        }
        let scope = share.scope();
        let same_epoch = held.shares.iter().position(|other| other.scope().epoch == scope.epoch);
        match same_epoch.and_then(|at| held.shares.get_mut(at)) {
            Some(other) if other.scope() != scope || other.party() != share.party() => {
                return Err(ThresholdError::OtherScope("committee"));
            }
            Some(other) => *other = share,
            None => {
                held.highest = Some((scope.key, scope.epoch));
                held.shares.insert(0, share);
                held.shares.truncate(MAX_SHARES);
            }
        }
        Ok(())
    }

    /// Gives up the share of an epoch, and those of earlier ones. Says whether there was one. They are wiped from memory when the last request that uses them has ended.
    pub fn retire(&self, epoch: EpochId) -> bool {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = held.shares.len();
        held.shares.retain(|share| share.scope().epoch > epoch);
        held.shares.len() < before
    }

    /// Returns the shares, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<KeyShare>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).shares.clone()
    }

    /// Returns the highest epoch that was ever held here.
    #[must_use]
    pub fn highest_epoch(&self) -> Option<EpochId> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .highest
            .map(|(_, epoch)| epoch)
    }
}

/// Returns the identity of the party that signs with an address: the address, after twelve zero bytes.
#[must_use]
pub fn party_identity(signer: Address) -> PartyIdentity {
    signer.into_word().0
}

/// Returns the address that a party signs with, if its identity is one of an address.
#[must_use]
pub fn party_address(identity: &PartyIdentity) -> Option<Address> {
    let word = B256::from(*identity);
    let address = Address::from_word(word);
    (address.into_word() == word).then_some(address)
}

/// Chooses the share that answers a request with these extra data: the newest that the chain lets this node use.
pub(super) async fn choose(
    held: Vec<Arc<KeyShare>>,
    chain: &dyn PinnedView,
    extra_data: &[u8],
    node: Address,
) -> Result<Arc<KeyShare>, KmsError> {
    let requested = match context_selector(extra_data)? {
        ContextSelector::Current => None,
        ContextSelector::Context(context) | ContextSelector::ContextAndEpoch(context, _) => Some(context),
    };
    if held.is_empty() {
        return Err(KmsError::NoShare);
    }
    let of_context = |share: &Arc<KeyShare>| requested.is_none_or(|context| share.scope().context.0 == context.0);
    let mut refusal = None;
    for share in held.into_iter().filter(of_context) {
        match check(chain, share.scope(), node).await? {
            Ok(()) if share.scope().committee.find(&party_identity(node)) == Some(share.party()) => return Ok(share),
            Ok(()) => {
                let context = B256::from(share.scope().context.0);
                return Err(KmsError::NotRegistered {
                    address: node,
                    context: Some(context),
                });
            }
            // The newest one's is told: that is the one that should be served.
            Err(error) => {
                refusal.get_or_insert(error);
            }
        }
    }
    Err(refusal.unwrap_or(KmsError::ContextNotServed {
        requested: requested.unwrap_or_default(),
    }))
}

/// Checks that the chain has context and epoch of a share, with this committee for them. The outer error is one of reading.
async fn check(chain: &dyn PinnedView, scope: &Scope, node: Address) -> Result<Result<(), KmsError>, KmsError> {
    let (context, epoch) = (B256::from(scope.context.0), B256::from(scope.epoch.0));
    let named = [[2].as_slice(), context.as_slice(), epoch.as_slice()].concat();
    Ok(match chain.kms_context(&named).await? {
        ContextOnChain::Signers(signers) if !signers.contains(&node) => Err(KmsError::NotRegistered {
            address: node,
            context: Some(context),
        }),
        // Readers number the parties as the chain does.
        ContextOnChain::Signers(signers) => {
            let registered = signers.iter().map(|signer| party_identity(*signer));
            if registered.eq(scope.committee.members().iter().copied()) {
                Ok(())
            } else {
                Err(KmsError::CommitteeDiffers { context })
            }
        }
        ContextOnChain::NoSuchContext | ContextOnChain::NoSuchEpoch => Err(KmsError::EpochNotServed { context, epoch }),
    })
}
