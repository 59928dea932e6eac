//! `cipherloom bench decrypt`: what a decryption takes once everybody agrees that it is allowed.
//!
//! There is no baseline: the centralised KMS decrypts with tfhe-rs's own function, so there is nothing to be faster than. Noise squashing, which
//! threshold decryption needs, is not part of this version's key sets, so there is nothing to measure.

use anyhow::{Result, ensure};
use cipherloom_fhe::Ciphertext;
use cipherloom_primitives::{FheType, U256};
use serde_json::{Value, json};

use super::{
    clock::measure,
    ground::{Ground, metadata},
    options::DecryptOptions,
    scenario::sample_values,
};

/// What was measured for one type: CPU seconds of one step.
struct Row {
    ty: FheType,
    bytes: usize,
    write: f64,
    read: f64,
    decrypt: f64,
}

/// Measures and prints.
///
/// # Errors
/// If anything fails or a value comes out wrong.
pub(crate) fn run(options: &DecryptOptions) -> Result<()> {
    let ground = Ground::prepare(&options.common)?;
    let values: Vec<(FheType, U256)> = FheType::ALL
        .into_iter()
        .filter_map(|ty| Some((ty, *sample_values(ty).first()?)))
        .collect();
    let list = ground.keys.encryptor()?.encrypt(&values, &metadata())?;
    let ciphertexts = ground.backend.expand_input(&list)?;
    let mut rows = Vec::new();
    for (ciphertext, (_, value)) in ciphertexts.iter().zip(values) {
        rows.push(measure_type(&ground, options, ciphertext, value)?);
    }
    let squashing = ground.keys.manifest().capabilities.noise_squashing;
    if options.common.json {
        let report = json!({
            "bench": "decrypt",
            "parameters": ground.parameters().name(),
            "insecure": !ground.parameters().is_secure(),
            "noise_squashing": squashing,
            "types": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    let parameters = ground.parameters();
    println!(
        "bench decrypt, parameters {parameters}{}; CPU µs of one value, mean of {}\n",
        if parameters.is_secure() {
            ""
        } else {
            " (INSECURE: times mean nothing)"
        },
        options.rounds
    );
    println!(
        "{:<9} {:>13} {:>10} {:>10} {:>10}",
        "type", "stored bytes", "write", "read", "decrypt"
    );
    rows.iter().for_each(Row::print);
    if !squashing {
        println!("\nThese keys have no noise squashing, which threshold decryption needs; it is not measured.");
    }
    Ok(())
}

fn measure_type(ground: &Ground, options: &DecryptOptions, ciphertext: &Ciphertext, value: U256) -> Result<Row> {
    let ty = ciphertext.fhe_type();
    let stored = ground.backend.serialize(ciphertext)?;
    let each = |step: &dyn Fn() -> Result<()>| -> Result<f64> {
        let (cost, ()) = measure(|| (0..options.rounds).try_for_each(|_| step()))?;
        Ok(cost.per(f64::from(options.rounds)).cpu)
    };
    Ok(Row {
        ty,
        bytes: stored.len(),
        write: each(&|| {
            ground.backend.serialize(ciphertext)?;
            Ok(())
        })?,
        read: each(&|| {
            ground.backend.deserialize(ty, &stored)?;
            Ok(())
        })?,
        decrypt: each(&|| {
            let found = ground.decrypt(ty, &stored)?;
            ensure!(found == value, "{value} came out as {found}");
            Ok(())
        })?,
    })
}

impl Row {
    fn print(&self) {
        println!(
            "{:<9} {:>13} {:>10.1} {:>10.1} {:>10.1}",
            self.ty.solidity_name(),
            self.bytes,
            self.write * 1e6,
            self.read * 1e6,
            self.decrypt * 1e6
        );
    }

    fn json(&self) -> Value {
        json!({
            "type": self.ty.solidity_name(),
            "stored_bytes": self.bytes,
            "write_cpu_us": self.write * 1e6,
            "read_cpu_us": self.read * 1e6,
            "decrypt_cpu_us": self.decrypt * 1e6,
        })
    }
}
