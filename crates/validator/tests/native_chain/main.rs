//! Native chains on real TFHE, with toy parameters.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod agreed;
mod cluster;
mod founded;
mod ground;
mod options;
#[path = "../../../node/tests/native/program.rs"]
mod program;
mod replay;
mod scripts;
mod several;
mod together;

use self::scripts as client;
