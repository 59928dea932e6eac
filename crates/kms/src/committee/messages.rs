//! What the parties of a committee sign, and what travels through the gateway.
//!
//! Everything names the share it was made with ([`ShareRef`]: key, context, epoch, committee, party) and the digest of the request, and is signed with the party's key over all of it. So nothing can be moved to
//! another request, epoch or party, and a wrong share proves who sent it.

use alloy_primitives::keccak256;
use cipherloom_primitives::{Address, B256, Bytes, decryption::UserDecryptionShare, eip712::recover_signer};
use cipherloom_threshold::{KeyShare, PartyId, Scope};

use super::shares::party_address;

/// The version of what is signed.
const VERSION: u8 = 1;

/// Whose share of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareRef {
    /// The key set.
    pub key_set_id: B256,
    /// The KMS context.
    pub context: B256,
    /// The epoch of the shares.
    pub epoch: B256,
    /// The digest of the committee.
    pub committee: B256,
    /// The number of the party, from 1.
    pub party: u32,
}

impl ShareRef {
    /// Names the share of a party.
    #[must_use]
    pub fn new(scope: &Scope, party: PartyId) -> Self {
        Self {
            key_set_id: scope.key.0.into(),
            context: scope.context.0.into(),
            epoch: scope.epoch.0.into(),
            committee: scope.committee.digest().into(),
            party: party.number().into(),
        }
    }

    /// Names a share.
    #[must_use]
    pub fn of(share: &KeyShare) -> Self {
        Self::new(share.scope(), share.party())
    }

    /// Says whether another share is of the same key, context, epoch and committee, so that partial decryptions with both can be put together.
    #[must_use]
    pub fn goes_with(&self, other: &Self) -> bool {
        Self { party: 0, ..*self } == Self { party: 0, ..*other }
    }

    fn to_bytes(self) -> [u8; 132] {
        let mut bytes = [0; 132];
        let parts = [self.key_set_id, self.context, self.epoch, self.committee];
        let (ids, party) = bytes.split_at_mut(128);
        for (place, id) in ids.chunks_exact_mut(32).zip(parts) {
            place.copy_from_slice(id.as_slice());
        }
        party.copy_from_slice(&self.party.to_be_bytes());
        bytes
    }
}

fn signed(tag: &[u8], made_with: &ShareRef, request_digest: B256, content: B256) -> B256 {
    keccak256(
        [
            tag,
            &[VERSION],
            &made_with.to_bytes(),
            request_digest.as_slice(),
            content.as_slice(),
        ]
        .concat(),
    )
}

/// One party's partial decryptions of public values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Which share they were made with.
    pub made_with: ShareRef,
    /// The Keccak hash of the request as JSON, as in the audit log.
    pub request_digest: B256,
    /// One partial decryption per handle, in their order ([`cipherloom_threshold::PartialDecryption::to_bytes`]).
    pub partials: Vec<Bytes>,
    /// The party's 65-byte signature over [`Self::digest`].
    pub signature: Bytes,
}

impl Bundle {
    /// Returns what the party signs.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let hashes: Vec<u8> = self.partials.iter().flat_map(|partial| keccak256(partial).0).collect();
        signed(b"CIPHERLOOM-PUBLIC-SHARES", &self.made_with, self.request_digest, keccak256(hashes))
    }

    /// Returns who signed it.
    #[must_use]
    pub fn signer(&self) -> Option<Address> {
        recover_signer(self.digest(), &self.signature)
    }

    /// Checks that it is what a member of a committee says about a request, and returns which one.
    ///
    /// # Errors
    /// Why it proves nothing about any member.
    pub fn check(&self, scope: &Scope, request_digest: B256) -> Result<PartyId, &'static str> {
        let party = scope
            .committee
            .size()
            .party(self.made_with.party)
            .map_err(|_| "there is no such party")?;
        if self.made_with != ShareRef::new(scope, party) {
            return Err("it was made with a share of another key, context, epoch or committee");
        }
        if self.request_digest != request_digest {
            return Err("it is for another request");
        }
        let member = scope
            .committee
            .members()
            .get(usize::from(party.number()) - 1)
            .and_then(party_address);
        if member.is_none() || self.signer() != member {
            return Err("it is not signed by its party");
        }
        Ok(party)
    }
}

/// One party's shares of a user's values, encrypted to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserShare {
    /// The shares.
    pub share: UserDecryptionShare,
    /// Which share they were made with.
    pub made_with: ShareRef,
    /// The party's 65-byte signature over [`Self::digest`].
    pub signature: Bytes,
}

impl UserShare {
    /// Returns what the party signs, over all of it and the request.
    #[must_use]
    pub fn digest(&self, request_digest: B256) -> B256 {
        let content = [keccak256(&self.share.payload), keccak256(&self.share.extra_data)].concat();
        signed(b"CIPHERLOOM-USER-SHARE", &self.made_with, request_digest, keccak256(content))
    }

    /// Returns who signed it in answer to a request.
    #[must_use]
    pub fn signer(&self, request_digest: B256) -> Option<Address> {
        recover_signer(self.digest(request_digest), &self.signature)
    }
}

/// Public values, signed by one node for contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicSignature {
    /// The plaintexts as concatenated 32-byte ABI words, in the order of the handles.
    pub decrypted_result: Bytes,
    /// The node's 65-byte signature.
    pub signature: Bytes,
    /// The extra data of the request.
    pub extra_data: Bytes,
    /// Parties whose shares are wrong; they had no influence on the result.
    pub faults: Vec<Fault>,
    /// Bundles that were left out and prove nothing against a party.
    pub refused: Vec<RefusedBundle>,
}

/// What a party did wrong, with the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of the party.
    pub party: u32,
    /// What it did.
    pub what: &'static str,
    /// What it signed.
    pub evidence: Vec<Bundle>,
}

/// A bundle that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedBundle {
    /// Its place among those that came, from 0.
    pub index: usize,
    /// Why.
    pub reason: &'static str,
}
