// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FheType} from "../types/FheType.sol";

/// @title Layout of a handle
/// @notice Bytes 0-20 identify the ciphertext, byte 21 is 0xff for a computed handle or the index in its input list,
///         bytes 22-29 are the chain id, byte 30 is the type and byte 31 the version of this layout.
library Handles {
    /// @dev Version of the layout, byte 31.
    uint8 internal constant VERSION = 0;

    /// @dev Byte 21 of a handle that an operation produced.
    uint8 internal constant COMPUTED = 0xff;

    /// @dev The 21 leading bytes, which come from the pre-handle.
    uint256 private constant IDENTITY_MASK = ~uint256(type(uint88).max);

    /// @dev Replaces bytes 21-31 of a pre-handle by the metadata of a computed handle of this chain.
    function computed(bytes32 preHandle, FheType fheType) internal view returns (bytes32) {
        return bytes32(
            (uint256(preHandle) & IDENTITY_MASK) | (uint256(COMPUTED) << 80) | (uint256(uint64(block.chainid)) << 16)
                | (uint256(FheType.unwrap(fheType)) << 8) | VERSION
        );
    }

    /// @dev The encrypted type of the value behind the handle.
    function typeOf(bytes32 handle) internal pure returns (FheType) {
        return FheType.wrap(uint8(handle[30]));
    }

    /// @dev The index in the input list, or 0xff for a computed handle.
    function indexOf(bytes32 handle) internal pure returns (uint8) {
        return uint8(handle[21]);
    }

    /// @dev The chain the handle belongs to.
    function chainIdOf(bytes32 handle) internal pure returns (uint64) {
        return uint64(uint256(handle) >> 16);
    }

    /// @dev The version of the handle's layout.
    function versionOf(bytes32 handle) internal pure returns (uint8) {
        return uint8(handle[31]);
    }
}
