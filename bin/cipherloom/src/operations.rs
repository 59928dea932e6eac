//! `cipherloom operations`: the operation table for people and programs.

use anyhow::Result;
use cipherloom_engine::counts;
use cipherloom_primitives::{
    FheType, U256,
    computation::{Operand, TypedOperation},
    cost::cost_hcu,
    operation::{OperationSpec, ScalarRule, Shape, TABLE},
};
use serde_json::{Value, json};

use crate::cli::OperationsOptions;

/// Prints the table.
pub(crate) fn run(options: &OperationsOptions) -> Result<()> {
    if options.bootstraps {
        let rows = counts::rows(options.profile.into());
        match options.json {
            true => println!(
                "{}",
                serde_json::to_string_pretty(&rows.iter().map(row_to_json).collect::<Vec<_>>())?
            ),
            false => print!("{}", counts::markdown(&rows)),
        }
        return Ok(());
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&TABLE.iter().map(to_json).collect::<Vec<_>>())?);
        return Ok(());
    }
    println!(
        "{:>2}  {:<15} {:<12} {:<18} {:<44} cost for euint64 (HCU)",
        "id", "executor", "library", "second operand", "types"
    );
    for spec in &TABLE {
        let types: Vec<&str> = spec.types.iter().map(short_name).collect();
        let cost = cost_of(spec, FheType::Uint64).map_or_else(|| "–".to_owned(), |cost| cost.to_string());
        println!(
            "{:>2}  {:<15} {:<12} {:<18} {:<44} {cost}",
            spec.operation.id(),
            spec.function,
            spec.library_name,
            second_operand(spec),
            types.join(" ")
        );
    }
    println!("\nTypes are given by width; 160 is eaddress. Costs are with encrypted operands where there is a choice.");
    println!("`cipherloom operations --json` lists every cost, `cipherloom operations --bootstraps` what operations take.");
    Ok(())
}

/// A row of the table of bootstraps, by type.
fn row_to_json(row: &counts::Row) -> Value {
    let counted = counts::WIDTHS.iter().zip(row.counts).filter_map(|(ty, count)| {
        let count = count?;
        let figures = json!({ "bootstraps": count.bootstraps, "depth": count.depth, "tfheRs": count.tfhe_rs });
        Some((ty.to_string(), figures))
    });
    json!({ "operation": row.name, "types": counted.collect::<serde_json::Map<_, _>>() })
}

fn short_name(ty: FheType) -> &'static str {
    ty.solidity_name().trim_start_matches("euint").trim_start_matches('e')
}

const fn second_operand(spec: &OperationSpec) -> &'static str {
    match spec.shape {
        Shape::Binary(ScalarRule::Either) => "encrypted or clear",
        Shape::Binary(ScalarRule::NonZeroScalarOnly) => "clear, not zero",
        Shape::MulDiv => "encrypted or clear",
        _ => "–",
    }
}

/// Returns the cost with encrypted operands where the operation allows them, and with lists of one.
fn cost_of(spec: &OperationSpec, ty: FheType) -> Option<u64> {
    let typed = match spec.shape {
        Shape::Binary(ScalarRule::Either) => TypedOperation::Binary {
            operation: spec.operation,
            ty,
            rhs: Operand::Encrypted,
        },
        Shape::Binary(ScalarRule::NonZeroScalarOnly) => TypedOperation::Binary {
            operation: spec.operation,
            ty,
            rhs: Operand::Scalar(U256::ONE),
        },
        Shape::Unary if spec.function == "fheNeg" => TypedOperation::Neg { ty },
        Shape::Unary => TypedOperation::Not { ty },
        Shape::Cast => TypedOperation::Cast {
            from: ty,
            to: FheType::Uint8,
        },
        Shape::Trivial => TypedOperation::TrivialEncrypt { value: U256::ZERO, ty },
        Shape::Select => TypedOperation::IfThenElse { ty },
        Shape::Random { .. } => TypedOperation::Rand {
            ty,
            seed: [0; 16],
            random_bits: ty.bits(),
        },
        Shape::List => TypedOperation::Sum { ty, count: 1 },
        Shape::Membership => TypedOperation::IsIn { ty, count: 1 },
        Shape::MulDiv => TypedOperation::MulDiv {
            ty,
            factor: Operand::Encrypted,
            divisor: U256::ONE,
        },
        Shape::Input => return None,
    };
    spec.types.contains(ty).then(|| cost_hcu(&typed))
}

fn to_json(spec: &OperationSpec) -> Value {
    let costs: serde_json::Map<String, Value> = spec
        .types
        .iter()
        .filter_map(|ty| Some((ty.to_string(), json!(cost_of(spec, ty)?))))
        .collect();
    json!({
        "id": spec.operation.id(),
        "function": spec.function,
        "event": spec.event(),
        "library": spec.library_name,
        "secondOperand": second_operand(spec),
        "types": spec.types.iter().map(FheType::solidity_name).collect::<Vec<_>>(),
        "costHcu": costs,
    })
}

#[cfg(test)]
mod tests {
    use cipherloom_engine::Profile;

    use super::*;

    #[test]
    fn every_supported_type_is_listed_with_its_cost() {
        let table: Vec<Value> = TABLE.iter().map(to_json).collect();
        assert_eq!(table.len(), 31);
        assert_eq!(table[0]["costHcu"]["euint64"], 162_000);
        assert_eq!(table[0]["types"].as_array().unwrap().len(), 5);
        assert!(
            table[22]["costHcu"].as_object().unwrap().is_empty(),
            "admission has no cost of its own"
        );
        assert_eq!(table[26]["costHcu"]["ebool"], 19_000);
    }

    #[test]
    fn what_operations_take_is_listed_by_type() {
        let rows: Vec<Value> = counts::rows(Profile::Throughput).iter().map(row_to_json).collect();
        let add = &rows[0];
        assert_eq!(add["operation"], "add, sub");
        assert_eq!(add["types"]["euint64"], json!({ "bootstraps": 32, "depth": 32, "tfheRs": 64 }));
        assert!(add["types"]["euint256"].is_null(), "there is no such operation");
    }
}
