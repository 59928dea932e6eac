//! `cipherloom keys verify`: every part is used, and the results are compared.
//!
//! Digests say that files are what they were; only use says that they belong together. Values are encrypted with the public key and
//! proved with the reference string, the evaluation key verifies, expands, computes, re-randomises, packs and unpacks, and the secret key,
//! if it is here, decrypts. Without it nobody can see whether the evaluation key is of the same secret, and the report says so.

use std::{
    io::IsTerminal,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use cipherloom_fhe::{FheBackend, KeySet, encryptor_from_bytes};
use cipherloom_primitives::{Address, B256, FheType, Operand, Operation, TypedOperation, U256, input::InputMetadata};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{OneKeySet, describe};
use crate::database;

/// The steps, in order, with what each shows. The names are part of the JSON.
const STEPS: [(&str, &str); 9] = [
    (
        "manifest",
        "the manifest, and that its id is of this public key and reference string",
    ),
    ("digests", "size and digest of every part that is here"),
    ("public material", "every point of the public key and the reference string"),
    ("encrypt", "encrypting values and proving knowledge of them"),
    ("evaluation key", "reading and decompressing the evaluation key"),
    ("proof", "verifying the proof, and refusing it for another contract"),
    ("compute", "expanding, computing, re-randomising, packing and unpacking"),
    ("decrypt", "decrypting all of it with the secret key"),
    (
        "squash",
        "squashing noise, and decrypting what came out if the secrets for it are here",
    ),
];

/// Runs all steps and prints what came out.
///
/// # Errors
/// If a step fails; those after it are not tried.
pub(super) fn run(options: &OneKeySet) -> Result<()> {
    let directory = options.directory()?;
    let mut report = Report::new();
    let verified = verify(&directory, &mut report);
    report.bar.finish_and_clear();
    let (problem, id) = match verified {
        Ok(id) => (None, Some(id)),
        Err(error) => (Some(format!("{error:#}")), None),
    };
    if options.json {
        let description = json!({
            "id": id,
            "directory": directory,
            "ok": problem.is_none(),
            "problem": problem,
            "steps": report.steps,
        });
        println!("{}", serde_json::to_string_pretty(&description)?);
    }
    match (problem, id) {
        (Some(problem), _) => bail!("the key set in {} is not right: {problem}", directory.display()),
        (None, Some(id)) if !options.json => println!("key set {id}: every part that is here belongs to it and works"),
        _ => {}
    }
    Ok(())
}

fn verify(directory: &Path, report: &mut Report) -> Result<String> {
    let keys = report.step(0, || super::open(directory))?;
    report.step(1, || {
        let damaged = describe::parts(&keys).into_iter().find_map(|part| part.problem);
        damaged.map_or(Ok(()), |problem| bail!(problem))
    })?;
    let encryptor = report.step(2, || Ok(encryptor_from_bytes(&keys.public_key(), &keys.crs())?))?;
    let sample = Sample::random()?;
    let list = report.step(3, || Ok(encryptor.encrypt(&sample.values(), &metadata(1))?))?;
    let parts = keys.parts();
    let is_here = |role: &str| parts.iter().any(|part| part.role == role && part.is_here);
    if !is_here("evaluation_key") {
        (4..9).for_each(|step| report.skip(step, "the evaluation key is not here: this is a public copy"));
        return Ok(keys.manifest().id.to_string());
    }
    let backend = report.step(4, || Ok(keys.evaluation()?))?;
    report.step(5, || {
        backend.verify_input(&list, &metadata(1))?;
        ensure!(
            backend.verify_input(&list, &metadata(2)).is_err(),
            "a proof made for one contract was accepted for another"
        );
        Ok(())
    })?;
    let computed = report.step(6, || compute(&backend, &list))?;
    if is_here("secret_key") {
        report.step(7, || decrypt(&keys, &sample, &computed))?;
    } else {
        report.skip(
            7,
            "the secret key is not here: only its owner can see whether the evaluation key is of the same secret",
        );
    }
    if keys.has_noise_squashing() {
        report.step(8, || squash(&keys, &sample, &backend, &computed, is_here("squashing_secret")))?;
    } else {
        report.skip(8, "the key set has no noise squashing, or the keys for it are not here");
    }
    Ok(keys.manifest().id.to_string())
}

/// Two numbers and a condition.
struct Sample {
    a: u8,
    b: u8,
    condition: bool,
}

impl Sample {
    fn random() -> Result<Self> {
        let [a, b, condition] = database::random()?;
        Ok(Self {
            a,
            b,
            condition: condition & 1 == 1,
        })
    }

    fn values(&self) -> [(FheType, U256); 3] {
        [
            (FheType::Uint8, U256::from(self.a)),
            (FheType::Uint8, U256::from(self.b)),
            (FheType::Bool, U256::from(self.condition)),
        ]
    }

    /// What [`compute`] computes.
    fn expected(&self) -> U256 {
        U256::from(if self.condition { self.a.wrapping_add(self.b) } else { self.a })
    }
}

fn metadata(contract: u8) -> InputMetadata {
    InputMetadata {
        contract: Address::repeat_byte(contract),
        user: Address::repeat_byte(0xaa),
        acl: Address::repeat_byte(0xbb),
        chain_id: 1,
    }
}

/// The result in both forms, and once more after it was unpacked.
struct Computed {
    raw: Vec<u8>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

/// Computes `condition ? a + b : a` on what the list holds.
fn compute(backend: &Arc<dyn FheBackend>, list: &[u8]) -> Result<Computed> {
    let ty = FheType::Uint8;
    let mut values = backend.expand_input(list)?;
    for (index, value) in (0u8..).zip(&mut values) {
        backend.rerandomise(value, &B256::repeat_byte(index))?;
    }
    let [a, b, condition] = values.as_slice() else {
        bail!("{} values were expanded of 3", values.len())
    };
    let add = TypedOperation::Binary {
        operation: Operation::Add,
        ty,
        rhs: Operand::Encrypted,
    };
    let sum = backend.evaluate(&add, &[a, b])?;
    let chosen = backend.evaluate(&TypedOperation::IfThenElse { ty }, &[condition, &sum, a])?;
    let (raw, packed) = (backend.serialize(&chosen)?, backend.pack(&chosen)?);
    let unpacked = backend.serialize(&backend.unpack(ty, &packed)?)?;
    Ok(Computed { raw, packed, unpacked })
}

fn decrypt(keys: &KeySet, sample: &Sample, computed: &Computed) -> Result<()> {
    let decryptor = keys.decryptor()?;
    for (form, bytes) in [
        ("raw", &computed.raw),
        ("packed", &computed.packed),
        ("unpacked", &computed.unpacked),
    ] {
        let value = decryptor.decrypt(FheType::Uint8, bytes)?;
        ensure!(
            value == sample.expected(),
            "the {form} result decrypts to a wrong value: the parts are not of one key set"
        );
    }
    Ok(())
}

/// Squashes the packed result twice, which must give the same bytes, and decrypts them with the secrets of squashed values.
fn squash(keys: &KeySet, sample: &Sample, backend: &Arc<dyn FheBackend>, computed: &Computed, has_secrets: bool) -> Result<()> {
    let squasher = keys.noise_squasher()?;
    let value = backend.unpack(FheType::Uint8, &computed.packed)?;
    let list = squasher.squash_list(&[&value])?;
    ensure!(
        list == squasher.squash_list(&[&value])?,
        "squashing the same value twice gives different bytes"
    );
    if has_secrets {
        let decrypted = keys.squashing_secrets()?.decrypt_list(keys.parameters(), FheType::Uint8, &list)?;
        ensure!(
            decrypted == sample.expected(),
            "the squashed result decrypts to a wrong value: the keys of noise squashing are not of this key set"
        );
    }
    Ok(())
}

/// What came out of each step, shown while it runs: a bar on a terminal, a line each.
struct Report {
    bar: ProgressBar,
    steps: Vec<Value>,
}

impl Report {
    fn new() -> Self {
        let bar = ProgressBar::new(STEPS.len() as u64);
        let style = ProgressStyle::with_template("  verifying  [{bar:32}] {pos}/{len}  {elapsed_precise}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        bar.set_style(style);
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, steps: Vec::new() }
    }

    fn step<T>(&mut self, index: usize, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let (name, what) = STEPS.get(index).copied().unwrap_or_default();
        self.bar.set_message(what);
        let start = Instant::now();
        let result = run();
        let seconds = start.elapsed().as_secs_f64();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.say(&format!("{outcome:<8} {seconds:>5.1} s  {what}"));
        self.steps.push(json!({ "step": name, "outcome": outcome, "seconds": seconds }));
        self.bar.inc(1);
        result
    }

    fn skip(&mut self, index: usize, reason: &str) {
        let (name, what) = STEPS.get(index).copied().unwrap_or_default();
        self.say(&format!("{:<8} {:>7}  {what} ({reason})", "skipped", ""));
        self.steps.push(json!({ "step": name, "outcome": "skipped", "reason": reason }));
        self.bar.inc(1);
    }

    /// Lines go to standard error, as progress does, so that standard output is the result alone.
    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
