//! Opening what KMS nodes sent to a user, one node alone or a committee.
//!
//! **One node** sends the values themselves. **A committee** of `n` nodes, of which `t` may be corrupt, sends shares: each node's answer is signed by it and encrypted to the user's key like the answer of
//! one node. Who registered nodes are is read from the chain, where the order of the list is the order of the parties; `t` is the largest number below a third of `n`.
//!
//! The gateway carries the answers and is not trusted: what is not signed by a registered node is not looked at, an answer that fails a check counts as wrong, and shares that are wrong although they are
//! signed are located when the values are put together. `2t + 1` nodes must agree, and all but `t` of those that answered.

use cipherloom_chain::SignerSetOnChain;
use cipherloom_primitives::{Address, Handle, U256, decryption::UserDecryptionShare, eip712::recover_signer};
use cipherloom_signcryption::{AnswerContext, CommitteeParty, UserKeypair, open, open_shares};
use cipherloom_threshold::{CommitteeSize, Contribution, MAX_PARTIES, PartySet, ValueShape, reconstruct};

use crate::{
    error::ClientError,
    wire::{ShareResult, UserResult},
};

/// The most answers looked at: nodes answer once each, and a gateway may have answers of nodes that are no longer registered.
const MAX_ANSWERS: usize = 2 * MAX_PARTIES as usize;

/// The nodes whose answers count.
pub(crate) enum Nodes {
    /// The only one.
    One(Address),
    /// A committee, party 1 first.
    Committee { members: Vec<Address>, size: CommitteeSize },
}

impl Nodes {
    /// Takes the nodes that the chain has registered.
    ///
    /// # Errors
    /// [`ClientError::Committee`] if so many nodes cannot share a key.
    pub(crate) fn registered(signers: SignerSetOnChain) -> Result<Self, ClientError> {
        let members = signers.signers;
        if let [node] = members.as_slice() {
            return Ok(Self::One(*node));
        }
        let count = u8::try_from(members.len()).ok();
        let size = count.and_then(|count| CommitteeSize::new(count, count.saturating_sub(1) / 3).ok());
        match size {
            Some(size) => Ok(Self::Committee { members, size }),
            None => Err(ClientError::Committee(members.len())),
        }
    }

    /// Checks the answers to a request for `handles`, decrypts them, and puts values together.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] if the answers cannot be read, [`ClientError::Signcryption`] if that of the only node fails a check, [`ClientError::Shares`]
    /// if too few nodes of a committee agree.
    pub(crate) fn open(
        &self,
        what: &'static str,
        context: &AnswerContext<'_>,
        handles: &[Handle],
        result: UserResult,
        keys: &UserKeypair,
    ) -> Result<Vec<U256>, ClientError> {
        let malformed = |reason| ClientError::Malformed { what, reason };
        if result.result.len() > MAX_ANSWERS {
            return Err(malformed(format!("it holds {} answers", result.result.len())));
        }
        let answers: Vec<UserDecryptionShare> = result
            .result
            .into_iter()
            .map(ShareResult::into_share)
            .collect::<Result<_, _>>()
            .map_err(malformed)?;
        match self {
            Self::One(node) => {
                let [answer] = answers.as_slice() else {
                    return Err(malformed("it does not hold exactly one answer".into()));
                };
                Ok(open(context, handles, answer, keys, *node)?)
            }
            Self::Committee { members, size } => {
                let opening = Opening {
                    context,
                    handles,
                    keys,
                    members,
                    size: *size,
                };
                opening.open(what, &answers)
            }
        }
    }
}

/// Answers of a committee to one request.
struct Opening<'a> {
    context: &'a AnswerContext<'a>,
    handles: &'a [Handle],
    keys: &'a UserKeypair,
    members: &'a [Address],
    size: CommitteeSize,
}

impl Opening<'_> {
    fn open(&self, what: &'static str, answers: &[UserDecryptionShare]) -> Result<Vec<U256>, ClientError> {
        let shapes = self.shapes(what)?;
        let mut read: Vec<Option<Contribution>> = self.members.iter().map(|_| None).collect();
        let mut failed = PartySet::EMPTY;
        let mut faults = Vec::new();
        for answer in answers {
            let Some((index, node)) = self.sender(answer) else {
                faults.push("one is not signed by a registered node".to_owned());
                continue;
            };
            let Some(slot) = read.get_mut(index).filter(|slot| slot.is_none()) else {
                continue;
            };
            let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            let id = self.size.party(number).map_err(|error| ClientError::Shares {
                what,
                reason: error.to_string(),
            })?;
            let party = CommitteeParty {
                number,
                threshold: self.size.threshold().into(),
            };
            match open_shares(self.context, self.handles, answer, self.keys, (party, node)) {
                Ok(shares) => {
                    failed = failed.without(std::iter::once(id).collect());
                    *slot = Some(Contribution::of_shares(id, &shapes, shares.iter().map(|share| share.as_slice())));
                }
                // Another answer of the same node may be a good one.
                Err(error) => {
                    failed.insert(id);
                    faults.push(format!("node {node}: {error}"));
                }
            }
        }
        let contributions: Vec<Contribution> = read
            .into_iter()
            .flatten()
            .chain(failed.iter().map(Contribution::unusable))
            .collect();
        let opened = reconstruct(self.size, &shapes, &contributions).map_err(|error| {
            let reason = match faults.as_slice() {
                [] => error.to_string(),
                faults => format!("{error}; {}", faults.join("; ")),
            };
            ClientError::Shares { what, reason }
        })?;
        for party in opened.wrong.iter() {
            let node = self.members.get(usize::from(party.number()) - 1);
            tracing::warn!(%party, ?node, "a KMS node sent shares that are wrong; the value was read without it");
        }
        Ok(opened
            .values
            .iter()
            .map(|value| U256::from_le_bytes(*value.little_endian()))
            .collect())
    }

    /// Finds the registered node that signed an answer. An answer says itself whose it is, but only the signature proves it.
    fn sender(&self, answer: &UserDecryptionShare) -> Option<(usize, Address)> {
        let (domains, extra_data) = (self.context.domains, self.context.extra_data);
        let digest = domains.user_decryption_answer_digest(self.context.public_key.blob(), self.handles, &answer.payload, extra_data);
        let signer = recover_signer(digest, &answer.signature)?;
        let index = self.members.iter().position(|member| *member == signer)?;
        Some((index, signer))
    }

    fn shapes(&self, what: &'static str) -> Result<Vec<ValueShape>, ClientError> {
        let shape = |handle: &Handle| {
            let bits = u16::try_from(handle.fhe_type().bits()).unwrap_or(u16::MAX);
            ValueShape::new(bits).map_err(|error| ClientError::Shares {
                what,
                reason: error.to_string(),
            })
        };
        self.handles.iter().map(shape).collect()
    }
}
