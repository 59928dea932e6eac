//! `cipherloom bench op`: what each operation takes, next to tfhe-rs.

use anyhow::{Context, Result, ensure};
use cipherloom_engine::Policy;
use cipherloom_primitives::{FheType, Handle, Operand, Operation, TypedOperation, U256};
use serde_json::{Value, json};

use super::{
    clock::{Cost, measure},
    direct::{self, VARIANTS},
    engine::InMemory,
    ground::{Ground, Samples},
    measurement::Subject,
    options::{Baseline, OpOptions},
    rate::Rates,
    scenario::{Scenario, Writer},
};

/// From this width on, [`Slow`](Pace::Slow) operations are measured only if they are asked for by name.
const SLOW_FROM_BITS: u32 = 32;

/// The most copies that are computed at a time if nobody says how many.
const MOST_COPIES: usize = 32;

/// A line of the table: an operation with its operands.
struct Line {
    name: &'static str,
    pace: Pace,
    /// Asks for the operation and returns its result; nothing if the type does not have it.
    write: fn(&mut Writer, FheType) -> Option<Handle>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Quick,
    /// Hundreds of bootstraps and more on wide types.
    Slow,
}

/// What was measured for one line and type.
struct Row {
    name: &'static str,
    ty: FheType,
    bootstraps: usize,
    depth: usize,
    /// Operations that our engine leaves to tfhe-rs, whose bootstraps are not counted.
    whole_operations: usize,
    copies: usize,
    ours: Cost,
    direct: Option<[Cost; 2]>,
}

/// Measures and prints.
///
/// # Errors
/// If anything fails or a result is wrong.
pub(crate) fn run(options: &OpOptions) -> Result<()> {
    let lines = chosen(options)?;
    let ground = Ground::prepare(&options.common)?;
    let mut types = options.types.clone();
    // Choices need a condition, and the cost of a bootstrap is measured on a number.
    types.extend([FheType::Bool, FheType::Uint64]);
    types.sort_unstable();
    types.dedup();
    let samples = ground.sample_ciphertexts(&types)?;
    let mut engine = InMemory::start(&ground, &samples, Policy::default())?;
    let (meter, mut rates) = (ground.rate_meter(&samples)?, Rates::default());
    rates.add(meter.measure()?);
    let mut rows = Vec::new();
    if !options.common.json {
        print_head(&ground, options);
    }
    for ty in &options.types {
        for line in &lines {
            if options.operations.is_empty() && line.pace == Pace::Slow && ty.bits() >= SLOW_FROM_BITS {
                continue;
            }
            if let Some(row) = measure_line(&ground, &samples, &mut engine, options, line, *ty)? {
                if !options.common.json {
                    row.print();
                }
                rows.push(row);
            }
        }
    }
    rates.add(meter.measure()?);
    let rate = rates.mean();
    if options.common.json {
        let report = json!({
            "bench": "op",
            "parameters": ground.parameters().name(),
            "insecure": !ground.parameters().is_secure(),
            "threads": ground.threads,
            "batched_bootstrap_cpu_ms": rate.batched_ms,
            "single_bootstrap_cpu_ms": rate.single_ms,
            "operations": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "\none bootstrap: {:.3} ms of CPU in batches, {:.3} ms one at a time as tfhe-rs does them; all results decrypted and right",
            rate.batched_ms, rate.single_ms
        );
    }
    Ok(())
}

fn chosen(options: &OpOptions) -> Result<Vec<&'static Line>> {
    for name in &options.operations {
        let names = || LINES.iter().map(|line| line.name).collect::<Vec<_>>().join(", ");
        ensure!(
            LINES.iter().any(|line| line.name == name),
            "there is no line {name:?}; there are: {}",
            names()
        );
    }
    let is_chosen = |line: &&Line| options.operations.is_empty() || options.operations.iter().any(|name| name == line.name);
    Ok(LINES.iter().filter(is_chosen).collect())
}

fn measure_line(
    ground: &Ground,
    samples: &Samples,
    engine: &mut InMemory<'_>,
    options: &OpOptions,
    line: &Line,
    ty: FheType,
) -> Result<Option<Row>> {
    let context = || format!("{} on {ty}", line.name);
    let Some(one) = scenario(line, ty, 1) else {
        return Ok(None);
    };
    let program = engine.compile(one.transactions.first().context("a scenario of one transaction")?)?;
    let (bootstraps, depth) = (program.bootstraps(), program.depth());
    let whole_operations = program.opaque().count();
    let copies = options.copies.map_or_else(
        || match (depth, whole_operations) {
            (1.., 0) => (ground.batch().unwrap_or(1) * ground.threads.get())
                .div_ceil((bootstraps / depth).max(1))
                .clamp(1, MOST_COPIES),
            _ => 1,
        },
        usize::from,
    );
    let mut direct = None;
    if options.compared.baseline == Baseline::TfheRs {
        let mut costs = [Cost::default(); 2];
        for (cost, variant) in costs.iter_mut().zip(VARIANTS) {
            *cost = direct::run(ground, samples, variant, &one).with_context(context)?.0;
        }
        direct = Some(costs);
    }
    let scenario = scenario(line, ty, copies).context("the operation exists")?;
    engine.prepare(&scenario)?;
    let (cost, ()) = measure(|| engine.compute(&scenario)).with_context(context)?;
    ground
        .check(&engine.results(&scenario)?, &scenario.expected()?)
        .with_context(context)?;
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let ours = cost.per(copies as f64);
    Ok(Some(Row {
        name: line.name,
        ty,
        bootstraps,
        depth,
        whole_operations,
        copies,
        ours,
        direct,
    }))
}

/// Writes transactions of one operation each.
fn scenario(line: &Line, ty: FheType, copies: usize) -> Option<Scenario> {
    let mut writer = Writer::new(0);
    for _ in 0..copies {
        let result = (line.write)(&mut writer, ty)?;
        writer.publish(&[result]);
    }
    Some(writer.finish())
}

/// Asks for an operation on two ciphertexts, if the type has it.
fn pair(writer: &mut Writer, ty: FheType, operation: Operation) -> Option<Handle> {
    if !operation.spec().types.contains(ty) {
        return None;
    }
    let (left, right) = (writer.given(ty), writer.given(ty));
    Some(writer.binary(operation, left, right))
}

/// Asks for an operation on a ciphertext and a number, if the type has it.
fn with_number(writer: &mut Writer, ty: FheType, operation: Operation, number: u64) -> Option<Handle> {
    if !operation.spec().types.contains(ty) {
        return None;
    }
    let left = writer.given(ty);
    let rhs = Operand::Scalar(ty.truncate(U256::from(number)));
    Some(writer.operation(TypedOperation::Binary { operation, ty, rhs }, &[left]))
}

/// Asks for an operation on a list, if the type has it.
fn list(writer: &mut Writer, ty: FheType, operation: Operation, typed: TypedOperation) -> Option<Handle> {
    if !operation.spec().types.contains(ty) || ty == FheType::Bool {
        return None;
    }
    let inputs: Vec<Handle> = typed.input_types().into_iter().map(|ty| writer.given(ty)).collect();
    Some(writer.operation(typed, &inputs))
}

/// The table, in its order.
const LINES: &[Line] = &[
    quick("add", |writer, ty| pair(writer, ty, Operation::Add)),
    quick("sub", |writer, ty| pair(writer, ty, Operation::Sub)),
    quick("add 123", |writer, ty| with_number(writer, ty, Operation::Add, 123)),
    quick("neg", |writer, ty| {
        let supported = Operation::Neg.spec().types.contains(ty);
        supported.then(|| {
            let value = writer.given(ty);
            writer.operation(TypedOperation::Neg { ty }, &[value])
        })
    }),
    quick("le", |writer, ty| pair(writer, ty, Operation::Le)),
    quick("le 123", |writer, ty| with_number(writer, ty, Operation::Le, 123)),
    quick("eq", |writer, ty| pair(writer, ty, Operation::Eq)),
    quick("eq 123", |writer, ty| with_number(writer, ty, Operation::Eq, 123)),
    quick("min", |writer, ty| pair(writer, ty, Operation::Min)),
    quick("select", |writer, ty| {
        let (condition, if_true, if_false) = (writer.given(FheType::Bool), writer.given(ty), writer.given(ty));
        Some(writer.select(condition, if_true, if_false))
    }),
    quick("select 0", |writer, ty| {
        let (condition, if_true) = (writer.given(FheType::Bool), writer.given(ty));
        let zero = writer.public(ty, U256::ZERO);
        Some(writer.select(condition, if_true, zero))
    }),
    quick("and", |writer, ty| pair(writer, ty, Operation::BitAnd)),
    quick("shl 3", |writer, ty| with_number(writer, ty, Operation::Shl, 3)),
    quick("mul 10", |writer, ty| with_number(writer, ty, Operation::Mul, 10)),
    quick("sum of 4", |writer, ty| {
        list(writer, ty, Operation::Sum, TypedOperation::Sum { ty, count: 4 })
    }),
    slow("sum of 16", |writer, ty| {
        list(writer, ty, Operation::Sum, TypedOperation::Sum { ty, count: 16 })
    }),
    slow("isIn of 8", |writer, ty| {
        list(writer, ty, Operation::IsIn, TypedOperation::IsIn { ty, count: 8 })
    }),
    slow("shl", |writer, ty| pair(writer, ty, Operation::Shl)),
    slow("mul", |writer, ty| pair(writer, ty, Operation::Mul)),
    slow("div 10", |writer, ty| with_number(writer, ty, Operation::Div, 10)),
    slow("rem 10", |writer, ty| with_number(writer, ty, Operation::Rem, 10)),
];

const fn quick(name: &'static str, write: fn(&mut Writer, FheType) -> Option<Handle>) -> Line {
    let pace = Pace::Quick;
    Line { name, pace, write }
}

const fn slow(name: &'static str, write: fn(&mut Writer, FheType) -> Option<Handle>) -> Line {
    let pace = Pace::Slow;
    Line { name, pace, write }
}

fn print_head(ground: &Ground, options: &OpOptions) {
    let parameters = ground.parameters();
    println!(
        "bench op, {} threads, parameters {parameters}{}; CPU ms of one operation among `copies` of it\n",
        ground.threads,
        if parameters.is_secure() {
            ""
        } else {
            " (INSECURE: only counts mean anything)"
        },
    );
    print!(
        "{:<10} {:<9} {:>10} {:>6} {:>7} {:>10}",
        "operation", "type", "bootstraps", "depth", "copies", "ours ms"
    );
    if options.compared.baseline == Baseline::TfheRs {
        print!(" {:>11} {:>11} {:>7} {:>7}", "tfhe-rs ms", "its best ms", "ratio", "to best");
    }
    println!();
}

impl Row {
    fn print(&self) {
        let bootstraps = if self.whole_operations == 0 {
            self.bootstraps.to_string()
        } else {
            "tfhe-rs".to_owned()
        };
        print!(
            "{:<10} {:<9} {bootstraps:>10} {:>6} {:>7} {:>10.2}",
            self.name,
            self.ty.solidity_name(),
            self.depth,
            self.copies,
            self.ours.cpu * 1000.0
        );
        if let Some([usual, best]) = self.direct {
            print!(
                " {:>11.2} {:>11.2} {:>7.2} {:>7.2}",
                usual.cpu * 1000.0,
                best.cpu * 1000.0,
                usual.cpu / self.ours.cpu,
                best.cpu / self.ours.cpu
            );
        }
        println!();
    }

    fn json(&self) -> Value {
        let milliseconds = |cost: Cost| cost.cpu * 1000.0;
        let [usual, best] = self.direct.map_or([None, None], |costs| costs.map(Some));
        json!({
            "operation": self.name,
            "type": self.ty.solidity_name(),
            "bootstraps": self.bootstraps,
            "depth": self.depth,
            "operations_left_to_tfhe_rs": self.whole_operations,
            "copies": self.copies,
            "ours_cpu_ms": milliseconds(self.ours),
            "tfhe_rs_cpu_ms": usual.map(milliseconds),
            "tfhe_rs_best_cpu_ms": best.map(milliseconds),
            "ratio": usual.map(|usual| usual.cpu / self.ours.cpu),
            "ratio_best": best.map(|best| best.cpu / self.ours.cpu),
        })
    }
}
