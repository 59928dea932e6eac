//! The host contracts' side of the operation table: operation numbers, type masks and costs.
//!
//! The table lives in `cipherloom-primitives`; the host contracts import what is generated here, so that a number
//! stands in one place only. A row of costs is one 256-bit word with nine lanes of 28 bits; the lane is the type number.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use cipherloom_primitives::{
    FheType, Operation, U256,
    cost::{BINARY, CostByLength, CostPerType, IS_IN, MUL_DIV, SIMPLE, SUM},
    operation::{CAST_TARGETS, TABLE},
};

use super::HEADER;

const LANE_BITS: usize = 28;
const LIST_BOUNDS: [u8; 4] = [10, 30, 60, u8::MAX];

/// Lists the generated files of the host contracts: path from the root of the repository, and text.
///
/// # Errors
/// If a number of the table does not fit the words that are generated.
pub(super) fn outputs() -> Result<[(&'static str, String); 3]> {
    Ok([
        ("contracts/src/generated/Operations.sol", operations()?),
        ("contracts/src/generated/OperandTypes.sol", operand_types()?),
        ("contracts/src/generated/HCUCosts.sol", hcu_costs()?),
    ])
}

/// `fheIfThenElse` becomes `FHE_IF_THEN_ELSE`.
fn constant_name(function: &str) -> String {
    let mut name = String::new();
    for letter in function.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn operations() -> Result<String> {
    let mut text = format!(
        "{HEADER}import {{Operation}} from \"../types/Operation.sol\";\n\n/// @title The numbers of the executor's operations\nlibrary Operations {{\n"
    );
    for spec in &TABLE {
        writeln!(
            text,
            "    Operation internal constant {} = Operation.wrap({});",
            constant_name(spec.function),
            spec.operation.id()
        )?;
    }
    text.push_str("}\n");
    Ok(text)
}

fn operand_types() -> Result<String> {
    let mut text = format!(
        "{HEADER}import {{FheType}} from \"../types/FheType.sol\";\n\n/// @title Which types each operation takes\n/// @notice Masks: bit n stands for type number n.\nlibrary OperandTypes {{\n"
    );
    for spec in &TABLE {
        writeln!(
            text,
            "    uint256 internal constant {} = {:#06x};",
            constant_name(spec.function),
            spec.types.mask()
        )?;
    }
    writeln!(
        text,
        "\n    /// @dev The types that a cast can produce.\n    uint256 internal constant CAST_TARGETS = {:#06x};",
        CAST_TARGETS.mask()
    )?;
    let lanes = |value: &dyn Fn(FheType) -> u64, bits: usize| pack(FheType::ALL.map(|ty| (ty, value(ty))), bits);
    let sizes = lanes(&|ty| u64::from(ty.bits()), 16)?;
    let limit = |ty| {
        Operation::IsIn
            .spec()
            .list_limit(ty)
            .and_then(|limit| u64::try_from(limit).ok())
            .unwrap_or(0)
    };
    let limits = lanes(&limit, 16)?;
    write!(
        text,
        "
    /// @dev Bits per type, 16 bits per lane, the lane is the type number.
    uint256 private constant BITS =
        {sizes:#066x};

    /// @dev The most elements of a collection per type, in the same lanes.
    uint256 private constant COLLECTION_LIMITS =
        {limits:#066x};

    /// @dev How many bits a plaintext of a supported type has.
    function bits(FheType fheType) internal pure returns (uint256) {{
        return (BITS >> (16 * uint256(FheType.unwrap(fheType)))) & 0xffff;
    }}

    /// @dev How many elements a collection of a supported type may have.
    function collectionLimit(FheType fheType) internal pure returns (uint256) {{
        return (COLLECTION_LIMITS >> (16 * uint256(FheType.unwrap(fheType)))) & 0xffff;
    }}
}}
"
    )?;
    Ok(text)
}

fn hcu_costs() -> Result<String> {
    let mut rows: Vec<(Operation, String)> = Vec::new();
    for (operation, scalar, encrypted) in &BINARY {
        rows.push((*operation, scalar_choice(scalar, encrypted)?));
    }
    for (operation, costs) in &SIMPLE {
        rows.push((*operation, format!("return {};", word(costs)?)));
    }
    rows.push((Operation::Sum, length_choice(&SUM)?));
    rows.push((Operation::IsIn, length_choice(&IS_IN)?));
    rows.push((Operation::MulDiv, scalar_choice(&MUL_DIV.0, &MUL_DIV.1)?));
    rows.sort_by_key(|(operation, _)| operation.id());

    let mut text = format!(
        "{HEADER}import {{FheType}} from \"../types/FheType.sol\";
import {{Operation}} from \"../types/Operation.sol\";

/// @title What each operation costs, in HCU
/// @notice A row has nine lanes of {LANE_BITS} bits, and the lane is the type number. Zero means that the operation does not
///         exist for the type.
library HCUCosts {{
    /// @dev The cost of an operation, or zero if it does not exist for the type.
    function cost(Operation operation, FheType fheType, bool isScalar, uint256 size) internal pure returns (uint256) {{
        uint256 lane = FheType.unwrap(fheType);
        if (lane > {last}) return 0;
        return (_row(Operation.unwrap(operation), isScalar, size) >> ({LANE_BITS} * lane)) & {mask:#x};
    }}

    /// @dev The size of the collection of an operation with this many encrypted operands; zero if it has none.
    function collectionSize(Operation operation, uint256 operandCount) internal pure returns (uint256) {{
        if (Operation.unwrap(operation) == {sum}) return operandCount;
        if (Operation.unwrap(operation) == {is_in}) return operandCount - 1;
        return 0;
    }}

    function _row(uint256 operation, bool isScalar, uint256 size) private pure returns (uint256) {{
",
        last = FheType::Uint256.id(),
        mask = (1u64 << LANE_BITS) - 1,
        sum = Operation::Sum.id(),
        is_in = Operation::IsIn.id(),
    );
    for group in rows.chunk_by(|(a, _), (b, _)| a.id() / 8 == b.id() / 8) {
        let bound = group.first().map_or(0, |(operation, _)| operation.id() / 8 * 8 + 8);
        writeln!(text, "        if (operation < {bound}) {{")?;
        for (operation, body) in group {
            let id = operation.id();
            writeln!(
                text,
                "            if (operation == {id}) {{ // {operation}\n{}            }}",
                indent(body)
            )?;
        }
        text.push_str("            return 0;\n        }\n");
    }
    text.push_str("        return 0;\n    }\n}\n");
    Ok(text)
}

fn indent(body: &str) -> String {
    body.lines().map(|line| format!("                {line}\n")).collect()
}

fn scalar_choice(scalar: &CostPerType, encrypted: &CostPerType) -> Result<String> {
    Ok(format!("if (isScalar) return {};\nreturn {};", word(scalar)?, word(encrypted)?))
}

/// One row per step of the length; a type with fewer steps repeats its last one.
fn length_choice(table: &[CostByLength]) -> Result<String> {
    let mut text = String::new();
    for bound in LIST_BOUNDS {
        let lanes = table.iter().map(|line| {
            let step = line.steps.iter().find(|(limit, _)| bound <= *limit);
            (line.ty, step.map_or(0, |(_, cost)| *cost))
        });
        let row = pack(lanes, LANE_BITS)?;
        if bound == u8::MAX {
            writeln!(text, "return {row:#066x};")?;
        } else {
            writeln!(text, "if (size <= {bound}) return {row:#066x};")?;
        }
    }
    if table
        .iter()
        .flat_map(|line| line.steps)
        .any(|(limit, _)| !LIST_BOUNDS.contains(limit))
    {
        bail!("a length bound of the cost table is missing in LIST_BOUNDS");
    }
    Ok(text)
}

fn word(costs: &CostPerType) -> Result<String> {
    let row = pack(FheType::ALL.into_iter().zip(costs.iter().copied()), LANE_BITS)?;
    Ok(format!("{row:#066x}"))
}

fn pack(values: impl IntoIterator<Item = (FheType, u64)>, lane_bits: usize) -> Result<U256> {
    let mut row = U256::ZERO;
    for (ty, value) in values {
        if value >> lane_bits != 0 {
            bail!("{value} for {ty} does not fit a lane of {lane_bits} bits");
        }
        row |= U256::from(value) << (lane_bits * usize::from(ty.id()));
    }
    Ok(row)
}
