//! One block, of any backend.

use std::sync::Arc;

use super::BlockBounds;

/// A number from 0 to 15, encrypted or not, with what is known about it. Cheap to clone.
///
/// Blocks are equal if they are the same bits with the same bounds; equal numbers under encryption usually are not.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    pub(super) content: Content,
    pub(super) bounds: BlockBounds,
}

/// The number per backend.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A public number, in all backends.
    Trivial(u8),
    /// The clear backend's "secret" number.
    Clear(u8),
    /// The CPU backend's secret number: mask and body of an LWE ciphertext.
    Lwe(Arc<[u64]>),
}

impl Block {
    pub(super) const fn new(content: Content, bounds: BlockBounds) -> Self {
        Self { content, bounds }
    }

    /// Makes a public block of the value's lowest four bits.
    pub(super) const fn trivial(value: u8) -> Self {
        let bounds = BlockBounds::constant(value);
        Self::new(Content::Trivial(bounds.max()), bounds)
    }

    /// Returns what is known about value and noise.
    #[must_use]
    pub const fn bounds(&self) -> BlockBounds {
        self.bounds
    }

    /// Returns the largest value the block can have.
    #[must_use]
    pub const fn degree(&self) -> u8 {
        self.bounds.max()
    }

    /// Returns the noise level: 0 for a public block, 1 after a bootstrap, more after linear combinations.
    #[must_use]
    pub const fn noise_level(&self) -> u8 {
        self.bounds.noise_level()
    }

    /// Returns the value of a public block.
    #[must_use]
    pub const fn public_value(&self) -> Option<u8> {
        match self.content {
            Content::Trivial(value) => Some(value),
            Content::Clear(_) | Content::Lwe(_) => None,
        }
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value is left out: the clear backend's would be a plaintext in a log.
        f.debug_struct("Block").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
