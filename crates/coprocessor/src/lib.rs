//! The coprocessor: admits encrypted inputs, records what the host chain asks for, computes it, and vouches for results.
//!
//! **Roles.** Clients hand in input lists with zero-knowledge proofs ([`Coprocessor::admit_input`]). The recorder follows
//! the chain into the store ([`Coprocessor::record`]). Workers lease recorded transactions and compute them
//! ([`Coprocessor::work`]). KMS nodes and the gateway ask for results ([`Coprocessor::handle_status`],
//! [`Coprocessor::wait_for`], [`Coprocessor::signed_ciphertext`]); the nodes of a committee ask for what they can decrypt together
//! ([`Coprocessor::signed_squashed`]).
//!
//! **Flow.** A transaction is the unit of work. Its computations form a graph; only handles that it granted to someone
//! leave it, because no later transaction may use any other. The worker compiles what the transaction's outputs need to a program of
//! bootstraps ([`cipherloom_engine`]), loads ciphertexts of earlier transactions, expands the values it uses of input lists, re-randomises both
//! once, has the engine evaluate the program in memory together with those of other transactions, and publishes what leaves in one step.
//!
//! **Tenants.** A process serves one chain with a [`Coprocessor`] of its own, or all tenants of a database with a [`Tenancy`], which has one
//! [`KeyedEngine`] per key set, and [`Workers`], which share the process among tenants. What engines share of the machine is a [`Machine`].
//!
//! **Same bytes every time.** Values that cross a transaction are read in raw or in packed form by a rule on block numbers, inputs always from
//! their list, and randomness is derived from the transaction, so results do not depend on which worker computed what, on what is kept, or on
//! restarts (`spec/boundary.md`). What is old is packed in the background; what is signed is always the packed form.
//!
//! **Restart.** Recording resumes after the newest stored block. A killed worker's lease ends (at once with the embedded
//! store, by expiry otherwise) and the transaction is computed again; publication is idempotent on the handle.
//!
//! **Failures.** A computation that can never succeed (an operand nobody published, an input nobody admitted) marks its
//! outputs failed with the reason, and what depends on them fails with that reason in turn. Other outputs, of the same
//! transaction too, are not held up. Two rules for repetition: a handle recorded twice is computed by whoever comes first
//! on the chain; a handle made for another chain is refused. When the chain reorganises, grants, transactions and
//! ciphertexts of removed blocks are withdrawn.

mod admission;
mod backoff;
mod ciphertext_cache;
mod config;
mod cooling;
mod coprocessor;
mod error;
mod evaluation;
mod following;
mod graph;
mod hints;
mod key_cache;
mod keyed_engine;
mod loading;
mod machine;
pub mod metrics;
pub mod mirror;
mod prepared;
mod processing;
mod progress;
mod recording;
mod results;
pub mod server;
mod squashing;
mod tenancy;
mod turns;
mod worker;
mod workers;

pub use admission::{AdmittedInput, MAX_EXTRA_DATA_BYTES};
pub use ciphertext_cache::CacheStatistics;
pub use config::{Clock, CoprocessorConfig, system_clock};
pub use coprocessor::Coprocessor;
pub use error::{CoprocessorError, Fault};
pub use following::{Followers, FollowersOptions};
pub use keyed_engine::KeyedEngine;
pub use machine::{Machine, MachineOptions};
pub use progress::{Progress, StageTimes};
pub use results::{HandleStatus, SignedCiphertext};
pub use squashing::{SignedSquashed, Squashing, SquashingAhead, SquashingKeys, SquashingOptions, StoredKeys};
pub use tenancy::{Tenancy, TenancyOptions, TenantKeys};
pub use workers::{Workers, WorkersOptions, WorkersStatistics};
