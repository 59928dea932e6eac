//! The engine: a compiler from a transaction's computations to bootstraps, and their evaluation.
//!
//! A transaction goes through these stages; each has a readable dump.
//!
//! 1. [`Graph::record`]: which value is made from which, with types and single failures.
//! 2. [`Graph::prune`]: only what leaves the transaction, and what that needs.
//! 3. [`rewrite::rewrite`]: named rules that are exact on plaintexts make the graph cheaper and canonical.
//! 4. [`lower::lower`]: kernels turn operations into bootstraps on blocks, a [`Program`].
//! 5. [`schedule`]: which bootstraps go into one batch.
//! 6. [`EnginePool`]: the threads that evaluate programs, as many at a time as there are, on a backend of [`cipherloom_fhe`].
//!
//! Everything before evaluation is a pure function of the computations, so that two coprocessors compute the same bytes.

mod builder;
pub mod counts;
pub mod error;
pub mod evaluate;
pub mod explain;
mod finish;
pub mod graph;
mod groups;
mod kernels;
pub mod lower;
pub mod pool;
pub mod program;
mod prune;
pub mod rewrite;
mod run;
pub mod schedule;
mod simulate;

/// Names what results are made of: rules, kernels, and what they ask of the backend. Coprocessors agree on bytes if they run the same version. It is raised
/// whenever the digests in `spec/vectors/engine.json` change.
pub const ENGINE_VERSION: u32 = 2;

pub use error::{EngineError, NodeError};
pub use evaluate::{Compiled, Engine};
pub use graph::{Graph, Node, NodeId};
pub use groups::Groups;
pub use lower::{Granularity, Profile};
pub use pool::{EnginePool, Evaluated, Evaluation, Permit, Permits, PoolOptions, PoolStatistics};
pub use program::Program;
pub use run::Outputs;
pub use schedule::{GroupId, Policy};
