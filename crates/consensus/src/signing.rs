//! Signing and checking what validators say.
//!
//! Votes and proposals are signed as `primitives::quorum` defines it, for contracts and light clients check them too. Blocks on their way and signs
//! of life are of no interest outside: they are signed over a tagged hash.

use alloy::{
    primitives::{B256, keccak256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use arc_malachitebft_core_types::{NilOrVal, VoteType};
use cipherloom_primitives::{
    eip712::recover_signer,
    quorum::{ConsensusDomain, VoteKind},
};

use crate::context::{Name, Proposal, Signature, Vote};

/// What a vote is called outside of this crate.
const fn vote_kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

/// What is signed on one chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digests {
    pub(crate) domain: ConsensusDomain,
}

impl Digests {
    /// None for a vote without a round, which nobody casts.
    pub(crate) fn vote(&self, vote: &Vote) -> Option<B256> {
        let block = match vote.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(hash) => Some(hash.0),
        };
        let round = vote.round.as_u32()?;
        Some(self.domain.vote_digest(vote_kind(vote.kind), vote.height.0, round, block))
    }

    /// None for a proposal without a round, which nobody makes.
    pub(crate) fn proposal(&self, proposal: &Proposal) -> Option<B256> {
        let (round, valid_round) = (proposal.round.as_u32()?, proposal.valid_round.as_u32());
        Some(self.domain.proposal_digest(proposal.height.0, round, valid_round, proposal.value.0))
    }

    /// Binds the block's bytes: a hash alone names a block only to those who can take it apart.
    pub(crate) fn block(&self, height: u64, round: u32, hash: B256, block: &[u8]) -> B256 {
        let content = keccak256(block);
        self.tagged("Cipherloom proposed block", height, round, &[hash, content])
    }

    pub(crate) fn working(&self, height: u64, round: u32) -> B256 {
        self.tagged("Cipherloom proposer at work", height, round, &[])
    }

    fn tagged(&self, tag: &str, height: u64, round: u32, hashes: &[B256]) -> B256 {
        let mut text = keccak256(tag).to_vec();
        text.extend_from_slice(&self.domain.chain_id.to_be_bytes());
        text.extend_from_slice(self.domain.genesis_hash.as_slice());
        text.extend_from_slice(&height.to_be_bytes());
        text.extend_from_slice(&round.to_be_bytes());
        for hash in hashes {
            text.extend_from_slice(hash.as_slice());
        }
        keccak256(&text)
    }
}

/// Signs a digest.
///
/// # Errors
/// If the key cannot sign, which a key in memory always can.
pub(crate) fn sign(signer: &PrivateKeySigner, digest: B256) -> Result<Signature, alloy::signers::Error> {
    Ok(Signature(signer.sign_hash_sync(&digest)?.as_bytes()))
}

/// Whether a signature over a digest is the named signer's.
pub(crate) fn is_signed_by(digest: B256, signature: &Signature, signer: Name) -> bool {
    recover_signer(digest, &signature.0) == Some(signer.0)
}
