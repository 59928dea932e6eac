//! The host contracts as the rest of Cipherloom sees them: typed calls, addresses, deployment and events.
//!
//! * [`bindings`]: types for every call, error and event, made from the committed artifacts in `contracts/artifacts`, so
//!   they cannot differ from the bytecode that is deployed.
//! * [`HostAddresses`]: where the contracts of a deployment are; a plain function of the deployer's address.
//! * [`deployment_steps`]: the transactions that deploy and connect them.
//! * [`decode_log`]: raw logs to [`HostEvent`]s, with computations checked against the operation table.
//! * [`development`]: the constants of the development chain that published dApp libraries have built in.
//!
//! Nothing here does I/O. Source of the ABI: public protocol, sections 1 and 10.

mod addresses;
pub mod bindings;
mod deployment;
pub mod development;
mod error;
mod events;
mod operation_events;

pub use addresses::HostAddresses;
pub use deployment::{DeploymentConfig, DeploymentStep, HcuLimits, SignerSet, deployment_steps};
pub use error::DecodeError;
pub use events::{HostEvent, decode_log};
pub use operation_events::event_topic;
