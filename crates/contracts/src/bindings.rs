//! Typed calls, errors and events of the host contracts, generated from the committed artifacts.
//!
//! Each contract is a module: `ACL::isAllowedCall`, `ACL::Allowed`, `ACL::SenderNotAllowed`, `ACL::BYTECODE`.
#![expect(missing_docs, reason = "an ABI carries no comments; the contracts' sources document every item")]

use alloy_sol_types::sol;

sol!(ACL, "../../contracts/artifacts/ACL.json");
sol!(EmptyACL, "../../contracts/artifacts/EmptyACL.json");
sol!(EmptyHostContract, "../../contracts/artifacts/EmptyHostContract.json");
sol!(FHEVMExecutor, "../../contracts/artifacts/FHEVMExecutor.json");
sol!(GatewayContract, "../../contracts/artifacts/GatewayContract.json");
sol!(HCULimit, "../../contracts/artifacts/HCULimit.json");
sol!(HostProxy, "../../contracts/artifacts/HostProxy.json");
sol!(InputVerifier, "../../contracts/artifacts/InputVerifier.json");
sol!(KMSVerifier, "../../contracts/artifacts/KMSVerifier.json");
sol!(PauserSet, "../../contracts/artifacts/PauserSet.json");
sol!(ProtocolConfig, "../../contracts/artifacts/ProtocolConfig.json");
