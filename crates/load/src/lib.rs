//! Traffic for coprocessors under test or measurement. Nothing here is part of a deployment.
//!
//! * [`Traffic`] makes transactions of mixed shapes from a seed, and knows what every result must be: it has an arithmetic of its own
//!   ([`plain`]), so that a wrong operation table or evaluator does not agree with itself.
//! * [`Ledger`] remembers what was asked for, decrypts what comes out, and compares: each value right, and the same bytes whenever it is read.
//! * [`TenantClient`] asks over gRPC as a node of the 0.6 generation does, and asks again where a crash of the other side allows it.
//! * [`Deployment`] and [`Process`] are the processes to ask: started from the binary, stopped as operators stop them, and killed as operators do
//!   not want them to be.
//!
//! Benchmarks and end-to-end tests both use it, so that what is measured is what is checked.

pub mod client;
pub mod error;
pub mod ledger;
pub mod plain;
pub mod process;
pub mod random;
pub mod shapes;
pub mod traffic;
pub mod transaction;

pub use client::{Fetched, TenantClient};
pub use error::LoadError;
pub use ledger::Ledger;
pub use plain::{Plain, Value};
pub use process::{Deployment, Process, Role, TenantAccess};
pub use random::Random;
pub use shapes::Shape;
pub use traffic::{Batch, Traffic};
