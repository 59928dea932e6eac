//! Backends with the means to put plaintexts in and take them out.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use cipherloom_fhe::{Ciphertext, Decrypt, FheBackend, KeySet, insecure_test_keys, production_test_keys};
use cipherloom_primitives::{Address, FheType, Operand, Operation, TypedOperation, U256, input::InputMetadata};

/// One key set in use.
pub(crate) struct Fixture {
    pub(crate) backend: Arc<dyn FheBackend>,
    decryptor: Arc<dyn Decrypt>,
    /// Secret zeros, some of every type, from one input list.
    zeros: Vec<Ciphertext>,
    /// How many zeros were taken.
    taken: AtomicUsize,
}

/// How many zeros of a type there are: as many as one input list has room for.
const ZEROS: usize = 3;

/// The toy key set's fixture.
pub(crate) static TOY: LazyLock<Fixture> = LazyLock::new(|| Fixture::new(&insecure_test_keys().unwrap()));

/// The production key set's fixture.
pub(crate) static PRODUCTION: LazyLock<Fixture> = LazyLock::new(|| Fixture::new(&production_test_keys().unwrap()));

impl Fixture {
    pub(crate) fn new(keys: &KeySet) -> Self {
        let metadata = InputMetadata {
            contract: Address::ZERO,
            user: Address::ZERO,
            acl: Address::ZERO,
            chain_id: 31337,
        };
        let list = keys
            .encryptor()
            .unwrap()
            .encrypt(
                &[FheType::ALL; ZEROS]
                    .concat()
                    .into_iter()
                    .map(|ty| (ty, U256::ZERO))
                    .collect::<Vec<_>>(),
                &metadata,
            )
            .unwrap();
        let backend = keys.evaluation().unwrap();
        let zeros = backend.expand_input(&list).unwrap();
        Self {
            backend,
            decryptor: keys.decryptor().unwrap(),
            zeros,
            taken: AtomicUsize::new(0),
        }
    }

    /// Makes a secret ciphertext without a proof of its own, which would take a second: a secret zero, moved by the value.
    ///
    /// Two ciphertexts in a row come from different zeros. Otherwise blocks of the same value would be the same ciphertext, and their
    /// difference an exact zero, which is easier than what happens outside of tests.
    pub(crate) fn secret(&self, ty: FheType, value: U256) -> Ciphertext {
        let index = self.taken.fetch_add(1, Ordering::Relaxed) % ZEROS;
        let zero = |ty| self.zeros.iter().filter(|zero| zero.fhe_type() == ty).nth(index).unwrap();
        if ty == FheType::Address {
            // There is no xor on addresses, but a choice.
            return self.evaluate(
                &TypedOperation::IfThenElse { ty },
                &[zero(FheType::Bool), zero(ty), &self.public(ty, value)],
            );
        }
        let xor = TypedOperation::Binary {
            operation: Operation::BitXor,
            ty,
            rhs: Operand::Scalar(value),
        };
        self.evaluate(&xor, &[zero(ty)])
    }

    /// Makes a ciphertext of a public value.
    pub(crate) fn public(&self, ty: FheType, value: U256) -> Ciphertext {
        self.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[])
    }

    pub(crate) fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Ciphertext {
        self.backend.evaluate(operation, inputs).unwrap()
    }

    /// Decrypts by way of the stored form, as the system does.
    pub(crate) fn decrypt(&self, ciphertext: &Ciphertext) -> U256 {
        let stored = self.backend.serialize(ciphertext).unwrap();
        self.decryptor.decrypt(ciphertext.fhe_type(), &stored).unwrap()
    }
}
