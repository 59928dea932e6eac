//! Which combinations and tables are allowed.

use cipherloom_fhe::{Block, BlockBackend, BlockBounds, BootstrapJob, ClearBlocks, FheError, LookupTable};

use crate::fixture::TOY;

/// A machinery of blocks with two blocks from 0 to 3 of nominal noise.
fn both() -> [(&'static str, Box<dyn BlockBackend>, Block, Block); 2] {
    let secret = |value| ClearBlocks::insecure_secret(value, 3).unwrap();
    let digits = TOY.digits();
    let toy = cipherloom_fhe::CpuBlocks::with_threads(TOY.evaluation.clone(), 1);
    [
        ("clear", Box::new(ClearBlocks::insecure_new()), secret(3), secret(1)),
        ("toy", Box::new(toy), digits[0].clone(), digits[2].clone()),
    ]
}

#[test]
fn a_subtraction_is_allowed_exactly_when_the_constant_makes_up_for_it() {
    for (name, blocks, a, b) in both() {
        // a + (3 − b) + 1: a subtraction's digit with its borrow.
        let bounds = blocks.linear(&[(1, &a), (-1, &b)], 4).unwrap().bounds();
        assert_eq!((bounds.min(), bounds.max(), bounds.noise_level()), (1, 7, 2), "{name}");
        assert!(blocks.linear(&[(1, &a), (-1, &b)], 3).is_ok(), "{name}");
        let refused = blocks.linear(&[(1, &a), (-1, &b)], 2);
        assert!(matches!(refused, Err(FheError::BlockRange { min: -1, max: 5 })), "{name}");
    }
}

#[test]
fn a_sum_must_fit_below_the_padding_bit() {
    for (name, blocks, a, b) in both() {
        assert_eq!(blocks.linear(&[(4, &a), (1, &b)], 0).unwrap().degree(), 15, "{name}");
        let refused = blocks.linear(&[(4, &a), (1, &b)], 1);
        assert!(matches!(refused, Err(FheError::BlockRange { min: 1, max: 16 })), "{name}");
        let refused = blocks.linear(&[(i8::MAX, &a), (i8::MAX, &a), (i8::MIN, &b)], u8::MAX);
        assert!(matches!(refused, Err(FheError::BlockRange { min: -129, max: 1017 })), "{name}");
    }
}

#[test]
fn noise_adds_up_with_the_size_of_coefficients_and_stops_at_five() {
    for (name, blocks, a, b) in both() {
        let bit = LookupTable::tabulate(&[&|value| value & 1]).unwrap();
        let results = blocks.bootstrap_batch(&[BootstrapJob { input: &a, table: &bit }]).unwrap();
        let bit = &results[0][0];
        assert_eq!((bit.degree(), bit.noise_level()), (1, 1), "{name}");
        assert_eq!(blocks.linear(&[(-2, bit), (3, bit)], 2).unwrap().noise_level(), 5, "{name}");
        let refused = blocks.linear(&[(-3, bit), (3, bit)], 3);
        assert!(matches!(refused, Err(FheError::BlockNoise { level: 6 })), "{name}");
        // Combinations of combinations carry on.
        let sum = blocks.linear(&[(1, &a), (1, &b)], 0).unwrap();
        assert_eq!(sum.noise_level(), 2, "{name}");
        let refused = blocks.linear(&[(2, &sum), (2, bit)], 0);
        assert!(matches!(refused, Err(FheError::BlockNoise { level: 6 })), "{name}");
        // Public blocks add none.
        assert_eq!(
            blocks.linear(&[(1, &sum), (9, &blocks.trivial(1))], 0).unwrap().noise_level(),
            2,
            "{name}"
        );
    }
}

#[test]
fn bounds_are_those_of_the_blocks() {
    let digit = BlockBounds::bootstrapped(3);
    let bounds = BlockBounds::linear([(1, digit), (-1, digit), (2, BlockBounds::constant(2))], 3).unwrap();
    for (name, blocks, a, b) in both() {
        let block = blocks.linear(&[(1, &a), (-1, &b), (2, &blocks.trivial(2))], 3).unwrap();
        assert_eq!(block.bounds(), bounds, "{name}");
    }
    assert_eq!((bounds.min(), bounds.max(), bounds.noise_level()), (4, 10, 2));
}

#[test]
fn a_block_that_may_exceed_the_table_is_refused_whatever_it_holds() {
    for (name, blocks, a, b) in both() {
        let functions: [&dyn Fn(u8) -> u8; 2] = [&|value| value % 4, &|value| value % 3];
        let two = LookupTable::tabulate(&functions).unwrap();
        let before = blocks.bootstraps();
        let sum = blocks.linear(&[(1, &a), (1, &b)], 1).unwrap();
        let larger = blocks.linear(&[(1, &a), (1, &b)], 2).unwrap();
        let job = |input| BootstrapJob { input, table: &two };
        assert!(blocks.bootstrap_batch(&[job(&sum)]).is_ok(), "{name}");
        let refused = blocks.bootstrap_batch(&[job(&sum), job(&larger)]);
        assert!(matches!(refused, Err(FheError::LookupInput { degree: 8, max_input: 7 })), "{name}");
        assert_eq!(
            blocks.bootstraps() - before,
            1,
            "{name}: nothing is computed before all jobs are checked"
        );
        let refused = blocks.bootstrap_batch(&[job(&blocks.trivial(8))]);
        assert!(matches!(refused, Err(FheError::LookupInput { .. })), "{name}: public");
    }
}

#[test]
fn tables_that_one_bootstrap_cannot_evaluate_are_refused() {
    let outputs = [0_u8; 17];
    let refused = |functions: &[&[u8]]| matches!(LookupTable::new(functions), Err(FheError::LookupTable(_)));
    assert!(refused(&[]), "no function");
    assert!(refused(&[&[]]), "no output");
    assert!(refused(&[&outputs]), "17 inputs");
    assert!(refused(&[&[16]]), "an output with the padding bit");
    assert!(refused(&[&outputs[..4], &outputs[..3]]), "functions of different lengths");
    for count in 1..=20 {
        let room = 16 / count;
        let allowed = |inputs| LookupTable::new(&vec![&outputs[..inputs]; count]).is_ok();
        assert_eq!(allowed(room), count <= 8, "{count} functions of {room} inputs");
        assert!(!allowed(room + 1), "{count} functions of {} inputs", room + 1);
    }
    let three = LookupTable::tabulate(&[&|value: u8| value; 3].map(|function| function as &dyn Fn(u8) -> u8)).unwrap();
    assert_eq!((three.function_count(), three.max_input()), (3, 4));
    assert_eq!(three.outputs(4).unwrap(), [4, 4, 4]);
    assert!(three.outputs(5).is_err());
    assert!(LookupTable::tabulate(&[]).is_err());
}

#[test]
fn blocks_of_another_backend_are_refused() {
    let [(_, clear, clear_block, _), (_, toy, toy_block, _)] = both();
    let table = LookupTable::tabulate(&[&|value| value]).unwrap();
    for (blocks, foreign) in [(&clear, &toy_block), (&toy, &clear_block)] {
        assert!(matches!(blocks.linear(&[(1, foreign)], 0), Err(FheError::ForeignCiphertext)));
        let job = BootstrapJob {
            input: foreign,
            table: &table,
        };
        assert!(matches!(blocks.bootstrap_batch(&[job]), Err(FheError::ForeignCiphertext)));
        let joined = blocks.join(cipherloom_primitives::FheType::Uint8, vec![foreign.clone(); 4]);
        assert!(matches!(joined, Err(FheError::ForeignCiphertext)));
    }
}

#[test]
fn debug_output_shows_no_value() {
    let block = ClearBlocks::insecure_secret(13, 15).unwrap();
    assert!(!format!("{block:?}").contains("13"));
}
