//! The same operation on the same ciphertext bytes gives the same bytes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use cipherloom_fhe::{Ciphertext, FheBackend};
use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};
use rayon::ThreadPoolBuilder;
use sha3::{Digest, Sha3_256};

use crate::fixture::TOY;

/// Names the directory with the inputs that a child process works on. Its keys are those all tests share.
const DIRECTORY: &str = "CIPHERLOOM_TEST_DETERMINISM_DIRECTORY";

/// Where the test below leaves what it computed.
const DIGEST_FILE: &str = "digest";

/// Operations whose algorithms differ: carries, comparisons, choices, shifts, products, random values, lists.
fn operations() -> Vec<TypedOperation> {
    let binary = |operation, ty, rhs| TypedOperation::Binary { operation, ty, rhs };
    vec![
        binary(Operation::Add, FheType::Uint64, Operand::Encrypted),
        binary(Operation::Sub, FheType::Uint128, Operand::Encrypted),
        binary(Operation::Add, FheType::Uint128, Operand::Scalar(U256::from(0xffff))),
        binary(Operation::Mul, FheType::Uint32, Operand::Encrypted),
        binary(Operation::Div, FheType::Uint32, Operand::Scalar(U256::from(10))),
        binary(Operation::Le, FheType::Uint64, Operand::Encrypted),
        binary(Operation::Eq, FheType::Uint256, Operand::Encrypted),
        binary(Operation::Max, FheType::Uint16, Operand::Encrypted),
        binary(Operation::Shl, FheType::Uint32, Operand::Encrypted),
        TypedOperation::Neg { ty: FheType::Uint256 },
        TypedOperation::IfThenElse { ty: FheType::Uint64 },
        TypedOperation::Rand {
            ty: FheType::Uint64,
            seed: [9; 16],
            random_bits: 64,
        },
        TypedOperation::Sum {
            ty: FheType::Uint32,
            count: 7,
        },
        TypedOperation::IsIn {
            ty: FheType::Uint16,
            count: 3,
        },
        TypedOperation::MulDiv {
            ty: FheType::Uint16,
            factor: Operand::Encrypted,
            divisor: U256::from(7),
        },
    ]
}

/// Where the inputs are: two of each type, because a difference of one and the same ciphertext is an exact zero.
fn input_file(directory: &Path, ty: FheType, which: usize) -> PathBuf {
    directory.join(format!("input-{}-{which}", ty.id()))
}

/// Hashes the results of all operations on the inputs stored in the directory.
fn digest(directory: &Path) -> String {
    let backend: &dyn FheBackend = &*TOY.backend;
    let input = |(index, ty): (usize, FheType)| -> Ciphertext {
        let stored = std::fs::read(input_file(directory, ty, index % 2)).unwrap();
        backend.deserialize(ty, &stored).unwrap()
    };
    let mut hasher = Sha3_256::new();
    for operation in operations() {
        let inputs: Vec<Ciphertext> = operation.input_types().into_iter().enumerate().map(input).collect();
        let result = backend.evaluate(&operation, &inputs.iter().collect::<Vec<_>>()).unwrap();
        hasher.update(backend.serialize(&result).unwrap());
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes inputs in a directory.
fn write_inputs(directory: &Path) {
    for ty in FheType::ALL {
        for (which, byte) in [0x35, 0x53].into_iter().enumerate() {
            let value = ty.truncate(U256::from_be_bytes([byte; 32]));
            let secret = TOY.secret(ty, value);
            std::fs::write(input_file(directory, ty, which), TOY.backend.serialize(&secret).unwrap()).unwrap();
        }
    }
}

/// Also the body of the child process of the test below, which gives it a directory and reads the digest it leaves there.
#[test]
fn the_bytes_of_results_do_not_depend_on_repetition_or_surrounding_threads() {
    let own = tempfile::tempdir().unwrap();
    let directory = std::env::var_os(DIRECTORY).map_or_else(
        || {
            write_inputs(own.path());
            own.path().to_owned()
        },
        PathBuf::from,
    );
    let first = digest(&directory);
    assert_eq!(digest(&directory), first, "again");
    for threads in [1, 2, 8, 33] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(
            pool.install(|| digest(&directory)),
            first,
            "called from a pool of {threads} threads"
        );
    }
    let (left, right) = std::thread::scope(|scope| {
        let left = scope.spawn(|| digest(&directory));
        let right = scope.spawn(|| digest(&directory));
        (left.join().unwrap(), right.join().unwrap())
    });
    assert_eq!((&left, &right), (&first, &first), "two at a time");
    std::fs::write(directory.join(DIGEST_FILE), first).unwrap();
}

#[test]
fn the_bytes_of_results_do_not_depend_on_the_process() {
    let directory = tempfile::tempdir().unwrap();
    write_inputs(directory.path());
    let here = digest(directory.path());
    let name = "determinism::the_bytes_of_results_do_not_depend_on_repetition_or_surrounding_threads";
    for global_threads in ["1", "13"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact"])
            .env(DIRECTORY, directory.path())
            .env("RAYON_NUM_THREADS", global_threads)
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let file = directory.path().join(DIGEST_FILE);
        let there = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(there, here, "with {global_threads} threads in the process");
    }
}
