//! Blocks under real encryption: LWE ciphertexts and batched bootstraps on the CPU.
//!
//! Every result has the same bits as tfhe-rs's own linear operations and lookups on one block at a time. That is how its analysis of
//! noise and failure probability carries over, and why batches can be of any size.

mod batch;
mod keys;
mod measure;
mod rotate;
mod single;
mod switch;
#[cfg(all(test, feature = "insecure-toy-parameters"))]
mod tests;
mod workers;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use cipherloom_primitives::FheType;
use tfhe::{
    core_crypto::prelude::LweCiphertext,
    integer::IntegerCiphertext,
    shortint::{
        Ciphertext as ShortintBlock,
        parameters::{Degree, NoiseLevel},
    },
};

pub(crate) use self::{batch::rotate_tables, rotate::POLYNOMIALS};
use self::{keys::BootstrapKeys, workers::Workers};
use super::{Block, BlockBackend, BlockBounds, BootstrapJob, MAX_BLOCK_VALUE, block::Content, join};
use crate::{
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::EvaluationKeys,
    stored::from_blocks,
};

/// The distance of two neighbouring values in the body of a ciphertext: below the padding bit there is room for 16 of them.
const VALUE_STEP: u64 = (1 << 63) / (MAX_BLOCK_VALUE as u64 + 1);

/// Where buffers begin: at multiples of the widest registers and of a cache line, in bytes.
const LANE_ALIGNMENT: usize = 64;

/// Blocks under the evaluation keys of one key set.
pub struct CpuBlocks {
    keys: Arc<EvaluationKeys>,
    workers: Workers,
    bootstraps: AtomicU64,
    preferred_batch: OnceLock<usize>,
}

impl CpuBlocks {
    /// Makes the machinery for a key set, with a thread for every processor.
    ///
    /// # Panics
    /// If the operating system refuses to start the threads.
    #[must_use]
    pub fn new(keys: Arc<EvaluationKeys>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(keys, processors)
    }

    /// Makes the machinery with this many threads. Their number has no influence on results.
    ///
    /// # Panics
    /// If the operating system refuses to start the threads.
    #[must_use]
    pub fn with_threads(keys: Arc<EvaluationKeys>, threads: usize) -> Self {
        Self {
            keys,
            workers: Workers::new(threads),
            bootstraps: AtomicU64::new(0),
            preferred_batch: OnceLock::new(),
        }
    }

    /// Does the jobs in batches of at most this size on the calling thread. Benchmarks and tests use it; results are those of
    /// [`BlockBackend::bootstrap_batch`].
    ///
    /// # Errors
    /// As [`BlockBackend::bootstrap_batch`].
    pub fn bootstrap_on_this_thread(&self, jobs: &[BootstrapJob<'_>], batch: usize) -> Result<Vec<Vec<Block>>, FheError> {
        let keys = BootstrapKeys::of(&self.keys)?;
        self.bootstrap_with(jobs, |secret| {
            let batches = secret.chunks(batch.max(1)).map(|jobs| batch::bootstrap(&keys, jobs));
            Ok(batches.collect::<Vec<_>>().into_iter().flatten().collect())
        })
    }

    /// Does the jobs one at a time with tfhe-rs's own lookups: the yardstick of time and the definition of the results.
    ///
    /// # Errors
    /// As [`BlockBackend::bootstrap_batch`].
    pub fn bootstrap_one_by_one(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        self.bootstrap_with(jobs, |secret| {
            Ok(secret.iter().map(|job| single::bootstrap(&self.keys, job)).collect())
        })
    }

    /// Checks all jobs, gives those on secret blocks to `bootstrap`, and looks public blocks up in the clear.
    fn bootstrap_with(
        &self,
        jobs: &[BootstrapJob<'_>],
        bootstrap: impl FnOnce(&[SecretJob<'_>]) -> Result<Vec<Vec<Block>>, FheError>,
    ) -> Result<Vec<Vec<Block>>, FheError> {
        let mut secret = Vec::with_capacity(jobs.len());
        for job in jobs {
            job.table.check_input(job.input.degree())?;
            if job.input.public_value().is_none() {
                secret.push(SecretJob {
                    words: self.words(job.input)?,
                    table: job.table,
                });
            }
        }
        let mut bootstrapped = bootstrap(&secret)?.into_iter();
        self.bootstraps.fetch_add(secret.len() as u64, Ordering::Relaxed);
        let result = |job: &BootstrapJob<'_>| match job.input.public_value() {
            Some(value) => job.table.look_up_public(value),
            None => Ok(bootstrapped.next().expect("there is a result for every secret block")),
        };
        jobs.iter().map(result).collect()
    }

    /// Returns mask and body of a secret block of this backend.
    fn words<'a>(&self, block: &'a Block) -> Result<&'a [u64], FheError> {
        match &block.content {
            Content::Lwe(words) if words.len() == self.keys.stored.shape.lwe_size.0 => Ok(words),
            _ => Err(FheError::ForeignCiphertext),
        }
    }

    /// Computes a combination whose bounds are known.
    fn add_up(&self, terms: &[(i8, &Block)], constant: u8, bounds: BlockBounds) -> Result<Block, FheError> {
        let mut known = u64::from(constant);
        let mut sum: Option<Vec<u64>> = None;
        for (coefficient, block) in terms {
            // Negative numbers are what they are modulo 2^64, in which blocks live.
            let factor = i64::from(*coefficient).cast_unsigned();
            if let Some(value) = block.public_value() {
                known = known.wrapping_add(factor.wrapping_mul(value.into()));
                continue;
            }
            let words = self.words(block)?;
            match &mut sum {
                None => sum = Some(words.iter().map(|word| word.wrapping_mul(factor)).collect()),
                Some(sum) => {
                    for (total, word) in sum.iter_mut().zip(words) {
                        *total = total.wrapping_add(word.wrapping_mul(factor));
                    }
                }
            }
        }
        let Some(mut sum) = sum else {
            let [lowest, ..] = known.to_le_bytes();
            return Ok(Block::trivial(lowest));
        };
        if let Some(body) = sum.last_mut() {
            *body = body.wrapping_add(known.wrapping_mul(VALUE_STEP));
        }
        Ok(Block::new(Content::Lwe(sum.into()), bounds))
    }

    fn split_block(&self, ty: FheType, block: &ShortintBlock) -> Result<Block, FheError> {
        let unclean = |reason| FheError::UncleanBlocks { ty, reason };
        if let Ok(value) = block.decrypt_trivial_message_and_carry() {
            return Ok(Block::trivial(
                u8::try_from(value).map_err(|_| unclean("one has its padding bit set"))?,
            ));
        }
        if block.noise_level() > NoiseLevel::NOMINAL {
            return Err(unclean("one has more than nominal noise"));
        }
        let degree = u8::try_from(block.degree.get()).map_err(|_| unclean("one may have a carry"))?;
        let words: &[u64] = block.ct.as_ref();
        let block = Block::new(Content::Lwe(words.into()), BlockBounds::bootstrapped(degree));
        self.words(&block)?;
        Ok(block)
    }

    fn join_block(&self, block: &Block) -> Result<ShortintBlock, FheError> {
        let shape = &self.keys.stored.shape;
        let (words, noise) = match block.public_value() {
            Some(value) => {
                let mut words = vec![0; shape.lwe_size.0];
                if let Some(body) = words.last_mut() {
                    *body = u64::from(value) * VALUE_STEP;
                }
                (words, NoiseLevel::ZERO)
            }
            None => (self.words(block)?.to_vec(), NoiseLevel::NOMINAL),
        };
        Ok(ShortintBlock::new(
            LweCiphertext::from_container(words, shape.ciphertext_modulus),
            Degree::new(block.degree().into()),
            noise,
            shape.message_modulus,
            shape.carry_modulus,
            shape.atomic_pattern,
        ))
    }
}

/// A lookup of a secret block that was found to be allowed.
struct SecretJob<'a> {
    words: &'a [u64],
    table: &'a super::LookupTable,
}

impl BlockBackend for CpuBlocks {
    fn linear(&self, terms: &[(i8, &Block)], constant: u8) -> Result<Block, FheError> {
        let bounds = terms.iter().map(|(coefficient, block)| (*coefficient, block.bounds()));
        self.add_up(terms, constant, BlockBounds::linear(bounds, constant)?)
    }

    fn linear_within(&self, terms: &[(i8, &Block)], constant: u8, max: u8) -> Result<Block, FheError> {
        let bounds = terms.iter().map(|(coefficient, block)| (*coefficient, block.bounds()));
        self.add_up(terms, constant, BlockBounds::linear_within(bounds, max)?)
    }

    fn bootstrap_batch(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        let keys = BootstrapKeys::of(&self.keys)?;
        self.bootstrap_with(jobs, |secret| {
            Ok(self
                .workers
                .run(secret, || self.preferred_batch(), |jobs| batch::bootstrap(&keys, jobs)))
        })
    }

    fn bootstrap_here(&self, jobs: &[BootstrapJob<'_>]) -> Result<Vec<Vec<Block>>, FheError> {
        self.bootstrap_on_this_thread(jobs, jobs.len())
    }

    fn preferred_batch(&self) -> usize {
        *self
            .preferred_batch
            .get_or_init(|| BootstrapKeys::of(&self.keys).map_or(1, |keys| measure::preferred_batch(&keys)))
    }

    fn bootstraps(&self) -> u64 {
        self.bootstraps.load(Ordering::Relaxed)
    }

    fn split(&self, ciphertext: &Ciphertext) -> Result<Vec<Block>, FheError> {
        let blocks = match &ciphertext.value {
            Value::Clear(_) => return Err(FheError::ForeignCiphertext),
            Value::Bool(bit) => std::slice::from_ref(bit.as_ref()),
            Value::Radix(radix) => radix.blocks(),
        };
        let ty = ciphertext.fhe_type();
        let blocks = blocks
            .iter()
            .map(|block| self.split_block(ty, block))
            .collect::<Result<Vec<_>, _>>()?;
        join::check(ty, &blocks)?;
        Ok(blocks)
    }

    fn join(&self, ty: FheType, blocks: Vec<Block>) -> Result<Ciphertext, FheError> {
        join::check(ty, &blocks)?;
        from_blocks(ty, blocks.iter().map(|block| self.join_block(block)).collect::<Result<_, _>>()?)
    }
}
