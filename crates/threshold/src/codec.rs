//! Reading and writing fields of checked lengths.

use zeroize::Zeroizing;

use crate::{
    error::ThresholdError,
    ring::{ELEMENT_BYTES, Element},
};

/// Reads fields from the front of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) const fn malformed(&self, reason: &'static str) -> ThresholdError {
        ThresholdError::Malformed { what: self.what, reason }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], ThresholdError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.malformed("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ThresholdError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.malformed("it is cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, ThresholdError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ThresholdError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ThresholdError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a number of 32 bits that counts something and has a limit.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, ThresholdError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > max {
            return Err(self.malformed("a length is beyond its limit"));
        }
        Ok(count)
    }

    /// Reads a tag that says what follows.
    pub(crate) fn expect(&mut self, expected: &[u8], reason: &'static str) -> Result<(), ThresholdError> {
        if self.take(expected.len())? == expected {
            Ok(())
        } else {
            Err(self.malformed(reason))
        }
    }

    /// Reads that many elements; the bytes are there before anything is allocated.
    pub(crate) fn elements(&mut self, count: usize) -> Result<Zeroizing<Vec<Element>>, ThresholdError> {
        let length = count
            .checked_mul(ELEMENT_BYTES)
            .ok_or_else(|| self.malformed("a length is beyond its limit"))?;
        let (chunks, _) = self.take(length)?.as_chunks::<ELEMENT_BYTES>();
        Ok(Zeroizing::new(chunks.iter().map(Element::from_bytes).collect()))
    }

    pub(crate) const fn finish(&self) -> Result<(), ThresholdError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes are left over"))
        }
    }
}

/// Appends elements.
pub(crate) fn put_elements(out: &mut Vec<u8>, elements: &[Element]) {
    for element in elements {
        // The copy on the stack is wiped because elements are mostly secret.
        out.extend_from_slice(Zeroizing::new(element.to_bytes()).as_slice());
    }
}

/// Appends a count as 32 bits. Everything counted here has a limit far below that.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}
