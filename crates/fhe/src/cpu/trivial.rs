//! Ciphertexts whose value is public: made from a plaintext without a key.
//!
//! Contracts produce them all the time (`FHE.asEuint64(5)`). tfhe computes on them as if they were secret, which costs as much; here their
//! value is taken out again and the operation done with a scalar, or without any ciphertext at all.

use cipherloom_primitives::{FheType, U256};
use tfhe::integer::{BooleanBlock, IntegerCiphertext, RadixCiphertext, ServerKey, U256 as TfheU256};

use crate::{
    ciphertext::{Ciphertext, Value},
    stored::block_count,
};

/// Makes a trivial ciphertext of the value, which is below 2^bits of the type.
pub(super) fn encrypt(key: &ServerKey, ty: FheType, value: U256) -> Ciphertext {
    let value = match ty {
        FheType::Bool => Value::Bool(boolean(key, !value.is_zero())),
        _ => Value::Radix(radix(key, ty, value)),
    };
    Ciphertext { ty, value }
}

/// Makes a trivial encrypted bit.
pub(super) fn boolean(key: &ServerKey, value: bool) -> BooleanBlock {
    key.create_trivial_boolean_block(value)
}

/// Makes a trivial integer.
pub(super) fn radix(key: &ServerKey, ty: FheType, value: U256) -> RadixCiphertext {
    key.create_trivial_radix(to_tfhe(value), block_count(ty))
}

/// Returns the value of a ciphertext if it is trivial.
pub(crate) fn known(ciphertext: &Ciphertext) -> Option<U256> {
    match &ciphertext.value {
        Value::Clear(_) => None,
        Value::Bool(block) => known_boolean(block).map(|value| U256::from(u8::from(value))),
        Value::Radix(radix) => known_radix(radix),
    }
}

/// Returns the value of an encrypted bit if it is trivial.
pub(super) fn known_boolean(block: &BooleanBlock) -> Option<bool> {
    block.decrypt_trivial().ok()
}

/// Returns the value of an integer if all its blocks are trivial.
pub(super) fn known_radix(radix: &RadixCiphertext) -> Option<U256> {
    if !radix.blocks().iter().all(tfhe::shortint::Ciphertext::is_trivial) {
        return None;
    }
    let value: TfheU256 = radix.decrypt_trivial().ok()?;
    let mut bytes = [0; 32];
    value.copy_to_le_byte_slice(&mut bytes);
    Some(U256::from_le_bytes(bytes))
}

/// Converts to tfhe's number type.
pub(crate) fn to_tfhe(value: U256) -> TfheU256 {
    TfheU256::from(value.into_limbs())
}
