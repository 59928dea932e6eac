//! Operations on lists. Elements whose value is public come separately from the secret ones.

use cipherloom_primitives::{FheType, U256};
use tfhe::integer::{BooleanBlock, RadixCiphertext, ServerKey};

use super::trivial::{boolean, radix, to_tfhe};

/// Adds up all elements. Far cheaper than a chain of additions: carries ripple once, at the end.
pub(super) fn sum(key: &ServerKey, ty: FheType, secret: &[&RadixCiphertext], public: &[U256]) -> RadixCiphertext {
    let offset = public.iter().fold(U256::ZERO, |sum, value| ty.truncate(sum.wrapping_add(*value)));
    let offset = (!offset.is_zero()).then(|| radix(key, ty, offset));
    key.sum_ciphertexts_parallelized(secret.iter().copied().chain(offset.as_ref()))
        .unwrap_or_else(|| radix(key, ty, U256::ZERO))
}

/// Says whether a secret value is in the list.
pub(super) fn contains(key: &ServerKey, secret: &[&RadixCiphertext], public: &[U256], value: &RadixCiphertext) -> BooleanBlock {
    let among_secret = (!secret.is_empty()).then(|| {
        let list: Vec<RadixCiphertext> = secret.iter().map(|element| (*element).clone()).collect();
        key.contains_parallelized(&list, value)
    });
    // Equality with a constant costs half of equality with a ciphertext.
    let equalities = public.iter().map(|element| key.scalar_eq_parallelized(value, to_tfhe(*element)));
    among_secret
        .into_iter()
        .chain(equalities)
        .reduce(|any, next| key.boolean_bitor(&any, &next))
        .unwrap_or_else(|| boolean(key, false))
}

/// Says whether a public value is in the list.
pub(super) fn contains_public(key: &ServerKey, secret: &[&RadixCiphertext], public: &[U256], value: U256) -> BooleanBlock {
    if public.contains(&value) {
        return boolean(key, true);
    }
    let list: Vec<RadixCiphertext> = secret.iter().map(|element| (*element).clone()).collect();
    key.contains_clear_parallelized(&list, to_tfhe(value))
}
