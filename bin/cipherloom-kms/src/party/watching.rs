//! What the chain says of a party, looked at again and again, and what follows from it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use cipherloom_chain::CommitteeOnChain;
use cipherloom_kms::party_address;
use cipherloom_primitives::B256;
use cipherloom_threshold::{EpochId, KeyId, KeyShare};

use super::{Party, PartyState};
use crate::public::documents::{NodeState, ShareStatus};

impl Party {
    /// Looks at the chain until told to stop.
    pub(super) async fn watch(self: Arc<Self>, poll: Duration) {
        let mut told = String::new();
        loop {
            match Box::pin(self.look()).await {
                Ok(()) => told.clear(),
                Err(error) => {
                    // Once for each reason: the chain may be away for hours.
                    let reason = format!("{error:#}");
                    if reason != told {
                        tracing::warn!(%reason, "cannot tell the state of the committee; the last one known counts");
                        told = reason;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(poll) => {}
                () = self.woken.notified() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Looks at the chain once: opens or closes the attested port, takes up and gives up shares.
    ///
    /// # Errors
    /// If the chain cannot be read or the hardware gives no evidence.
    pub(super) async fn look(&self) -> Result<()> {
        let _turn = self.looking.lock().await;
        let current = self.home.kms_committee().await.context("the home chain cannot be read")?;
        let refusal = self.take_up_shares(&current).await?;
        let served = self.served_share(&current).await?;
        let Some((party, committee)) = self.seat(&current, served.as_deref()) else {
            self.port.close();
            self.become_state(PartyState {
                state: NodeState::AwaitingRegistration,
                detail: Some(format!(
                    "the chain's KMS context {} does not list {}",
                    current.context_id, self.signer
                )),
                committee: Some(current),
                party: 0,
                share: None,
            });
            return Ok(());
        };
        self.open_port(&committee, party).await?;
        let (state, detail) = match (&served, refusal) {
            (Some(_), _) => (NodeState::Serving, None),
            (None, Some(refusal)) => (NodeState::Refusing, Some(refusal)),
            (None, None) => (NodeState::AwaitingCeremony, None),
        };
        self.become_state(PartyState {
            state,
            detail,
            committee: Some(current),
            party,
            share: served.map(|share| self.status_of(&share)),
        });
        Ok(())
    }

    /// Takes up stored shares that the chain allows, and gives up those that it does not. Returns why a share is refused.
    async fn take_up_shares(&self, current: &CommitteeOnChain) -> Result<Option<String>> {
        for share in self.shares.list() {
            let epoch = epoch_of(&share);
            if !self.may_hold(epoch, current).await? && self.shares.retire(share.scope().epoch) {
                tracing::warn!(%epoch, "gave up a share: the chain has destroyed its epoch");
            }
        }
        let mut refusal = None;
        let mut stored = self.ceremony.held();
        stored.sort_unstable_by_key(|(_, epoch)| *epoch);
        for (key, epoch) in stored {
            let is_held = self.shares.list().iter().any(|share| share.scope().epoch == epoch);
            if is_held {
                continue;
            }
            refusal = match self.may_hold(epoch.0.into(), current).await? {
                true => self.take_up(key, epoch).err().map(|error| format!("{error:#}")),
                false => Some(format!(
                    "the share of epoch {} is not used: the chain has destroyed the epoch",
                    B256::from(epoch.0)
                )),
            };
        }
        Ok(refusal)
    }

    fn take_up(&self, key: KeyId, epoch: EpochId) -> Result<()> {
        let held = self.ceremony.share(key, epoch).context("cannot read the sealed share")?;
        let held = held.context("the sealed share is gone")?;
        // Before the share is used: what it decrypts may have to be squashed first.
        if let Some(keys) = self.squashing.as_ref().and_then(|squashing| squashing.recorded.as_ref()) {
            keys.take_record(&held.record);
        }
        self.shares.activate(Arc::clone(&held.share))?;
        let epoch = epoch_of(&held.share);
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(epoch, held.record);
        tracing::info!(party = held.share.party().number(), %epoch, key_set = %B256::from(key.0), "took up a share");
        Ok(())
    }

    /// Tells whether shares of an epoch may be held: it is valid on chain, or the chain has not come to it yet. Epochs are numbered upwards.
    async fn may_hold(&self, epoch: B256, current: &CommitteeOnChain) -> Result<bool> {
        if epoch >= current.epoch_id {
            return Ok(true);
        }
        let valid = self.home.is_valid_kms_epoch(epoch).await;
        valid.context("the home chain cannot be read")
    }

    /// Returns the newest share whose epoch the chain has.
    async fn served_share(&self, current: &CommitteeOnChain) -> Result<Option<Arc<KeyShare>>> {
        for share in self.shares.list() {
            let epoch = epoch_of(&share);
            let is_known =
                epoch == current.epoch_id || self.home.is_valid_kms_epoch(epoch).await.context("the home chain cannot be read")?;
            if is_known {
                return Ok(Some(share));
            }
        }
        Ok(None)
    }

    /// Returns as which member of which committee the party speaks: of the current one, or of the one that its share is for, which it has to help to
    /// hand over.
    fn seat(&self, current: &CommitteeOnChain, served: Option<&KeyShare>) -> Option<(u32, CommitteeOnChain)> {
        if let Some(party) = current.party_of(self.signer) {
            return Some((party, current.clone()));
        }
        let scope = served?.scope();
        let former = CommitteeOnChain {
            context_id: scope.context.0.into(),
            epoch_id: scope.epoch.0.into(),
            signers: scope.committee.members().iter().filter_map(party_address).collect(),
            ..current.clone()
        };
        Some((former.party_of(self.signer)?, former))
    }

    /// Shows evidence for a committee, unless it is shown already.
    async fn open_port(&self, committee: &CommitteeOnChain, party: u32) -> Result<()> {
        let mut opened = self.opened.lock().await;
        let wanted = (committee.context_id, committee.signers.clone(), party);
        if opened.as_ref() == Some(&wanted) && self.port.endpoint().is_some() {
            return Ok(());
        }
        let endpoint = self.attestation.endpoint(committee, party, self.signer).await?;
        self.port.open(endpoint);
        *opened = Some(wanted);
        tracing::info!(party, context = %committee.context_id, members = committee.signers.len(), "the attested port is open");
        Ok(())
    }

    fn status_of(&self, share: &KeyShare) -> ShareStatus {
        let epoch = epoch_of(share);
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        ShareStatus {
            key_set_id: share.scope().key.0.into(),
            context: share.scope().context.0.into(),
            epoch,
            manifest: records.get(&epoch).and_then(|record| record.digest().ok()).unwrap_or_default(),
        }
    }

    /// Notes a state, and tells it if it is another one.
    fn become_state(&self, new: PartyState) {
        self.state.send_if_modified(|old| {
            if old.state != new.state || old.detail != new.detail {
                let detail = new.detail.as_deref().unwrap_or_default();
                tracing::info!(state = new.state.as_str(), party = new.party, detail, "the party's state");
            }
            let differs = *old != new;
            *old = new;
            differs
        });
    }
}

fn epoch_of(share: &KeyShare) -> B256 {
    share.scope().epoch.0.into()
}
