//! What was asked for, and whether it came out.

use std::collections::HashMap;

use alloy_primitives::{B256, hex, keccak256};
use bytes::Bytes;
use cipherloom_fhe::Decrypt;

use crate::{client::Fetched, error::LoadError, plain::Value};

/// Remembers values that were asked for, and the bytes that were seen of each.
#[derive(Debug, Default)]
pub struct Ledger {
    values: Vec<Value>,
    seen: HashMap<Bytes, B256>,
}

impl Ledger {
    /// Remembers values that the server has accepted.
    pub fn accepted(&mut self, values: impl IntoIterator<Item = Value>) {
        self.values.extend(values);
    }

    /// Returns all values, in the order in which they were accepted.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Returns how many values have been seen.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Checks ciphertexts that were fetched for values of this ledger, in their order. Returns how many there were: those that are not
    /// computed yet are passed over.
    ///
    /// # Errors
    /// [`LoadError::Wrong`] if one decrypts to something else than it must, has another type, or has other bytes than when it was seen before.
    pub fn check(&mut self, values: &[Value], fetched: &[Option<Fetched>], decryptor: &dyn Decrypt) -> Result<usize, LoadError> {
        if values.len() != fetched.len() {
            return Err(LoadError::Answer(format!("{} values, {} entries", values.len(), fetched.len())));
        }
        let mut present = 0;
        for (value, fetched) in values.iter().zip(fetched) {
            let Some(fetched) = fetched else { continue };
            present += 1;
            if fetched.ty != i32::from(value.ty.id()) {
                return Err(wrong(
                    value,
                    format!("of type {}", value.ty.id()),
                    format!("of type {}", fetched.ty),
                ));
            }
            let digest = keccak256(&fetched.bytes);
            if let Some(before) = self.seen.insert(value.name.clone(), digest) {
                if before != digest {
                    return Err(wrong(value, format!("the bytes {before} that it was"), digest.to_string()));
                }
                // The same bytes have the same plaintext.
                continue;
            }
            let found = decryptor.decrypt(value.ty, &fetched.bytes)?;
            if !value.plain.allows(found) {
                return Err(wrong(value, value.plain.to_string(), found.to_string()));
            }
        }
        Ok(present)
    }
}

fn wrong(value: &Value, expected: String, found: String) -> LoadError {
    LoadError::Wrong {
        name: hex::encode(&value.name),
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_fhe::FheError;
    use cipherloom_primitives::{FheType, U256};

    use super::*;
    use crate::Plain;

    /// The last byte is the plaintext.
    struct LastByte;

    impl Decrypt for LastByte {
        fn decrypt(&self, _: FheType, bytes: &[u8]) -> Result<U256, FheError> {
            Ok(U256::from(bytes.last().copied().unwrap_or_default()))
        }
    }

    fn fetched(bytes: &[u8], ty: i32) -> Option<Fetched> {
        Some(Fetched {
            bytes: Bytes::copy_from_slice(bytes),
            ty,
            signature: Bytes::new(),
        })
    }

    #[test]
    fn wrong_plaintexts_types_and_second_results_are_noticed() {
        let value = Value {
            name: Bytes::from_static(b"value"),
            ty: FheType::Uint8,
            plain: Plain::Exactly(U256::from(9)),
        };
        let values = [value.clone()];
        let mut ledger = Ledger::default();
        ledger.accepted(values.clone());
        assert_eq!(ledger.check(&values, &[None], &LastByte).unwrap(), 0);
        for refused in [fetched(&[1, 8], 2), fetched(&[1, 9], 3)] {
            assert!(matches!(
                Ledger::default().check(&values, &[refused], &LastByte),
                Err(LoadError::Wrong { .. })
            ));
        }
        assert_eq!(ledger.check(&values, &[fetched(&[1, 9], 2)], &LastByte).unwrap(), 1);
        assert_eq!(ledger.check(&values, &[fetched(&[1, 9], 2)], &LastByte).unwrap(), 1);
        assert_eq!((ledger.seen(), ledger.values().len()), (1, 1));
        // The same plaintext in other bytes: computed a second time, in another way.
        assert!(matches!(
            ledger.check(&values, &[fetched(&[2, 9], 2)], &LastByte),
            Err(LoadError::Wrong { .. })
        ));
    }
}
