// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title A contract with one owner
interface IOwnable {
    /// @notice Returns the owner.
    /// @return The owner, or zero once ownership is renounced.
    function owner() external view returns (address);
}
