//! The committee that a chain has registered: the KMS context and epoch that are current, and who is in it.

use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::ProtocolConfig;
use cipherloom_primitives::{Address, B256, U256};

use crate::{error::ChainError, host_chain::HostChain};

/// A KMS context as it stands on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitteeOnChain {
    /// The chain.
    pub chain_id: u64,
    /// The context's id, big-endian.
    pub context_id: B256,
    /// The id of its current epoch, big-endian.
    pub epoch_id: B256,
    /// The addresses that its nodes sign with, in the order in which they were registered: the first is party 1.
    pub signers: Vec<Address>,
    /// How many of them must sign a public decryption.
    pub public_decryption_threshold: u64,
    /// How many of them must answer a user's request.
    pub user_decryption_threshold: u64,
    /// How many of them may be dishonest without harm.
    pub mpc_threshold: u64,
}

impl CommitteeOnChain {
    /// Returns the number of the party that signs with an address, from 1; `None` if it is not registered.
    #[must_use]
    pub fn party_of(&self, signer: Address) -> Option<u32> {
        let index = self.signers.iter().position(|member| *member == signer)?;
        u32::try_from(index).ok()?.checked_add(1)
    }

    /// Returns the members with their numbers.
    #[must_use]
    pub fn members(&self) -> Vec<(u32, Address)> {
        (1..).zip(self.signers.iter().copied()).collect()
    }
}

impl HostChain {
    /// Reads the current KMS context. What is read belongs together even where another context begins meanwhile, except for thresholds.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn kms_committee(&self) -> Result<CommitteeOnChain, ChainError> {
        let (context, epoch) = self.kms_context_and_epoch().await?;
        let contract = self.addresses().protocol_config;
        let members = ProtocolConfig::getKmsSignersAndThresholdForContextCall { contextId: context };
        let members = self.read(contract, members).await?;
        let user = ProtocolConfig::getUserDecryptionThresholdForContextCall { contextId: context };
        let mpc = ProtocolConfig::getMpcThresholdForContextCall { contextId: context };
        Ok(CommitteeOnChain {
            chain_id: self.chain_id().await?,
            context_id: context.into(),
            epoch_id: epoch.into(),
            signers: members.signers,
            public_decryption_threshold: number::<ProtocolConfig::getKmsSignersAndThresholdForContextCall>(members.threshold)?,
            user_decryption_threshold: number::<ProtocolConfig::getUserDecryptionThresholdForContextCall>(
                self.read(contract, user).await?,
            )?,
            mpc_threshold: number::<ProtocolConfig::getMpcThresholdForContextCall>(self.read(contract, mpc).await?)?,
        })
    }

    /// Returns the addresses that the nodes of a context sign with, in the order in which they were registered; nothing if there is no such context, or it
    /// was destroyed.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn kms_signers_of(&self, context: B256) -> Result<Option<Vec<Address>>, ChainError> {
        let (contract, id) = (self.addresses().protocol_config, context.into());
        if !self.read(contract, ProtocolConfig::isValidKmsContextCall { contextId: id }).await? {
            return Ok(None);
        }
        let signers = self.read(contract, ProtocolConfig::getKmsSignersForContextCall { contextId: id });
        signers.await.map(Some)
    }

    /// Says whether an epoch exists, and neither it nor its context was destroyed.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn is_valid_kms_epoch(&self, epoch: B256) -> Result<bool, ChainError> {
        let call = ProtocolConfig::isValidKmsEpochCall { epochId: epoch.into() };
        self.read(self.addresses().protocol_config, call).await
    }
}

/// Reads a threshold, which is at most 255.
fn number<C: SolCall>(threshold: U256) -> Result<u64, ChainError> {
    u64::try_from(threshold).map_err(|_| ChainError::Inconsistent {
        what: C::SIGNATURE,
        expected: "at most 255".to_owned(),
        found: threshold.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_are_counted_in_the_order_of_the_chain() {
        let signers: Vec<Address> = [9, 3, 7].map(Address::with_last_byte).into();
        let committee = CommitteeOnChain {
            chain_id: 1,
            context_id: B256::ZERO,
            epoch_id: B256::ZERO,
            signers: signers.clone(),
            public_decryption_threshold: 2,
            user_decryption_threshold: 2,
            mpc_threshold: 0,
        };
        let found: Vec<_> = signers.iter().map(|signer| committee.party_of(*signer)).collect();
        assert_eq!(found, [Some(1), Some(2), Some(3)]);
        assert_eq!(committee.party_of(Address::ZERO), None);
        assert_eq!(committee.members()[1], (2, Address::with_last_byte(3)));
    }
}
