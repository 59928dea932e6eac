//! What the carrier asks of one node.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use cipherloom_gateway::ServiceError;
use cipherloom_primitives::{
    B256,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
};
use cipherloom_rpc::cipherloom::committee::v1 as wire;
use futures_util::future::BoxFuture;

/// One node of a committee. It may be corrupt: what it answers is checked by whoever asks.
pub(crate) trait CommitteeClient: Send + Sync {
    /// Asks for the node's shares of values, sealed to the user; with storage proofs, or none.
    fn user_share(&self, request: Arc<UserDecryptionRequest>, proofs: Bytes) -> BoxFuture<'static, Result<SealedShares, NodeError>>;

    /// Asks for the node's shares of values that were made public; with storage proofs, or none.
    fn public_shares(&self, request: Arc<PublicDecryptionRequest>, proofs: Bytes) -> BoxFuture<'static, Result<PublicShares, NodeError>>;

    /// Asks the node to put public values together of what the nodes sent, its own shares among it or not, and to sign them.
    fn public_sign(
        &self,
        request: Arc<PublicDecryptionRequest>,
        proofs: Bytes,
        shares: Arc<[PublicShares]>,
    ) -> BoxFuture<'static, Result<PublicSignature, NodeError>>;
}

/// What shares were made with. Only shares that were made with the same belong together: around a resharing nodes change over one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MadeWith {
    /// The id of the key set.
    pub(crate) key_set_id: B256,
    /// The KMS context.
    pub(crate) context: B256,
    /// The epoch of the shares.
    pub(crate) epoch: B256,
    /// The digest of the committee.
    pub(crate) committee: B256,
}

/// One node's shares of a user's values.
#[derive(Clone, Debug)]
pub(crate) struct SealedShares {
    /// What they were made with, in the node's words.
    pub(crate) made_with: MadeWith,
    /// The shares, sealed to the user.
    pub(crate) share: UserDecryptionShare,
}

/// One node's shares of public values, signed by it. What is in them only nodes read.
#[derive(Clone, Debug)]
pub(crate) struct PublicShares {
    /// The number that the node gives itself.
    pub(crate) party: u32,
    /// What they were made with, in the node's words.
    pub(crate) made_with: MadeWith,
    /// The message, as it is carried to the other nodes.
    pub(crate) bundle: wire::Bundle,
}

/// Public values as one node signs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicSignature {
    /// The values as concatenated 32-byte words, in the order of the handles.
    pub(crate) decrypted_result: Bytes,
    /// The node's signature.
    pub(crate) signature: Bytes,
    /// Which nodes' shares it found to be wrong.
    pub(crate) faulty: Vec<u32>,
}

/// Why a node gave no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// It says why.
    #[error("{0}")]
    Refused(ServiceError),
    /// It cannot put the values together of the shares that it got.
    #[error("needs more shares: {0}")]
    MoreShares(String),
    /// It does not answer.
    #[error("does not answer: {0}")]
    Unreachable(String),
    /// It has not answered in time.
    #[error("has not answered within {0:.1} s")]
    Late(f64),
    /// What it answers cannot be an honest node's answer to this request.
    #[error("answers wrongly: {0}")]
    Invalid(String),
    /// Its shares do not belong to those of the others.
    #[error("has shares of epoch {0}, and most others have those of another")]
    OtherEpoch(B256),
}

impl NodeError {
    /// Returns the word for metrics.
    pub(crate) const fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) | Self::OtherEpoch(_) => Outcome::Refused,
            Self::MoreShares(_) => Outcome::MoreShares,
            Self::Unreachable(_) => Outcome::Unreachable,
            Self::Late(_) => Outcome::Late,
            Self::Invalid(_) => Outcome::Invalid,
        }
    }
}

/// What became of a call to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It answered, and the answer was used or could have been.
    Answered,
    /// As [`NodeError::Refused`].
    Refused,
    /// As [`NodeError::MoreShares`].
    MoreShares,
    /// As [`NodeError::Unreachable`].
    Unreachable,
    /// As [`NodeError::Late`].
    Late,
    /// As [`NodeError::Invalid`].
    Invalid,
    /// Nobody waited for it any more, since it was decided what becomes of the request.
    Left,
}

impl Outcome {
    /// Returns the word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::MoreShares => "more_shares",
            Self::Unreachable => "unreachable",
            Self::Late => "late",
            Self::Invalid => "invalid",
            Self::Left => "left",
        }
    }
}

/// Finds which shares belong together: those of most nodes.
pub(super) fn belonging_together<'a, T: 'a>(
    shares: &'a BTreeMap<u32, T>,
    made_with: impl Fn(&T) -> MadeWith,
) -> (Option<MadeWith>, BTreeMap<u32, &'a T>) {
    let mut sets: BTreeMap<MadeWith, BTreeMap<u32, &T>> = BTreeMap::new();
    for (party, share) in shares {
        sets.entry(made_with(share)).or_default().insert(*party, share);
    }
    // Of several as large the one with the highest epoch, which comes last.
    let most = sets.into_iter().max_by_key(|(with, parties)| (parties.len(), with.epoch));
    most.map_or_else(Default::default, |(with, parties)| (Some(with), parties))
}
