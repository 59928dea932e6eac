//! What threshold decryption costs: `cargo run --release -p cipherloom-threshold --example cost`.
//!
//! Synthetic ciphertexts of the production shape. Times are the calling thread's CPU time, the smallest of several rounds; "end to end" is wall-clock time for one value, all parties of a committee in this
//! process on as many threads as there are processors, each party reconstructing by itself, without a network. Ratios are to what a single holder of the whole key computes, measured in the same run.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program that measures"
)]

#[expect(dead_code, reason = "tests use the rest of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, time::Instant};

use cipherloom_threshold::{
    CommitteeSize, Contribution, Expected, KeyDimensions, KeyKind, KeyShare, PartialDecryption, PartyId, SquashedCiphertext, ValueShape,
    reconstruct,
};
use rustix::time::{ClockId, clock_gettime};
use support::{Secrets, Seeded, dealing, scope, value};

const ROUNDS: usize = 15;
const TARGET_CPU_MS: f64 = 5.0;
const TARGET_END_TO_END_MS: f64 = 25.0;

fn main() {
    let seed = 1;
    println!("64-bit values, dimension 4096, seed {seed}; times in ms, best of {ROUNDS}\n");
    println!(
        "{:>8} {:>6} {:>10} {:>8} {:>10} {:>9} {:>11} {:>11} {:>9} {:>12} {:>9}",
        "(n, t)", "sets", "CPU/node", "x alone", "of which", "bytes", "read,", "read,", "x none", "end to end", "of 25 ms"
    );
    println!(
        "{:>8} {:>6} {:>10} {:>8} {:>10} {:>9} {:>11} {:>11} {:>9} {:>12} {:>9}",
        "", "", "and value", "", "digest", "/node", "none wrong", "t wrong", "wrong", "all parties", ""
    );
    for (parties, threshold) in [(4, 1), (7, 2), (13, 4)] {
        row(&Bench::new(parties, threshold, seed));
    }
    println!("\nA row meets its targets if CPU/node is below {TARGET_CPU_MS} ms and end to end below {TARGET_END_TO_END_MS} ms.");
    batch(seed);
}

/// A committee and a ciphertext.
struct Bench {
    size: CommitteeSize,
    secrets: Secrets,
    shares: Vec<KeyShare>,
    plain: [u8; 32],
    ciphertext: SquashedCiphertext,
    expected: Expected,
}

impl Bench {
    fn new(parties: u8, threshold: u8, seed: u64) -> Self {
        let mut rng = Seeded::new(seed);
        let secrets = Secrets::random(KeyDimensions::PRODUCTION, &mut rng);
        let shares = dealing(&scope(parties, threshold, 1), &secrets, &mut rng).shares;
        let plain = value(64, &mut rng);
        let ciphertext = secrets.encrypt(KeyKind::Squashed, 64, &plain, &mut rng);
        let expected = Expected {
            tag: ciphertext.tag(shares[0].scope()),
            shape: ciphertext.shape(),
        };
        Self {
            size: CommitteeSize::new(parties, threshold).unwrap(),
            secrets,
            shares,
            plain,
            ciphertext,
            expected,
        }
    }

    fn contribution(&self, party: PartyId, bytes: &[u8]) -> Contribution {
        let partial = PartialDecryption::from_bytes(self.size, bytes).unwrap();
        Contribution::of_partials(party, &[self.expected], &[partial])
    }

    fn read(&self, answers: &[Vec<u8>]) -> usize {
        let contributions: Vec<Contribution> = self
            .size
            .ids()
            .zip(answers)
            .map(|(party, bytes)| self.contribution(party, bytes))
            .collect();
        let read = reconstruct(self.size, &[self.expected.shape], &contributions).unwrap();
        assert_eq!(read.values[0].little_endian(), &self.plain);
        read.wrong.len()
    }
}

fn row(bench: &Bench) {
    let (parties, threshold) = (bench.size.parties(), bench.size.threshold());
    let words = bench.ciphertext.to_bytes();
    // What a node does: bring the ciphertext into its form and hash it, decrypt, write the answer.
    let digest = cpu_ms(|| SquashedCiphertext::from_bytes(&words).unwrap().digest());
    let decrypt = cpu_ms(|| bench.shares[0].decrypt(&bench.ciphertext).unwrap().to_bytes());
    let alone = cpu_ms(|| decrypt_alone(&words, &bench.secrets.squashed));

    let honest: Vec<Vec<u8>> = bench
        .shares
        .iter()
        .map(|share| share.decrypt(&bench.ciphertext).unwrap().to_bytes().to_vec())
        .collect();
    let mut lying = honest.clone();
    let mut rng = Seeded::new(2);
    for answer in lying.iter_mut().take(threshold.into()) {
        answer[35..].iter_mut().for_each(|byte| *byte = rng.bytes::<1>()[0]);
    }
    let right = cpu_ms(|| assert_eq!(bench.read(&honest), 0));
    let corrected = cpu_ms(|| assert_eq!(bench.read(&lying), usize::from(threshold)));
    let end_to_end = wall_ms(|| end_to_end(bench, &words));
    println!(
        "{:>8} {:>6} {:>10.2} {:>8.2} {:>10.2} {:>9} {:>11.3} {:>11.3} {:>9.1} {:>12.2} {:>8.0}%",
        format!("({parties}, {threshold})"),
        bench.size.mask_sets().len(),
        digest + decrypt,
        (digest + decrypt) / (digest + alone),
        digest,
        honest[0].len(),
        right,
        corrected,
        corrected / right,
        end_to_end,
        100.0 * end_to_end / TARGET_END_TO_END_MS,
    );
}

/// Many values in one request: what is amortised and what is not.
fn batch(seed: u64) {
    const VALUES: usize = 32;
    let bench = Bench::new(13, 4, seed);
    let mut rng = Seeded::new(3);
    let ciphertexts: Vec<SquashedCiphertext> = (0..VALUES)
        .map(|_| bench.secrets.encrypt(KeyKind::Squashed, 64, &bench.plain, &mut rng))
        .collect();
    let expected: Vec<Expected> = ciphertexts
        .iter()
        .map(|ciphertext| Expected {
            tag: ciphertext.tag(bench.shares[0].scope()),
            shape: ciphertext.shape(),
        })
        .collect();
    let shapes: Vec<ValueShape> = expected.iter().map(|expected| expected.shape).collect();
    let decrypt = cpu_ms(|| {
        ciphertexts
            .iter()
            .map(|one| bench.shares[0].decrypt(one).unwrap().to_bytes()[0])
            .max()
    });
    let contributions: Vec<Contribution> = bench
        .shares
        .iter()
        .map(|share| {
            let partials: Vec<PartialDecryption> = ciphertexts.iter().map(|one| share.decrypt(one).unwrap()).collect();
            Contribution::of_partials(share.party(), &expected, &partials)
        })
        .collect();
    let read = cpu_ms(|| reconstruct(bench.size, &shapes, &contributions).unwrap().values.len());
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = VALUES as f64;
    println!(
        "A batch of {VALUES} values at (13, 4): {:.3} ms CPU per node and value to decrypt, {:.3} ms to read.",
        decrypt / count,
        read / count
    );
}

/// What a holder of the whole key computes, for comparison.
fn decrypt_alone(words: &[u8], key: &[u128]) -> u128 {
    let (words, _) = words[7..].as_chunks::<16>();
    let phases = words.chunks_exact(key.len() + 1).map(|lwe| {
        let products = lwe.iter().zip(key).map(|(word, bit)| u128::from_le_bytes(*word).wrapping_mul(*bit));
        u128::from_le_bytes(lwe[key.len()]).wrapping_sub(products.fold(0, u128::wrapping_add))
    });
    phases.fold(0, |all, phase| all ^ phase.wrapping_add(1 << 122) >> 123)
}

/// All parties read the ciphertext and decrypt; then all of them reconstruct from what the others wrote.
fn end_to_end(bench: &Bench, words: &[u8]) {
    let answers = on_all_processors(&bench.shares, |share| {
        let ciphertext = SquashedCiphertext::from_bytes(words).unwrap();
        share.decrypt(&ciphertext).unwrap().to_bytes().to_vec()
    });
    on_all_processors(&bench.shares, |_| bench.read(&answers));
}

fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = &work;
    std::thread::scope(|threads_of| {
        let some = items.chunks(items.len().div_ceil(threads));
        let running: Vec<_> = some
            .map(|items| threads_of.spawn(move || items.iter().map(work).collect::<Vec<R>>()))
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn cpu_ms<R>(mut work: impl FnMut() -> R) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "a duration")]
        let ms = time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6;
        ms
    };
    best(|| {
        let start = now();
        black_box(work());
        now() - start
    })
}

fn wall_ms(mut work: impl FnMut()) -> f64 {
    best(|| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    })
}

fn best(mut round: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}
