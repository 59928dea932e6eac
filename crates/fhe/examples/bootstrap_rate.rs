//! Measures what a bootstrap costs on this machine: one at a time with tfhe-rs, and in batches, in one run, on one thread.
//!
//! `bootstrap_rate DIRECTORY [ROUNDS]`: a key set's directory (`key_times` makes one) and how often everything is measured; the fastest
//! round counts. It also checks that all ways give the same bits. docs/fhe.md says what it showed, also with huge pages.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use cipherloom_fhe::{Block, BlockBackend, BootstrapJob, CpuBackend, CpuBlocks, FheBackend, FheError, KeySet, LookupTable};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};

/// Bootstraps per measurement: a multiple of every batch size.
const JOBS: usize = 64;

/// The batch sizes measured.
const BATCHES: [usize; 6] = [1, 4, 8, 16, 32, 64];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: bootstrap_rate DIRECTORY [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(2), |rounds| rounds.parse())?;
    let keys = KeySet::open(Path::new(&directory))?;
    let evaluation = keys.evaluation_keys()?;
    let blocks = CpuBlocks::new(evaluation.clone());
    let inputs = secret_blocks(&keys, &CpuBackend::new(evaluation), &blocks)?;
    // Message and carry of a block, as an adder looks them up.
    let functions: [&dyn Fn(u8) -> u8; 2] = [&|sum| sum % 4, &|sum| sum / 4];
    let table = LookupTable::tabulate(&functions)?;
    let jobs: Vec<_> = inputs.iter().map(|input| BootstrapJob { input, table: &table }).collect();

    let mut single = Duration::MAX;
    let mut batched = [Duration::MAX; BATCHES.len()];
    let mut identical = true;
    for _ in 0..rounds.max(1) {
        let (time, expected) = cpu_time(|| blocks.bootstrap_one_by_one(&jobs))?;
        single = single.min(time);
        for (best, batch) in batched.iter_mut().zip(BATCHES) {
            let (time, results) = cpu_time(|| blocks.bootstrap_on_this_thread(&jobs, batch))?;
            *best = time.min(*best);
            identical &= results == expected;
        }
    }
    println!("{:<24} {:>12} {:>8}", "bootstraps", "CPU ms each", "ratio");
    let line = |name: &str, time: Duration| {
        let ratio = single.as_secs_f64() / time.as_secs_f64();
        println!("{name:<24} {:>12.3} {ratio:>8.2}", time.as_secs_f64() * 1000.0 / JOBS as f64);
    };
    line("tfhe-rs, one at a time", single);
    for (time, batch) in batched.into_iter().zip(BATCHES) {
        line(&format!("batches of {batch}"), time);
    }
    println!("same bits in all ways: {}", if identical { "yes" } else { "NO" });
    let start = Instant::now();
    let preferred = blocks.preferred_batch();
    println!("preferred batch: {preferred}, found in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    blocks.bootstrap_batch(&jobs)?;
    println!(
        "{JOBS} on all processors: {:.3} ms each of wall time",
        start.elapsed().as_secs_f64() * 1000.0 / JOBS as f64
    );
    if identical { Ok(()) } else { Err("the ways differ".into()) }
}

/// Makes secret blocks from 0 to 7: sums of two digits and a carry, as in an addition.
fn secret_blocks(keys: &KeySet, backend: &CpuBackend, blocks: &CpuBlocks) -> Result<Vec<Block>, Box<dyn Error>> {
    let metadata = InputMetadata {
        contract: Address::ZERO,
        user: Address::ZERO,
        acl: Address::ZERO,
        chain_id: 31337,
    };
    let value = U256::from_be_bytes([0x1b; 32]);
    let list = keys.encryptor()?.encrypt(&[(FheType::Uint256, value)], &metadata)?;
    let mut digits = Vec::new();
    for ciphertext in backend.expand_input(&list)? {
        digits.extend(blocks.split(&ciphertext)?);
    }
    let sums = digits.chunks_exact(2).take(JOBS).map(|pair| match pair {
        [left, right] => blocks.linear(&[(1, left), (1, right)], 1),
        _ => Err(FheError::ForeignCiphertext),
    });
    Ok(sums.collect::<Result<Vec<_>, _>>()?)
}

/// The system counts a thread's time in steps of some milliseconds. What is shorter than many steps is timed by the clock.
const SHORT: Duration = Duration::from_millis(100);

/// Runs it and returns the time this thread computed; where the system does not say, or it was short, the time that passed.
fn cpu_time<T>(run: impl FnOnce() -> Result<T, FheError>) -> Result<(Duration, T), FheError> {
    let on_cpu = || {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        statistics.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    let (wall, before) = (Instant::now(), on_cpu());
    let result = run()?;
    let wall = wall.elapsed();
    let on_cpu = on_cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok((on_cpu.filter(|_| wall > SHORT).unwrap_or(wall), result))
}
