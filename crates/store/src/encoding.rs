//! Computations as bytes: about 40 bytes for each instead of the 300 of JSON, and ten times as fast to write and to read.
//!
//! A list is a format number, the count, and for each computation its operation's number, the operation's own fields, its inputs and its
//! result. A handle that stood before in the same list is written as its place among those, so that a chain of computations costs one
//! handle for each. Numbers are in groups of 7 bits, lowest first; the highest bit says that another group follows.

use std::collections::HashMap;

use cipherloom_primitives::{Computation, FheType, Handle, Operand, Operation, TypedOperation, U256};

use crate::{StoreError, columns::handle};

/// The first byte. A later format gets another number.
const FORMAT: u8 = 1;

/// The fewest bytes a computation takes, which limits how many a list can claim to have: operation, type, no inputs, result.
const SMALLEST: usize = 4;

/// Writes computations.
pub(crate) fn encode(computations: &[Computation]) -> Vec<u8> {
    let mut writer = Writer {
        bytes: Vec::with_capacity(8 + 48 * computations.len()),
        places: HashMap::with_capacity(2 * computations.len()),
    };
    writer.bytes.push(FORMAT);
    writer.count(computations.len());
    for computation in computations {
        writer.operation(&computation.operation);
        writer.count(computation.inputs.len());
        for input in &computation.inputs {
            writer.handle(*input);
        }
        writer.handle(computation.result);
    }
    writer.bytes
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`StoreError::Corrupt`] for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Computation>, StoreError> {
    let mut reader = Reader { bytes, seen: Vec::new() };
    if reader.byte()? != FORMAT {
        return Err(corrupt("unknown format"));
    }
    let count = reader.count()?;
    if count > bytes.len() / SMALLEST {
        return Err(corrupt("more computations than bytes"));
    }
    let mut computations = Vec::with_capacity(count);
    for _ in 0..count {
        let operation = reader.operation()?;
        let inputs = reader.count()?;
        if inputs > bytes.len() {
            return Err(corrupt("more inputs than bytes"));
        }
        computations.push(Computation {
            operation,
            inputs: (0..inputs).map(|_| reader.handle()).collect::<Result<_, _>>()?,
            result: reader.handle()?,
        });
    }
    if reader.bytes.is_empty() {
        Ok(computations)
    } else {
        Err(corrupt("bytes after the last computation"))
    }
}

fn corrupt(reason: &'static str) -> StoreError {
    StoreError::corrupt("computations", reason)
}

struct Writer {
    bytes: Vec<u8>,
    /// The handles that were written, each with its place plus one.
    places: HashMap<Handle, usize>,
}

impl Writer {
    fn count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.bytes.push(0x80 | u8::try_from(count & 0x7f).unwrap_or_default());
            count >>= 7;
        }
        self.bytes.push(u8::try_from(count).unwrap_or_default());
    }

    /// A new handle is a zero and its bytes, one that was there is its place plus one.
    fn handle(&mut self, handle: Handle) {
        let next = self.places.len() + 1;
        let place = *self.places.entry(handle).or_insert(next);
        if place == next {
            self.bytes.push(0);
            self.bytes.extend_from_slice(handle.as_slice());
        } else {
            self.count(place);
        }
    }

    fn value(&mut self, value: &U256) {
        let trimmed = value.to_be_bytes_trimmed_vec();
        self.count(trimmed.len());
        self.bytes.extend_from_slice(&trimmed);
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Encrypted => self.bytes.push(0),
            Operand::Scalar(value) => {
                self.bytes.push(1);
                self.value(value);
            }
        }
    }

    fn operation(&mut self, operation: &TypedOperation) {
        self.bytes.push(operation.operation().id());
        match operation {
            TypedOperation::Binary { operation: _, ty, rhs } => {
                self.bytes.push(ty.id());
                self.operand(rhs);
            }
            TypedOperation::Neg { ty } | TypedOperation::Not { ty } | TypedOperation::IfThenElse { ty } => self.bytes.push(ty.id()),
            TypedOperation::Cast { from, to } => self.bytes.extend([from.id(), to.id()]),
            TypedOperation::TrivialEncrypt { value, ty } => {
                self.bytes.push(ty.id());
                self.value(value);
            }
            TypedOperation::Rand { ty, seed, random_bits } => {
                self.bytes.push(ty.id());
                self.bytes.extend_from_slice(seed);
                self.bytes.extend_from_slice(&random_bits.to_le_bytes());
            }
            TypedOperation::Sum { ty, count } | TypedOperation::IsIn { ty, count } => self.bytes.extend([ty.id(), *count]),
            TypedOperation::MulDiv { ty, factor, divisor } => {
                self.bytes.push(ty.id());
                self.operand(factor);
                self.value(divisor);
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    seen: Vec<Handle>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| corrupt("they end too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], StoreError> {
        self.take(LENGTH)?.try_into().map_err(|_| corrupt("they end too early"))
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn count(&mut self) -> Result<usize, StoreError> {
        let mut count = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            count |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(count);
            }
        }
        Err(corrupt("a number is too large"))
    }

    fn handle(&mut self) -> Result<Handle, StoreError> {
        match self.count()?.checked_sub(1) {
            None => {
                let new = handle(self.take(32)?)?;
                self.seen.push(new);
                Ok(new)
            }
            Some(place) => self
                .seen
                .get(place)
                .copied()
                .ok_or_else(|| corrupt("a handle that was not there before")),
        }
    }

    fn fhe_type(&mut self) -> Result<FheType, StoreError> {
        FheType::try_from(self.byte()?).map_err(|error| StoreError::corrupt("computations", error))
    }

    fn value(&mut self) -> Result<U256, StoreError> {
        let length = self.count()?;
        U256::try_from_be_slice(self.take(length)?).ok_or_else(|| corrupt("a value is too large"))
    }

    fn operand(&mut self) -> Result<Operand, StoreError> {
        match self.byte()? {
            0 => Ok(Operand::Encrypted),
            1 => Ok(Operand::Scalar(self.value()?)),
            _ => Err(corrupt("unknown kind of operand")),
        }
    }

    fn operation(&mut self) -> Result<TypedOperation, StoreError> {
        let operation = Operation::try_from(self.byte()?).map_err(|error| StoreError::corrupt("computations", error))?;
        let ty = self.fhe_type()?;
        Ok(match operation {
            Operation::Neg => TypedOperation::Neg { ty },
            Operation::Not => TypedOperation::Not { ty },
            Operation::IfThenElse => TypedOperation::IfThenElse { ty },
            Operation::Cast => TypedOperation::Cast {
                from: ty,
                to: self.fhe_type()?,
            },
            Operation::TrivialEncrypt => TypedOperation::TrivialEncrypt { value: self.value()?, ty },
            Operation::Rand | Operation::RandBounded => TypedOperation::Rand {
                ty,
                seed: self.array()?,
                random_bits: u32::from_le_bytes(self.array()?),
            },
            Operation::Sum => TypedOperation::Sum { ty, count: self.byte()? },
            Operation::IsIn => TypedOperation::IsIn { ty, count: self.byte()? },
            Operation::MulDiv => TypedOperation::MulDiv {
                ty,
                factor: self.operand()?,
                divisor: self.value()?,
            },
            Operation::VerifyInput => return Err(corrupt("an input is not a computation")),
            binary => TypedOperation::Binary {
                operation: binary,
                ty,
                rhs: self.operand()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::B256;

    use super::*;

    const CHAIN: u64 = 31337;

    /// A small generator with a printed seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }

        fn byte(&mut self) -> u8 {
            u8::try_from(self.below(256)).unwrap()
        }

        fn handle(&mut self, among: u64) -> Handle {
            let tag = u8::try_from(self.below(among)).unwrap();
            Handle::computed(B256::repeat_byte(tag), CHAIN, self.fhe_type())
        }

        fn fhe_type(&mut self) -> FheType {
            loop {
                if let Ok(ty) = FheType::try_from(u8::try_from(self.below(9)).unwrap()) {
                    return ty;
                }
            }
        }

        fn value(&mut self) -> U256 {
            let length = usize::try_from(self.below(33)).unwrap();
            let bytes: Vec<u8> = (0..length).map(|_| self.byte()).collect();
            U256::from_be_slice(&bytes)
        }

        fn operand(&mut self) -> Operand {
            if self.below(2) == 0 {
                Operand::Encrypted
            } else {
                Operand::Scalar(self.value())
            }
        }

        fn operation(&mut self, operation: Operation) -> TypedOperation {
            let ty = self.fhe_type();
            match operation {
                Operation::Neg => TypedOperation::Neg { ty },
                Operation::Not => TypedOperation::Not { ty },
                Operation::IfThenElse => TypedOperation::IfThenElse { ty },
                Operation::Cast => TypedOperation::Cast {
                    from: ty,
                    to: self.fhe_type(),
                },
                Operation::TrivialEncrypt => TypedOperation::TrivialEncrypt { value: self.value(), ty },
                Operation::Rand => TypedOperation::Rand {
                    ty,
                    seed: std::array::from_fn(|_| self.byte()),
                    random_bits: ty.bits(),
                },
                Operation::RandBounded => TypedOperation::Rand {
                    ty,
                    seed: std::array::from_fn(|_| self.byte()),
                    random_bits: ty.bits() - 1,
                },
                Operation::Sum => TypedOperation::Sum { ty, count: self.byte() },
                Operation::IsIn => TypedOperation::IsIn { ty, count: self.byte() },
                Operation::MulDiv => TypedOperation::MulDiv {
                    ty,
                    factor: self.operand(),
                    divisor: self.value(),
                },
                binary => TypedOperation::Binary {
                    operation: binary,
                    ty,
                    rhs: self.operand(),
                },
            }
        }

        /// All operations, each with inputs of which many were there before.
        fn computations(&mut self) -> Vec<Computation> {
            let operations = Operation::all().filter(|operation| *operation != Operation::VerifyInput);
            let one = |operation| Computation {
                operation: self.operation(operation),
                inputs: (0..self.below(4)).map(|_| self.handle(10)).collect(),
                result: self.handle(256),
            };
            operations.map(one).collect()
        }
    }

    #[test]
    fn every_operation_comes_back_as_it_was() {
        for seed in 0..50 {
            let computations = Random(seed).computations();
            assert_eq!(decode(&encode(&computations)).unwrap(), computations, "seed {seed}");
        }
        assert_eq!(decode(&encode(&[])).unwrap(), []);
    }

    #[test]
    fn a_chain_of_computations_costs_one_handle_each() {
        let handles: Vec<Handle> = (0..=100)
            .map(|tag| Handle::computed(B256::repeat_byte(tag), CHAIN, FheType::Uint64))
            .collect();
        let links = handles.windows(2).map(|pair| Computation {
            operation: TypedOperation::Binary {
                operation: Operation::Add,
                ty: FheType::Uint64,
                rhs: Operand::Encrypted,
            },
            inputs: vec![pair[0], pair[0]],
            result: pair[1],
        });
        let bytes = encode(&links.collect::<Vec<_>>());
        assert!(bytes.len() < 100 * 40, "{} bytes", bytes.len());
    }

    #[test]
    fn damaged_bytes_are_refused_or_are_other_computations_and_never_more_than_there_are() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let good = encode(&random.computations());
            let mut bytes = good.clone();
            let place = usize::try_from(random.below(u64::try_from(bytes.len()).unwrap())).unwrap();
            if random.below(2) == 0 {
                bytes.truncate(place);
                assert!(decode(&bytes).is_err(), "seed {seed}: {place} bytes");
            } else {
                bytes[place] ^= 1 + u8::try_from(random.below(255)).unwrap();
                if let Ok(computations) = decode(&bytes) {
                    assert!(computations.len() <= bytes.len() / SMALLEST, "seed {seed}");
                }
            }
            let mut longer = good;
            longer.push(0);
            assert!(decode(&longer).is_err(), "seed {seed}");
        }
        // A list that claims to have more than memory holds.
        assert!(decode(&[FORMAT, 0xff, 0xff, 0xff, 0x7f]).is_err());
        assert!(decode(&[]).is_err());
    }
}
