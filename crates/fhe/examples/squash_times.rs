//! Measures noise squashing, and lets a committee of four, of which one lies, decrypt what comes out: `cargo run --release -p cipherloom-fhe --example squash_times -- production DIRECTORY`. It uses the key set of the directory,
//! or generates one there. Times are those of the clock and of all threads' processors together, which other programs on the machine disturb less. Noise is given in bits; threshold decryption assumes that it is below 70.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::{path::Path, time::Instant};

use cipherloom_fhe::{CpuBackend, FheBackend, FheError, KeySet, NoiseSquasher, ParameterSet, SquashedValue, SquashingMaterial};
use cipherloom_primitives::{Address, FheType, Operand, Operation, TypedOperation, U256, input::InputMetadata};
use cipherloom_threshold::{
    Committee, ContextId, Contribution, EpochId, KeyId, KeyKind, Scope, SecretKeys, SquashedCiphertext, ValueShape, deal, reconstruct,
};
use getrandom::{SysRng, rand_core::UnwrapErr};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "production".to_owned());
    let parameters = match name.as_str() {
        "production" => ParameterSet::Production,
        other => ParameterSet::from_name(other).ok_or("no such parameter set")?,
    };
    let directory = arguments.next().ok_or("the directory of a key set is missing")?;
    let keys = KeySet::open_or_generate(Path::new(&directory), parameters, &())?;

    let material = time("make keys and secrets of noise squashing", || SquashingMaterial::generate(&keys))?;
    println!(
        "               squashing key {} bytes, packing key {} bytes",
        material.squashing_key.len(),
        material.packing_key.len()
    );
    let squasher = time("read and decompress them", || {
        NoiseSquasher::open(&keys, &material.squashing_key, &material.packing_key)
    })?;

    let plaintexts = [
        (FheType::Uint64, U256::from(0xdead_beef_0123_4567_u64)),
        (FheType::Bool, U256::from(1)),
    ];
    let metadata = InputMetadata {
        contract: Address::ZERO,
        user: Address::ZERO,
        acl: Address::ZERO,
        chain_id: 1,
    };
    let list = keys.encryptor()?.encrypt(&plaintexts, &metadata)?;
    let backend = CpuBackend::new(keys.evaluation_keys()?);
    let ciphertexts = backend.expand_input(&list)?;
    let scope = Scope {
        key: KeyId(*keys.manifest().id.as_bytes()),
        context: ContextId([1; 32]),
        epoch: EpochId([1; 32]),
        committee: Committee::new(1, (1..=4).map(|member| [member; 32]).collect())?,
    };
    let secrets = SecretKeys {
        squashed: material.secrets.squashed(),
        compressed: material.secrets.listed(),
    };
    let shares = deal(&scope, secrets, &mut UnwrapErr(SysRng))?.shares;

    let add = TypedOperation::Binary {
        operation: Operation::Add,
        ty: FheType::Uint64,
        rhs: Operand::Encrypted,
    };
    let number = ciphertexts.first().ok_or("nothing was expanded")?;
    let (_, addition) = measure("add two euint64, to compare with", || backend.evaluate(&add, &[number, number]))?;

    let mut squashed = Vec::new();
    for (ciphertext, (ty, _)) in ciphertexts.iter().zip(&plaintexts) {
        let (value, cpu) = measure(&format!("squash {ty}"), || squasher.squash(ciphertext))?;
        println!("                            {:.1} additions' processor time", cpu / addition);
        squashed.push((KeyKind::Squashed, material.secrets.squashed(), value));
    }
    let all: Vec<_> = ciphertexts.iter().collect();
    let packed = time("squash both and pack them", || squasher.squash_list(&all))?;
    println!("               list {} bytes", packed.len());
    for (count, what) in [(1, "one bit"), (3, "three bits together")] {
        let bits = vec![ciphertexts.last().ok_or("nothing was expanded")?; count];
        measure(&format!("squash {what} as a batch, and pack a list for each"), || {
            let mut batch = squasher.batch(&bits);
            while !batch.is_over() {
                if let Some(done) = batch.step() {
                    done.list?;
                }
            }
            Ok(())
        })?;
    }
    let types = plaintexts.map(|(ty, _)| ty);
    let unpacked = time("unpack them", || SquashedValue::from_list(parameters, &types, &packed))?;
    squashed.extend(
        unpacked
            .into_iter()
            .map(|value| (KeyKind::Compressed, material.secrets.listed(), value)),
    );

    for (index, (kind, secret, value)) in squashed.into_iter().enumerate() {
        let noise = noise_bits(secret, &value);
        let ciphertext = SquashedCiphertext::new(kind, ValueShape::new(value.bits)?, value.dimension, value.words)?;
        let shapes = [ciphertext.shape()];
        let mut contributions = Vec::new();
        for share in &shares {
            let partial = share.decrypt(&ciphertext)?;
            let mut bytes = partial.share_bytes();
            if share.party().number() == 3 {
                bytes.iter_mut().skip(8).for_each(|byte| *byte ^= 0x5a);
            }
            contributions.push(Contribution::of_shares(partial.party(), &shapes, [bytes.as_slice()].into_iter()));
        }
        let read = reconstruct(scope.committee.size(), &shapes, &contributions)?;
        let value = read.values.first().map(|value| U256::from_le_bytes(*value.little_endian()));
        let expected = plaintexts.get(index % plaintexts.len()).map(|(_, value)| *value);
        if value != expected {
            return Err("the committee decrypts something else".into());
        }
        println!(
            "               {kind:?}: decrypted rightly, wrong party {}, noise below 2^{noise}",
            read.wrong
        );
    }
    Ok(())
}

/// Says how many bits the largest noise of a squashed value has.
fn noise_bits(secret: &[u128], value: &SquashedValue) -> u32 {
    let lwes = value.words.chunks_exact(value.dimension + 1);
    let noise = lwes.filter_map(|lwe| {
        let (body, mask) = lwe.split_last()?;
        let product = mask
            .iter()
            .zip(secret)
            .fold(0u128, |sum, (number, bit)| sum.wrapping_add(number.wrapping_mul(*bit)));
        let phase = body.wrapping_sub(product);
        let rounded = phase.wrapping_add(1 << 122) >> 123 << 123;
        Some(128 - phase.wrapping_sub(rounded).cast_signed().unsigned_abs().leading_zeros())
    });
    noise.max().unwrap_or_default()
}

fn time<T>(what: &str, work: impl FnOnce() -> Result<T, FheError>) -> Result<T, FheError> {
    measure(what, work).map(|(result, _)| result)
}

/// Prints how long something takes, and returns its processor time with the result.
fn measure<T>(what: &str, work: impl FnOnce() -> Result<T, FheError>) -> Result<(T, f64), FheError> {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let result = work()?;
    let cpu = cpu_seconds() - cpu;
    println!("{:11.3} s {cpu:9.2} s CPU  {what}", start.elapsed().as_secs_f64());
    Ok((result, cpu))
}

/// Returns the processor time that this process took, in hundredths of seconds as the system counts them; 0 where it does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the program's name, which may hold anything: user and system time are the 12th and 13th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |place| fields.split_whitespace().nth(place).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / 100.0
}
