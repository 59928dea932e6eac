//! Orders differ, results do not.

use std::collections::{HashMap, HashSet};

use cipherloom_engine::{
    Engine, Policy, Program,
    evaluate::Job,
    schedule::{Schedule, TaskRef},
};
use cipherloom_primitives::FheType;

use crate::{
    encrypted::{clear_backend, encrypt},
    random_graphs::{random_outputs, random_transaction},
    support::Random,
};

fn programs(count: u64, operations: usize) -> Vec<(crate::support::Transaction, Program)> {
    (0..count)
        .map(|seed| {
            let mut random = Random(seed);
            let transaction = random_transaction(&mut random, operations);
            let outputs = random_outputs(&mut random, &transaction);
            let program = Engine::default().compile(&transaction.graph(&outputs)).program;
            (transaction, program)
        })
        .collect()
}

fn order(programs: &[&Program], policy: Policy) -> Vec<Vec<TaskRef>> {
    let mut schedule = Schedule::new(programs, policy, 8);
    let mut batches = Vec::new();
    loop {
        let batch = schedule.next_batch();
        if batch.is_empty() {
            return batches;
        }
        batch.iter().for_each(|task| schedule.done(*task));
        batches.push(batch);
    }
}

#[test]
fn every_policy_does_every_task_once_after_what_it_needs() {
    let programs = programs(4, 20);
    let programs: Vec<&Program> = programs.iter().map(|(_, program)| program).collect();
    let all: usize = programs.iter().map(|program| program.tasks().len()).sum();
    let mut orders = HashSet::new();
    for policy in Policy::ALL {
        let batches = order(&programs, policy);
        let mut done = HashSet::new();
        for batch in &batches {
            for task in batch {
                let needs = &programs[task.program].dependencies()[task.task];
                let program = task.program;
                assert!(
                    needs.iter().all(|need| done.contains(&TaskRef { program, task: *need })),
                    "{policy:?}: {task:?}"
                );
            }
            for task in batch {
                assert!(done.insert(*task), "{policy:?} does {task:?} twice");
            }
        }
        assert_eq!(done.len(), all, "{policy:?}");
        orders.insert(batches);
    }
    assert_eq!(orders.len(), Policy::ALL.len(), "two policies have the same order");
}

#[test]
fn batches_are_as_large_as_the_policy_says() {
    let programs = programs(4, 20);
    let programs: Vec<&Program> = programs.iter().map(|(_, program)| program).collect();
    let largest = |policy| order(&programs, policy).iter().map(Vec::len).max().unwrap();
    assert_eq!((largest(Policy::Loop), largest(Policy::FineGrain)), (1, 1));
    assert_eq!((largest(Policy::Batched), largest(Policy::MaxLocality)), (8, 8));
    assert!(largest(Policy::MaxParallelism) > 8);
}

#[test]
fn policies_and_company_do_not_change_results() {
    let backend = clear_backend();
    let backend = backend.as_ref();
    let programs = programs(6, 30);
    let mut random = Random(99);
    let inputs: Vec<HashMap<_, _>> = programs
        .iter()
        .map(|(transaction, _)| {
            let values = transaction.values(&mut random);
            values
                .into_iter()
                .map(|(handle, value)| (handle, encrypt(backend, handle.fhe_type(), value)))
                .collect()
        })
        .collect();
    let jobs: Vec<Job<'_>> = programs
        .iter()
        .zip(&inputs)
        .map(|((_, program), inputs)| Job { program, inputs })
        .collect();
    let bytes = |outputs: &cipherloom_engine::Outputs| -> Vec<_> {
        let result = |(handle, result): (&_, &Result<_, _>)| (*handle, backend.serialize(result.as_ref().unwrap()).unwrap());
        outputs.iter().map(result).collect()
    };
    let alone: Vec<_> = jobs
        .iter()
        .map(|job| bytes(&Engine::default().evaluate(backend, job.program, job.inputs).unwrap()))
        .collect();
    for policy in Policy::ALL {
        let engine = Engine {
            policy,
            ..Engine::default()
        };
        let together = engine.evaluate_all(backend, &jobs, &|| false).unwrap().unwrap();
        assert_eq!(together.iter().map(bytes).collect::<Vec<_>>(), alone, "{policy:?}");
    }
    assert!(Engine::default().evaluate_all(backend, &jobs, &|| true).unwrap().is_none());
    assert!(alone.iter().flatten().any(|(handle, _)| handle.fhe_type() == FheType::Uint8));
}
