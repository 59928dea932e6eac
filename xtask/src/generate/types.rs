//! `EncryptedTypes.sol` and `FheType.sol`: the types of the library.

use std::fmt::Write as _;

use cipherloom_primitives::FheType;

use super::{
    HEADER,
    solidity::{external, member},
};

/// Writes the user-defined types over handles.
pub(super) fn encrypted_types() -> String {
    let mut text = HEADER.to_owned();
    for ty in FheType::ALL {
        let (name, plain) = (ty.solidity_name(), ty.plain_solidity_name());
        let _ = write!(
            text,
            "/// @notice The handle of an encrypted `{plain}`; zero if nothing was stored yet.\ntype {name} is bytes32;\n\n"
        );
    }
    for ty in FheType::ALL {
        let (name, plain) = (external(ty), ty.plain_solidity_name());
        let _ = write!(
            text,
            "/// @notice The handle of a `{plain}` that a user encrypted; `FHE.fromExternal` admits it with its proof.\ntype {name} is bytes32;\n\n"
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Writes the enum of type numbers.
pub(super) fn fhe_type() -> String {
    let mut text = format!(
        "{HEADER}/// @notice What an encrypted value is; the position is the type's number, as it stands in byte 30 of a handle.\nenum FheType {{\n"
    );
    let last = FheType::ALL.iter().map(|ty| ty.id()).max().unwrap_or_default();
    for id in 0..=last {
        let comma = if id == last { "" } else { "," };
        match FheType::try_from(id) {
            Ok(ty) => {
                let _ = writeln!(text, "    /// @dev `{}`.\n    {}{comma}", ty.solidity_name(), member(ty));
            }
            Err(_) => {
                let _ = writeln!(text, "    /// @dev Reserved; no value has this type.\n    Uint4{comma}");
            }
        }
    }
    text.push_str("}\n");
    text
}
