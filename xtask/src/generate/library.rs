//! `FHE.sol`: the library that contracts use.

use std::fmt::Write as _;

use cipherloom_primitives::FheType;

use super::{
    HEADER,
    overloads::{Overload, overloads},
    solidity::{external, member},
};

/// The parts that do not depend on the table: configuration, decryption and delegations.
const FIXED: &str = include_str!("fhe_fixed.sol.in");

/// Writes the file.
pub(super) fn fhe() -> String {
    let mut text = HEADER.to_owned();
    let types: Vec<String> = FheType::ALL
        .iter()
        .map(|ty| ty.solidity_name().to_owned())
        .chain(FheType::ALL.map(external))
        .collect();
    let _ = write!(
        text,
        "import {{\n    {}\n}} from \"./EncryptedTypes.sol\";
import {{FheType}} from \"./FheType.sol\";
import {{CoprocessorConfig, IACL, IInputVerifier, IKMSVerifier}} from \"./HostContracts.sol\";
import {{IFHEVMExecutor, Impl}} from \"./Impl.sol\";
import {{PublicDecryption}} from \"./PublicDecryption.sol\";

",
        types.join(",\n    ")
    );
    let (head, tail) = FIXED.split_once("// TABLE\n").unwrap_or((FIXED, ""));
    text.push_str(head);
    for overload in overloads() {
        text.push_str(&function(&overload));
    }
    for ty in FheType::ALL {
        text.push_str(&per_type(ty));
    }
    text.push_str(tail);
    for ty in FheType::ALL {
        text.push_str(&handle(ty));
    }
    text.truncate(text.trim_end().len());
    text.push_str("\n}\n");
    text
}

fn function(overload: &Overload) -> String {
    let parameters: Vec<String> = overload.parameters.iter().map(|(ty, name)| format!("{ty} {name}")).collect();
    let mut text = format!("    /// @notice {}\n", overload.notice);
    if let Some(dev) = &overload.dev {
        let _ = writeln!(text, "    /// @dev {dev}");
    }
    let _ = writeln!(
        text,
        "    function {}({}) internal returns ({}) {{",
        overload.name,
        parameters.join(", "),
        overload.result
    );
    for line in &overload.body {
        let _ = writeln!(text, "        {line}");
    }
    text.push_str("    }\n\n");
    text
}

/// The functions about permissions that every type has.
fn per_type(ty: FheType) -> String {
    let name = ty.solidity_name();
    let functions = [
        (
            "Returns whether something was stored in the variable.",
            format!("isInitialized({name} value) internal pure returns (bool)"),
            format!("return {name}.unwrap(value) != bytes32(0);"),
        ),
        (
            "Returns the handle.",
            format!("toBytes32({name} value) internal pure returns (bytes32)"),
            format!("return {name}.unwrap(value);"),
        ),
        (
            "Returns whether an account may use the value now.",
            format!("isAllowed({name} value, address account) internal view returns (bool)"),
            format!("return Impl.isAllowed({name}.unwrap(value), account);"),
        ),
        (
            "Returns whether the caller of the contract may use the value now.",
            format!("isSenderAllowed({name} value) internal view returns (bool)"),
            format!("return Impl.isAllowed({name}.unwrap(value), msg.sender);"),
        ),
        (
            "Lets an account use the value for ever, and returns the value.",
            format!("allow({name} value, address account) internal returns ({name})"),
            permission(ty, "allow(handle, account)"),
        ),
        (
            "Lets this contract use the value for ever, and returns the value.",
            format!("allowThis({name} value) internal returns ({name})"),
            permission(ty, "allow(handle, address(this))"),
        ),
        (
            "Lets an account use the value until the end of the transaction, and returns the value.",
            format!("allowTransient({name} value, address account) internal returns ({name})"),
            permission(ty, "allowTransient(handle, account)"),
        ),
        (
            "Lets anyone decrypt the value, for ever, and returns the value.",
            format!("makePubliclyDecryptable({name} value) internal returns ({name})"),
            permission(ty, "makePubliclyDecryptable(handle)"),
        ),
        (
            "Returns whether anyone may decrypt the value.",
            format!("isPubliclyDecryptable({name} value) internal view returns (bool)"),
            format!("return Impl.isPubliclyDecryptable({name}.unwrap(value));"),
        ),
    ];
    functions
        .into_iter()
        .map(|(notice, signature, body)| format!("    /// @notice {notice}\n    function {signature} {{\n        {body}\n    }}\n\n"))
        .collect()
}

fn permission(ty: FheType, call: &str) -> String {
    let name = ty.solidity_name();
    format!("bytes32 handle = _handle(value);\n        Impl.{call};\n        return {name}.wrap(handle);")
}

/// The private function that reads a handle and makes an encrypted zero of a variable that was never written.
fn handle(ty: FheType) -> String {
    let name = ty.solidity_name();
    format!(
        "    function _handle({name} value) private returns (bytes32) {{
        return Impl.initialized({name}.unwrap(value), FheType.{});
    }}

",
        member(ty)
    )
}
