//! `cipherloom bench input`: what an encrypted input takes, from the client's proof to ciphertexts that can be computed with.
//!
//! The baseline are lists as most released clients make them with tfhe-rs: with the proof that is cheaper to make and dearer to check.

use anyhow::{Context, Result, ensure};
use cipherloom_primitives::{FheType, U256};
use serde_json::{Value, json};

use super::{
    clock::measure,
    ground::{Ground, metadata},
    options::{Baseline, InputOptions},
};

/// CPU seconds of the steps of one list.
#[derive(Clone, Copy, Debug)]
struct Steps {
    bytes: usize,
    prove: f64,
    verify: f64,
    /// All values.
    expand: f64,
    /// The last value alone, as it happens on first use.
    expand_one: f64,
}

/// What was measured for one length of list.
struct Row {
    values: u8,
    ours: Steps,
    released: Option<Steps>,
}

/// Measures and prints.
///
/// # Errors
/// If anything fails or a value comes out wrong.
pub(crate) fn run(options: &InputOptions) -> Result<()> {
    let ground = Ground::prepare(&options.common)?;
    let encryptor = ground.keys.encryptor()?;
    if !options.common.json {
        print_head(&ground, options);
    }
    let mut rows = Vec::new();
    for count in &options.sizes {
        let values: Vec<(FheType, U256)> = (0..*count)
            .map(|index| (FheType::Uint64, U256::from(1_000_003_u64 * u64::from(index + 1))))
            .collect();
        let mut row: Option<Row> = None;
        for _ in 0..options.rounds {
            let ours = steps(&ground, &values, || Ok(encryptor.encrypt(&values, &metadata())?))?;
            let released = match options.compared.baseline {
                Baseline::None => None,
                Baseline::TfheRs => Some(steps(&ground, &values, || {
                    Ok(ground.direct.encrypt_like_released_clients(&values, &metadata())?)
                })?),
            };
            row = Some(Row {
                values: *count,
                ours: row.as_ref().map_or(ours, |row| row.ours.or_faster(ours)),
                released: match (row.as_ref().and_then(|row| row.released), released) {
                    (Some(before), Some(now)) => Some(before.or_faster(now)),
                    (_, now) => now,
                },
            });
        }
        if let Some(row) = row {
            if !options.common.json {
                row.print();
            }
            rows.push(row);
        }
    }
    if options.common.json {
        let report = json!({
            "bench": "input",
            "parameters": ground.parameters().name(),
            "insecure": !ground.parameters().is_secure(),
            "threads": ground.threads,
            "type": FheType::Uint64.solidity_name(),
            "lists": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Makes, verifies and expands a list, and checks what is in it.
fn steps(ground: &Ground, values: &[(FheType, U256)], encrypt: impl FnOnce() -> Result<Vec<u8>>) -> Result<Steps> {
    let (prove, list) = measure(encrypt)?;
    let (verify, verified) = measure(|| Ok(ground.backend.verify_input(&list, &metadata())?))?;
    let (expand, ciphertexts) = measure(|| Ok(ground.backend.expand_input(&verified.list)?))?;
    let last = [u8::try_from(values.len().saturating_sub(1)).context("a list has at most 255 values")?];
    let (expand_one, one) = measure(|| Ok(ground.backend.expand_values(&verified.list, &last)?))?;
    ensure!(one.len() == 1, "one value was asked for, {} came out", one.len());
    ensure!(
        ciphertexts.len() == values.len(),
        "{} of {} values came out",
        ciphertexts.len(),
        values.len()
    );
    for (ciphertext, (ty, value)) in ciphertexts.iter().zip(values) {
        let found = ground.decrypt(*ty, &ground.backend.serialize(ciphertext)?)?;
        ensure!(found == *value, "{value} came out as {found}");
    }
    Ok(Steps {
        bytes: list.len(),
        prove: prove.cpu,
        verify: verify.cpu,
        expand: expand.cpu,
        expand_one: expand_one.cpu,
    })
}

fn print_head(ground: &Ground, options: &InputOptions) {
    let parameters = ground.parameters();
    println!(
        "bench input, lists of euint64, {} threads, parameters {parameters}{}; CPU ms\n",
        ground.threads,
        if parameters.is_secure() {
            ""
        } else {
            " (INSECURE: times mean nothing)"
        },
    );
    print!(
        "{:>6} {:>9} {:>10} {:>10} {:>10} {:>10}",
        "values", "bytes", "prove", "verify", "expand", "one alone"
    );
    if options.compared.baseline == Baseline::TfheRs {
        print!("   released clients: {:>10} {:>10} {:>13}", "prove", "verify", "verify ratio");
    }
    println!();
}

impl Steps {
    fn or_faster(self, other: Self) -> Self {
        Self {
            bytes: self.bytes,
            prove: self.prove.min(other.prove),
            verify: self.verify.min(other.verify),
            expand: self.expand.min(other.expand),
            expand_one: self.expand_one.min(other.expand_one),
        }
    }

    fn json(&self, values: u8) -> Value {
        json!({
            "bytes": self.bytes,
            "prove_cpu_ms": self.prove * 1000.0,
            "verify_cpu_ms": self.verify * 1000.0,
            "expand_cpu_ms": self.expand * 1000.0,
            "expand_cpu_ms_per_value": self.expand * 1000.0 / f64::from(values),
            "expand_one_cpu_ms": self.expand_one * 1000.0,
        })
    }
}

impl Row {
    fn print(&self) {
        print!(
            "{:>6} {:>9} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
            self.values,
            self.ours.bytes,
            self.ours.prove * 1000.0,
            self.ours.verify * 1000.0,
            self.ours.expand * 1000.0,
            self.ours.expand_one * 1000.0
        );
        if let Some(released) = &self.released {
            print!(
                "                     {:>10.1} {:>10.1} {:>13.2}",
                released.prove * 1000.0,
                released.verify * 1000.0,
                released.verify / self.ours.verify
            );
        }
        println!();
    }

    fn json(&self) -> Value {
        json!({
            "values": self.values,
            "ours": self.ours.json(self.values),
            "tfhe_rs": self.released.map(|released| released.json(self.values)),
            "verify_ratio": self.released.map(|released| released.verify / self.ours.verify),
        })
    }
}
