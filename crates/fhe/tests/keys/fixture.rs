//! The key sets the tests share, with everything made from them.

use std::sync::{Arc, LazyLock};

use cipherloom_fhe::{Decrypt, EncryptInputs, FheBackend, KeySet, ParameterSet, insecure_test_keys};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};

/// A key set in use, with one input list of every type.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) keys: Arc<KeySet>,
    pub(crate) backend: Arc<dyn FheBackend>,
    pub(crate) decryptor: Arc<dyn Decrypt>,
    pub(crate) encryptor: Box<dyn EncryptInputs>,
    /// Encrypts [`values`] for [`metadata`].
    pub(crate) list: Vec<u8>,
}

/// Real TFHE on toy parameters.
pub(crate) static TOY: LazyLock<Fixture> = LazyLock::new(|| Fixture::new("toy", insecure_test_keys().unwrap()));

/// The clear backend.
pub(crate) static CLEAR: LazyLock<Fixture> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
    let keys = Arc::new(keys);
    // Read before the directory goes.
    keys.evaluation().unwrap();
    Fixture::new("clear", keys)
});

/// Both backends.
pub(crate) fn both() -> [&'static Fixture; 2] {
    [&CLEAR, &TOY]
}

impl Fixture {
    pub(crate) fn new(name: &'static str, keys: Arc<KeySet>) -> Self {
        let encryptor = keys.encryptor().unwrap();
        let list = encryptor.encrypt(&values(), &metadata()).unwrap();
        Self {
            name,
            backend: keys.evaluation().unwrap(),
            decryptor: keys.decryptor().unwrap(),
            encryptor,
            list,
            keys,
        }
    }

    /// Admits a list, expands it, stores the values and decrypts them.
    pub(crate) fn through_everything(&self, list: &[u8], metadata: &InputMetadata) -> Vec<(FheType, U256)> {
        let verified = self.backend.verify_input(list, metadata).unwrap();
        assert_eq!(self.encryptor.check(list, metadata).unwrap(), verified.types, "{}", self.name);
        let expanded = self.backend.expand_input(&verified.list).unwrap();
        assert_eq!(
            expanded.iter().map(|value| value.fhe_type()).collect::<Vec<_>>(),
            verified.types,
            "{}",
            self.name
        );
        let decrypt = |value| {
            let stored = self.backend.serialize(value).unwrap();
            (value.fhe_type(), self.decryptor.decrypt(value.fhe_type(), &stored).unwrap())
        };
        expanded.iter().map(decrypt).collect()
    }
}

/// A value of every type, each with its own pattern.
pub(crate) fn values() -> Vec<(FheType, U256)> {
    let pattern = U256::from_be_bytes(std::array::from_fn::<u8, 32, _>(|index| 0x91 + 7 * index as u8 % 0x61));
    FheType::ALL.map(|ty| (ty, ty.truncate(pattern))).to_vec()
}

pub(crate) fn metadata() -> InputMetadata {
    InputMetadata {
        contract: Address::repeat_byte(0x11),
        user: Address::repeat_byte(0x22),
        acl: Address::repeat_byte(0x33),
        chain_id: 31337,
    }
}

/// Random numbers from a seed that failure messages name: xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Positions all over `length` bytes: every one near the ends, where headers and proof fields are, and every `stride`-th between.
pub(crate) fn positions(length: usize, near: usize, stride: usize) -> Vec<usize> {
    (0..length)
        .filter(|at| *at < near || at + near >= length || at % stride == 0)
        .collect()
}
