//! The host chain behind a JSON-RPC endpoint that the node's operator trusts.

use cipherloom_chain::{ChainError, HostChain, SignerSetOnChain};
use cipherloom_primitives::{Address, B256, Handle};
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};

use crate::ports::{ChainViewError, CoprocessorSet, HostChainView, KmsContext};

impl HostChainView for HostChain {
    fn is_allowed_for_decryption(&self, handle: Handle) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        Self::is_allowed_for_decryption(self, handle).map_err(unreadable).boxed()
    }

    fn persist_allowed(&self, handle: Handle, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        Self::persist_allowed(self, handle, account).map_err(unreadable).boxed()
    }

    fn is_handle_delegated_for_user_decryption(
        &self,
        delegator: Address,
        delegate: Address,
        contract: Address,
        handle: Handle,
    ) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        Self::is_handle_delegated_for_user_decryption(self, delegator, delegate, contract, handle)
            .map_err(unreadable)
            .boxed()
    }

    fn decryption_signatures_invalidated_before(&self, account: Address) -> BoxFuture<'_, Result<u64, ChainViewError>> {
        // A time beyond 64 bits is after every permit's start, and so is the largest one within them.
        Self::decryption_signatures_invalidated_before(self, account)
            .map_ok(|time| time.saturating_to())
            .map_err(unreadable)
            .boxed()
    }

    fn coprocessors(&self) -> BoxFuture<'_, Result<CoprocessorSet, ChainViewError>> {
        let set = |SignerSetOnChain { signers, threshold }| CoprocessorSet {
            signers,
            // A threshold that does not fit is one that nothing meets.
            threshold: threshold.saturating_to(),
        };
        self.coprocessor_signers().map_ok(set).map_err(unreadable).boxed()
    }

    fn kms_context(&self) -> BoxFuture<'_, Result<KmsContext, ChainViewError>> {
        async move {
            let (id, epoch) = self.kms_context_and_epoch().await.map_err(unreadable)?;
            let signers = self.kms_signers().await.map_err(unreadable)?.signers;
            Ok(KmsContext {
                id: B256::from(id),
                epoch: B256::from(epoch),
                signers,
            })
        }
        .boxed()
    }
}

fn unreadable(error: ChainError) -> ChainViewError {
    ChainViewError(error.to_string())
}
