//! Who signed a digest: recovery of addresses from signatures as contracts do it.
//!
//! Every party checks signatures of every other one, so this is most of the time that small messages take. The usual library functions recover a key and then verify the
//! signature under it, which doubles the time and can find nothing: the key is computed as the one under which it verifies. Of `Q = (s·R − z·G) / r` follows
//! `(z·G + r·Q) / s = R`, whose x coordinate is `r`.

use alloy_primitives::{Address, B256};
use k256::{
    AffinePoint, ProjectivePoint, Scalar,
    ecdsa::{Signature, VerifyingKey},
    elliptic_curve::{
        ops::{Invert, LinearCombination, Reduce},
        point::DecompressPoint,
    },
};

/// Recovers who signed a digest, accepting only signatures OpenZeppelin's ECDSA accepts: 65 bytes, v of 27 or 28, low s.
#[must_use]
pub fn recover_signer(digest: B256, signature: &[u8]) -> Option<Address> {
    let (numbers, v) = signature.split_at_checked(64)?;
    let is_odd = match v {
        [27] => 0,
        [28] => 1,
        _ => return None,
    };
    // Both numbers are in [1, order).
    let signature = Signature::from_slice(numbers).ok()?;
    if signature.normalize_s().is_some() {
        return None;
    }
    let (r, s) = signature.split_scalars();
    // v says nothing of points whose x coordinate is above the order; contracts take x for r itself.
    let point = Option::<AffinePoint>::from(AffinePoint::decompress(&r.to_bytes(), is_odd.into()))?;
    let inverse: Scalar = *r.invert();
    let message = <Scalar as Reduce<k256::U256>>::reduce_bytes(&digest.0.into());
    let of_generator = -(inverse * message);
    let of_point = inverse * s.as_ref();
    let key = ProjectivePoint::lincomb(&ProjectivePoint::GENERATOR, &of_generator, &point.into(), &of_point);
    // There is no address of the point at infinity.
    let key = VerifyingKey::from_affine(key.to_affine()).ok()?;
    Some(Address::from_public_key(&key))
}
