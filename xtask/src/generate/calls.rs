//! `Impl.sol`: the executor's interface and the calls behind the library, one per operation.

use std::fmt::Write as _;

use cipherloom_primitives::operation::{OperationSpec, Shape, TABLE};

use super::{HEADER, words};

/// The parts that do not depend on the table: configuration, permissions and delegations.
const FIXED: &str = include_str!("impl_fixed.sol.in");

/// Writes the file.
pub(super) fn implementation() -> String {
    let mut text = format!(
        "{HEADER}import {{FheType}} from \"./FheType.sol\";
import {{CoprocessorConfig, IACL, IInputVerifier}} from \"./HostContracts.sol\";

/// @title The executor: takes operations on handles and gives the handle of the result
/// @dev In operations on two values, `scalarByte` 0x01 says that `rhs` is a plaintext and 0x00 that it is a handle.
interface IFHEVMExecutor {{
"
    );
    for spec in &TABLE {
        let _ = writeln!(
            text,
            "    /// @notice {}\n    function {}({}) external returns (bytes32 result);\n",
            interface_sentence(spec),
            spec.function,
            parameters(spec.shape)
        );
    }
    text.push_str(
        "    /// @notice Returns the contract that checks encrypted inputs.
    function getInputVerifierAddress() external view returns (address);
}

/// @title The calls behind the library `FHE`
/// @dev Works on bare handles and checks no types: contracts use `FHE`.
library Impl {
",
    );
    for spec in &TABLE {
        text.push_str(&call(spec));
    }
    text.push_str(FIXED);
    text.push_str("}\n");
    text
}

/// The sentence in the interface's words: operands there are called `lhs` and `rhs`.
fn interface_sentence(spec: &OperationSpec) -> String {
    let sentence = words::sentence(spec.operation);
    match spec.shape {
        Shape::Binary(_) => sentence.replace("`a`", "`lhs`").replace("`b`", "`rhs`"),
        Shape::MulDiv => sentence.replace("`a`", "`factor1`").replace("`b`", "`factor2`"),
        _ => sentence.to_owned(),
    }
}

/// The executor's parameters; array and byte parameters are written as the data location of an external call.
fn parameters(shape: Shape) -> &'static str {
    match shape {
        Shape::Binary(_) => "bytes32 lhs, bytes32 rhs, bytes1 scalarByte",
        Shape::Unary => "bytes32 value",
        Shape::Input => "bytes32 inputHandle, address userAddress, bytes memory inputProof, FheType inputType",
        Shape::Cast => "bytes32 value, FheType toType",
        Shape::Trivial => "uint256 plaintext, FheType toType",
        Shape::Select => "bytes32 control, bytes32 ifTrue, bytes32 ifFalse",
        Shape::Random { bounded: false } => "FheType randType",
        Shape::Random { bounded: true } => "uint256 upperBound, FheType randType",
        Shape::List => "bytes32[] memory values, FheType listType",
        Shape::Membership => "bytes32 value, bytes32[] memory values, FheType listType",
        Shape::MulDiv => "bytes32 factor1, bytes32 factor2, bytes32 divisor, bytes1 scalarByte",
    }
}

/// Writes one function of `Impl`.
fn call(spec: &OperationSpec) -> String {
    let function = spec.function;
    let (name, parameters, arguments) = match spec.shape {
        Shape::Binary(_) => (
            spec.library_name,
            "bytes32 lhs, bytes32 rhs, bool scalar",
            "lhs, rhs, scalar ? bytes1(0x01) : bytes1(0x00)",
        ),
        Shape::Unary => (spec.library_name, "bytes32 value", "value"),
        Shape::Input => return verify(spec),
        Shape::Cast => ("cast", "bytes32 value, FheType toType", "value, toType"),
        Shape::Trivial => ("trivialEncrypt", "uint256 plaintext, FheType toType", "plaintext, toType"),
        Shape::Select => (
            "select",
            "bytes32 control, bytes32 ifTrue, bytes32 ifFalse",
            "control, ifTrue, ifFalse",
        ),
        Shape::Random { bounded: false } => ("rand", "FheType randType", "randType"),
        Shape::Random { bounded: true } => ("randBounded", "uint256 upperBound, FheType randType", "upperBound, randType"),
        Shape::List => ("sum", "bytes32[] memory values, FheType listType", "values, listType"),
        Shape::Membership => (
            "isIn",
            "bytes32 value, bytes32[] memory values, FheType listType",
            "value, values, listType",
        ),
        Shape::MulDiv => (
            "mulDiv",
            "bytes32 factor1, bytes32 factor2, bytes32 divisor, bool scalar",
            "factor1, factor2, divisor, scalar ? bytes1(0x03) : bytes1(0x01)",
        ),
    };
    format!(
        "    /// @dev Calls the executor's `{function}`.
    function {name}({parameters}) internal returns (bytes32) {{
        return _executor().{function}({arguments});
    }}

"
    )
}

fn verify(spec: &OperationSpec) -> String {
    let function = spec.function;
    format!(
        "    /// @dev Calls the executor's `{function}` for the caller of the contract, who may then use the handle until the
    ///      end of the transaction.
    function verify(bytes32 inputHandle, bytes memory inputProof, FheType inputType) internal returns (bytes32 result) {{
        result = _executor().{function}(inputHandle, msg.sender, inputProof, inputType);
        _acl().allowTransient(result, msg.sender);
    }}

"
    )
}
