//! The host contracts as the rest of Cipherloom sees them: typed calls, addresses, deployment and events.
//!
//! * [`bindings`]: types for every call, error and event, made from the committed artifacts in `contracts/artifacts`, so
//!   they cannot differ from the bytecode that is deployed.
//! * [`HostAddresses`]: where the contracts of a deployment are; a plain function of the deployer's address.
//! * [`deployment_steps`]: the transactions that deploy and connect them.
//! * [`native`]: what differs on native chains, and the set of validators that stands on them.
//! * [`HostContract`]: each contract's code as it must be on chain, its version strings and its storage layout.
//! * [`StorageLayout::check_upgrade`]: whether a new implementation reads what an old one wrote.
//! * [`decode_log`]: raw logs to [`HostEvent`]s, with computations checked against the operation table.
//! * [`decode_call`]: calls of the executor that succeeded to the same events, for nodes that see calls.
//! * [`development`]: the constants of the development chain that published dApp libraries have built in.
//!
//! Nothing here does I/O. Source of the ABI: public protocol, sections 1 and 10.

mod addresses;
pub mod bindings;
mod deployment;
pub mod development;
mod error;
mod events;
mod face;
mod host_contract;
pub mod native;
mod operation_calls;
mod operation_events;
mod storage_layout;

pub use addresses::HostAddresses;
pub use deployment::{
    Creation, DeploymentConfig, DeploymentStep, GatewayPlan, HcuLimits, KmsConfig, Part, SignerSet, deployment_steps,
    gateway_deployment_steps,
};
pub use error::DecodeError;
pub use events::{HostEvent, decode_log};
pub use face::{Face, UnknownFace};
pub use host_contract::{
    HostContract, InputChecks, UnknownHostContract, Wiring, empty_acl_runtime_code, empty_host_contract_runtime_code, proxy_runtime_code,
    upgrade_call,
};
pub use native::{NativeDeployment, native_deployment_steps};
pub use operation_calls::{ExecutorCall, call_selector, decode_call};
pub use operation_events::event_topic;
pub use storage_layout::{Encoding, IncompatibleLayout, LayoutProblem, Member, Namespace, StorageLayout, StorageType};
