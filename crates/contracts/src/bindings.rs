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
sol!(ValidatorSet, "../../contracts/artifacts/ValidatorSet.json");

/// Apart from the others: it shares a struct with the `InputVerifier`, and each artifact brings its own.
mod native_input_verifier {
    alloy_sol_types::sol!(NativeInputVerifier, "../../contracts/artifacts/NativeInputVerifier.json");
}
pub use native_input_verifier::{IInputVerifier::ContextUserInputs as NativeInputContext, NativeInputVerifier};

sol! {
    /// What nodes of a native chain answer at [`FHELIB`](cipherloom_primitives::ciphertext_state::FHELIB); `contracts/src/interfaces/IFheLib.sol`.
    ///
    /// The answers of `getCiphertext` and `fhePubKey` are raw bytes and not ABI-encoded; that of `verifyInput` is.
    interface FheLib {
        function getCiphertext(uint256 handle) external view returns (bytes memory);
        function fhePubKey(bytes1 kind) external view returns (bytes memory);
        function verifyInput(address acl, address user, address contractAddress, bytes calldata list)
            external
            view
            returns (bytes memory types);
    }
}
