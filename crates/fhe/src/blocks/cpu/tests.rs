//! Combinations against tfhe-rs's own operations, on ciphertexts that hold nothing in particular.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tfhe::shortint::{self, Ciphertext};

use super::*;
use crate::insecure_test_keys;

struct Sample {
    blocks: CpuBlocks,
    key: shortint::ServerKey,
    /// Two blocks from 0 to 3, ours and as the library has them.
    ours: [Block; 2],
    theirs: [Ciphertext; 2],
}

fn sample() -> Sample {
    let keys = insecure_test_keys().unwrap().evaluation_keys().unwrap();
    let blocks = CpuBlocks::with_threads(Arc::clone(&keys), 1);
    let size = keys.stored.shape.lwe_size.0;
    let words: Vec<u64> = measure::pseudo_random().take(2 * size).collect();
    let (left, right) = words.split_at(size);
    let ours = [left, right].map(|words| Block::new(Content::Lwe(words.into()), BlockBounds::bootstrapped(3)));
    let key: &shortint::ServerKey = keys.integer.as_ref();
    Sample {
        theirs: ours.each_ref().map(|block| blocks.join_block(block).unwrap()),
        key: key.clone(),
        blocks,
        ours,
    }
}

/// Compares mask, body, degree and noise.
fn assert_same(sample: &Sample, ours: &Block, theirs: &Ciphertext) {
    assert_eq!(sample.blocks.words(ours).unwrap(), theirs.ct.as_ref());
    assert_eq!(u64::from(ours.degree()), theirs.degree.get());
    assert_eq!(u64::from(ours.noise_level()), theirs.noise_level().get());
}

#[test]
fn sums_and_products_have_the_bits_of_the_librarys() {
    let sample = sample();
    let ([a, b], [their_a, their_b]) = (&sample.ours, &sample.theirs);
    let ours = sample.blocks.linear(&[(2, a), (1, b)], 5).unwrap();
    let sum = sample.key.unchecked_add(&sample.key.unchecked_scalar_mul(their_a, 2), their_b);
    assert_same(&sample, &ours, &sample.key.unchecked_scalar_add(&sum, 5));
    let public = sample.blocks.linear(&[(3, a), (2, &sample.blocks.trivial(3))], 0).unwrap();
    let product = sample.key.unchecked_scalar_mul(their_a, 3);
    let trivial = sample.key.unchecked_create_trivial(6);
    assert_same(&sample, &public, &sample.key.unchecked_add(&product, &trivial));
}

#[test]
fn differences_have_the_bits_of_the_librarys() {
    let sample = sample();
    let ([a, b], [their_a, their_b]) = (&sample.ours, &sample.theirs);
    // The library adds the multiple of 4 above the degree too.
    let ours = sample.blocks.linear(&[(1, a), (-1, b)], 4).unwrap();
    assert_same(&sample, &ours, &sample.key.unchecked_sub(their_a, their_b));
    assert_eq!(ours.bounds().min(), 1, "and knows nothing of the smallest value");
}

#[test]
fn public_blocks_become_the_librarys() {
    let sample = sample();
    for value in 0..4 {
        let ours = sample.blocks.join_block(&sample.blocks.trivial(value)).unwrap();
        assert_eq!(ours, sample.key.create_trivial(value.into()));
        assert_eq!(
            sample.blocks.split_block(FheType::Uint8, &ours).unwrap().public_value(),
            Some(value)
        );
    }
}

/// Only what is computed here can be told which instructions to use; tfhe-rs's transforms take the widest there are.
#[test]
fn kinds_of_processors_give_the_same_bits() {
    let sample = sample();
    let keys = BootstrapKeys::of(&sample.blocks.keys).unwrap();
    let table = crate::LookupTable::tabulate(&[&|value| value % 4, &|value| value / 4]).unwrap();
    let size = keys.keyswitch.input_key_lwe_dimension().0 + 1;
    let words: Vec<u64> = measure::pseudo_random().take(9 * size).collect();
    let job = |words| SecretJob { words, table: &table };
    let jobs: Vec<_> = words.chunks_exact(size).map(job).collect();
    let expected: Vec<_> = jobs.iter().map(|job| single::bootstrap(&sample.blocks.keys, job)).collect();
    assert!(batch::bootstrap_on(pulp::Arch::Scalar, &keys, &jobs) == expected, "without vectors");
    assert!(
        batch::bootstrap_on(pulp::Arch::new(), &keys, &jobs) == expected,
        "the widest vectors"
    );
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = pulp::x86::V3::try_new() {
        assert!(batch::bootstrap_on(pulp::Arch::V3(instructions), &keys, &jobs) == expected, "AVX2");
    }
}
