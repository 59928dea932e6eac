//! Computation on blocks: the numbers of two bits that ciphertexts are made of, and lookup tables on them.
//!
//! The engine compiles operations to two kinds of steps. A linear combination of blocks costs nothing. A bootstrap looks a block's
//! value up in a table and costs everything: some 10 ms of one core. Three things make bootstraps cheap here. One bootstrap
//! evaluates several tables of the same block ([`LookupTable`]). Many bootstraps at a time share one pass over the key, which is far larger than any
//! cache ([`BlockBackend::bootstrap_batch`]). And what a block can hold at most is known ([`BlockBounds`]), so that no
//! bootstrap is spent on cleaning what is clean.
//!
//! A block has room for values from 0 to 15: two bits of message, two of carry. Above them lies one padding bit, always 0,
//! because a lookup with it set would negate its result.

mod backend;
mod block;
mod bounds;
mod clear;
mod cpu;
mod join;
mod table;

pub use backend::{BlockBackend, BootstrapJob};
pub use block::Block;
pub use bounds::{BlockBounds, MAX_BLOCK_VALUE, MAX_NOISE_LEVEL};
pub use clear::ClearBlocks;
pub use cpu::CpuBlocks;
pub(crate) use cpu::{POLYNOMIALS, rotate_tables};
pub use table::LookupTable;

/// How many bits of plaintext a clean block holds, in every parameter set.
pub(crate) const MESSAGE_BITS: u32 = 2;
