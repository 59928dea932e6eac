//! The executor: native mode's evaluation service.
//!
//! In native mode the node itself keeps ciphertexts. It executes a block symbolically, and then sends all encrypted operations of the block to an
//! executor and waits for the results. Two gRPC services do that:
//!
//! * `fhevm.executor.FhevmExecutor/SyncCompute`, which nodes of the 0.6 generation call: one answer with all results, or the reason why there are none;
//! * `cipherloom.executor.v1.Executor/Compute`: results as they are ready, each with its own success or failure, which large blocks and deadlines call for.
//!
//! A request goes through these steps, each in a module of its own:
//!
//! 1. `admission`: is there room for another request? Asked before its body is read.
//! 2. `outside`: ciphertexts and input lists are read, proofs are checked, values get their handles.
//! 3. `operands`, `plan`: computations are checked against the operation table, sorted by what needs what, and split into parts.
//! 4. `job`: each part is compiled and evaluated on the engine's pool, which all requests share.
//! 5. `service`: results go out. When the client is gone, at the deadline, or at shutdown the job is dropped, and with it what is not computed yet.
//!
//! A node that computes by itself has a [`LocalExecutor`]: the same without a server.
//!
//! An executor keeps nothing between requests. After a restart, or behind a load balancer on another machine, the same request gives the same bytes.

mod admission;
pub mod config;
mod ending;
pub mod error;
mod job;
pub mod local;
mod operands;
mod outside;
mod plan;
pub mod server;
mod service;

pub use config::{ExecutorConfig, Limits};
pub use error::{ComputeError, ExecutorError};
pub use local::LocalExecutor;
pub use server::{Executor, ExecutorHandle};
pub use service::REASON_HEADER;
