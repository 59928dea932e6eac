//! Combinations and lookups give the right numbers.

use cipherloom_fhe::{Block, BlockBackend, BootstrapJob, ClearBlocks, LookupTable};

use crate::fixture::{TOY, scrambled_table};

#[test]
fn every_function_of_every_table_is_right_on_every_value() {
    let values = TOY.all_values();
    for functions in 1..=8 {
        let table = scrambled_table(functions);
        let room = 16 / functions;
        // A block's bounds must fit the table, so large bounds are cut first, by a lookup.
        let cut = LookupTable::new(&[&(0..16).map(|value| value % room as u8).collect::<Vec<_>>()]).unwrap();
        let jobs: Vec<_> = values.iter().map(|input| BootstrapJob { input, table: &cut }).collect();
        let inputs = TOY.blocks.bootstrap_batch(&jobs).unwrap().concat();
        let jobs: Vec<_> = inputs.iter().map(|input| BootstrapJob { input, table: &table }).collect();
        let results = TOY.blocks.bootstrap_batch(&jobs).unwrap();
        for (value, results) in results.iter().enumerate() {
            let expected = table.outputs((value % room) as u8).unwrap();
            assert_eq!(TOY.decrypt_blocks(results), expected, "{functions} functions of {}", value % room);
            let bounds: Vec<_> = results.iter().map(Block::bounds).collect();
            assert!(bounds.into_iter().eq(table.output_bounds()), "{functions} functions");
        }
    }
}

#[test]
fn the_noisiest_blocks_of_all_values_are_looked_up_right() {
    assert!(TOY.all_values().iter().all(|block| block.noise_level() == 5));
    assert_eq!(TOY.decrypt_blocks(&TOY.all_values()), (0..16).collect::<Vec<_>>());
}

#[test]
fn combinations_are_integer_arithmetic_on_both_backends() {
    let clear = ClearBlocks::insecure_new();
    let digits = TOY.digits();
    let mut results = Vec::new();
    let mut expected = Vec::new();
    for (a, b, c) in [(0, 0, 0), (0, 1, 2), (1, 2, 3), (3, 3, 3), (3, 0, 3), (2, 3, 0)] {
        for (coefficients, constant) in [
            ([1, 1, 1], 1),
            ([1, -1, 0], 4),
            ([-1, 2, -1], 6),
            ([-3, 0, 1], 9),
            ([-1, -1, -1], 15),
            ([0, 0, 2], 9),
        ] {
            let values = [a, b, c];
            let sum: i32 = coefficients
                .iter()
                .zip(values)
                .map(|(coefficient, value)| i32::from(*coefficient) * value as i32)
                .sum();
            let sum = u8::try_from(sum + constant).unwrap();
            let secret = [0, 1, 2].map(|which| digits[3 - values[which] + 4 * which].clone());
            let clear_secret = values.map(|value| ClearBlocks::insecure_secret(value as u8, 3).unwrap());
            let terms = |blocks: &[Block; 3]| -> Vec<_> { coefficients.into_iter().zip(blocks.clone()).collect() };
            let linear = |backend: &dyn BlockBackend, blocks: &[Block; 3]| {
                let terms = terms(blocks);
                let terms: Vec<_> = terms.iter().map(|(coefficient, block)| (*coefficient, block)).collect();
                backend.linear(&terms, constant as u8).unwrap()
            };
            assert_eq!(ClearBlocks::insecure_value(&linear(&clear, &clear_secret)), Some(sum));
            results.push(linear(&TOY.blocks, &secret));
            expected.push(sum);
        }
    }
    assert_eq!(TOY.decrypt_blocks(&results), expected);
}

#[test]
fn public_blocks_are_computed_in_the_clear_and_count_no_bootstrap() {
    let backends: [&dyn BlockBackend; 2] = [
        &ClearBlocks::insecure_new(),
        &cipherloom_fhe::CpuBlocks::with_threads(TOY.evaluation.clone(), 1),
    ];
    let table = scrambled_table(2);
    for backend in backends {
        let (five, two) = (backend.trivial(5), backend.trivial(2));
        let sum = backend.linear(&[(1, &five), (-1, &two)], 3).unwrap();
        assert_eq!(sum.public_value(), Some(6));
        assert_eq!((sum.degree(), sum.noise_level()), (6, 0));
        let results = backend
            .bootstrap_batch(&[BootstrapJob {
                input: &sum,
                table: &table,
            }])
            .unwrap();
        let public: Vec<_> = results[0].iter().map(|block| block.public_value().unwrap()).collect();
        assert_eq!(public, table.outputs(6).unwrap());
        assert_eq!(backend.bootstraps(), 0);
        assert_eq!(backend.trivial(0x35).public_value(), Some(5), "four bits of a larger value");
    }
}

#[test]
fn public_and_secret_jobs_of_one_call_keep_their_places() {
    let digits = TOY.digits();
    let public: Vec<_> = (0..4).map(|value| TOY.blocks.trivial(value)).collect();
    let table = LookupTable::new(&[&[9, 7, 5, 3]]).unwrap();
    let inputs = [&public[1], &digits[0], &public[3], &public[0], &digits[1], &digits[3], &public[2]];
    let blocks = cipherloom_fhe::CpuBlocks::with_threads(TOY.evaluation.clone(), 2);
    let jobs = inputs.map(|input| BootstrapJob { input, table: &table });
    let results = blocks.bootstrap_batch(&jobs).unwrap().concat();
    assert_eq!(blocks.bootstraps(), 3);
    assert_eq!(
        results.iter().map(Block::public_value).collect::<Vec<_>>(),
        [Some(7), None, Some(3), Some(9), None, None, Some(5)]
    );
    assert_eq!(TOY.decrypt_blocks(&results), [7, 3, 3, 9, 5, 9, 5]);
    assert!(blocks.bootstrap_batch(&[]).unwrap().is_empty());
}
