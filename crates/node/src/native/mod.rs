//! A native chain: validators compute on ciphertexts inside the block, and what contracts store is state.
//!
//! There is no coprocessor here. A transaction is executed on handles, as everywhere; what it asks the executor contract for is noticed, and at the end of
//! the block an executor computes the ciphertexts of those results that contracts stored. They go into state, under an account of their own, before the
//! state root is computed. `docs/native.md` tells the whole of it.
//!
//! # The library
//!
//! These parts know nothing of this node, and any client whose EVM is revm can use them; `docs/native-integration.md` shows how.
//!
//! * [`BlockSession`]: one per block. Its [`Recorder`]s, inspectors, notice what each transaction asks for; it knows what reached storage, counts FHE gas
//!   ([`fhe_gas()`]), and gives the [`BlockWork`] to compute.
//! * [`FheLib`]: the precompiled contract at `0x…5d`.
//! * [`write_ciphertexts`] and [`read_ciphertext`]: ciphertexts as storage.
//! * [`ComputeBlock`] and [`CheckInputs`]: what the client must bring along, a way to an executor and a check of input proofs.
//!
//! # A block
//!
//! ```
//! use std::{error::Error, sync::Arc};
//!
//! use cipherloom_node::native::{
//!     BlockSession, BlockWork, CheckInputs, Execution, FheLib, NativeContracts, Results, write_ciphertexts,
//! };
//! use revm::{
//!     Context, DatabaseCommit, InspectEvm, MainBuilder, MainContext,
//!     context::{BlockEnv, TxEnv},
//!     database::{InMemoryDB, WrapDatabaseRef},
//!     handler::EthPrecompiles,
//!     primitives::hardfork::SpecId,
//! };
//!
//! /// Executes a block and writes its ciphertexts; the state root can be computed then.
//! fn execute(
//!     database: &mut InMemoryDB,
//!     (block, transactions): (BlockEnv, Vec<TxEnv>),
//!     contracts: NativeContracts,
//!     inputs: &Arc<dyn CheckInputs>,
//!     compute: impl FnOnce(BlockWork) -> Results,
//! ) -> Result<(), Box<dyn Error>> {
//!     let mut session = BlockSession::new(contracts, 20_000_000);
//!     for transaction in transactions {
//!         let precompiles = EthPrecompiles::new(SpecId::PRAGUE);
//!         let precompiles = FheLib::new(precompiles, contracts.chain_id, Arc::clone(inputs), Execution::Transaction);
//!         let mut recorder = session.recorder();
//!         let done = Context::mainnet()
//!             .with_db(WrapDatabaseRef(&*database))
//!             .with_block(block.clone())
//!             .modify_cfg_chained(|cfg| cfg.chain_id = contracts.chain_id)
//!             .build_mainnet_with_inspector(&mut recorder)
//!             .with_precompiles(precompiles)
//!             .inspect_tx(transaction)?;
//!         session.admit(recorder.finish(), &done.state)?;
//!         database.commit(done.state);
//!     }
//!     let plan = session.plan(block.number.to(), database)?;
//!     let stored = plan.settle(compute(plan.work().clone()))?;
//!     let changes = write_ciphertexts(&stored, database)?;
//!     database.commit(changes);
//!     Ok(())
//! }
//! ```
//!
//! # The node
//!
//! * [`Genesis`]: the file that all nodes of a chain begin with.
//! * [`NativeChain`]: what consensus drives, and clients ask over JSON-RPC.

mod candidates;
mod chain;
mod checks;
pub(crate) mod ciphertexts;
mod codec;
pub(crate) mod execute;
pub(crate) mod fhe_gas;
pub(crate) mod fhelib;
mod genesis;
pub(crate) mod recorder;
mod rpc;
pub(crate) mod rules;
pub(crate) mod session;
mod store;
mod validators;
pub(crate) mod work;

pub use chain::{Head, NativeChain, NativeConfig, NetworkStatus, ProposedBlock, Restored, STATE_INTERVAL, Verdict};

pub use ciphertexts::{
    ReadError, WriteError, ciphertext_slots, public_key_slots, read_ciphertext, read_metadata, read_public_key, read_public_key_metadata,
    write_ciphertexts,
};
pub use fhe_gas::{FheGasExceeded, PROOF_HCU, STORED_HCU, fhe_gas};
pub use fhelib::{Execution, FheLib, MOST_PROOFS, READ_GAS, READ_WORD_GAS, VERIFY_BYTE_GAS, VERIFY_GAS};
pub use genesis::{GENESIS_VERSION, Genesis, GenesisAccount, GenesisDomains};
pub use recorder::{NativeContracts, Noticed, Recorder, TransactionWork};
pub use rpc::NativeChainHandle;
pub use session::{BlockPlan, BlockSession, ResultsRefused};
pub use store::DecidedBlock;
pub use validators::{VALIDATOR_SET, validator_slots};
pub use work::{BlockWork, CheckInputs, ComputeBlock, ComputeUnavailable, InputRefused, ProvenInput, Results, compute_checked};
