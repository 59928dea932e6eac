//! What is told about a transaction: numbers that agree with the program, every stage, and pictures that are well formed.

use cipherloom_engine::{
    Engine, Graph,
    explain::{BootstrapTime, Estimate, MAX_DRAWN, Report, Stage, TimeSource, rounds},
    lower::lower,
    rewrite::{RuleSet, rewrite},
};
use cipherloom_primitives::{FheType, Handle, Operation, TypedOperation};

use crate::{
    support::{Random, Transaction, effort},
    table::transfer,
};

fn report_of_transfer() -> (Report, [Handle; 3]) {
    let mut transaction = Transaction::default();
    let outputs = transfer(&mut transaction);
    (Report::new(&transaction.graph(&outputs), &Engine::default()), outputs)
}

/// As the published token does it: pays only if there is enough, keeps the balance otherwise, and tells what it paid.
fn guarded_payment() -> Graph {
    let mut transaction = Transaction::default();
    let (balance, amount) = (transaction.input(FheType::Uint64), transaction.input(FheType::Uint64));
    let enough = transaction.binary(Operation::Ge, balance, amount);
    let less = transaction.binary(Operation::Sub, balance, amount);
    let left = transaction.select(enough, less, balance);
    let nothing = transaction.public(FheType::Uint64, 0);
    let paid = transaction.select(enough, amount, nothing);
    transaction.graph(&[left, paid])
}

#[test]
fn the_summary_of_a_transfer_has_its_numbers_and_operations() {
    let (report, _) = report_of_transfer();
    let estimate = Estimate::of(&report.compiled.program, 2, BootstrapTime::DOCUMENTED);
    let summary = report.summary(&estimate);
    for part in ["4 recorded", "128 with\n", "one-comparison", "select", "leaves as 0x", "documented"] {
        assert!(summary.contains(part), "{part:?} is not in\n{summary}");
    }
}

#[test]
fn every_stage_names_its_operations() {
    let (report, outputs) = report_of_transfer();
    for stage in Stage::ALL {
        let text = report.stage(stage, 2);
        let expected = match stage {
            Stage::Recorded | Stage::Pruned => "= le n",
            Stage::Rewritten => "rule one-comparison: 1 times",
            Stage::Program => "t127: bootstrap",
            Stage::Schedule => "round 1: t0 (n",
        };
        assert!(text.contains(expected), "{} lacks {expected:?}:\n{text}", stage.name());
        assert!(stage == Stage::Schedule || text.contains(&outputs[0].to_string()));
    }
}

#[test]
fn costs_of_operations_add_up_to_those_of_the_program() {
    let (report, _) = report_of_transfer();
    let costs: Vec<usize> = report.costs.iter().map(|cost| cost.bootstraps).filter(|count| *count > 0).collect();
    assert_eq!(costs, [32; 4]);
    let (load, graph) = (report.load(), &report.compiled.graph);
    assert_eq!((load.bootstraps, load.whole, load.depth), (128, 0, report.compiled.program.depth()));
    let by_operation = report.compiled.bootstraps_by_operation();
    assert_eq!(by_operation.values().copied().collect::<Vec<_>>(), [32; 4], "{by_operation:?}");
    assert!(by_operation.keys().all(|(_, ty)| *ty == FheType::Uint64), "{by_operation:?}");
    // The choice waits for the comparison, and one of the two results for the choice.
    let critical: Vec<_> = graph
        .nodes()
        .filter(|(id, _)| report.critical.contains(*id))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(critical.len(), 3, "{critical:?}");
    assert!(critical.windows(2).all(|pair| report.critical.goes(pair[0], pair[1])));
    assert!(!report.critical.goes(critical[0], critical[2]));
}

#[test]
fn a_rule_saves_what_switching_it_off_costs() {
    let graph = guarded_payment();
    let report = Report::new(&graph, &Engine::default());
    let effect = report.rules.iter().find(|effect| effect.rule == "choice-of-change").unwrap();
    let without = lower(&rewrite(&graph, &RuleSet::default().without("choice-of-change")).0).bootstraps();
    let saved = i64::try_from(without).unwrap() - i64::try_from(report.load().bootstraps).unwrap();
    assert!(saved > 0);
    assert_eq!((effect.times, effect.bootstraps_saved), (1, saved));
    assert_eq!(report.plain.bootstraps(), lower(&graph).bootstraps());
    // Compiled alone, comparison and subtraction share nothing.
    assert!(report.alone_load().bootstraps > report.plain.bootstraps());
}

#[test]
fn tfhe_rs_is_counted_operation_by_operation_and_what_is_not_known_is_said() {
    let (report, _) = report_of_transfer();
    // le, a choice with zero, sub and add on 64 bits.
    let counts: Vec<_> = report.alone.iter().map(|alone| alone.tfhe_rs).collect();
    assert_eq!(counts, [Some(47), Some(32), Some(64), Some(64)]);
    assert_eq!(report.tfhe_rs().to_string(), "207");

    let mut transaction = Transaction::default();
    let value = transaction.input(FheType::Uint64);
    let unusual = transaction.scalar(Operation::Div, value, 1_234_567);
    let sum = transaction.binary(Operation::Add, unusual, value);
    let report = Report::new(&transaction.graph(&[sum]), &Engine::default());
    assert_eq!((report.tfhe_rs().bootstraps, report.tfhe_rs().uncounted), (64, 1));
    assert_eq!(report.tfhe_rs().to_string(), "≥ 64");

    // What follows from public values costs nobody anything.
    let mut transaction = Transaction::default();
    let one = transaction.public(FheType::Uint64, 1);
    let two = transaction.binary(Operation::Add, one, one);
    let four = transaction.binary(Operation::Add, two, two);
    let report = Report::new(&transaction.graph(&[four]), &Engine::default());
    assert_eq!((report.tfhe_rs().bootstraps, report.alone_load().bootstraps), (0, 0));
}

#[test]
fn documented_times_are_those_of_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fhe.md");
    let document = std::fs::read_to_string(path).unwrap();
    let row = |name: &str| document.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
    let time = BootstrapTime::DOCUMENTED;
    for (name, seconds) in [("batches of 1", time.alone_s), ("batches of 16", time.batched_s)] {
        assert!(row(name).ends_with(&format!("| {:.1} ms |", seconds * 1000.0)), "{}", row(name));
    }
}

#[test]
fn a_rule_that_is_off_is_not_applied() {
    let engine = Engine {
        rules: RuleSet::default().without("choice-of-change"),
        ..Engine::default()
    };
    let report = Report::new(&guarded_payment(), &engine);
    assert!(report.rules.iter().all(|effect| effect.rule != "choice-of-change"));
}

#[test]
fn rounds_do_every_task_once_and_after_what_it_needs() {
    let mut random = Random(7);
    for _ in 0..effort(20) {
        let mut transaction = Transaction::default();
        let mut values: Vec<Handle> = (0..3).map(|_| transaction.input(FheType::Uint16)).collect();
        for _ in 0..12 {
            let operation = random.pick(&[Operation::Add, Operation::Sub, Operation::Mul, Operation::Min, Operation::BitXor]);
            let (left, right) = (random.pick(&values), random.pick(&values));
            values.push(transaction.binary(operation, left, right));
        }
        let program = lower(&transaction.graph(&values));
        let dependencies = program.dependencies();
        for width in [1, 2, 7, usize::MAX] {
            let rounds = rounds(&program, width);
            let mut done = vec![None; dependencies.len()];
            for (number, round) in rounds.iter().enumerate() {
                assert!(!round.is_empty() && round.len() <= width);
                for task in round {
                    assert!(
                        dependencies[*task]
                            .iter()
                            .all(|need| done[*need].is_some_and(|before| before < number))
                    );
                    assert!(done[*task].replace(number).is_none());
                }
            }
            assert!(done.iter().all(Option::is_some));
            if width == usize::MAX {
                assert_eq!(rounds.len(), program.depth());
            }
        }
    }
}

#[test]
fn more_cores_are_faster_until_the_chain_is_all_that_is_left() {
    let (report, _) = report_of_transfer();
    let program = &report.compiled.program;
    let time = BootstrapTime {
        alone_s: 0.01,
        batched_s: 0.008,
        source: TimeSource::Measured,
    };
    let wall = |cores| Estimate::of(program, cores, time).wall_s;
    assert!((wall(1) - 1.28).abs() < 1e-9);
    assert!((Estimate::of(program, 1, time).cpu_s - 1.024).abs() < 1e-9);
    assert!(wall(2) < wall(1) && wall(1000) <= wall(2));
    let depth = f64::from(u32::try_from(program.depth()).unwrap());
    assert!((wall(1000) - depth * 0.01).abs() < 1e-9);
}

#[test]
fn the_picture_of_a_transfer_is_well_formed_and_complete() {
    let (report, outputs) = report_of_transfer();
    let svg = report.svg("a <transfer> & \"more\"").unwrap();
    check_xml(&svg);
    assert!(svg.contains("a &lt;transfer&gt; &amp; &quot;more&quot;"));
    assert!(svg.contains("prefers-color-scheme:dark"));
    assert!(svg.contains("critical path"));
    let boxes = |class: &str| svg.matches(&format!("class=\"box {class}")).count();
    // Each kind once more in the legend. The zero stands in the choice's own box.
    assert_eq!(
        (
            boxes("boundary"),
            boxes("comparison"),
            boxes("choice"),
            boxes("arithmetic"),
            boxes("output")
        ),
        (4, 2, 2, 3, 4)
    );
    assert!(svg.contains(">select or 0<"));
    assert_eq!(svg.matches("class=\"tip hot\"").count(), 2);
    for output in outputs {
        assert!(svg.contains(&output.to_string()));
    }
    let dot = report.dot();
    assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'));
    assert_eq!(dot.matches(" -> ").count(), svg.matches("class=\"tip").count());
}

#[test]
fn pictures_of_random_graphs_are_well_formed() {
    let mut random = Random(11);
    for _ in 0..effort(30) {
        let mut transaction = Transaction::default();
        let mut values: Vec<Handle> = (0..4).map(|_| transaction.input(FheType::Uint32)).collect();
        for _ in 0..random.below(60) {
            let (left, right) = (random.pick(&values), random.pick(&values));
            values.push(match random.below(4) {
                0 => {
                    let condition = transaction.binary(Operation::Lt, left, right);
                    transaction.select(condition, left, right)
                }
                1 => transaction.scalar(Operation::Div, left, 10),
                2 => transaction.public(FheType::Uint32, 77),
                _ => transaction.binary(Operation::Add, left, right),
            });
        }
        let missing = transaction.handle(FheType::Uint32);
        let graph = transaction.graph(&[values[values.len() - 1], values[4.min(values.len() - 1)], missing]);
        let report = Report::new(&graph, &Engine::default());
        check_xml(&report.svg("random").unwrap());
        assert!(
            report
                .summary(&Estimate::of(&report.compiled.program, 4, BootstrapTime::DOCUMENTED))
                .contains("cannot be computed")
        );
    }
}

#[test]
fn what_nobody_could_read_is_not_drawn() {
    let mut transaction = Transaction::default();
    let (mut value, other) = (transaction.input(FheType::Uint8), transaction.input(FheType::Uint8));
    for _ in 0..=MAX_DRAWN / 2 {
        value = transaction.binary(Operation::BitXor, value, other);
        value = transaction.operation(TypedOperation::Neg { ty: FheType::Uint8 }, &[value]);
    }
    assert!(Report::new(&transaction.graph(&[value]), &Engine::default()).svg("long").is_none());
}

/// Checks that every element is closed in its turn, every attribute quoted, and nothing unescaped.
fn check_xml(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.trim_end();
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start]);
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
            assert!(
                !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric()),
                "{tag}"
            );
            check_attributes(attributes.trim());
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        rest = &rest[end + 1..];
        assert!(!open.is_empty() || rest.is_empty(), "there is one root: {rest}");
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest}");
}

fn check_attributes(mut attributes: &str) {
    while !attributes.is_empty() {
        let (name, rest) = attributes.split_once("=\"").expect("a value is quoted");
        assert!(
            name.chars().all(|character| character.is_ascii_alphabetic() || character == '-'),
            "{name}"
        );
        let (value, rest) = rest.split_once('"').expect("a quote ends");
        check_text(value);
        attributes = rest.trim_start();
    }
}

fn check_text(text: &str) {
    assert!(!text.contains('<'), "{text}");
    for entity in text.split('&').skip(1) {
        let name = entity.split(';').next().unwrap();
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{text}");
    }
}
