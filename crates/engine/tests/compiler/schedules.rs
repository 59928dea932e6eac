//! Orders differ, and each is what its policy says.

use std::collections::{HashMap, HashSet};

use cipherloom_engine::{
    Engine, GroupId, Policy, Program,
    lower::lower,
    schedule::{Dependencies, ProgramId, Schedule, TaskRef},
};
use cipherloom_primitives::{FheType, Operation, TypedOperation};

use crate::{
    random_graphs::{random_outputs, random_transaction},
    support::{Random, Transaction, encrypted},
};

const BATCH: usize = 8;

fn programs(count: u64, operations: usize) -> Vec<Program> {
    let program = |seed| {
        let mut random = Random(seed);
        let transaction = random_transaction(&mut random, operations);
        let outputs = random_outputs(&mut random, &transaction);
        Engine::default().compile(&transaction.graph(&outputs)).program
    };
    (0..count).map(program).collect()
}

/// A program of this many independent operations.
fn independent(operation: &TypedOperation, count: usize) -> Program {
    let mut transaction = Transaction::default();
    let outputs: Vec<_> = (0..count)
        .map(|_| {
            let inputs: Vec<_> = operation.input_types().into_iter().map(|ty| transaction.input(ty)).collect();
            transaction.operation(operation.clone(), &inputs)
        })
        .collect();
    lower(&transaction.graph(&outputs))
}

fn equal_bits() -> TypedOperation {
    encrypted(Operation::BitXor, FheType::Uint8)
}

/// An operation without kernel.
fn random_number() -> TypedOperation {
    TypedOperation::Rand {
        ty: FheType::Uint8,
        seed: [1; 16],
        random_bits: 8,
    }
}

/// Batches in the order in which workers take them who take turns, each finished before its turn comes again; and the programs' numbers.
fn order(programs: &[Program], policy: Policy, workers: usize) -> (Vec<Vec<TaskRef>>, HashMap<ProgramId, usize>) {
    let mut schedule = Schedule::new(policy, BATCH, workers);
    let ids = programs.iter().map(|program| schedule.add(Dependencies::of(program)));
    let numbers = ids.zip(0..).collect();
    let mut batches = Vec::new();
    let mut taken = vec![Vec::new(); workers];
    loop {
        let before = batches.len();
        for (worker, taken) in taken.iter_mut().enumerate() {
            taken.drain(..).for_each(|task| schedule.done(worker, task));
            *taken = schedule.take(worker);
            batches.extend((!taken.is_empty()).then(|| taken.clone()));
        }
        if batches.len() == before {
            assert_eq!(schedule.queued(), 0);
            return (batches, numbers);
        }
    }
}

#[test]
fn every_policy_does_every_task_once_after_what_it_needs() {
    let programs = programs(4, 20);
    let all: usize = programs.iter().map(|program| program.tasks().len()).sum();
    let mut orders = HashSet::new();
    for policy in Policy::ALL {
        for workers in [1, 2, 5] {
            let (batches, numbers) = order(&programs, policy, workers);
            let mut done = HashSet::new();
            for batch in &batches {
                for task in batch {
                    let needs = &programs[numbers[&task.program]].dependencies()[task.task];
                    let program = task.program;
                    assert!(
                        needs.iter().all(|need| done.contains(&TaskRef { program, task: *need })),
                        "{policy}: {task:?}"
                    );
                }
                for task in batch {
                    assert!(done.insert(*task), "{policy} does {task:?} twice");
                }
            }
            assert_eq!(done.len(), all, "{policy} with {workers} workers");
            if workers == 1 {
                orders.insert(batches);
            }
        }
    }
    assert_eq!(orders.len(), Policy::ALL.len(), "two policies have the same order");
}

#[test]
fn batches_are_as_large_as_the_policy_says() {
    let programs = [independent(&equal_bits(), 5), independent(&equal_bits(), 7)];
    let largest = |policy| order(&programs, policy, 1).0.iter().map(Vec::len).max().unwrap();
    assert_eq!((largest(Policy::Loop), largest(Policy::FineGrain)), (1, 1));
    assert_eq!((largest(Policy::Batched), largest(Policy::MaxLocality)), (BATCH, BATCH));
    assert_eq!(largest(Policy::MaxParallelism), 4 * (5 + 7));
}

#[test]
fn what_is_ready_is_shared_among_those_who_have_nothing_to_do() {
    let program = independent(&equal_bits(), 3);
    assert_eq!((program.bootstraps(), program.depth()), (12, 1));
    for (policy, shares) in [
        (Policy::Batched, [3, 3, 3, 3]),
        (Policy::MaxLocality, [3, 3, 3, 3]),
        (Policy::MaxParallelism, [3, 3, 3, 3]),
        (Policy::FineGrain, [1, 1, 1, 1]),
        (Policy::Loop, [1, 0, 0, 0]),
    ] {
        let mut schedule = Schedule::new(policy, BATCH, 4);
        schedule.add(Dependencies::of(&program));
        let sizes = [0, 1, 2, 3].map(|worker| schedule.take(worker).len());
        assert_eq!(sizes, shares, "{policy}");
        assert_eq!(schedule.queued(), 12 - shares.iter().sum::<usize>(), "{policy}");
    }
    let mut busy = Schedule::new(Policy::Batched, BATCH, 2);
    busy.add(Dependencies::of(&independent(&equal_bits(), 6)));
    assert_eq!([busy.take(0).len(), busy.take(1).len()], [BATCH, BATCH], "a full batch each");
}

#[test]
fn a_worker_for_itself_takes_all_that_fits() {
    let mut schedule = Schedule::new(Policy::Batched, BATCH, 2);
    schedule.add(Dependencies::of(&independent(&equal_bits(), 8)));
    schedule.take(0);
    // The other one is busy, so nothing is kept for it.
    assert_eq!(schedule.take(1).len(), BATCH);
}

#[test]
fn operations_of_the_backend_leave_workers_for_bootstraps() {
    let wholes = independent(&random_number(), 4);
    assert_eq!((wholes.bootstraps(), wholes.opaque().count()), (0, 4));
    for policy in [Policy::Batched, Policy::FineGrain, Policy::MaxParallelism, Policy::MaxLocality] {
        let mut schedule = Schedule::new(policy, BATCH, 3);
        schedule.add(Dependencies::of(&wholes));
        let bootstraps = schedule.add(Dependencies::of(&independent(&equal_bits(), 1)));
        let taken: Vec<_> = (0..3).map(|worker| schedule.take(worker)).collect();
        let of_bootstraps = taken.iter().flatten().filter(|task| task.program == bootstraps).count();
        assert_eq!(
            taken.iter().flatten().count() - of_bootstraps,
            1,
            "{policy}: one waits for the backend"
        );
        assert!(of_bootstraps > 0, "{policy}");
    }
}

#[test]
fn a_program_that_came_earlier_is_not_held_up_by_new_ones() {
    let mut schedule = Schedule::new(Policy::Batched, 1, 1);
    let old = schedule.add(Dependencies::of(&products(3)));
    let mut taken = Vec::new();
    let mut finished_old = None;
    for round in 0..2000 {
        // A new program as long as the old one in every second round: more than can be done.
        if round % 2 == 0 {
            schedule.add(Dependencies::of(&products(3)));
        }
        for task in schedule.take(0) {
            taken.push(task);
            schedule.done(0, task);
        }
        if !schedule.is_open(old) {
            finished_old = Some(round);
            break;
        }
    }
    let own = taken.iter().filter(|task| task.program == old).count();
    let finished_old = finished_old.expect("the old program is finished");
    assert!(finished_old < own + 2, "{own} tasks took {finished_old} rounds");
}

#[test]
fn workers_stay_with_programs_under_max_locality() {
    let programs = [equal_bits(), equal_bits()].map(|operation| independent(&operation, 16));
    let mut schedule = Schedule::new(Policy::MaxLocality, BATCH, 2);
    let ids = programs.each_ref().map(|program| schedule.add(Dependencies::of(program)));
    for _ in 0..8 {
        let taken = [0, 1].map(|worker| schedule.take(worker));
        for (worker, (tasks, id)) in taken.into_iter().zip(&ids).enumerate() {
            assert_eq!(tasks.len(), BATCH);
            assert!(tasks.iter().all(|task| task.program == *id), "worker {worker}");
            tasks.into_iter().for_each(|task| schedule.done(worker, task));
        }
    }
    assert!(schedule.take(0).is_empty());
}

#[test]
fn a_removed_program_is_never_taken_again() {
    for policy in Policy::ALL {
        let mut schedule = Schedule::new(policy, BATCH, 2);
        let (gone, stays) = (independent(&equal_bits(), 6), independent(&equal_bits(), 2));
        let gone = schedule.add(Dependencies::of(&gone));
        let stays = schedule.add(Dependencies::of(&stays));
        let under_way = schedule.take(0);
        assert!(under_way.iter().all(|task| task.program == gone), "{policy}");
        schedule.remove(gone);
        under_way.into_iter().for_each(|task| schedule.done(0, task));
        while schedule.is_open(stays) {
            let tasks = schedule.take(0);
            assert!(!tasks.is_empty() && tasks.iter().all(|task| task.program == stays), "{policy}");
            tasks.into_iter().for_each(|task| schedule.done(0, task));
        }
        assert_eq!(schedule.queued(), 0);
    }
}

/// A program that multiplies one after the other, so many times.
fn products(length: usize) -> Program {
    let mut transaction = Transaction::default();
    let x = transaction.input(FheType::Uint8);
    let product = (0..length).fold(x, |value, _| transaction.binary(Operation::Mul, value, x));
    lower(&transaction.graph(&[product]))
}

/// Takes this many tasks, one at a time, and counts those of each group. `refill` is called before each with the programs that ended.
fn serve(
    schedule: &mut Schedule,
    tasks: usize,
    group_of: &mut HashMap<ProgramId, GroupId>,
    mut refill: impl FnMut(&mut Schedule, GroupId) -> ProgramId,
) -> HashMap<GroupId, usize> {
    let mut served = HashMap::new();
    for _ in 0..tasks {
        for task in schedule.take(0) {
            let group = group_of[&task.program];
            *served.entry(group).or_default() += 1;
            schedule.done(0, task);
            if !schedule.is_open(task.program) {
                schedule.remove(task.program);
                group_of.insert(refill(schedule, group), group);
            }
        }
    }
    served
}

#[test]
fn groups_share_the_workers_whatever_each_has_waiting() {
    let (many, one) = (GroupId(1), GroupId(2));
    let dependencies = Dependencies::of(&products(3));
    let mut schedule = Schedule::new(Policy::Batched, 1, 1);
    let mut group_of = HashMap::new();
    for _ in 0..100 {
        group_of.insert(schedule.add_to(many, dependencies.clone()), many);
    }
    serve(&mut schedule, 500, &mut group_of, |schedule, group| {
        schedule.add_to(group, dependencies.clone())
    });
    // It comes late, and has one program at a time.
    group_of.insert(schedule.add_to(one, dependencies.clone()), one);
    let served = serve(&mut schedule, 2000, &mut group_of, |schedule, group| {
        schedule.add_to(group, dependencies.clone())
    });
    assert!((900..=1100).contains(&served[&one]), "{served:?}");
}

#[test]
fn a_program_of_another_group_does_not_wait_behind_a_backlog() {
    let (many, one) = (GroupId(1), GroupId(2));
    let dependencies = Dependencies::of(&products(3));
    let mut schedule = Schedule::new(Policy::Batched, 1, 1);
    for _ in 0..100 {
        schedule.add_to(many, dependencies.clone());
    }
    let late = schedule.add_to(one, dependencies.clone());
    let own = schedule.left(late);
    let mut rounds = 0;
    while schedule.is_open(late) {
        let task = schedule.take(0)[0];
        schedule.done(0, task);
        rounds += 1;
    }
    // Its own tasks, and as many of the first program of the others.
    assert!(rounds <= 2 * own + 1, "{own} tasks took {rounds} rounds");
}
