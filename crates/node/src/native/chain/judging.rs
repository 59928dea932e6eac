//! Judging blocks that others made: proposed ones by computing the same, decided ones by what came along with them.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes};
use cipherloom_primitives::quorum::CommitCertificate;
use tokio::time::Instant;

use super::making::Made;
use super::{NativeChain, Verdict, blocking};
use crate::error::{NodeError, Result};
use crate::native::candidates::{Candidate, check_header, check_same, run_all};
use crate::native::checks::Verdicts;
use crate::native::codec::{ReceivedBlock, Sidecar, decode_block};
use crate::native::store::DecidedBlock;

impl NativeChain {
    /// Executes a block that `proposer` made in this round and has it computed, to see whether the same comes out. It is kept if so.
    ///
    /// # Errors
    ///
    /// What keeps the node from knowing: [`NodeError::UnknownBlock`] if `height` is not the next one, [`NodeError::ExecutorUnavailable`], or
    /// [`NodeError::Internal`].
    pub async fn validate(&self, height: u64, round: u32, proposer: Address, block: Bytes, deadline: Instant) -> Result<Verdict> {
        let verdict = match self.try_validate(height, proposer, block, deadline).await {
            Ok(hash) => Verdict::Valid { hash },
            Err(NodeError::BlockRefused(reason) | NodeError::Ciphertexts(reason)) => Verdict::Invalid(reason),
            Err(other) => return Err(other),
        };
        if let Verdict::Invalid(reason) = &verdict {
            tracing::warn!(height, round, %proposer, reason, "a proposed block is invalid");
        }
        Ok(verdict)
    }

    async fn try_validate(&self, height: u64, proposer: Address, bytes: Bytes, deadline: Instant) -> Result<B256> {
        let this = self.clone();
        let (received, made) = blocking(move || {
            let received = decode_block(&bytes).map_err(NodeError::BlockRefused)?;
            this.check_next(height)?;
            if received.header.beneficiary != proposer {
                return Err(NodeError::BlockRefused("its beneficiary is not the proposer".to_owned()));
            }
            if this.candidates().get(&received.hash).is_some() {
                return Ok((received, None));
            }
            let now = this.core()?.config.clock.now_unix_s();
            if received.header.timestamp > now.saturating_add(this.inner.max_future_s) {
                return Err(NodeError::BlockRefused("its timestamp is too far in the future".to_owned()));
            }
            let made = this.run_received(&received, Verdicts::new())?;
            Ok((received, Some(made)))
        })
        .await?;
        if let Some(made) = made {
            let candidate = self.complete(made, deadline).await?;
            check_same(&received, &candidate.block)?;
            self.candidates().insert(candidate);
        }
        Ok(received.hash)
    }

    /// Executes the transactions of a block that somebody else made.
    fn run_received(&self, received: &ReceivedBlock, known: Verdicts) -> Result<Made> {
        let header = &received.header;
        let (state, context) = {
            let core = self.core()?;
            check_header(&core, header)?;
            (
                core.head_state().clone(),
                core.context_of_next(header.timestamp, header.beneficiary),
            )
        };
        let (run, checks) = self.begin(state, context, known)?;
        Ok(Made {
            run: run_all(run, received)?,
            checks,
            parent: header.parent_hash,
            height: header.number,
        })
    }

    /// Comes to a decided block by its sidecar.
    pub(super) fn reconstruct(&self, decided: &DecidedBlock) -> Result<Arc<Candidate>> {
        let received = decode_block(&decided.block).map_err(NodeError::BlockRefused)?;
        self.check_next(received.header.number)
            .map_err(|error| NodeError::BlockRefused(error.to_string()))?;
        self.check_certificate(received.header.number, received.hash, &decided.certificate)?;
        let sidecar = Sidecar::decode(&decided.sidecar).map_err(|reason| NodeError::BlockRefused(format!("its sidecar: {reason}")))?;
        let made = self.run_received(&received, sidecar.verdicts)?;
        let results = sidecar.ciphertexts.into_iter().map(|(handle, bytes)| (handle, Ok(bytes)));
        let candidate = self.seal(made, results.collect()).map_err(|error| match error {
            NodeError::Ciphertexts(reason) => NodeError::BlockRefused(format!("its sidecar: {reason}")),
            other => other,
        })?;
        check_same(&received, &candidate.block)?;
        Ok(candidate)
    }

    pub(super) fn check_next(&self, height: u64) -> Result<()> {
        let next = self.head()?.number.saturating_add(1);
        if height == next {
            return Ok(());
        }
        Err(NodeError::UnknownBlock(format!("{height} (the next one here is {next})")))
    }

    pub(super) fn check_certificate(&self, height: u64, hash: B256, certificate: &CommitCertificate) -> Result<()> {
        let refused = |reason: String| NodeError::BlockRefused(format!("its certificate: {reason}"));
        if certificate.height != height || certificate.block_hash != hash {
            return Err(refused("it is for another block".to_owned()));
        }
        let set = self.validators_at(height)?;
        certificate
            .check(&self.inner.domain, &set)
            .map_err(|error| refused(error.to_string()))
    }
}
