//! `cipherloom bench decrypt`: what a decryption takes once everybody agrees that it is allowed, and what it takes to write and to read a ciphertext in
//! each of its stored forms. The other part, what a client of a whole stack waits for, is in [`super::answers`].
//!
//! There is no baseline: the centralised KMS decrypts with tfhe-rs's own function, so there is nothing to be faster than. Noise squashing, which
//! threshold decryption needs, is not part of this version's key sets, so there is nothing to measure.

use anyhow::{Result, ensure};
use cipherloom_fhe::Ciphertext;
use cipherloom_primitives::{FheType, U256};
use serde_json::{Value, json};

use super::{
    answers::Answers,
    clock::measure,
    ground::{Ground, metadata},
    options::{DecryptOptions, DecryptPart},
    scenario::sample_values,
};

/// What was measured for one type.
struct Row {
    ty: FheType,
    raw: Form,
    packed: Form,
}

/// What was measured for one form: its size, and CPU seconds of one step.
struct Form {
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
    let wanted = |part| options.part.is_none_or(|only| only == part);
    let rows = if wanted(DecryptPart::Forms) {
        measure_types(&ground, options)?
    } else {
        Vec::new()
    };
    if !rows.is_empty() && !options.common.json {
        print(&ground, options, &rows);
    }
    let answers = if wanted(DecryptPart::Answers) {
        Some(Answers::measure(&ground, options)?)
    } else {
        None
    };
    if options.common.json {
        let report = json!({
            "bench": "decrypt",
            "parameters": ground.parameters().name(),
            "insecure": !ground.parameters().is_secure(),
            "noise_squashing": ground.keys.manifest().capabilities.noise_squashing,
            "types": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "answers": answers.as_ref().map(Answers::json),
        });
        println!("{}", serde_json::to_string(&report)?);
    } else if let Some(answers) = &answers {
        answers.print();
    }
    Ok(())
}

fn measure_types(ground: &Ground, options: &DecryptOptions) -> Result<Vec<Row>> {
    let values: Vec<(FheType, U256)> = FheType::ALL
        .into_iter()
        .filter_map(|ty| Some((ty, *sample_values(ty).first()?)))
        .collect();
    let list = ground.keys.encryptor()?.encrypt(&values, &metadata())?;
    let ciphertexts = ground.backend.expand_input(&list)?;
    let measured = ciphertexts.iter().zip(values);
    measured
        .map(|(ciphertext, (_, value))| measure_type(ground, options, ciphertext, value))
        .collect()
}

fn print(ground: &Ground, options: &DecryptOptions, rows: &[Row]) {
    let parameters = ground.parameters();
    println!(
        "bench decrypt, parameters {parameters}{}; CPU ms of one value, decryption as mean of {}\n",
        if parameters.is_secure() {
            ""
        } else {
            " (INSECURE: times mean nothing)"
        },
        options.rounds
    );
    println!(
        "{:<9} {:<7} {:>10} {:>12} {:>12} {:>12}",
        "type", "form", "bytes", "write", "read", "decrypt"
    );
    rows.iter().for_each(Row::print);
    if !ground.keys.manifest().capabilities.noise_squashing {
        println!("\nThese keys have no noise squashing, which threshold decryption needs; it is not measured.");
    }
}

fn measure_type(ground: &Ground, options: &DecryptOptions, ciphertext: &Ciphertext, value: U256) -> Result<Row> {
    let (backend, ty) = (&ground.backend, ciphertext.fhe_type());
    let form = |write: &dyn Fn() -> Result<Vec<u8>>, read: &dyn Fn(&[u8]) -> Result<Ciphertext>| -> Result<Form> {
        let (write_cost, stored) = measure(write)?;
        let (read_cost, again) = measure(|| read(&stored))?;
        ensure!(again.fhe_type() == ty, "a {ty} was read as a {}", again.fhe_type());
        let decrypt = || {
            let found = ground.decrypt(ty, &stored)?;
            ensure!(found == value, "{value} came out as {found}");
            Ok(())
        };
        let (decrypt_cost, ()) = measure(|| (0..options.rounds).try_for_each(|_| decrypt()))?;
        Ok(Form {
            bytes: stored.len(),
            write: write_cost.cpu,
            read: read_cost.cpu,
            decrypt: decrypt_cost.per(f64::from(options.rounds)).cpu,
        })
    };
    Ok(Row {
        ty,
        raw: form(&|| Ok(backend.serialize(ciphertext)?), &|stored| {
            Ok(backend.deserialize(ty, stored)?)
        })?,
        packed: form(&|| Ok(backend.pack(ciphertext)?), &|stored| Ok(backend.unpack(ty, stored)?))?,
    })
}

impl Row {
    fn print(&self) {
        for (name, form) in [("raw", &self.raw), ("packed", &self.packed)] {
            println!(
                "{:<9} {name:<7} {:>10} {:>12.3} {:>12.3} {:>12.3}",
                self.ty.solidity_name(),
                form.bytes,
                form.write * 1e3,
                form.read * 1e3,
                form.decrypt * 1e3
            );
        }
    }

    fn json(&self) -> Value {
        json!({ "type": self.ty.solidity_name(), "raw": self.raw.json(), "packed": self.packed.json() })
    }
}

impl Form {
    fn json(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "write_cpu_ms": self.write * 1e3,
            "read_cpu_ms": self.read * 1e3,
            "decrypt_cpu_ms": self.decrypt * 1e3,
        })
    }
}
