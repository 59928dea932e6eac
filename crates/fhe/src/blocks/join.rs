//! Which blocks make a ciphertext.

use cipherloom_primitives::FheType;

use super::Block;
use crate::{error::FheError, stored::block_count};

/// Returns the largest value of a clean block of this type.
pub(super) const fn largest_clean(ty: FheType) -> u8 {
    match ty {
        FheType::Bool => 1,
        _ => 3,
    }
}

/// Checks number, degrees and noise of the blocks.
pub(super) fn check(ty: FheType, blocks: &[Block]) -> Result<(), FheError> {
    let unclean = |reason| Err(FheError::UncleanBlocks { ty, reason });
    if blocks.len() != block_count(ty) {
        return unclean("there are too many or too few of them");
    }
    if blocks.iter().any(|block| block.degree() > largest_clean(ty)) {
        return unclean("one may have a carry");
    }
    if blocks.iter().any(|block| block.noise_level() > 1) {
        return unclean("one has more than nominal noise");
    }
    Ok(())
}
