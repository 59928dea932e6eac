//! Measures how long a key set takes to generate, to open and to use, how large its parts and products are, and how much memory the process holds and
//! held at most after each step (on Linux).
//!
//! `cargo run --release -p cipherloom-fhe --example key_times -- production [DIRECTORY]`: without a directory it uses a temporary
//! one, so that the key set is generated; a second run on the same directory measures a second start.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::{path::Path, time::Instant};

use cipherloom_fhe::{FheError, GenerationProgress, KeySet, ParameterSet, encryptor_from_bytes};
use cipherloom_primitives::{Address, B256, FheType, U256, input::InputMetadata};

/// Prints when each stage begins.
struct Stages(Instant);

impl GenerationProgress for Stages {
    fn stage(&self, name: &str, index: usize, total: usize, estimated_share: f32) {
        let share = estimated_share * 100.0;
        println!(
            "{:11.3} s  stage {} of {total}: {name} (about {share} % of the time)",
            self.0.elapsed().as_secs_f64(),
            index + 1
        );
    }

    fn finished(&self) {
        println!("{:11.3} s  generated", self.0.elapsed().as_secs_f64());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "production".to_owned());
    let parameters = if name == "production" {
        Some(ParameterSet::Production)
    } else {
        ParameterSet::from_name(&name)
    };
    let parameters = parameters.ok_or_else(|| format!("no parameter set {name:?}; known are {:?}", ParameterSet::ALL))?;
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().join("keys"), Into::into);
    measure(&directory, parameters)?;
    Ok(())
}

fn measure(directory: &Path, parameters: ParameterSet) -> Result<(), FheError> {
    let generation = Stages(Instant::now());
    KeySet::open_or_generate(directory, parameters, &generation)?;

    let keys = time("open", || KeySet::open(directory))?;
    let parts = &keys.manifest().parts;
    for part in [&parts.public_key, &parts.crs, &parts.evaluation_key, &parts.secret_key] {
        println!("               {} {} bytes", part.file, part.size_bytes);
    }
    let backend = time("evaluation key: read, check, decompress", || keys.evaluation())?;
    if let Some(blocks) = backend.blocks() {
        time("preferred batch of bootstraps", || Ok(blocks.preferred_batch()))?;
    }
    let encryptor = time("encryptor of the key set", || keys.encryptor())?;
    time("encryptor from bytes of unknown origin", || {
        encryptor_from_bytes(&keys.public_key(), &keys.crs())
    })?;
    let decryptor = time("decryptor: read secret key", || keys.decryptor())?;

    let metadata = InputMetadata {
        contract: Address::ZERO,
        user: Address::ZERO,
        acl: Address::ZERO,
        chain_id: 31337,
    };
    let values = [(FheType::Uint64, U256::from(0x0123_4567_89ab_cdef_u64))];
    let list = time("encrypt one euint64 with proof", || encryptor.encrypt(&values, &metadata))?;
    println!("               list {} bytes", list.len());
    time("verify it", || backend.verify_input(&list, &metadata))?;
    let expanded = time("expand it", || backend.expand_input(&list))?;
    for ciphertext in &expanded {
        let stored = time("serialize it", || backend.serialize(ciphertext))?;
        println!("               ciphertext {} bytes", stored.len());
        let ty = ciphertext.fhe_type();
        time("deserialize it", || backend.deserialize(ty, &stored))?;
        let value = time("decrypt it", || decryptor.decrypt(ty, &stored))?;
        println!("               value {value:#x}");
        let packed = time("pack it", || backend.pack(ciphertext))?;
        println!("               packed {} bytes", packed.len());
        time("unpack it", || backend.unpack(ty, &packed))?;
        time("decrypt it packed", || decryptor.decrypt(ty, &packed))?;
        let mut randomised = ciphertext.clone();
        time("re-randomise it", || backend.rerandomise(&mut randomised, &B256::repeat_byte(1)))?;
    }
    Ok(())
}

fn time<T>(what: &str, f: impl FnOnce() -> Result<T, FheError>) -> Result<T, FheError> {
    let begin = Instant::now();
    let result = f()?;
    println!("{:10.2} ms  {what}{}", begin.elapsed().as_secs_f64() * 1000.0, memory());
    Ok(result)
}

/// Says how much memory the process holds and held at most, where the system tells.
fn memory() -> String {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return String::new();
    };
    let megabytes = |field: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024 / 1_000_000)
    };
    match (megabytes("VmRSS:"), megabytes("VmHWM:")) {
        (Some(now), Some(peak)) => format!("; memory {now} MB, at most {peak} MB"),
        _ => String::new(),
    }
}
