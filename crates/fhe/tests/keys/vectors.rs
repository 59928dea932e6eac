//! The bytes that cross the boundary of transactions, on record: `spec/vectors/boundary.json`, for `spec/boundary.md`.
//!
//! Under a toy key set from a fixed seed, the record has for every type the digests of a secret value in raw form, in packed form (for small types
//! the bytes themselves), of what the packed form is unpacked to, and of the value re-randomised for a transaction; and an input list with the
//! digests of what its values are expanded to. `CIPHERLOOM_RECORD_VECTORS=1 cargo test --release -p cipherloom-fhe --test keys vectors` writes
//! it anew. Every number in it is part of the specification: when one changes, so must the version in the header of stored ciphertexts, or the
//! domain of the seeds.

use std::{collections::BTreeMap, path::PathBuf};

use cipherloom_fhe::{Ciphertext, FheBackend, KeySet, ParameterSet};
use cipherloom_primitives::{B256, CiphertextForm, FheType, Handle, HotWindow, RandomiserContext, TypedOperation, U256};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256, Sha3_256};

use crate::fixture::{metadata, values};

/// The seed of the key set, the same as that of the engine's record.
const SEED: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;

const CHAIN: u64 = 31337;
const TRANSACTION: B256 = B256::repeat_byte(0x5a);

/// Values of these types are on record byte by byte.
const WHOLE: [FheType; 2] = [FheType::Bool, FheType::Uint8];

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    about: String,
    key_set: KeySetRecord,
    window: Vec<WindowRecord>,
    randomiser: RandomiserRecord,
    values: BTreeMap<String, ValueRecord>,
    public_values: BTreeMap<String, String>,
    input_list: ListRecord,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct KeySetRecord {
    parameters: String,
    /// What its secrets are generated from, in hexadecimal.
    seed: String,
    id: String,
    evaluation_key_sha3_256: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WindowRecord {
    window: u64,
    created_block: u64,
    used_block: u64,
    form: CiphertextForm,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RandomiserRecord {
    key_set_id: String,
    chain_id: u64,
    transaction: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ValueRecord {
    /// The seed of the backend's pseudo-random function that the value is made with, and the handle it is read under.
    random_seed: String,
    handle: String,
    /// Keccak hashes of stored bytes.
    raw: String,
    packed: String,
    packed_bytes: Option<String>,
    unpacked: String,
    /// Derived from the raw form.
    randomiser_seed: String,
    randomised: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ListRecord {
    bytes: String,
    types: Vec<String>,
    /// Keccak hashes of the values' raw forms.
    expanded: Vec<String>,
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn keccak(bytes: &[u8]) -> B256 {
    B256::from_slice(&Keccak256::digest(bytes))
}

fn raw_digest(backend: &dyn FheBackend, value: &Ciphertext) -> B256 {
    keccak(&backend.serialize(value).unwrap())
}

/// A secret value that depends on the key set alone. There are no random addresses: theirs is a number cut to their width.
fn secret(backend: &dyn FheBackend, ty: FheType, seed: [u8; 16]) -> Ciphertext {
    let number = if ty == FheType::Address { FheType::Uint256 } else { ty };
    let random = TypedOperation::Rand {
        ty: number,
        seed,
        random_bits: number.bits(),
    };
    let random = backend.evaluate(&random, &[]).unwrap();
    if number == ty {
        return random;
    }
    let blocks = backend.blocks().unwrap();
    let mut digits = blocks.split(&random).unwrap();
    digits.truncate((ty.bits() / 2) as usize);
    blocks.join(ty, digits).unwrap()
}

fn value_record(backend: &dyn FheBackend, context: &RandomiserContext, ty: FheType) -> ValueRecord {
    let random_seed = [ty.id() + 1; 16];
    let handle = Handle::computed(B256::repeat_byte(ty.id() + 1), CHAIN, ty);
    let mut value = secret(backend, ty, random_seed);
    let raw = raw_digest(backend, &value);
    let packed = backend.pack(&value).unwrap();
    let unpacked = raw_digest(backend, &backend.unpack(ty, &packed).unwrap());
    let randomiser_seed = context.seed(handle, raw);
    backend.rerandomise(&mut value, &randomiser_seed).unwrap();
    ValueRecord {
        random_seed: hex(random_seed),
        handle: hex(handle.as_slice()),
        raw: hex(raw),
        packed: hex(keccak(&packed)),
        packed_bytes: WHOLE.contains(&ty).then(|| hex(&packed)),
        unpacked: hex(unpacked),
        randomiser_seed: hex(randomiser_seed),
        randomised: hex(raw_digest(backend, &value)),
    }
}

fn public_record(backend: &dyn FheBackend, ty: FheType, value: U256) -> String {
    let value = backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[]).unwrap();
    hex(backend.pack(&value).unwrap())
}

fn window_records() -> Vec<WindowRecord> {
    let cases = [
        (1024, 100, 100),
        (1024, 100, 1124),
        (1024, 100, 1125),
        (0, 7, 7),
        (0, 7, 8),
        (u64::MAX, 0, u64::MAX),
    ];
    cases
        .map(|(window, created_block, used_block)| WindowRecord {
            window,
            created_block,
            used_block,
            form: HotWindow(window).form_read(created_block, used_block),
        })
        .into()
}

/// Computes the record. The list is given: a client's randomness and proof are its own.
fn record(keys: &KeySet, list: &[u8]) -> Record {
    let backend = keys.evaluation().unwrap();
    let backend = backend.as_ref();
    let key_set_id = B256::from(*keys.manifest().id.as_bytes());
    let context = RandomiserContext {
        key_set_id,
        chain_id: CHAIN,
        transaction: TRANSACTION,
    };
    let types = backend.verify_input(list, &metadata()).unwrap().types;
    let expanded = backend.expand_input(list).unwrap();
    Record {
        about:
            "What crosses the boundary of transactions, under a toy key set without any security: see spec/boundary.md. Digests are Keccak \
                hashes, and all bytes hexadecimal. Written by crates/fhe/tests/keys/vectors.rs."
                .to_owned(),
        key_set: KeySetRecord {
            parameters: ParameterSet::InsecureToy.name().to_owned(),
            seed: format!("{SEED:032x}"),
            id: keys.manifest().id.to_string(),
            evaluation_key_sha3_256: hex(Sha3_256::digest(
                std::fs::read(keys.directory().join("evaluation_key.bin")).unwrap(),
            )),
        },
        window: window_records(),
        randomiser: RandomiserRecord {
            key_set_id: hex(key_set_id),
            chain_id: CHAIN,
            transaction: hex(TRANSACTION),
        },
        values: FheType::ALL
            .map(|ty| (ty.solidity_name().to_owned(), value_record(backend, &context, ty)))
            .into(),
        public_values: values()
            .into_iter()
            .map(|(ty, value)| (format!("{} {value:#x}", ty.solidity_name()), public_record(backend, ty, value)))
            .collect(),
        input_list: ListRecord {
            bytes: hex(list),
            types: types.iter().map(|ty| ty.solidity_name().to_owned()).collect(),
            expanded: expanded.iter().map(|value| hex(raw_digest(backend, value))).collect(),
        },
    }
}

fn path() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/boundary.json").into()
}

#[test]
fn bytes_at_the_boundary_are_those_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeySet::insecure_generate_from_seed(&directory.path().join("keys"), ParameterSet::InsecureToy, SEED).unwrap();
    let on_record = std::fs::read(path())
        .ok()
        .map(|bytes| serde_json::from_slice::<Record>(&bytes).unwrap());
    if std::env::var_os("CIPHERLOOM_RECORD_VECTORS").is_some() {
        let list = match &on_record {
            Some(record) => unhex(&record.input_list.bytes),
            None => {
                let values = [
                    (FheType::Bool, U256::from(1)),
                    (FheType::Uint8, U256::from(200)),
                    (FheType::Uint16, U256::from(40_000)),
                ];
                keys.encryptor().unwrap().encrypt(&values, &metadata()).unwrap()
            }
        };
        let mut text = serde_json::to_string_pretty(&record(&keys, &list)).unwrap();
        text.push('\n');
        std::fs::write(path(), text).unwrap();
        return;
    }
    let on_record = on_record.expect("spec/vectors/boundary.json is missing");
    assert_eq!(record(&keys, &unhex(&on_record.input_list.bytes)), on_record);
}
