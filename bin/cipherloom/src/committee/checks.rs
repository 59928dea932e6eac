//! What is checked of a node's answer before it is used.

use cipherloom_primitives::{
    Handle,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest},
    eip712::{SigningDomains, recover_signer},
};
use cipherloom_signcryption::{AnswerContext, CommitteeParty, UserPublicKey, check_sealed_shares};

use super::{
    carrier::Member,
    client::{NodeError, PublicShares, PublicSignature, SealedShares},
};

/// What sealed shares are checked against.
pub(super) struct SealedFor {
    request: UserDecryptionRequest,
    handles: Vec<Handle>,
    key: UserPublicKey,
    domains: SigningDomains,
    threshold: u32,
}

impl SealedFor {
    /// Prepares the checks of answers to a request; nothing if the user's key cannot be one, so that no answer to it can be sealed.
    pub(super) fn of(request: &UserDecryptionRequest, domains: SigningDomains, threshold: u8) -> Option<Self> {
        Some(Self {
            handles: request.handles(),
            key: UserPublicKey::from_blob(&request.public_key).ok()?,
            request: request.clone(),
            domains,
            threshold: threshold.into(),
        })
    }

    /// Checks that a node signed this for this request, under its number.
    pub(super) fn check(&self, member: &Member, shares: &SealedShares) -> Result<(), NodeError> {
        let context = AnswerContext {
            domains: &self.domains,
            public_key: &self.key,
            user: self.request.user,
            extra_data: &self.request.extra_data,
        };
        let party = CommitteeParty {
            number: member.party,
            threshold: self.threshold,
        };
        check_sealed_shares(&context, &self.handles, &shares.share, (party, member.signer))
            .map_err(|error| NodeError::Invalid(error.to_string()))
    }
}

/// Checks that shares of public values are under the node's own number. Their signature is for the other nodes to check, who know what they are of.
pub(super) fn shares(member: &Member, shares: &PublicShares) -> Result<(), NodeError> {
    match shares.party == member.party {
        true => Ok(()),
        false => Err(NodeError::Invalid(format!("its shares are under the number {}", shares.party))),
    }
}

/// Checks that a node signed values for this request.
pub(super) fn signature(
    member: &Member,
    request: &PublicDecryptionRequest,
    domains: &SigningDomains,
    signed: &PublicSignature,
) -> Result<(), NodeError> {
    let expected = request.handles.len().saturating_mul(32);
    if signed.decrypted_result.len() != expected {
        return Err(NodeError::Invalid(format!(
            "its values have {} bytes instead of {expected}",
            signed.decrypted_result.len()
        )));
    }
    let digest = domains.public_decryption_digest(&request.handles, &signed.decrypted_result, &request.extra_data);
    match recover_signer(digest, &signed.signature) == Some(member.signer) {
        true => Ok(()),
        false => Err(NodeError::Invalid(format!("what it signed is not signed by {}", member.signer))),
    }
}
