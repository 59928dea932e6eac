//! Whole ceremonies among nodes with files of their own, under simulated hardware: honest ones, and ones where somebody cheats.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod committee;
mod dealing;
mod documents;
mod recovery;
mod resharing;
mod storage;
