//! Blocks of known value under a key set.

use std::sync::{Arc, LazyLock};

use cipherloom_fhe::{
    Block, BlockBackend, BootstrapJob, Ciphertext, CpuBackend, CpuBlocks, Decrypt, EvaluationKeys, FheBackend, KeySet, LookupTable,
    insecure_test_keys, production_test_keys,
};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};

/// One CPU key set in use.
pub(crate) struct Fixture {
    pub(crate) evaluation: Arc<EvaluationKeys>,
    pub(crate) backend: CpuBackend,
    pub(crate) blocks: CpuBlocks,
    decryptor: Arc<dyn Decrypt>,
    /// Secret values of several types, with what they are.
    pub(crate) values: Vec<(U256, Ciphertext)>,
}

pub(crate) static TOY: LazyLock<Fixture> = LazyLock::new(|| Fixture::new(&insecure_test_keys().unwrap(), &FheType::ALL));

pub(crate) static PRODUCTION: LazyLock<Fixture> = LazyLock::new(|| Fixture::new(&production_test_keys().unwrap(), &[FheType::Uint8]));

impl Fixture {
    fn new(keys: &KeySet, types: &[FheType]) -> Self {
        let evaluation = keys.evaluation_keys().unwrap();
        let backend = CpuBackend::new(Arc::clone(&evaluation));
        // Blocks of 0x1b are 3, 2, 1, 0: every digit at every fourth place.
        let plaintexts: Vec<_> = types.iter().map(|ty| (*ty, ty.truncate(U256::from_be_bytes([0x1b; 32])))).collect();
        let metadata = InputMetadata {
            contract: Address::ZERO,
            user: Address::ZERO,
            acl: Address::ZERO,
            chain_id: 31337,
        };
        let list = keys.encryptor().unwrap().encrypt(&plaintexts, &metadata).unwrap();
        let ciphertexts = backend.expand_input(&list).unwrap();
        Self {
            blocks: CpuBlocks::with_threads(Arc::clone(&evaluation), 2),
            evaluation,
            backend,
            decryptor: keys.decryptor().unwrap(),
            values: plaintexts.into_iter().map(|(_, value)| value).zip(ciphertexts).collect(),
        }
    }

    /// Returns the secret blocks of the widest value: 3, 2, 1, 0 over and over.
    pub(crate) fn digits(&self) -> Vec<Block> {
        let (_, widest) = self
            .values
            .iter()
            .max_by_key(|(_, ciphertext)| ciphertext.fhe_type().bits())
            .unwrap();
        self.blocks.split(widest).unwrap()
    }

    /// Returns secret blocks of all values from 0 to 15, as noisy as a block may be.
    pub(crate) fn all_values(&self) -> Vec<Block> {
        let digits = self.digits();
        let digit = |value: usize, skip: usize| &digits[(3 - value + 4 * skip) % digits.len()];
        (0..16)
            .map(|value| {
                self.blocks
                    .linear(&[(4, digit(value / 4, 1)), (1, digit(value % 4, 0))], 0)
                    .unwrap()
            })
            .collect()
    }

    pub(crate) fn decrypt(&self, ciphertext: &Ciphertext) -> U256 {
        let stored = self.backend.serialize(ciphertext).unwrap();
        self.decryptor.decrypt(ciphertext.fhe_type(), &stored).unwrap()
    }

    /// Decrypts blocks of any value by way of clean ones.
    pub(crate) fn decrypt_blocks(&self, blocks: &[Block]) -> Vec<u8> {
        let [low, high] = [|value| value % 4, |value| value / 4].map(|half: fn(u8) -> u8| LookupTable::tabulate(&[&half]).unwrap());
        let jobs: Vec<_> = blocks
            .iter()
            .flat_map(|input| [&low, &high].map(|table| BootstrapJob { input, table }))
            .collect();
        let halves = self.blocks.bootstrap_batch(&jobs).unwrap().concat();
        let decrypt = |halves: &[Block]| {
            let mut digits = halves.to_vec();
            digits.extend([self.blocks.trivial(0), self.blocks.trivial(0)]);
            self.decrypt(&self.blocks.join(FheType::Uint8, digits).unwrap()).to::<u8>()
        };
        halves.chunks_exact(2).map(decrypt).collect()
    }
}

/// Makes a table of this many functions without any structure, for all inputs it has room for.
pub(crate) fn scrambled_table(functions: usize) -> LookupTable {
    let room = 16 / functions;
    let outputs: Vec<Vec<u8>> = (0..functions)
        .map(|function| {
            (0..room)
                .map(|input| ((7 * input + 5 * function + input * input / 3) % 16) as u8)
                .collect()
        })
        .collect();
    LookupTable::new(&outputs.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}
