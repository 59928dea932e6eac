//! The bytes of results, on record: `spec/vectors/engine.json`.
//!
//! Two coprocessors must agree on every byte, so results must not depend on threads, policy, company or process, and must not change without
//! notice. The record has a digest of the results of every operation and of some transactions, under a toy key set made from a fixed seed.
//! `CIPHERLOOM_RECORD_VECTORS=1 cargo test --release -p cipherloom-engine --test compiler vectors` writes it anew, but only for another
//! [`ENGINE_VERSION`] than the one on record.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
};

use cipherloom_engine::{ENGINE_VERSION, Engine, EnginePool, Policy, PoolOptions, Profile, Program};
use cipherloom_fhe::{Ciphertext, FheBackend, KeySet, ParameterSet};
use cipherloom_primitives::{
    FheType, Handle, Operand, Operation, TypedOperation, U256,
    operation::{ScalarRule, Shape, TABLE},
};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

use crate::{
    support::{Transaction, encrypted, with_scalar},
    table::transfer,
};

/// The seed of the key set.
const SEED: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;

/// What is on record.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    /// What the numbers are.
    about: String,
    /// The engine they are of.
    engine_version: u32,
    /// The key set's parameters.
    parameters: String,
    /// What its secrets are generated from, in hexadecimal.
    seed: String,
    /// The SHA3-256 of each case's results in raw form, one after the other, in hexadecimal.
    results: BTreeMap<String, String>,
}

/// A program to be evaluated, with its name and inputs.
type Work = (String, Arc<Program>, HashMap<Handle, Ciphertext>);

/// A transaction whose results are on record.
struct Case {
    name: String,
    transaction: Transaction,
    outputs: Vec<Handle>,
}

impl Case {
    fn new(name: impl Into<String>, build: impl FnOnce(&mut Transaction) -> Vec<Handle>) -> Self {
        let mut transaction = Transaction::default();
        let outputs = build(&mut transaction);
        Self {
            name: name.into(),
            transaction,
            outputs,
        }
    }

    /// One operation on inputs of its types.
    fn operation(name: String, operation: TypedOperation) -> Self {
        Self::new(name, |transaction| {
            let inputs: Vec<_> = operation.input_types().into_iter().map(|ty| transaction.input(ty)).collect();
            vec![transaction.operation(operation, &inputs)]
        })
    }

    fn program(&self, profile: Profile) -> Program {
        let graph = self.transaction.graph(&self.outputs);
        let engine = Engine {
            profile,
            ..Engine::default()
        };
        engine.compile(&graph).program
    }

    /// The case in both profiles, or in one if they make the same of it.
    fn work(self, backend: &dyn FheBackend) -> Vec<Work> {
        let inputs = self.inputs(backend);
        let (program, latency) = (self.program(Profile::Throughput), self.program(Profile::Latency));
        let mut work = Vec::new();
        if (latency.bootstraps(), latency.depth()) != (program.bootstraps(), program.depth()) {
            work.push((format!("{} (latency)", self.name), Arc::new(latency), inputs.clone()));
        }
        work.push((self.name, Arc::new(program), inputs));
        work
    }

    /// Secrets that depend on the key set alone: the backend's pseudo-random function of the input's number.
    fn inputs(&self, backend: &dyn FheBackend) -> HashMap<Handle, Ciphertext> {
        let value = |(number, handle): (usize, &Handle)| {
            let seed = (number as u128 + 1).to_be_bytes();
            (*handle, random_value(backend, handle.fhe_type(), seed))
        };
        self.transaction.inputs.iter().enumerate().map(value).collect()
    }
}

/// There are no random addresses: theirs is the lower part of a random number.
fn random_value(backend: &dyn FheBackend, ty: FheType, seed: [u8; 16]) -> Ciphertext {
    let number = if ty == FheType::Address { FheType::Uint256 } else { ty };
    let random_bits = number.bits();
    let random = TypedOperation::Rand {
        ty: number,
        seed,
        random_bits,
    };
    let random = backend.evaluate(&random, &[]).unwrap();
    if number == ty {
        return random;
    }
    let blocks = backend.blocks().unwrap();
    let mut digits = blocks.split(&random).unwrap();
    digits.truncate((ty.bits() / blocks.message_bits()) as usize);
    blocks.join(ty, digits).unwrap()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for ty in [FheType::Bool, FheType::Uint8, FheType::Uint64, FheType::Address] {
        for spec in TABLE.iter().filter(|spec| spec.types.contains(ty)) {
            for (kind, operation) in variants(spec.operation, ty) {
                cases.push(Case::operation(
                    format!("{} {} {kind}", spec.function, ty.solidity_name()).trim_end().to_owned(),
                    operation,
                ));
            }
        }
    }
    cases.push(Case::new("token transfer", |transaction| transfer(transaction).to_vec()));
    cases.push(Case::new("two token transfers, one after the other", |transaction| {
        let [_, left, received] = transfer(transaction);
        let back = transaction.binary(Operation::Min, left, received);
        let enough = transaction.binary(Operation::Ge, received, back);
        let zero = transaction.public(FheType::Uint64, 0);
        let sent = transaction.select(enough, back, zero);
        vec![
            transaction.binary(Operation::Sub, received, sent),
            transaction.binary(Operation::Add, left, sent),
        ]
    }));
    cases.push(Case::new("bid in an auction", |transaction| {
        let (bid, highest) = (transaction.input(FheType::Uint64), transaction.input(FheType::Uint64));
        let (bidder, winner) = (transaction.input(FheType::Address), transaction.input(FheType::Address));
        let is_higher = transaction.binary(Operation::Gt, bid, highest);
        let outputs = [(bid, highest), (bidder, winner)];
        let mut outputs: Vec<_> = outputs.map(|(new, old)| transaction.select(is_higher, new, old)).into();
        outputs.push(is_higher);
        outputs
    }));
    cases
}

/// The operation's forms that take secrets.
fn variants(operation: Operation, ty: FheType) -> Vec<(&'static str, TypedOperation)> {
    let number = ty.truncate(U256::from(0x0123_4567_89ab_cd0d_u64));
    match operation.spec().shape {
        Shape::Binary(rule) => {
            let secret = (rule == ScalarRule::Either).then(|| ("secret", encrypted(operation, ty)));
            secret.into_iter().chain([("scalar", with_scalar(operation, ty, number))]).collect()
        }
        Shape::Unary if operation == Operation::Neg => vec![("", TypedOperation::Neg { ty })],
        Shape::Unary => vec![("", TypedOperation::Not { ty })],
        Shape::Select => vec![("", TypedOperation::IfThenElse { ty })],
        Shape::Cast => {
            let to = if ty == FheType::Uint64 { FheType::Uint8 } else { FheType::Uint64 };
            vec![("", TypedOperation::Cast { from: ty, to })]
        }
        Shape::Random { bounded } => {
            let random_bits = if bounded { ty.bits() / 2 } else { ty.bits() };
            let seed = [9; 16];
            vec![("", TypedOperation::Rand { ty, seed, random_bits })]
        }
        Shape::List => vec![("of 5", TypedOperation::Sum { ty, count: 5 })],
        Shape::Membership => vec![("of 5", TypedOperation::IsIn { ty, count: 5 })],
        Shape::MulDiv => {
            let form = |factor| TypedOperation::MulDiv {
                ty,
                factor,
                divisor: U256::from(10),
            };
            vec![("secret", form(Operand::Encrypted)), ("scalar", form(Operand::Scalar(number)))]
        }
        Shape::Input => Vec::new(),
        Shape::Trivial => vec![("", TypedOperation::TrivialEncrypt { value: number, ty })],
    }
}

/// Evaluates all cases together and returns a digest of each one's results.
fn digests(backend: &Arc<dyn FheBackend>, work: &[Work], policy: Policy, threads: usize) -> BTreeMap<String, String> {
    let options = PoolOptions {
        engine: Engine {
            policy,
            ..Engine::default()
        },
        threads: NonZeroUsize::new(threads),
        // Other batches with other threads.
        batch: NonZeroUsize::new(3 * threads),
        ..PoolOptions::default()
    };
    let pool = EnginePool::start(Arc::clone(backend), options).unwrap();
    let submitted: Vec<_> = work
        .iter()
        .map(|(name, program, inputs)| (name.clone(), pool.submit(Arc::clone(program), inputs.clone())))
        .collect();
    let digest = |(name, evaluation): (String, cipherloom_engine::Evaluation)| {
        let mut hasher = Sha3_256::new();
        for output in evaluation.wait().unwrap().outputs.values() {
            hasher.update(backend.serialize(output.as_ref().unwrap()).unwrap());
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (name, digest)
    };
    submitted.into_iter().map(digest).collect()
}

fn path() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/engine.json").into()
}

fn record(results: BTreeMap<String, String>) -> Record {
    Record {
        about:
            "SHA3-256 of the results of the engine, in raw form, under a toy key set without any security. Inputs are the key set's random \
                values of their numbers, from 1. See crates/engine/tests/compiler/vectors.rs."
                .to_owned(),
        engine_version: ENGINE_VERSION,
        parameters: ParameterSet::InsecureToy.name().to_owned(),
        seed: format!("{SEED:032x}"),
        results,
    }
}

#[test]
fn results_are_those_on_record_for_all_policies_and_numbers_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeySet::insecure_generate_from_seed(&directory.path().join("keys"), ParameterSet::InsecureToy, SEED).unwrap();
    let backend = keys.evaluation().unwrap();
    let work: Vec<_> = cases().into_iter().flat_map(|case| case.work(backend.as_ref())).collect();
    let found = digests(&backend, &work, Policy::Batched, 2);
    assert_eq!(found.len(), work.len(), "cases have names of their own");
    for policy in Policy::ALL {
        for threads in [1, 2, 3, 8] {
            assert!(digests(&backend, &work, policy, threads) == found, "{policy} on {threads} threads");
        }
    }
    check(&record(found));
}

/// Compares with the record, or writes it if that was asked for.
fn check(found: &Record) {
    let on_record: Option<Record> = std::fs::read_to_string(path())
        .ok()
        .map(|text| serde_json::from_str(&text).unwrap());
    let changed: Vec<_> = on_record
        .iter()
        .flat_map(|record| &record.results)
        .filter(|(name, digest)| found.results.get(*name).is_some_and(|found| found != *digest))
        .map(|(name, _)| name.as_str())
        .collect();
    let same_version = on_record.as_ref().is_some_and(|record| record.engine_version == ENGINE_VERSION);
    assert!(
        changed.is_empty() || !same_version,
        "results have other bytes than those on record for engine version {ENGINE_VERSION}: {changed:?}. If that is meant, raise ENGINE_VERSION \
         in crates/engine/src/lib.rs and write the record anew with CIPHERLOOM_RECORD_VECTORS=1"
    );
    if std::env::var_os("CIPHERLOOM_RECORD_VECTORS").is_some() {
        std::fs::create_dir_all(path().parent().unwrap()).unwrap();
        std::fs::write(path(), serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
        return;
    }
    assert!(
        on_record.as_ref() == Some(found),
        "spec/vectors/engine.json is not of engine version {ENGINE_VERSION} or of these cases; write it anew with CIPHERLOOM_RECORD_VECTORS=1"
    );
}
