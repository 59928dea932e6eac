//! Between what the parties of a committee say as types and as messages.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cipherloom_kms::{Bundle, Fault, PublicSignature, RefusedBundle, ShareRef, UserShare};
use cipherloom_rpc::cipherloom::committee::v1 as wire;
use cipherloom_service::messages::{read_hash, share};
use cipherloom_threshold::KeyShare;

/// Writes which share something was made with.
#[must_use]
pub fn share_ref(made_with: &ShareRef) -> wire::ShareRef {
    wire::ShareRef {
        key_set_id: Bytes::copy_from_slice(made_with.key_set_id.as_slice()),
        context_id: Bytes::copy_from_slice(made_with.context.as_slice()),
        epoch_id: Bytes::copy_from_slice(made_with.epoch.as_slice()),
        committee_digest: Bytes::copy_from_slice(made_with.committee.as_slice()),
        party: made_with.party,
    }
}

/// Reads which share something was made with.
///
/// # Errors
/// If it is missing or not of its form.
pub fn read_share_ref(made_with: Option<&wire::ShareRef>) -> Result<ShareRef> {
    let made_with = made_with.context("nothing says which share it was made with")?;
    Ok(ShareRef {
        key_set_id: read_hash(&made_with.key_set_id).context("the key set")?,
        context: read_hash(&made_with.context_id).context("the context")?,
        epoch: read_hash(&made_with.epoch_id).context("the epoch")?,
        committee: read_hash(&made_with.committee_digest).context("the committee")?,
        party: made_with.party,
    })
}

/// Writes a party's partial decryptions.
#[must_use]
pub fn bundle(bundle: Bundle) -> wire::Bundle {
    wire::Bundle {
        made_with: Some(share_ref(&bundle.made_with)),
        request_digest: Bytes::copy_from_slice(bundle.request_digest.as_slice()),
        partials: bundle.partials.into_iter().map(|partial| partial.0).collect(),
        signature: bundle.signature.0,
    }
}

/// Reads a party's partial decryptions. Nothing in them is checked.
///
/// # Errors
/// If they are not of their form.
pub fn read_bundle(bundle: wire::Bundle) -> Result<Bundle> {
    Ok(Bundle {
        made_with: read_share_ref(bundle.made_with.as_ref())?,
        request_digest: read_hash(&bundle.request_digest).context("the digest of the request")?,
        partials: bundle.partials.into_iter().map(Into::into).collect(),
        signature: bundle.signature.into(),
    })
}

/// Writes a party's shares for a user.
#[must_use]
pub fn user_share(answer: UserShare) -> wire::UserShareResponse {
    wire::UserShareResponse {
        share: Some(share(answer.share)),
        made_with: Some(share_ref(&answer.made_with)),
        signature: answer.signature.0,
    }
}

/// Writes public values that one node signed. `places` has, for each bundle that was read, its place in the request.
#[must_use]
pub fn public_signature(answer: PublicSignature, places: &[u32]) -> wire::PublicSignResponse {
    let fault = |fault: Fault| wire::Fault {
        party: fault.party,
        what: fault.what.to_owned(),
        evidence: fault.evidence.into_iter().map(bundle).collect(),
    };
    let refused = |refused: RefusedBundle| wire::RefusedBundle {
        index: places.get(refused.index).copied().unwrap_or(u32::MAX),
        reason: refused.reason.to_owned(),
    };
    wire::PublicSignResponse {
        decrypted_result: answer.decrypted_result.0,
        signature: answer.signature.0,
        extra_data: answer.extra_data.0,
        faults: answer.faults.into_iter().map(fault).collect(),
        refused: answer.refused.into_iter().map(refused).collect(),
    }
}

/// Describes a share that a node holds.
#[must_use]
pub fn held_share(share: &KeyShare) -> wire::HeldShare {
    let committee = &share.scope().committee;
    // An identity is an address after twelve zero bytes.
    let address = |identity: &[u8; 32]| Bytes::copy_from_slice(identity.split_at(12).1);
    wire::HeldShare {
        share: Some(share_ref(&ShareRef::of(share))),
        members: committee.members().iter().map(address).collect(),
        threshold: committee.size().threshold().into(),
    }
}
