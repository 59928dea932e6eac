//! The seam between the engine and the machinery of blocks.

use cipherloom_primitives::FheType;

use super::{Block, LookupTable};
use crate::{ciphertext::Ciphertext, error::FheError};

/// One lookup of one block.
#[derive(Clone, Copy)]
pub struct BootstrapJob<'a> {
    /// What is looked up.
    pub input: &'a Block,
    /// Where.
    pub table: &'a LookupTable,
}

/// Computes on blocks under one key set. Only bootstraps take time.
///
/// Results are a pure function of the arguments: neither the number of threads nor what else is in a batch changes a bit of them.
pub trait BlockBackend: Send + Sync {
    /// Makes a block of a public value from 0 to 15; of larger values the lowest four bits.
    fn trivial(&self, value: u8) -> Block {
        Block::trivial(value)
    }

    /// Returns `Σ coefficient · block + constant`, without any bootstrap.
    ///
    /// A negative coefficient needs a constant that makes up for it: `a − b` of clean blocks is `(1, a), (−1, b)` with constant 3 or more.
    /// Blocks that are all public give a public block.
    ///
    /// # Errors
    /// [`FheError::BlockRange`] if some values of the blocks, within their bounds, lead below 0 or above 15, [`FheError::BlockNoise`] if
    /// the noise level exceeds [`MAX_NOISE_LEVEL`](super::MAX_NOISE_LEVEL), [`FheError::ForeignCiphertext`] if a block belongs to
    /// another backend.
    fn linear(&self, terms: &[(i8, &Block)], constant: u8) -> Result<Block, FheError>;

    /// As [`Self::linear`], for a combination of which the caller knows that it stays within 0 to `max`, although its blocks' bounds alone do not say so:
    /// they are not independent of each other. `y − o + 3`, where `o` is `3 − (x − y)` or 3, is at most 3.
    ///
    /// # Errors
    /// [`FheError::BlockRange`] if `max` is above 15; the clear backend also gives it if the caller is wrong, where real blocks would give
    /// wrong results. Else as [`Self::linear`].
    fn linear_within(&self, terms: &[(i8, &Block)], constant: u8, max: u8) -> Result<Block, FheError>;

    /// Looks every job's block up in its table. Result *i* has one block per function of job *i*'s table, each of nominal noise.
    ///
    /// The work is spread over the machine's processors and done in batches on each. Public blocks are looked up in the clear, at no cost, and give
    /// public blocks.
    ///
    /// # Errors
    /// [`FheError::LookupInput`] if a block may be larger than its table's largest input, [`FheError::ForeignCiphertext`] if it
    /// belongs to another backend. Then nothing was computed.
    fn bootstrap_batch(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError>;

    /// As [`Self::bootstrap_batch`], as one batch on the calling thread. For callers that spread their work over threads themselves.
    ///
    /// # Errors
    /// As [`Self::bootstrap_batch`].
    fn bootstrap_here(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError>;

    /// Returns how many jobs per processor a call should bring at least, to be as cheap as it gets. Measured on the first call, which takes
    /// one or two seconds of one core with production parameters.
    fn preferred_batch(&self) -> usize;

    /// Returns how many bootstraps were done so far, public blocks not counted.
    fn bootstraps(&self) -> u64;

    /// Takes a ciphertext apart into its blocks, least significant first; an `ebool` is one block with the value 0 or 1.
    ///
    /// # Errors
    /// [`FheError::ForeignCiphertext`] if it belongs to another backend, [`FheError::UncleanBlocks`] if its blocks are not clean,
    /// which no operation leaves behind.
    fn split(&self, ciphertext: &Ciphertext) -> Result<Vec<Block>, FheError>;

    /// Makes a ciphertext of blocks, least significant first. They must be clean: at most 3, or 1 for `ebool`, with nominal noise
    /// or none.
    ///
    /// # Errors
    /// [`FheError::UncleanBlocks`] if they are not, or are too few or too many, [`FheError::ForeignCiphertext`] if one belongs to another
    /// backend.
    fn join(&self, ty: FheType, blocks: Vec<Block>) -> Result<Ciphertext, FheError>;

    /// Returns how many bits of a ciphertext one block holds: 2.
    fn message_bits(&self) -> u32 {
        super::MESSAGE_BITS
    }
}
