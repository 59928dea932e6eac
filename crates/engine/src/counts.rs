//! What operations take: bootstraps and depth by width, ours next to tfhe-rs's.
//!
//! Ours are counted on compiled programs. tfhe-rs's are those of version 1.8.2 for the calls that the CPU backend makes when it evaluates operation by
//! operation, in its pool of fixed size: how often its `apply_standard_blind_rotate` was entered, which is where its own statistics
//! (`tfhe::get_pbs_count`) count. They were taken with a debugger, because these statistics are a feature that our builds do without, and with toy
//! keys, which change no count; the example `count_tfhe_rs` repeats it.

mod entries;

use std::fmt::Write as _;

use cipherloom_primitives::{B256, Computation, FheType, Handle, TypedOperation};

use crate::{Engine, Graph, Profile};

/// The widths that the table has columns for.
pub const WIDTHS: [FheType; 6] = [
    FheType::Uint8,
    FheType::Uint16,
    FheType::Uint32,
    FheType::Uint64,
    FheType::Uint128,
    FheType::Uint256,
];

/// What an operation on one width takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Our bootstraps, results cleaned.
    pub bootstraps: usize,
    /// The longest chain of bootstraps that need each other.
    pub depth: usize,
    /// tfhe-rs's bootstraps, where they were counted.
    pub tfhe_rs: Option<u32>,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The operation.
    pub name: &'static str,
    /// What it takes for each of [`WIDTHS`] that it exists for.
    pub counts: [Option<Count>; WIDTHS.len()],
}

/// A few computations whose bootstraps are counted.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// What is computed.
    pub computations: Vec<Computation>,
    /// What comes from outside.
    pub inputs: Vec<Handle>,
    /// What leaves.
    pub outputs: Vec<Handle>,
}

impl Sample {
    fn handle(&self, ty: FheType) -> Handle {
        let number = u64::try_from(self.computations.len() + self.inputs.len()).unwrap_or(u64::MAX);
        Handle::computed(B256::from(cipherloom_primitives::U256::from(number) << 100), 1, ty)
    }

    fn input(&mut self, ty: FheType) -> Handle {
        let handle = self.handle(ty);
        self.inputs.push(handle);
        handle
    }

    fn compute(&mut self, operation: TypedOperation, inputs: &[Handle]) -> Handle {
        let result = self.handle(operation.result_type());
        self.computations.push(Computation {
            operation,
            inputs: inputs.to_vec(),
            result,
        });
        result
    }

    /// One operation on secret operands.
    fn of(operation: TypedOperation) -> Self {
        let mut sample = Self::default();
        let inputs: Vec<Handle> = operation.input_types().into_iter().map(|ty| sample.input(ty)).collect();
        let result = sample.compute(operation, &inputs);
        sample.outputs.push(result);
        sample
    }

    fn count(&self, profile: Profile, tfhe_rs: Option<u32>) -> Option<Count> {
        let graph = Graph::record(&self.computations, self.outputs.iter().copied(), self.inputs.iter().copied()).ok()?;
        let engine = Engine {
            profile,
            ..Engine::default()
        };
        let program = engine.compile(&graph).program;
        Some(Count {
            bootstraps: program.bootstraps(),
            depth: program.depth(),
            tfhe_rs,
        })
    }
}

/// Lists what each row counts: its name, and a sample for each of [`WIDTHS`] that it exists for.
pub fn samples() -> impl Iterator<Item = (&'static str, [Option<Sample>; WIDTHS.len()])> {
    entries::ENTRIES.iter().map(|entry| (entry.name, WIDTHS.map(entry.sample)))
}

/// Counts every row.
#[must_use]
pub fn rows(profile: Profile) -> Vec<Row> {
    let row = |entry: &entries::Entry| {
        let mut of_tfhe_rs = entry.tfhe_rs.iter().map(|count| (*count > 0).then_some(*count));
        Row {
            name: entry.name,
            counts: WIDTHS.map(|ty| {
                let tfhe_rs = of_tfhe_rs.next().flatten();
                (entry.sample)(ty)?.count(profile, tfhe_rs)
            }),
        }
    };
    entries::ENTRIES.iter().map(row).collect()
}

/// Returns tfhe-rs's bootstraps in a row, if they were counted.
#[must_use]
pub fn of_tfhe_rs(row: &str, ty: FheType) -> Option<u32> {
    let entry = entries::ENTRIES.iter().find(|entry| entry.name == row)?;
    let mut widths = WIDTHS.iter().zip(entry.tfhe_rs);
    widths.find_map(|(width, count)| (*width == ty && count > 0).then_some(count))
}

/// Writes the rows as two tables of Markdown.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("Bootstraps, ours / tfhe-rs's:\n\n");
    let bootstraps = |count: Count| match count.tfhe_rs {
        Some(tfhe_rs) => format!("**{}** / {tfhe_rs}", count.bootstraps),
        None => format!("**{}**", count.bootstraps),
    };
    table(&mut text, rows, bootstraps);
    text.push_str("\nDepth, the longest chain of our bootstraps:\n\n");
    table(&mut text, rows, |count| count.depth.to_string());
    text
}

fn table(text: &mut String, rows: &[Row], cell: impl Fn(Count) -> String) {
    text.push_str("| operation | 8 bit | 16 | 32 | 64 | 128 | 256 |\n|---|--:|--:|--:|--:|--:|--:|\n");
    for row in rows {
        let cells = row.counts.map(|count| count.map_or_else(|| "–".to_owned(), &cell));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} |", row.name, cells.join(" | "));
    }
}
