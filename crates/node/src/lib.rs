//! EVM chains inside the process: the development chain, and [native] chains, whose blocks compute on ciphertexts.
//!
//! What both offer their clients is [`Chain`]: blocks, state, calls, logs, waiting transactions, JSON-RPC. How blocks come about differs:
//! [`native::NativeChain`] gets them from consensus, and [`DevChain`] makes them at once.
//!
//! [`DevChain`] executes transactions on revm with the rules of the Prague hard fork (Cancun and
//! everything before it included) and seals one block per transaction. Its blocks are real: state,
//! transaction and receipt roots, log blooms, parent hashes and base fees are computed as on
//! Ethereum, so clients that check them find nothing to complain about. What is missing compared
//! with Ethereum is consensus: nobody proposes or attests, and every block is final at once.
//!
//! There are two ways in:
//!
//! - in process: [`DevChain::new`] and its methods, without any server;
//! - over JSON-RPC: [`DevChain::start`] serves HTTP and WebSocket on one port.
//!
//! With a data directory the chain writes every input (blocks of raw transactions, state edits)
//! ahead to a journal and rebuilds itself by executing the journal again, see [`DevChainConfig::data_dir`].
//!
//! The private keys of the funded accounts come from public mnemonics. They are for development
//! and worthless anywhere else. `docs/node.md` lists the JSON-RPC methods and limits.

mod accounts;
mod chain;
mod clock;
mod config;
mod error;
mod exec;
pub mod native;
mod rpc;
mod server;
mod state;

pub use accounts::{DEPLOYER_MNEMONIC, DEPLOYER_PATH, DEV_MNEMONIC, DevAccount};
pub use chain::block::{Block, MinedReceipt, MinedTransaction};
pub use chain::interval::{LEAST_INTERVAL_MS, MiningInterval};
pub use chain::{Chain, ChainEvent, ChainEventKind, DevChain};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{AccountsConfig, DevChainConfig, Limits};
pub use error::{NodeError, Result};
pub use server::DevChainHandle;
