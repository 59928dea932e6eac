//! Who may have what decrypted, judged by what the host chain says at one block.

use cipherloom_chain::ContextOnChain;
use cipherloom_primitives::{
    AclFacts, AclQuestion, Address, B256, Handle,
    acl::ANY_CONTRACT,
    decryption::{ContextSelector, PublicDecryptionRequest, RequestedValue, UserDecryptionRequest, context_selector},
    eip712::{SigningDomains, recover_signer},
};

use crate::{error::KmsError, ports::PinnedView};

/// Says whether the account that the request names has signed it with its key. Nothing is read for this.
pub(crate) fn is_signed_by_key(request: &UserDecryptionRequest, digest: B256) -> bool {
    recover_signer(digest, &request.signature) == Some(request.user)
}

/// Checks that the account that the request names has signed it: with its key or, if it is a contract, in a way that it recognises.
///
/// A key's signature is enough, also of an account that has code (EIP-7702): its owner can do everything that the code can.
pub(crate) async fn check_permit_signature(
    chain: &dyn PinnedView,
    request: &UserDecryptionRequest,
    domains: &SigningDomains,
) -> Result<(), KmsError> {
    let digest = request.digest(domains);
    if is_signed_by_key(request, digest) || chain.is_valid_signature(request.user, digest, &request.signature).await? {
        return Ok(());
    }
    Err(KmsError::PermitSignature { signer: request.user })
}

/// Checks that the KMS context that the request is for exists, be it the current one or an earlier one that was not destroyed, and that `node` belongs to it.
pub(crate) async fn check_context(chain: &dyn PinnedView, extra_data: &[u8], node: Address) -> Result<(), KmsError> {
    let selector = context_selector(extra_data)?;
    match (chain.kms_context(extra_data).await?, selector) {
        (ContextOnChain::Signers(signers), _) if signers.contains(&node) => Ok(()),
        (ContextOnChain::Signers(_), selector) => Err(KmsError::NotRegistered {
            address: node,
            context: context_of(selector),
        }),
        (ContextOnChain::NoSuchEpoch, ContextSelector::ContextAndEpoch(context, epoch)) => {
            Err(KmsError::Epoch { requested: epoch, context })
        }
        (_, selector) => Err(KmsError::Context {
            requested: context_of(selector).unwrap_or_default(),
        }),
    }
}

const fn context_of(selector: ContextSelector) -> Option<B256> {
    match selector {
        ContextSelector::Current => None,
        ContextSelector::Context(context) | ContextSelector::ContextAndEpoch(context, _) => Some(context),
    }
}

/// Checks that every handle was made public.
pub(crate) fn check_public(request: &PublicDecryptionRequest, facts: &AclFacts) -> Result<(), KmsError> {
    let secret = |handle: &&Handle| !facts.holds(&AclQuestion::AllowedForDecryption(**handle));
    match request.handles.iter().find(secret) {
        None => Ok(()),
        Some(handle) => Err(KmsError::NotPublic(*handle)),
    }
}

/// Checks that nobody whose rights are used has declared permits of this age void, that owner and contract may use every handle, and that owners
/// other than the user let the user read at this time.
pub(crate) fn check_readable(request: &UserDecryptionRequest, facts: &AclFacts, time_seconds: u64) -> Result<(), KmsError> {
    check_not_invalidated(request, request.user, facts)?;
    request
        .values
        .iter()
        .try_for_each(|value| check_value(request, value, facts, time_seconds))
}

fn check_not_invalidated(request: &UserDecryptionRequest, account: Address, facts: &AclFacts) -> Result<(), KmsError> {
    let before = facts.number(&AclQuestion::SignaturesInvalidatedBefore(account));
    if request.permit.start_timestamp() < before {
        return Err(KmsError::PermitInvalidated { account, before });
    }
    Ok(())
}

fn check_value(request: &UserDecryptionRequest, value: &RequestedValue, facts: &AclFacts, time_seconds: u64) -> Result<(), KmsError> {
    let (handle, owner, contract, user) = (value.handle, value.owner, value.contract_address, request.user);
    for account in [owner, contract] {
        if !facts.holds(&AclQuestion::PersistAllowed { handle, account }) {
            return Err(KmsError::NotAllowed { handle, account });
        }
    }
    if owner == user {
        return Ok(());
    }
    check_not_invalidated(request, owner, facts)?;
    let expires = |contract| {
        facts.number(&AclQuestion::DelegationExpiration {
            delegator: owner,
            delegate: user,
            contract,
        })
    };
    if expires(contract) > time_seconds || expires(ANY_CONTRACT) > time_seconds {
        return Ok(());
    }
    Err(KmsError::NotDelegated {
        handle,
        delegator: owner,
        delegate: user,
        contract,
    })
}

/// Hashes a request for the audit log.
pub(crate) fn request_digest(request: &impl serde::Serialize) -> Result<B256, KmsError> {
    serde_json::to_vec(request)
        .map(alloy_primitives::keccak256)
        .map_err(|_| KmsError::Task)
}
