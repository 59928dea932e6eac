//! FHE gas: how much homomorphic work a block may ask for.
//!
//! It is counted in HCU. The cost of an operation is the published one; what the table does not know, the check of an input's proof and the packing
//! and storing of a ciphertext, costs what it takes beside an operation. Without the latter a block could be filled with trivial encryptions, whose 32 HCU
//! are paid for what the chain then keeps for ever.

use cipherloom_primitives::Computation;
use cipherloom_primitives::cost::cost_hcu;

/// What one check of a proof costs in HCU, whether the proof holds or not.
pub const PROOF_HCU: u64 = 500_000;

/// What one ciphertext that goes into state costs in HCU.
pub const STORED_HCU: u64 = 20_000;

/// Adds up what computations, proof checks and stored ciphertexts cost.
#[must_use]
pub fn fhe_gas<'a>(computations: impl Iterator<Item = &'a Computation>, proofs: u64, stored: u64) -> u64 {
    let operations = computations.fold(0, |sum: u64, computation| sum.saturating_add(cost_hcu(&computation.operation)));
    operations
        .saturating_add(PROOF_HCU.saturating_mul(proofs))
        .saturating_add(STORED_HCU.saturating_mul(stored))
}

/// A transaction asks for more homomorphic work than is left in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction needs {needed_hcu} HCU of FHE gas; {left_hcu} of {limit_hcu} are left in the block")]
pub struct FheGasExceeded {
    /// What the transaction needs.
    pub needed_hcu: u64,
    /// What is left.
    pub left_hcu: u64,
    /// What a block has. A transaction that needs more never fits.
    pub limit_hcu: u64,
}
