// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @notice The number of an encrypted type, as it stands in byte 30 of a handle.
/// @dev A value type and not an enum, so that an unknown number reaches the contract's own checks and reverts with a
///      named error instead of failing silently while the call data is decoded. On the ABI it is a `uint8`.
type FheType is uint8;

using {eq as ==, neq as !=} for FheType global;

/// @dev `ebool`.
FheType constant FHE_BOOL = FheType.wrap(0);
/// @dev `eaddress`.
FheType constant FHE_ADDRESS = FheType.wrap(7);
/// @dev `euint256`, the supported type with the largest number.
FheType constant FHE_UINT256 = FheType.wrap(8);

function eq(FheType a, FheType b) pure returns (bool) {
    return FheType.unwrap(a) == FheType.unwrap(b);
}

function neq(FheType a, FheType b) pure returns (bool) {
    return FheType.unwrap(a) != FheType.unwrap(b);
}
