//! What a ceremony is to bring about, and what the chain must say for a node to take part.

use alloy_primitives::{Address, B256, U256};
use cipherloom_threshold::{Committee, ContextId, EpochId, KeyId, PartyIdentity, Scope};
use serde::{Deserialize, Serialize};

use crate::{
    CeremonyError, Record,
    digest::{digest_document, from_json, random, to_json},
    record::MAX_RECORD_BYTES,
};

/// The version of documents of this crate.
pub const VERSION: u32 = 1;
/// The longest name of parameters.
pub(crate) const MAX_PARAMETERS_BYTES: usize = 128;

/// A committee that is to hold a key in an epoch. Party 1 is the first member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Seats {
    /// The committee's context on the chain.
    pub context: B256,
    /// The epoch of the shares.
    pub epoch: B256,
    /// How many members may be corrupt.
    pub threshold: u8,
    /// The members' signing addresses, in the order of their numbers.
    pub members: Vec<Address>,
}

impl Seats {
    /// Returns the committee.
    ///
    /// # Errors
    /// [`CeremonyError::Threshold`] if there can be no such committee.
    pub fn committee(&self) -> Result<Committee, CeremonyError> {
        let members = self.members.iter().map(|member| identity_of(*member)).collect();
        Ok(Committee::new(self.threshold, members)?)
    }

    /// Returns what shares of a key are bound to.
    ///
    /// # Errors
    /// As [`Self::committee`].
    pub fn scope(&self, key: B256) -> Result<Scope, CeremonyError> {
        Ok(Scope {
            key: KeyId(key.0),
            context: ContextId(self.context.0),
            epoch: EpochId(self.epoch.0),
            committee: self.committee()?,
        })
    }

    /// Returns a member's number, counted from 1.
    #[must_use]
    pub fn party_of(&self, member: Address) -> Option<u8> {
        let index = self.members.iter().position(|other| *other == member)?;
        u8::try_from(index + 1).ok()
    }
}

/// Returns how a node is named in a committee: its signing address with zeros in front.
#[must_use]
pub fn identity_of(member: Address) -> PartyIdentity {
    member.into_word().0
}

/// What is to be done. Whoever drives a ceremony makes it; nodes agree to what the chain says too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Proposal {
    /// [`VERSION`].
    pub version: u32,
    /// Random, so that no two ceremonies are the same.
    pub nonce: B256,
    /// The host chain.
    pub chain_id: u64,
    /// The name of the key set's parameters.
    pub parameters: String,
    /// Who is to hold the shares.
    pub target: Seats,
    /// What is known of the shares that are to be replaced; nothing if a dealer makes a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Record>>,
}

/// What identifies a ceremony: everything in the proposal, with the previous record in place of itself by its digest.
#[derive(Serialize)]
struct Summary<'a> {
    version: u32,
    nonce: B256,
    chain_id: u64,
    parameters: &'a str,
    target: &'a Seats,
    previous: Option<B256>,
}

impl Proposal {
    /// Proposes that a dealer makes a new key for a committee.
    ///
    /// # Errors
    /// [`CeremonyError::Randomness`], and [`CeremonyError::Threshold`] if there can be no such committee.
    pub fn deal(chain_id: u64, parameters: &str, target: Seats) -> Result<Self, CeremonyError> {
        Self {
            version: VERSION,
            nonce: B256::from(random()?),
            chain_id,
            parameters: parameters.to_owned(),
            target,
            previous: None,
        }
        .checked()
    }

    /// Proposes to replace the shares that a record describes.
    ///
    /// # Errors
    /// As [`Self::deal`], and [`CeremonyError::OldEpoch`] unless the new epoch is later.
    pub fn reshare(previous: Record, target: Seats) -> Result<Self, CeremonyError> {
        Self {
            version: VERSION,
            nonce: B256::from(random()?),
            chain_id: previous.core.chain_id,
            parameters: previous.core.parameters.clone(),
            target,
            previous: Some(Box::new(previous)),
        }
        .checked()
    }

    /// Reads a proposal.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`] and those of [`Record::check`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, CeremonyError> {
        from_json::<Self>("proposal", bytes, MAX_RECORD_BYTES + 4096)?.checked()
    }

    /// Writes the proposal.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`], which no proposal that was made shows.
    pub fn to_json(&self) -> Result<Vec<u8>, CeremonyError> {
        to_json("proposal", self)
    }

    /// Returns the ceremony's identifier.
    ///
    /// # Errors
    /// As [`Self::to_json`].
    pub fn session(&self) -> Result<B256, CeremonyError> {
        let previous = self.previous.as_ref().map(|record| record.digest()).transpose()?;
        session_of(self.nonce, self.chain_id, &self.parameters, &self.target, previous)
    }

    fn checked(self) -> Result<Self, CeremonyError> {
        if self.version != VERSION {
            return Err(CeremonyError::malformed("proposal", "its version is unknown"));
        }
        if self.parameters.len() > MAX_PARAMETERS_BYTES {
            return Err(CeremonyError::malformed("proposal", "the name of the parameters is too long"));
        }
        self.target.committee()?;
        if let Some(previous) = &self.previous {
            previous.check()?;
            if previous.core.chain_id != self.chain_id || previous.core.parameters != self.parameters {
                return Err(CeremonyError::Refused(
                    "the previous record is of another chain or of other parameters",
                ));
            }
            if self.target.epoch <= previous.core.seats.epoch {
                return Err(CeremonyError::OldEpoch {
                    found: self.target.epoch,
                    newest: previous.core.seats.epoch,
                });
            }
        }
        Ok(self)
    }
}

pub(crate) fn session_of(
    nonce: B256,
    chain_id: u64,
    parameters: &str,
    target: &Seats,
    previous: Option<B256>,
) -> Result<B256, CeremonyError> {
    digest_document(
        "proposal",
        &Summary {
            version: VERSION,
            nonce,
            chain_id,
            parameters,
            target,
            previous,
        },
    )
}

/// What a node read from the chain, through its own endpoints, about the committee that a proposal names. A node agrees to nothing else: whoever drives a
/// ceremony could otherwise name itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The chain.
    pub chain_id: u64,
    /// The registered context.
    pub context: B256,
    /// The lowest epoch that the chain would accept: its current one.
    pub epoch: B256,
    /// How many members may be corrupt.
    pub threshold: u8,
    /// The registered signers, in their order.
    pub members: Vec<Address>,
    /// The registered signers of the context whose shares are to be replaced; empty if a dealer makes a new key.
    pub former_members: Vec<Address>,
}

impl Registration {
    /// Checks that a proposal is about this committee.
    ///
    /// # Errors
    /// [`CeremonyError::NotRegistered`] says what differs; [`CeremonyError::OldEpoch`].
    pub fn check(&self, proposal: &Proposal) -> Result<(), CeremonyError> {
        let refuse = |what: String| Err(CeremonyError::NotRegistered(what));
        let target = &proposal.target;
        if proposal.chain_id != self.chain_id {
            return refuse(format!("it is for chain {}, not {}", proposal.chain_id, self.chain_id));
        }
        if target.context != self.context {
            return refuse(format!("context {} is proposed, {} is registered", target.context, self.context));
        }
        if target.members != self.members {
            return refuse(format!("{:?} are proposed, {:?} are registered", target.members, self.members));
        }
        if target.threshold != self.threshold {
            return refuse(format!(
                "threshold {} is proposed, {} is registered",
                target.threshold, self.threshold
            ));
        }
        let former = proposal.previous.as_ref().map(|record| record.core.seats.members.as_slice());
        if former.unwrap_or_default() != self.former_members {
            return refuse(format!(
                "shares of {former:?} are to be replaced, {:?} are registered",
                self.former_members
            ));
        }
        if target.epoch < self.epoch {
            return Err(CeremonyError::OldEpoch {
                found: target.epoch,
                newest: self.epoch,
            });
        }
        // Epochs only go up, so one that the chain will never reach would be the last.
        let latest = U256::from_be_bytes(self.epoch.0).saturating_add(U256::from(1));
        if U256::from_be_bytes(target.epoch.0) > latest {
            return refuse(format!(
                "epoch {} is proposed, and the chain is in {}: only the next one can be prepared, so begin it on the chain first",
                target.epoch, self.epoch
            ));
        }
        Ok(())
    }
}
