//! Blocks of the clear backend: plaintext under the same rules.
//!
//! A lookup takes nanoseconds, so the engine's graphs can be tested by the hundred thousand, and every combination that real blocks
//! would not survive is refused here too.

use std::sync::atomic::{AtomicU64, Ordering};

use cipherloom_primitives::{FheType, U256};

use super::{Block, BlockBackend, BlockBounds, BootstrapJob, MESSAGE_BITS, block::Content, join};
use crate::{
    ciphertext::{Ciphertext, Value},
    error::FheError,
    stored::block_count,
};

/// How many jobs per call are worth the call. There is nothing to measure.
const PREFERRED_BATCH: usize = 16;

/// Blocks without any encryption. For tests and development only.
#[derive(Default)]
pub struct ClearBlocks {
    bootstraps: AtomicU64,
}

impl ClearBlocks {
    /// Makes the machinery. **Insecure:** every "secret" block holds its plaintext in the open.
    #[must_use]
    pub const fn insecure_new() -> Self {
        Self {
            bootstraps: AtomicU64::new(0),
        }
    }

    /// Makes a "secret" block of a value, as it would come out of a bootstrap with results up to `degree`.
    ///
    /// # Errors
    /// [`FheError::BlockRange`] if the value is above the degree or the degree above 15.
    pub fn insecure_secret(value: u8, degree: u8) -> Result<Block, FheError> {
        let bounds = BlockBounds::bootstrapped(degree);
        if value > degree || degree > bounds.max() {
            return Err(FheError::BlockRange {
                min: value.into(),
                max: degree.into(),
            });
        }
        Ok(Block::new(Content::Clear(value), bounds))
    }

    /// Returns the value of a block, unless it belongs to another backend.
    #[must_use]
    pub const fn insecure_value(block: &Block) -> Option<u8> {
        match block.content {
            Content::Trivial(value) | Content::Clear(value) => Some(value),
            Content::Lwe(_) => None,
        }
    }
}

fn value_of(block: &Block) -> Result<u8, FheError> {
    ClearBlocks::insecure_value(block).ok_or(FheError::ForeignCiphertext)
}

fn bounds_of(terms: &[(i8, &Block)]) -> impl Iterator<Item = (i8, BlockBounds)> {
    terms.iter().map(|(coefficient, block)| (*coefficient, block.bounds()))
}

/// Computes a combination whose bounds are known.
fn add_up(terms: &[(i8, &Block)], constant: u8, bounds: BlockBounds) -> Result<Block, FheError> {
    let mut sum = i64::from(constant);
    for (coefficient, block) in terms {
        sum += i64::from(*coefficient) * i64::from(value_of(block)?);
    }
    let within = u8::try_from(sum).ok().filter(|value| *value <= bounds.max());
    let value = within.ok_or(FheError::BlockRange { min: sum, max: sum })?;
    Ok(if terms.iter().all(|(_, block)| block.public_value().is_some()) {
        Block::trivial(value)
    } else {
        Block::new(Content::Clear(value), bounds)
    })
}

impl BlockBackend for ClearBlocks {
    fn linear(&self, terms: &[(i8, &Block)], constant: u8) -> Result<Block, FheError> {
        add_up(terms, constant, BlockBounds::linear(bounds_of(terms), constant)?)
    }

    fn linear_within(&self, terms: &[(i8, &Block)], constant: u8, max: u8) -> Result<Block, FheError> {
        add_up(terms, constant, BlockBounds::linear_within(bounds_of(terms), max)?)
    }

    fn bootstrap_batch(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        for job in jobs {
            job.table.check_input(job.input.degree())?;
            value_of(job.input)?;
        }
        let secret = jobs.iter().filter(|job| job.input.public_value().is_none()).count();
        self.bootstraps.fetch_add(secret as u64, Ordering::Relaxed);
        jobs.iter().map(look_up).collect()
    }

    fn bootstrap_here(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        self.bootstrap_batch(jobs)
    }

    fn preferred_batch(&self) -> usize {
        PREFERRED_BATCH
    }

    fn bootstraps(&self) -> u64 {
        self.bootstraps.load(Ordering::Relaxed)
    }

    fn split(&self, ciphertext: &Ciphertext) -> Result<Vec<Block>, FheError> {
        let Value::Clear(value) = &ciphertext.value else {
            return Err(FheError::ForeignCiphertext);
        };
        let ty = ciphertext.fhe_type();
        let bounds = BlockBounds::bootstrapped(join::largest_clean(ty));
        let block = |index: usize| {
            let digit = (*value >> (index * MESSAGE_BITS as usize)).byte(0) & bounds.max();
            Block::new(Content::Clear(digit), bounds)
        };
        Ok((0..block_count(ty)).map(block).collect())
    }

    fn join(&self, ty: FheType, blocks: Vec<Block>) -> Result<Ciphertext, FheError> {
        join::check(ty, &blocks)?;
        let mut value = U256::ZERO;
        for (index, block) in blocks.iter().enumerate() {
            value |= U256::from(value_of(block)?) << (index * MESSAGE_BITS as usize);
        }
        Ok(Ciphertext {
            ty,
            value: Value::Clear(value),
        })
    }
}

fn look_up(job: &BootstrapJob<'_>) -> Result<Vec<Block>, FheError> {
    if let Some(value) = job.input.public_value() {
        return job.table.look_up_public(value);
    }
    let outputs = job.table.outputs(value_of(job.input)?)?;
    let secret = |(output, bounds)| Block::new(Content::Clear(output), bounds);
    Ok(outputs.into_iter().zip(job.table.output_bounds()).map(secret).collect())
}
