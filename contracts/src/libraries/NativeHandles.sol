// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Handles of encrypted inputs, derived from the list itself
/// @notice There are two forms. The current protocol's names ACL and chain, so that gateways and KMS nodes know where it belongs; the 0.6
///         generation's names neither and has its index in byte 29.
library NativeHandles {
    bytes private constant LIST_DOMAIN = "ZK-w_rct";
    bytes private constant HANDLE_DOMAIN = "ZK-w_hdl";

    /// @dev The 21 leading bytes, which come from the hash.
    uint256 private constant IDENTITY_MASK = ~uint256(type(uint88).max);

    /// @dev The 29 leading bytes, which come from the hash in the 0.6 generation's form.
    uint256 private constant LEGACY_IDENTITY_MASK = ~uint256(type(uint24).max);

    /// @dev The hash of a list that handles of the current form are derived from.
    function listDigest(bytes calldata list) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(LIST_DOMAIN, list));
    }

    /// @dev The handle of the value at an index of a list.
    function input(bytes32 digest, uint8 index, bytes1 fheType, address acl) internal view returns (bytes32) {
        bytes32 hash = keccak256(abi.encodePacked(HANDLE_DOMAIN, digest, index, acl, block.chainid));
        return bytes32(
            (uint256(hash) & IDENTITY_MASK) | (uint256(index) << 80) | (uint256(uint64(block.chainid)) << 16)
                | (uint256(uint8(fheType)) << 8)
        );
    }

    /// @dev The same in the 0.6 generation's form; `digest` is the plain hash of the list.
    function legacyInput(bytes32 digest, uint8 index, bytes1 fheType) internal pure returns (bytes32) {
        bytes32 hash = keccak256(abi.encodePacked(digest, index));
        return bytes32(
            (uint256(hash) & LEGACY_IDENTITY_MASK) | (uint256(index) << 16) | (uint256(uint8(fheType)) << 8)
        );
    }

    /// @dev The index that a handle of the 0.6 generation's form names.
    function legacyIndexOf(bytes32 handle) internal pure returns (uint8) {
        return uint8(handle[29]);
    }
}
