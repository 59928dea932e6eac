//! How a record of the file looks: a header, then the content.

use std::fs::File;
use std::io::{self, Read};

use alloy::primitives::keccak256;

/// Length of the header of a record.
pub(super) const HEADER_BYTES: usize = 16;

/// Reads a record; `None` if what is left is not a whole one.
pub(super) fn read_record(reader: &mut impl Read, left: u64) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    reader.read_exact(&mut header)?;
    let Some(length) = length_of(&header).filter(|length| u64::from(*length) <= left - HEADER_BYTES as u64) else {
        return Ok(None);
    };
    // Not longer than what the file has left.
    let mut content = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut content)?;
    Ok((header_of(&content) == Some(header)).then_some(content))
}

/// The length that a header tells, if it is one.
pub(super) fn length_of(header: &[u8; HEADER_BYTES]) -> Option<u32> {
    let (length, rest) = header.split_first_chunk::<4>()?;
    let sum = rest.first_chunk::<4>()?;
    (keccak256(length).first_chunk::<4>() == Some(sum)).then_some(u32::from_be_bytes(*length))
}

/// The header of a record with this content, unless that is too long.
pub(super) fn header_of(content: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    let length = u32::try_from(content.len()).ok()?.to_be_bytes();
    let (length_sum, content_sum) = (keccak256(length), keccak256(content));
    let bytes = length.iter().chain(length_sum.iter().take(4)).chain(content_sum.iter().take(8));
    let mut header = [0; HEADER_BYTES];
    for (to, from) in header.iter_mut().zip(bytes) {
        *to = *from;
    }
    Some(header)
}

/// Tells whether a header and everything after it are zeros.
pub(super) fn zeros_follow(header: &[u8; HEADER_BYTES], file: &mut File) -> io::Result<bool> {
    if header.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(true);
        }
        if chunk.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}
