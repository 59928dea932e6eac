//! How many bootstraps operations and transfers take. The numbers are those of `docs/engine.md`.

use cipherloom_engine::{
    Engine, Graph, Profile,
    counts::{Row, WIDTHS, markdown, rows, samples},
};
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::support::Transaction;

/// Who may send how much to whom: the pattern of confidential tokens.
pub(crate) fn transfer(transaction: &mut Transaction) -> [Handle; 3] {
    let ty = FheType::Uint64;
    let (amount, from, to) = (transaction.input(ty), transaction.input(ty), transaction.input(ty));
    let enough = transaction.binary(Operation::Le, amount, from);
    let zero = transaction.public(ty, 0);
    let sent = transaction.select(enough, amount, zero);
    let left = transaction.binary(Operation::Sub, from, sent);
    let received = transaction.binary(Operation::Add, to, sent);
    [sent, left, received]
}

#[test]
fn a_token_transfer_takes_128_bootstraps() {
    let mut transaction = Transaction::default();
    let outputs = transfer(&mut transaction);
    let graph = transaction.graph(&outputs);
    let compiled = Engine::default().compile(&graph);
    assert_eq!(compiled.program.bootstraps(), 128);
    assert_eq!(compiled.program.opaque().count(), 0);
}

#[test]
fn the_table_of_the_documentation_is_the_one_the_command_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/engine.md");
    let document = std::fs::read_to_string(path).unwrap();
    let table = markdown(&rows(Profile::Throughput));
    assert!(
        document.contains(&table),
        "`cargo xtask gen` writes this into docs/engine.md:\n{table}"
    );
}

#[test]
fn nothing_takes_more_bootstraps_than_in_tfhe_rs() {
    let mut compared = 0;
    for row in rows(Profile::Throughput) {
        for (ty, count) in WIDTHS.iter().zip(row.counts) {
            let Some(count) = count else { continue };
            if let Some(tfhe_rs) = count.tfhe_rs {
                assert!(count.bootstraps <= tfhe_rs as usize, "{} on {ty}: {count:?}", row.name);
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared} operations have both numbers");
}

#[test]
fn only_random_values_are_left_to_the_backend() {
    for (name, samples) in samples() {
        for sample in samples.into_iter().flatten() {
            let graph = Graph::record(&sample.computations, sample.outputs.iter().copied(), sample.inputs.iter().copied()).unwrap();
            assert_eq!(Engine::default().compile(&graph).program.opaque().count(), 0, "{name}");
        }
    }
}

#[test]
fn the_latency_profile_is_several_times_less_deep_on_64_bits() {
    let column = WIDTHS.iter().position(|ty| *ty == FheType::Uint64).unwrap();
    let (throughput, latency) = (rows(Profile::Throughput), rows(Profile::Latency));
    for name in ["add, sub", "ge, lt, le, gt", "eq, ne", "min, max", "token transfer"] {
        let count = |rows: &[Row]| rows.iter().find(|row| row.name == name).unwrap().counts[column].unwrap();
        let (cheap, quick) = (count(&throughput), count(&latency));
        assert!(quick.depth * 3 <= cheap.depth, "{name}: {cheap:?}, {quick:?}");
        assert!(quick.bootstraps <= cheap.bootstraps * 3, "{name}: {cheap:?}, {quick:?}");
    }
}
