//! What a node is told when it starts, and what it is asked afterwards: frames on its standard input, lines on its standard output.

use std::io::{Read, Write};

use alloy::primitives::{Address, B256, Bytes};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest frame: a squashed list and its attestations as JSON, or a key share.
const MAX_FRAME_BYTES: u32 = 64 << 20;

/// What a node is, and what it is asked about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    /// Its number, from 1.
    pub(super) party: u32,
    /// The key set.
    pub(super) key_set_id: B256,
    /// What the nodes sign with, party 1 first.
    pub(super) signers: Vec<Address>,
    /// Who attests squashed lists.
    pub(super) coprocessor: Address,
    /// The squashed list of every handle: that of the same value.
    pub(super) list: Bytes,
    /// The handles, each with the attestation that the list is its.
    pub(super) attested: Vec<(B256, Bytes)>,
}

/// What a node has spent since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spent {
    /// CPU time of the process, in milliseconds.
    pub(super) cpu_ms: f64,
    /// Bytes of messages that came in.
    pub(super) received: f64,
    /// Bytes of messages that went out.
    pub(super) sent: f64,
    /// Requests being answered.
    pub(super) in_progress: u32,
}

impl Spent {
    /// Adds what another node has spent.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms + other.cpu_ms,
            received: self.received + other.received,
            sent: self.sent + other.sent,
            in_progress: self.in_progress.saturating_add(other.in_progress),
        }
    }

    /// Returns what was spent since then.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms - before.cpu_ms,
            received: self.received - before.received,
            sent: self.sent - before.sent,
            in_progress: self.in_progress,
        }
    }
}

/// Writes a frame: its length, and its bytes.
///
/// # Errors
/// If nobody reads.
pub(super) fn write_frame(mut output: impl Write, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    output.write_all(&length.context("the frame is too long")?.to_be_bytes())?;
    output.write_all(bytes)?;
    output.flush().context("cannot write a frame")
}

/// Reads a frame.
///
/// # Errors
/// If there is none, or it is too long.
pub(super) fn read_frame(mut input: impl Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    input.read_exact(&mut length).context("a frame is missing")?;
    let length = u32::from_be_bytes(length);
    ensure!(length <= MAX_FRAME_BYTES, "a frame of {length} bytes is too long");
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length)?]);
    input.read_exact(&mut bytes).context("a frame ends early")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_and_ends_are_noticed() {
        let mut written = Vec::new();
        write_frame(&mut written, b"first").unwrap();
        write_frame(&mut written, b"").unwrap();
        let mut input = written.as_slice();
        assert_eq!(&**read_frame(&mut input).unwrap(), b"first");
        assert_eq!(&**read_frame(&mut input).unwrap(), b"");
        assert!(read_frame(&mut input).is_err());
        assert!(read_frame(&written[..7]).is_err());
        assert!(read_frame(&[0xff; 8][..]).is_err());
    }

    #[test]
    fn what_was_spent_adds_up() {
        let spent = |cpu_ms, sent| Spent {
            cpu_ms,
            sent,
            ..Spent::default()
        };
        assert_eq!(spent(1.0, 10.0).plus(spent(2.0, 5.0)).since(spent(0.5, 1.0)), spent(2.5, 14.0));
    }
}
