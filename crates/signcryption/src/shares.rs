//! Answers of a committee: each node seals its shares of the values, and the user puts the values together.
//!
//! **Roles.** `n` nodes, of which `t` may be corrupt, and the user. **Flow.** Every node answers the same request; its payload names its number and `t`, and instead of a value each plaintext is the node's *share* of it: a
//! 64-bit count and ring elements, in the encoding of the crate `cipherloom-threshold`, which also makes values of shares. To this module shares are bytes. Everything else is as in the answer of a single
//! node, so a share is bound to node, user, key and request as a value is.
//!
//! **Order of checks.** A user opens every answer with the address and the number that are registered for its node. An answer that fails is left out; a share that
//! is wrong although it is rightly signed shows when values are reconstructed, and its signature proves who lied.

use cipherloom_primitives::{Address, Handle, decryption::UserDecryptionShare};
use k256::ecdsa::SigningKey;
use zeroize::Zeroizing;

use crate::{
    error::SigncryptionError,
    keys::UserKeypair,
    open::{Checks, Outside},
    seal::{AnswerContext, Place, Randomness, seal_plaintexts},
    wire::{MAX_VALUES, Payload, SealedValue},
};

/// The longest share of a value: a count and 16 elements of 64 bytes, for 256 bits.
pub const MAX_SHARE_BYTES: usize = 8 + 16 * 64;
/// How many blocks of two bits are packed into one number of a share.
pub const SHARE_PACKING_FACTOR: u32 = 2;

/// Which party of a committee a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitteeParty {
    /// The number of the node, from 1.
    pub number: u32,
    /// How many nodes may be corrupt: the degree of the polynomials that shares lie on.
    pub threshold: u32,
}

impl CommitteeParty {
    const fn place(self) -> Place {
        Place {
            party_id: self.number,
            degree: self.threshold,
            packing_factor: SHARE_PACKING_FACTOR,
        }
    }
}

/// Signs and encrypts a node's shares to the user's key and signs the whole.
///
/// `randomness` is asked once per share; pass [`Randomness::generate`] outside known-answer tests.
///
/// # Errors
/// [`SigncryptionError::TooManyValues`] if a request cannot ask for that many, [`SigncryptionError::Malformed`] if a share is longer than any is, and what
/// `randomness` returns.
pub fn seal_shares(
    context: &AnswerContext<'_>,
    shares: &[(Handle, &[u8])],
    party: CommitteeParty,
    node_key: &SigningKey,
    randomness: impl FnMut() -> Result<Randomness, SigncryptionError>,
) -> Result<UserDecryptionShare, SigncryptionError> {
    if shares.len() > MAX_VALUES {
        return Err(SigncryptionError::TooManyValues {
            max: MAX_VALUES,
            found: shares.len(),
        });
    }
    if shares.iter().any(|(_, share)| share.len() > MAX_SHARE_BYTES) {
        return Err(SigncryptionError::Malformed("the share of a value is too long"));
    }
    seal_plaintexts(context, shares, party.place(), node_key, randomness)
}

/// Checks the answer of the node with address `node`, registered as `party`, to a request for `handles`, and decrypts its shares, in the order of the handles.
///
/// # Errors
/// [`SigncryptionError`] says which check failed. Nothing of an answer that fails is returned.
pub fn open_shares(
    context: &AnswerContext<'_>,
    handles: &[Handle],
    answer: &UserDecryptionShare,
    keys: &UserKeypair,
    (party, node): (CommitteeParty, Address),
) -> Result<Vec<Zeroizing<Vec<u8>>>, SigncryptionError> {
    let (checks, payload) = Checks::verify(context, handles, answer, keys, node)?;
    check_party(&payload, party)?;
    handles
        .iter()
        .zip(&payload.values)
        .map(|(handle, value)| checks.open_plaintext(*handle, value, MAX_SHARE_BYTES))
        .collect()
}

/// Checks of the same answer what anybody can check without the user's keys: that this node signed it for this request, under its number, with a share in the place of
/// each value. Whoever carries answers leaves out those that fail. What the shares are only the user learns.
///
/// # Errors
/// [`SigncryptionError`] says which check failed.
pub fn check_sealed_shares(
    context: &AnswerContext<'_>,
    handles: &[Handle],
    answer: &UserDecryptionShare,
    (party, node): (CommitteeParty, Address),
) -> Result<(), SigncryptionError> {
    let payload = Outside::verify(context, handles, answer, node)?.payload;
    check_party(&payload, party)?;
    let is_for =
        |(handle, value): (&Handle, &SealedValue)| value.handle == handle.as_b256() && value.fhe_type == i32::from(handle.fhe_type().id());
    match handles.iter().zip(&payload.values).all(is_for) {
        true => Ok(()),
        false => Err(SigncryptionError::WrongRequest),
    }
}

fn check_party(payload: &Payload, party: CommitteeParty) -> Result<(), SigncryptionError> {
    let differs = |what| {
        Err(SigncryptionError::WrongParty {
            expected: party.number,
            what,
        })
    };
    if payload.party_id != party.number {
        return differs("number");
    }
    if payload.degree != party.threshold {
        return differs("threshold");
    }
    if payload.values.iter().any(|value| value.packing_factor != SHARE_PACKING_FACTOR) {
        return differs("packing");
    }
    Ok(())
}
