//! Who may have what decrypted, asked of the host chain.

use cipherloom_primitives::{
    Address, B256, Handle,
    decryption::{ContextSelector, UserDecryptionRequest, context_selector},
    eip712::{SigningDomains, recover_signer},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    error::KmsError,
    ports::{ChainViewError, HostChainView},
};

/// How many reads of the chain are under way at once for one request.
const CONCURRENT_READS: usize = 16;

/// Checks that the account the request names has signed it.
///
/// Only accounts with a private key can sign; contract accounts (ERC-1271) are refused like any wrong signature.
pub(crate) fn check_permit_signature(request: &UserDecryptionRequest, domains: &SigningDomains) -> Result<(), KmsError> {
    match recover_signer(request.digest(domains), &request.signature) {
        Some(signer) if signer == request.user => Ok(()),
        _ => Err(KmsError::PermitSignature { signer: request.user }),
    }
}

/// Checks that the request is for the current KMS context and that `node` belongs to it.
pub(crate) async fn check_context(chain: &dyn HostChainView, extra_data: &[u8], node: Address) -> Result<(), KmsError> {
    let selector = context_selector(extra_data)?;
    let context = chain.kms_context().await?;
    let (requested, epoch) = match selector {
        ContextSelector::Current => (context.id, context.epoch),
        ContextSelector::Context(requested) => (requested, context.epoch),
        ContextSelector::ContextAndEpoch(requested, epoch) => (requested, epoch),
    };
    if requested != context.id {
        return Err(KmsError::Context {
            requested,
            current: context.id,
        });
    }
    if epoch != context.epoch {
        return Err(KmsError::Epoch {
            requested: epoch,
            current: context.epoch,
        });
    }
    if context.signers.contains(&node) {
        Ok(())
    } else {
        Err(KmsError::NotRegistered {
            address: node,
            context: context.id,
        })
    }
}

/// Checks that the signer has not invalidated permits as old as this one.
pub(crate) async fn check_not_invalidated(chain: &dyn HostChainView, request: &UserDecryptionRequest) -> Result<(), KmsError> {
    let before = chain.decryption_signatures_invalidated_before(request.user).await?;
    if request.permit.start_timestamp() < before {
        return Err(KmsError::PermitInvalidated {
            account: request.user,
            before,
        });
    }
    Ok(())
}

/// Checks that every handle was made public.
pub(crate) async fn check_public(chain: &dyn HostChainView, handles: &[Handle]) -> Result<(), KmsError> {
    stream::iter(handles.iter().copied())
        .map(|handle| async move { require(chain.is_allowed_for_decryption(handle).await, || KmsError::NotPublic(handle)) })
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await
}

/// Checks that owner and contract may use every handle, and that owners other than the user have delegated reading to the user.
pub(crate) async fn check_readable(chain: &dyn HostChainView, request: &UserDecryptionRequest) -> Result<(), KmsError> {
    stream::iter(request.values.iter().copied())
        .map(|value| async move {
            let (handle, contract, delegator) = (value.handle, value.contract_address, value.owner);
            for account in [delegator, contract] {
                require(chain.persist_allowed(handle, account).await, || KmsError::NotAllowed {
                    handle,
                    account,
                })?;
            }
            if delegator == request.user {
                return Ok(());
            }
            let delegated = chain
                .is_handle_delegated_for_user_decryption(delegator, request.user, contract, handle)
                .await;
            require(delegated, || KmsError::NotDelegated {
                handle,
                delegator,
                delegate: request.user,
                contract,
            })
        })
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await
}

fn require(answer: Result<bool, ChainViewError>, refusal: impl FnOnce() -> KmsError) -> Result<(), KmsError> {
    if answer? { Ok(()) } else { Err(refusal()) }
}

/// Hashes a request for the audit log.
pub(crate) fn request_digest(request: &impl serde::Serialize) -> Result<B256, KmsError> {
    serde_json::to_vec(request)
        .map(alloy_primitives::keccak256)
        .map_err(|_| KmsError::Task)
}
