//! The host chain behind nodes of which a quorum must agree.

use std::collections::BTreeSet;

use cipherloom_chain::{AclEvidence, ChainError, ContextOnChain, PinnedChain, SignerSetOnChain, WitnessedChain};
use cipherloom_primitives::{AclFacts, AclQuestion, Address, B256, Bytes};
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};

use crate::ports::{ChainViewError, CoprocessorSet, HostChainView, PinnedBlock, PinnedView};

impl HostChainView for WitnessedChain {
    fn pin(&self, now_seconds: u64, evidence: Option<AclEvidence>) -> BoxFuture<'_, Result<Box<dyn PinnedView>, ChainViewError>> {
        Self::pin(self, now_seconds, evidence)
            .map_ok(|pinned| Box::new(pinned) as Box<dyn PinnedView>)
            .map_err(unreadable)
            .boxed()
    }
}

impl PinnedView for PinnedChain {
    fn block(&self) -> PinnedBlock {
        PinnedBlock {
            number: self.number(),
            hash: self.hash(),
            timestamp: self.timestamp(),
        }
    }

    fn acl<'a>(&'a self, questions: &'a BTreeSet<AclQuestion>) -> BoxFuture<'a, Result<AclFacts, ChainViewError>> {
        Self::acl(self, questions).map_err(unreadable).boxed()
    }

    fn coprocessors(&self) -> BoxFuture<'_, Result<CoprocessorSet, ChainViewError>> {
        let set = |SignerSetOnChain { signers, threshold }| CoprocessorSet {
            signers,
            // A threshold that does not fit is one that nothing meets.
            threshold: threshold.saturating_to(),
        };
        self.coprocessor_signers().map_ok(set).map_err(unreadable).boxed()
    }

    fn kms_context<'a>(&'a self, extra_data: &'a [u8]) -> BoxFuture<'a, Result<ContextOnChain, ChainViewError>> {
        Self::kms_context(self, extra_data).map_err(unreadable).boxed()
    }

    fn is_valid_signature<'a>(
        &'a self,
        account: Address,
        digest: B256,
        signature: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, ChainViewError>> {
        Self::is_valid_signature(self, account, digest, signature)
            .map_err(unreadable)
            .boxed()
    }
}

fn unreadable(error: ChainError) -> ChainViewError {
    ChainViewError(error.to_string())
}
