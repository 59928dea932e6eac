//! Native chains on real TFHE, with toy parameters.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod agreed;
mod cluster;
mod founded;
mod ground;
mod options;
mod several;
mod together;
