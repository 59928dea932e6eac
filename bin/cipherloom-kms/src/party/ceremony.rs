//! What the ceremony service asks of a party: what the chain has registered, read by the party itself.

use anyhow::{Context as _, Result};
use cipherloom_ceremony::{Node, Proposal, RecoveryKey, Registration};
use cipherloom_service::ceremony::CeremonyHost;
use cipherloom_threshold::EpochId;
use futures_util::future::BoxFuture;

use super::Party;

/// What is said when the home chain does not answer.
const UNREADABLE: &str = "the home chain cannot be read";

impl CeremonyHost for Party {
    fn node(&self) -> &Node {
        &self.ceremony
    }

    fn registration<'a>(&'a self, proposal: &'a Proposal) -> BoxFuture<'a, Result<Registration>> {
        Box::pin(async move {
            // Shares are made for the context that is current, whatever a proposal names.
            let committee = self.home.kms_committee().await.context(UNREADABLE)?;
            let former_members = match &proposal.previous {
                None => Vec::new(),
                Some(previous) => {
                    let context = previous.core.seats.context;
                    let former = self.home.kms_signers_of(context).await.context(UNREADABLE)?;
                    former.with_context(|| format!("the chain knows no KMS context {context}, or has destroyed it"))?
                }
            };
            Ok(Registration {
                chain_id: committee.chain_id,
                context: committee.context_id,
                epoch: committee.epoch_id,
                threshold: u8::try_from(committee.mpc_threshold).context("the committee's threshold")?,
                members: committee.signers,
                former_members,
            })
        })
    }

    fn epoch(&self) -> BoxFuture<'_, Result<EpochId>> {
        Box::pin(async move {
            let committee = self.home.kms_committee().await.context(UNREADABLE)?;
            Ok(EpochId(committee.epoch_id.0))
        })
    }

    fn recovery_key(&self) -> Option<&RecoveryKey> {
        self.recovery_key.as_ref()
    }

    fn shares_changed(&self) {
        self.woken.notify_one();
    }
}
