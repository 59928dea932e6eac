//! What a block can hold at most, and how noisy it can be: the two things that decide whether a lookup is right.
//!
//! The parameter sets keep their failure probability as long as the noise of a looked-up block is at most five times that of
//! a fresh bootstrap. Levels add like the worst case, in which all noises are the same: `Σ |coefficient| · level`. Independent noises add like
//! squares and would stay lower, but blocks that come out of one bootstrap, or out of one block, are not independent.

use crate::error::FheError;

/// The largest value of a block: two bits of message and two of carry, below the padding bit.
pub const MAX_BLOCK_VALUE: u8 = 15;

/// The largest noise level at which a block can be looked up; the `max_noise_level` of every parameter set.
pub const MAX_NOISE_LEVEL: u8 = 5;

/// The range of a block's values and its noise level. The engine computes with these alone before it computes with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockBounds {
    min: u8,
    max: u8,
    noise: u8,
}

impl BlockBounds {
    /// Returns the bounds of a public value; of values above 15, of the lowest four bits.
    #[must_use]
    pub const fn constant(value: u8) -> Self {
        let value = value & MAX_BLOCK_VALUE;
        Self {
            min: value,
            max: value,
            noise: 0,
        }
    }

    /// Returns the bounds of a bootstrap's result that is at most `max`, 15 if that is more.
    #[must_use]
    pub const fn bootstrapped(max: u8) -> Self {
        Self {
            min: 0,
            max: if max < MAX_BLOCK_VALUE { max } else { MAX_BLOCK_VALUE },
            noise: 1,
        }
    }

    /// Returns the bounds of `Σ coefficient · block + constant`.
    ///
    /// # Errors
    /// As [`BlockBackend::linear`](super::BlockBackend::linear).
    pub fn linear(terms: impl IntoIterator<Item = (i8, Self)>, constant: u8) -> Result<Self, FheError> {
        let (mut min, mut max, mut noise) = (i64::from(constant), i64::from(constant), 0_u64);
        for (coefficient, bounds) in terms {
            let (lower, upper) = if coefficient < 0 {
                (bounds.max, bounds.min)
            } else {
                (bounds.min, bounds.max)
            };
            min = min.saturating_add(i64::from(coefficient) * i64::from(lower));
            max = max.saturating_add(i64::from(coefficient) * i64::from(upper));
            noise = noise.saturating_add(u64::from(coefficient.unsigned_abs()) * u64::from(bounds.noise));
        }
        Self::checked(min, max, noise)
    }

    /// Returns the bounds of a combination whose value is known to be within 0 to `max`.
    ///
    /// # Errors
    /// As [`BlockBackend::linear_within`](super::BlockBackend::linear_within).
    pub fn linear_within(terms: impl IntoIterator<Item = (i8, Self)>, max: u8) -> Result<Self, FheError> {
        let noise = |(coefficient, bounds): (i8, Self)| u64::from(coefficient.unsigned_abs()) * u64::from(bounds.noise);
        Self::checked(0, max.into(), terms.into_iter().map(noise).sum())
    }

    fn checked(min: i64, max: i64, noise: u64) -> Result<Self, FheError> {
        let fits = |value: i64| u8::try_from(value).ok().filter(|value| *value <= MAX_BLOCK_VALUE);
        let (Some(lowest), Some(highest)) = (fits(min), fits(max)) else {
            return Err(FheError::BlockRange { min, max });
        };
        match u8::try_from(noise) {
            Ok(noise) if noise <= MAX_NOISE_LEVEL => Ok(Self {
                min: lowest,
                max: highest,
                noise,
            }),
            _ => Err(FheError::BlockNoise { level: noise }),
        }
    }

    /// Returns the smallest possible value.
    #[must_use]
    pub const fn min(self) -> u8 {
        self.min
    }

    /// Returns the largest possible value.
    #[must_use]
    pub const fn max(self) -> u8 {
        self.max
    }

    /// Returns the noise level: 0 for a public block, 1 after a bootstrap, more after linear combinations.
    #[must_use]
    pub const fn noise_level(self) -> u8 {
        self.noise
    }
}
