//! The host chain behind nodes of which a quorum must agree; and a native chain, behind nodes of which none is believed.

use std::{collections::BTreeSet, future::ready};

use cipherloom_chain::{AclEvidence, ChainError, ContextOnChain, LightClient, PinnedChain, PinnedNative, SignerSetOnChain, WitnessedChain};
use cipherloom_primitives::{AclFacts, AclQuestion, Address, B256, Bytes, Handle};
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};

use crate::ports::{ChainViewError, CoprocessorSet, HostChainView, PinnedBlock, PinnedView, Provenance, SourceError};

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

    fn provenance(&self) -> BoxFuture<'_, Result<Provenance, ChainViewError>> {
        let attested = |SignerSetOnChain { signers, threshold }| {
            Provenance::Attestations(CoprocessorSet {
                signers,
                // A threshold that does not fit is one that nothing meets.
                threshold: threshold.saturating_to(),
            })
        };
        self.coprocessor_signers().map_ok(attested).map_err(unreadable).boxed()
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

impl HostChainView for LightClient {
    fn pin(&self, now_seconds: u64, evidence: Option<AclEvidence>) -> BoxFuture<'_, Result<Box<dyn PinnedView>, ChainViewError>> {
        Self::pin(self, now_seconds, evidence)
            .map_ok(|pinned| Box::new(pinned) as Box<dyn PinnedView>)
            .map_err(unreadable)
            .boxed()
    }
}

impl PinnedView for PinnedNative {
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

    fn provenance(&self) -> BoxFuture<'_, Result<Provenance, ChainViewError>> {
        let key_set_id = self.key_set_id();
        Box::pin(ready(Ok(Provenance::ChainState { key_set_id })))
    }

    fn stored_ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            match self.ciphertext(handle).await {
                Ok(Some(bytes)) => Ok(bytes),
                // Rights and ciphertexts come into the state by the same transaction, and rights were proven at this very block.
                Ok(None) => Err(SourceError::Failed(
                    "the chain has stored none: contracts keep only what they write to their storage, and some computations fail"
                        .to_owned(),
                )),
                Err(error) if error.is_retryable() => Err(SourceError::Unavailable(error.to_string())),
                Err(error) => Err(SourceError::Failed(error.to_string())),
            }
        })
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
