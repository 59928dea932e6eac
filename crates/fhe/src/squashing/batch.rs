//! Several values squashed together, in steps of a second or less.
//!
//! Squashing one value of 256 bits takes as long as hundreds of ordinary bootstraps, and whoever computes wants its processor back meanwhile. A batch
//! is therefore done in steps, between which its owner can let others compute. A step squashes as many ciphertexts as a pool has threads, whosever value they
//! are of, so that values of one bit keep all threads busy when several of them wait, or packs one list. Each value gets a list of its own, of the same bytes as
//! [`NoiseSquasher::squash_list`] gives for it alone.

use std::collections::VecDeque;

use cipherloom_primitives::FheType;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tfhe::{
    integer::{BooleanBlock, IntegerCiphertext, RadixCiphertext},
    shortint::ciphertext::SquashedNoiseCiphertext,
};

use super::{NoiseSquasher, list};
use crate::{
    ciphertext::{Ciphertext, Value},
    cpu::POOL_THREADS,
    error::FheError,
};

/// Blocks that are squashed to one ciphertext.
const BLOCKS_OF_ONE: usize = 2;

/// Values that are being squashed.
pub struct SquashingBatch<'a> {
    squasher: &'a NoiseSquasher,
    /// Those that are not finished, in order; the place in the batch comes with each.
    values: VecDeque<(usize, Pending)>,
}

/// A value of a batch that is finished.
#[derive(Debug)]
pub struct SquashedInBatch {
    /// Its place among the values that the batch was made of.
    pub index: usize,
    /// Its list, or why there is none.
    pub list: Result<Vec<u8>, FheError>,
}

/// How far a value is.
struct Pending {
    ty: FheType,
    to_do: VecDeque<Chunk>,
    squashed: Vec<SquashedNoiseCiphertext>,
    failed: Option<FheError>,
}

/// What becomes one squashed ciphertext.
enum Chunk {
    Bool(BooleanBlock),
    Blocks(RadixCiphertext),
}

impl Pending {
    fn new(ciphertext: &Ciphertext) -> Self {
        let (to_do, failed) = match &ciphertext.value {
            Value::Clear(_) => (VecDeque::new(), Some(FheError::ForeignCiphertext)),
            Value::Bool(bit) => (VecDeque::from([Chunk::Bool(bit.clone())]), None),
            Value::Radix(radix) => {
                let chunks = radix.blocks().chunks(BLOCKS_OF_ONE);
                (chunks.map(|blocks| Chunk::Blocks(blocks.to_vec().into())).collect(), None)
            }
        };
        Self {
            ty: ciphertext.ty,
            squashed: Vec::with_capacity(to_do.len()),
            to_do,
            failed,
        }
    }
}

impl NoiseSquasher {
    /// Begins to squash values, each of which gets a list of its own.
    #[must_use]
    pub fn batch(&self, ciphertexts: &[&Ciphertext]) -> SquashingBatch<'_> {
        let pending = ciphertexts.iter().map(|ciphertext| Pending::new(ciphertext));
        SquashingBatch {
            squasher: self,
            values: pending.enumerate().collect(),
        }
    }

    /// Squashes blocks of one ciphertext.
    fn squash_chunk(&self, chunk: &Chunk) -> Result<SquashedNoiseCiphertext, FheError> {
        let key = &self.computation.integer;
        let squashed = match chunk {
            Chunk::Bool(bit) => self
                .squashing
                .squash_boolean_block_noise(key, bit)
                .map(|block| Some(block.packed_blocks().clone())),
            Chunk::Blocks(blocks) => self
                .squashing
                .squash_radix_ciphertext_noise(key, blocks)
                .map(|radix| radix.packed_blocks().first().cloned()),
        };
        let squashed = squashed.map_err(|reason| FheError::key("noise squashing key", reason))?;
        squashed.ok_or_else(|| FheError::key("noise squashing key", "squashed blocks to nothing"))
    }
}

impl SquashingBatch<'_> {
    /// Says whether every value is finished.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.values.is_empty()
    }

    /// Does the next step, and returns a value if it finished one. Values are finished in their order.
    pub fn step(&mut self) -> Option<SquashedInBatch> {
        let first_is_squashed = self
            .values
            .front()
            .is_some_and(|(_, value)| value.to_do.is_empty() || value.failed.is_some());
        if first_is_squashed {
            self.finish_first()
        } else {
            self.squash_some()
        }
    }

    /// Squashes the next ciphertexts, of the first value and as many others as it takes.
    fn squash_some(&mut self) -> Option<SquashedInBatch> {
        let mut chunks = Vec::with_capacity(POOL_THREADS);
        for (place, (_, value)) in self.values.iter_mut().enumerate() {
            while chunks.len() < POOL_THREADS
                && value.failed.is_none()
                && let Some(chunk) = value.to_do.pop_front()
            {
                chunks.push((place, chunk));
            }
        }
        let squasher = self.squasher;
        let squashed: Vec<_> = squasher.pools.run(|| {
            chunks
                .into_par_iter()
                .map(|(place, chunk)| (place, squasher.squash_chunk(&chunk)))
                .collect()
        });
        for (place, result) in squashed {
            let Some((_, value)) = self.values.get_mut(place) else { continue };
            match result {
                Ok(ciphertext) => value.squashed.push(ciphertext),
                Err(error) => value.failed = Some(error),
            }
        }
        None
    }

    /// Packs the first value's list.
    fn finish_first(&mut self) -> Option<SquashedInBatch> {
        let (index, value) = self.values.pop_front()?;
        let list = match value.failed {
            Some(error) => Err(error),
            None => {
                let squasher = self.squasher;
                squasher.pools.run(|| list::write(&squasher.packing, &[value.ty], &value.squashed))
            }
        };
        Some(SquashedInBatch { index, list })
    }
}
