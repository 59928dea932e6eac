//! The outer structure of an encoded message, read without allocating.
//!
//! An element of a repeated field takes two bytes on the wire and many times that in memory. [`check_parts`] counts the elements first.

use tonic::Status;

/// A field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// Its content if it has a length; nothing for numbers.
    pub content: Option<&'a [u8]>,
}

/// The fields of an encoded message. Ends after the first that cannot be read.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the fields of a message.
    #[must_use]
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn skip(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (skipped, rest) = self.rest.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.rest = rest;
        Some(skipped)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.skip(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let tag = self.number()?;
        let content = match tag & 7 {
            0 => self.number().map(|_| None)?,
            1 => self.skip(8).map(|_| None)?,
            2 => {
                let length = self.number()?;
                Some(self.skip(length)?)
            }
            5 => self.skip(4).map(|_| None)?,
            // Groups; no message here has them.
            _ => return None,
        };
        Some(Field { number: tag >> 3, content })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| Status::invalid_argument("the message is malformed")))
    }
}

/// How many parts a message may have, and the messages in it.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The most fields, elements of repeated fields counted one by one.
    pub fields: usize,
    /// The limits of messages in fields of these numbers. Other fields have no messages in them.
    pub inside: &'static [(u64, Parts)],
}

impl Parts {
    /// A message with at most this many fields and no messages in them.
    #[must_use]
    pub const fn flat(fields: usize) -> Self {
        Self { fields, inside: &[] }
    }
}

/// Counts the parts of an encoded message.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` above the limits, `INVALID_ARGUMENT` if the message cannot be read.
pub fn check_parts(message: &[u8], limits: &Parts) -> Result<(), Status> {
    for (count, field) in Fields::of(message).enumerate() {
        let field = field?;
        if count >= limits.fields {
            return Err(Status::resource_exhausted(format!(
                "a message has more than {} parts; send fewer at a time",
                limits.fields
            )));
        }
        let inside = limits.inside.iter().find(|(number, _)| *number == field.number);
        if let (Some((_, limits)), Some(content)) = (inside, field.content) {
            check_parts(content, limits)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::fhevm::executor::{CompressedCiphertext, SyncComputation, SyncComputeRequest, SyncInput};

    const LIMITS: Parts = Parts {
        fields: 3,
        inside: &[(1, Parts::flat(2))],
    };

    fn request(computations: usize, inputs: usize) -> Vec<u8> {
        let computation = SyncComputation {
            inputs: vec![SyncInput::default(); inputs],
            ..SyncComputation::default()
        };
        SyncComputeRequest {
            computations: vec![computation; computations],
            ..SyncComputeRequest::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn parts_are_counted_on_both_levels() {
        assert!(check_parts(&request(3, 2), &LIMITS).is_ok());
        for (computations, inputs) in [(4, 2), (3, 3)] {
            let status = check_parts(&request(computations, inputs), &LIMITS).unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        }
    }

    #[test]
    fn a_field_that_is_longer_than_its_message_is_malformed() {
        let whole = CompressedCiphertext {
            handle: vec![1; 32].into(),
            serialization: vec![2; 300].into(),
        }
        .encode_to_vec();
        assert!(check_parts(&whole, &Parts::flat(2)).is_ok());
        assert!(check_parts(&whole[..whole.len() - 1], &Parts::flat(2)).is_err());
        assert!(check_parts(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], &LIMITS).is_err());
    }

    proptest! {
        #[test]
        fn what_protobuf_reads_is_read_here_too(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let groups = bytes.iter().any(|byte| matches!(byte & 7, 3 | 4));
            if SyncComputeRequest::decode(bytes.as_slice()).is_ok() && !groups {
                prop_assert!(check_parts(&bytes, &Parts::flat(1000)).is_ok());
            }
        }
    }
}
