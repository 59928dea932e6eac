// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title What the nodes of a native chain offer to contracts and callers
/// @notice No contract stands behind it: nodes answer calls to the address 0x5d themselves. On other chains nobody does, and a call
///         returns nothing.
interface IFheLib {
    /// @notice Returns the ciphertext of a handle as raw bytes, which are not ABI-encoded. In `eth_call` only; a transaction fails.
    /// @param handle The handle, one that a contract has stored.
    /// @return The ciphertext in packed form.
    function getCiphertext(uint256 handle) external view returns (bytes memory);

    /// @notice Returns the chain's public key as raw bytes, which are not ABI-encoded.
    /// @param kind 0x01, the compact public key.
    /// @return The key.
    function fhePubKey(bytes1 kind) external view returns (bytes memory);

    /// @notice Checks an encrypted input list with its proof of knowledge. Reverts if the list cannot be read or the proof does not
    ///         hold. The chain's id is part of what the proof must be bound to.
    /// @param acl The ACL.
    /// @param user Who encrypted it.
    /// @param contractAddress The contract that uses it.
    /// @param list The list with its proof.
    /// @return types The type of each value of the list, one byte each.
    function verifyInput(address acl, address user, address contractAddress, bytes calldata list)
        external
        view
        returns (bytes memory types);
}
