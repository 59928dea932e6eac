// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @notice The number of an operation of the FHEVMExecutor; it enters the pre-image of every computed handle as one byte.
type Operation is uint8;
