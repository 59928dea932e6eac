//! How the encrypted types are written in Solidity.

use cipherloom_primitives::FheType;

/// Returns the member of the Solidity enum `FheType`, such as `Uint64`; an address is an integer of 160 bits.
pub(crate) fn member(ty: FheType) -> String {
    match ty {
        FheType::Bool => "Bool".to_owned(),
        other => format!("Uint{}", other.bits()),
    }
}

/// Returns the type of an input that comes from outside the chain, such as `externalEuint64`.
pub(crate) fn external(ty: FheType) -> String {
    format!("external{}", capitalised(ty.solidity_name()))
}

/// Returns the text with a capital first letter.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(letters)
        .collect()
}

/// Returns whether the type is an unsigned integer, so that it converts to and from the other ones.
pub(crate) fn is_uint(ty: FheType) -> bool {
    !matches!(ty, FheType::Bool | FheType::Address)
}

/// Returns the expression that makes a 256-bit integer of a plaintext variable of the type.
pub(crate) fn integer(ty: FheType, variable: &str) -> String {
    match ty {
        FheType::Bool => format!("{variable} ? 1 : 0"),
        FheType::Address => format!("uint256(uint160({variable}))"),
        _ => format!("uint256({variable})"),
    }
}

/// Returns the expression that makes a 32-byte scalar operand of a plaintext variable of the type.
pub(crate) fn scalar(ty: FheType, variable: &str) -> String {
    match ty {
        FheType::Bool => format!("bytes32(uint256({variable} ? 1 : 0))"),
        FheType::Address => format!("bytes32(uint256(uint160({variable})))"),
        _ => format!("bytes32(uint256({variable}))"),
    }
}
