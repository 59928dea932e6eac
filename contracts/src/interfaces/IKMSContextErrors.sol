// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title What can be wrong with the context or the epoch that a message names
/// @notice The ProtocolConfig finds it, and its errors pass through whoever asked it.
interface IKMSContextErrors {
    /// @notice There is no such context, or it was destroyed.
    error InvalidKMSContext(uint256 contextId);

    /// @notice The context has no such epoch, or it was destroyed.
    error InvalidKMSEpoch(uint256 epochId);
}
