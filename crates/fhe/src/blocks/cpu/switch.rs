//! Keyswitches of a batch: blocks are brought from the large key to the small one.
//!
//! A keyswitch subtracts from the block's body the product of its mask's digits with the key's vectors, several thousand of a thousand words
//! each, modulo 2^64. Sums of integers are the same in any order. So this is done as products of large matrices are: a tile of the key that fits the
//! nearest cache is applied to all blocks of the batch before the next one is read, and four vectors are added up in registers.

use pulp::{Arch, Simd, WithSimd};
use tfhe::core_crypto::{
    fft_impl::fft64::AVec,
    prelude::{ContiguousEntityContainer, LweKeyswitchKeyOwned, SignedDecomposer},
};

use super::LANE_ALIGNMENT;

/// How many vectors of the key are added up before a sum is written.
const GROUP: usize = 4;

/// How many vectors of the key make a tile, about.
const TILE_VECTORS: usize = 16;

/// How many words of each vector make a tile: with 16 vectors 32 KiB, two thirds of a usual first-level cache or all of it.
const TILE_WORDS: usize = 256;

/// Switches all blocks, given as mask and body.
pub(super) fn switch_keys(arch: Arch, key: &LweKeyswitchKeyOwned<u64>, blocks: &[&[u64]]) -> Switched {
    let decomposer = SignedDecomposer::<u64>::new(key.decomposition_base_log(), key.decomposition_level_count());
    let mut switched = Switched::new(key.output_lwe_size().0, blocks);
    let rows: Vec<_> = key.iter().collect();
    let rows_at_once = TILE_VECTORS.div_ceil(key.decomposition_level_count().0);
    for (index, rows) in rows.chunks(rows_at_once).enumerate() {
        let vectors: Vec<&[u64]> = rows.iter().flat_map(|row| row.as_ref().chunks_exact(switched.size)).collect();
        // The digits of each block in the order of the vectors.
        let digits: Vec<u64> = blocks
            .iter()
            .flat_map(|block| block.iter().skip(index * rows_at_once).take(rows.len()))
            .flat_map(|word| decomposer.decompose(*word).map(|digit| digit.value()))
            .collect();
        arch.dispatch(Subtract {
            switched: &mut switched,
            vectors: &vectors,
            digits: &digits,
        });
    }
    switched
}

/// Switched blocks, padded so that each begins where wide loads are cheapest.
pub(super) struct Switched {
    words: AVec<u64>,
    size: usize,
    stride: usize,
}

impl Switched {
    /// Makes blocks of this size with zero masks and the bodies of the blocks given.
    fn new(size: usize, blocks: &[&[u64]]) -> Self {
        let stride = size.next_multiple_of(LANE_ALIGNMENT / size_of::<u64>());
        let mut words: AVec<u64> = AVec::from_iter(LANE_ALIGNMENT, std::iter::repeat_n(0, stride * blocks.len()));
        for (words, block) in words.chunks_exact_mut(stride).zip(blocks) {
            if let (Some(body), Some(old)) = (words.get_mut(size - 1), block.last()) {
                *body = *old;
            }
        }
        Self { words, size, stride }
    }

    /// Returns mask and body of each block.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u64]> {
        self.words.chunks_exact(self.stride).filter_map(|words| words.get(..self.size))
    }
}

/// `switched −= Σ digit · vector` for every block.
struct Subtract<'a> {
    switched: &'a mut Switched,
    vectors: &'a [&'a [u64]],
    digits: &'a [u64],
}

impl WithSimd for Subtract<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { switched, vectors, digits } = self;
        for start in (0..switched.size).step_by(TILE_WORDS) {
            let end = switched.size.min(start + TILE_WORDS);
            let mut tile = [&[] as &[u64]; 2 * TILE_VECTORS];
            for (tile, vector) in tile.iter_mut().zip(vectors) {
                *tile = vector.get(start..end).unwrap_or_default();
            }
            let blocks = switched.words.chunks_exact_mut(switched.stride);
            for (words, digits) in blocks.zip(digits.chunks_exact(vectors.len())) {
                let words = words.get_mut(start..end).unwrap_or_default();
                for (vectors, digits) in tile.chunks_exact(GROUP).zip(digits.chunks(GROUP)) {
                    subtract(words, vectors, digits);
                }
            }
        }
    }
}

/// `words −= Σ digit · vector` for a group of vectors.
#[inline(always)]
fn subtract(words: &mut [u64], vectors: &[&[u64]], digits: &[u64]) {
    if let ([a, b, c, d], [p, q, r, s]) = (vectors, digits) {
        for ((((word, a), b), c), d) in words.iter_mut().zip(*a).zip(*b).zip(*c).zip(*d) {
            let first = a.wrapping_mul(*p).wrapping_add(b.wrapping_mul(*q));
            let second = c.wrapping_mul(*r).wrapping_add(d.wrapping_mul(*s));
            *word = word.wrapping_sub(first.wrapping_add(second));
        }
    } else {
        for (vector, digit) in vectors.iter().zip(digits) {
            for (word, key) in words.iter_mut().zip(*vector) {
                *word = word.wrapping_sub(key.wrapping_mul(*digit));
            }
        }
    }
}
