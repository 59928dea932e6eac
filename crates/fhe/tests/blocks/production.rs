//! A few lookups on production parameters, where noise is real.

use cipherloom_fhe::{BlockBackend, BootstrapJob, LookupTable};

use crate::fixture::PRODUCTION;

#[test]
fn production_batches_give_the_bits_of_single_lookups_and_the_right_values() {
    let digits = PRODUCTION.digits();
    let blocks = &PRODUCTION.blocks;
    let functions: [&dyn Fn(u8) -> u8; 2] = [&|sum| sum % 4, &|sum| sum / 4];
    let adder = LookupTable::tabulate(&functions).unwrap();
    let whole = LookupTable::tabulate(&[&|value| 15 - value]).unwrap();
    // 3 + (3 − 2) + 1, and 4 · 2 + 1 with the most noise allowed.
    let difference = blocks.linear(&[(1, &digits[0]), (-1, &digits[1])], 4).unwrap();
    let noisy = blocks.linear(&[(4, &digits[1]), (1, &digits[2])], 0).unwrap();
    assert_eq!((difference.noise_level(), noisy.noise_level()), (2, 5));
    let jobs = [
        BootstrapJob {
            input: &difference,
            table: &adder,
        },
        BootstrapJob {
            input: &noisy,
            table: &whole,
        },
        BootstrapJob {
            input: &digits[3],
            table: &adder,
        },
        BootstrapJob {
            input: &digits[0],
            table: &whole,
        },
    ];
    let expected = blocks.bootstrap_one_by_one(&jobs).unwrap();
    assert!(blocks.bootstrap_on_this_thread(&jobs, 4).unwrap() == expected, "one batch");
    assert!(blocks.bootstrap_on_this_thread(&jobs, 3).unwrap() == expected, "two batches");
    assert_eq!(PRODUCTION.decrypt_blocks(&expected.concat()), [1, 1, 15 - 9, 0, 0, 12]);
}
