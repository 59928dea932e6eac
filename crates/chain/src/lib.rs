//! Everything that talks to a host chain: reading the host contracts, deploying them, and following what they announce.
//!
//! * [`HostChain`]: one deployment of the host contracts behind the JSON-RPC URLs of one or several nodes; typed reads with time limit and retries.
//! * [`Follower`]: turns the chain into [`BlockEvents`], detects reorganisations, and keeps no state worth saving.
//! * [`WitnessedChain`]: the chain as whoever decrypts reads it: at one block, through nodes of which a quorum must agree, with proofs.
//! * [`light`]: native chains, followed by what their validators signed.
//! * [`evidence`]: storage proofs of all that a request depends on, in one parcel.
//! * [`GatewayReader`]: decryptions that contracts asked for, and what was delivered.
//! * [`proof`]: storage of the ACL, proven against the header of a block.
//! * [`deploy`]: sends the deployment transactions, resuming where an earlier run stopped; [`TransactionSender`] sends any others.
//! * [`Deployment`]: the file about a deployment, by which stacks are attached to it.
//! * [`explorer`]: has block explorers verify sources.
//!
//! The chain's node is outside: it can be slow, wrong or gone. Every call is limited in time and retries, and
//! [`ChainError`] says whose fault a failure is and whether trying again can help.

mod account;
pub mod acl_check;
pub mod administration;
pub mod committee;
pub mod deployment;
pub mod deployment_run;
pub mod error;
pub mod events;
pub mod evidence;
pub mod explorer;
pub mod fees;
pub mod follower;
pub mod gateway_contract;
pub mod host_chain;
mod https;
pub mod light;
mod log_checks;
pub mod manifest;
mod native_state;
mod nodes;
pub mod pinned;
pub mod profile;
pub mod proof;
pub mod proxy;
mod quorum;
mod ranges;
pub mod sender;
pub mod survey;
pub mod transaction;
pub mod upgrade;
pub mod verification;
mod wallet;
mod websocket;
pub mod witnessed;

pub use acl_check::{AclCheck, AclSource, Finality};
pub use committee::CommitteeOnChain;
pub use deployment::{DeployEvent, deploy, deploy_steps};
pub use deployment_run::{Deployers, DeploymentRun};
pub use error::{ChainError, Fault};
pub use events::{BlockEvents, BlockId, DelegationEvent, GrantEvent, TransactionEvents};
pub use evidence::{AclEvidence, EvidenceError};
pub use fees::Fees;
pub use follower::{ChainHead, FollowUpdate, Follower, FollowerConfig};
pub use gateway_contract::{DeliveredDecryption, FinalHead, GatewayEvents, GatewayReader, RequestedDecryption};
pub use host_chain::{CallLimits, HostChain, InputVerificationDomain, SignerSetOnChain};
pub use light::{LightClient, LightOptions, NativeGenesis, PinnedNative};
pub use manifest::Deployment;
pub use nodes::redacted_url;
pub use pinned::{ContextOnChain, PinnedChain};
pub use profile::LocalProfile;
pub use sender::{Call, Included, SendEvent, SendOptions, TransactionSender};
pub use transaction::{SignedTransaction, Taken, TransactionOutcome, TransactionSigner, UnsignedTransaction};
pub use witnessed::{WitnessOptions, WitnessedChain};
