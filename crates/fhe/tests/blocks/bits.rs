//! Batches of any size on any number of threads give the bits of tfhe-rs's own lookups.

use cipherloom_fhe::{Block, BlockBackend, BootstrapJob, CpuBlocks, LookupTable};

use crate::fixture::{TOY, scrambled_table};

/// Jobs of all kinds: blocks of low and high noise, tables of one to four functions.
struct Jobs {
    inputs: Vec<Block>,
    tables: Vec<LookupTable>,
}

impl Jobs {
    fn new() -> Self {
        let digits = TOY.digits();
        let doubled = digits.iter().take(4).map(|digit| TOY.blocks.linear(&[(1, digit)], 0).unwrap());
        let inputs = digits.iter().take(29).cloned().chain(doubled).collect();
        Self {
            inputs,
            tables: (1..=4).map(scrambled_table).collect(),
        }
    }

    fn list(&self) -> Vec<BootstrapJob<'_>> {
        let job = |(index, input)| BootstrapJob {
            input,
            table: &self.tables[index * index % 7 % 4],
        };
        self.inputs.iter().enumerate().map(job).collect()
    }
}

#[test]
fn batches_of_every_size_give_the_bits_of_single_lookups() {
    let jobs = Jobs::new();
    let jobs = jobs.list();
    let expected = TOY.blocks.bootstrap_one_by_one(&jobs).unwrap();
    assert_eq!(jobs.len(), 33);
    for batch in 1..=33 {
        let results = TOY.blocks.bootstrap_on_this_thread(&jobs, batch).unwrap();
        assert!(results == expected, "batches of {batch}");
    }
}

#[test]
fn every_number_of_functions_gives_the_bits_of_single_lookups() {
    let digits = TOY.digits();
    // Blocks from 0 to 1 fit all tables.
    let bit = LookupTable::tabulate(&[&|value| value & 1]).unwrap();
    let jobs: Vec<_> = digits.iter().take(16).map(|input| BootstrapJob { input, table: &bit }).collect();
    let bits = TOY.blocks.bootstrap_batch(&jobs).unwrap().concat();
    let tables: Vec<_> = (1..=8).map(scrambled_table).collect();
    let jobs: Vec<_> = bits
        .iter()
        .zip(tables.iter().cycle())
        .map(|(input, table)| BootstrapJob { input, table })
        .collect();
    let expected = TOY.blocks.bootstrap_one_by_one(&jobs).unwrap();
    assert!(TOY.blocks.bootstrap_batch(&jobs).unwrap() == expected);
}

#[test]
fn combined_blocks_give_the_bits_of_single_lookups() {
    let (values, table) = (TOY.all_values(), scrambled_table(1));
    let jobs: Vec<_> = values.iter().map(|input| BootstrapJob { input, table: &table }).collect();
    assert!(TOY.blocks.bootstrap_batch(&jobs).unwrap() == TOY.blocks.bootstrap_one_by_one(&jobs).unwrap());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let jobs = Jobs::new();
    let jobs = jobs.list();
    let expected = TOY.blocks.bootstrap_one_by_one(&jobs).unwrap();
    assert!(TOY.blocks.bootstrap_here(&jobs).unwrap() == expected);
    for threads in [1, 2, 3, 8] {
        let blocks = CpuBlocks::with_threads(TOY.evaluation.clone(), threads);
        for count in 0..=jobs.len() {
            let results = blocks.bootstrap_batch(&jobs[..count]).unwrap();
            assert!(results == expected[..count], "{count} jobs on {threads} threads");
        }
        assert_eq!(blocks.bootstraps(), (0..=33).sum::<u64>());
    }
}

#[test]
fn what_else_is_computed_at_the_same_time_changes_no_bit() {
    let jobs = Jobs::new();
    let jobs = jobs.list();
    let expected = TOY.blocks.bootstrap_one_by_one(&jobs).unwrap();
    // Each job in the company of all others, turned around so that it has every place in the batch.
    let mut turned = jobs.clone();
    for turn in 0..jobs.len() {
        let results = TOY.blocks.bootstrap_batch(&turned).unwrap();
        let places = (0..jobs.len()).map(|place| &expected[(place + turn) % jobs.len()]);
        assert!(results.iter().eq(places), "turned by {turn}");
        turned.rotate_left(1);
    }
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| TOY.blocks.bootstrap_batch(&jobs).unwrap())).collect();
        for caller in callers {
            assert!(caller.join().unwrap() == expected, "four callers at a time");
        }
    });
}

#[test]
fn the_preferred_batch_is_one_that_was_tried_and_stays() {
    let blocks = CpuBlocks::with_threads(TOY.evaluation.clone(), 1);
    let preferred = blocks.preferred_batch();
    assert!([1, 4, 8, 16, 32].contains(&preferred), "{preferred}");
    assert_eq!(blocks.preferred_batch(), preferred);
    assert_eq!(blocks.bootstraps(), 0, "measuring is not counted");
}
