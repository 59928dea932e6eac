// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FheType} from "../types/FheType.sol";

/// @title Requested operations, as the coprocessor follows them
/// @notice In every event `caller` is the contract that asked for the operation and `result` the handle it was given.
///         `scalarByte` is 0x01 when `rhs` is a plaintext, and 0x00 when it is a handle.
interface IFHEVMExecutorEvents {
    /// @notice Sum of two values.
    event FheAdd(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Difference of two values.
    event FheSub(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Product of two values.
    event FheMul(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Quotient of a value and a plaintext.
    event FheDiv(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Remainder of a value divided by a plaintext.
    event FheRem(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Bitwise and.
    event FheBitAnd(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Bitwise or.
    event FheBitOr(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Bitwise exclusive or.
    event FheBitXor(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Shift to the left.
    event FheShl(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Shift to the right.
    event FheShr(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Rotation to the left.
    event FheRotl(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Rotation to the right.
    event FheRotr(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Whether two values are equal.
    event FheEq(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Whether two values differ.
    event FheNe(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Whether the first value is at least the second.
    event FheGe(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Whether the first value is above the second.
    event FheGt(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Whether the first value is at most the second.
    event FheLe(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Whether the first value is below the second.
    event FheLt(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice The smaller of two values.
    event FheMin(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice The larger of two values.
    event FheMax(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice Two's complement of a value.
    event FheNeg(address indexed caller, bytes32 ct, bytes32 result);
    /// @notice Bitwise complement of a value.
    event FheNot(address indexed caller, bytes32 ct, bytes32 result);
    /// @notice Admission of an encrypted input.
    event VerifyInput(
        address indexed caller,
        bytes32 inputHandle,
        address userAddress,
        bytes inputProof,
        FheType inputType,
        bytes32 result
    );
    /// @notice Conversion to another type.
    event Cast(address indexed caller, bytes32 ct, FheType toType, bytes32 result);
    /// @notice Encryption of a plaintext that everyone knows.
    event TrivialEncrypt(address indexed caller, uint256 pt, FheType toType, bytes32 result);
    /// @notice Choice between two values.
    event FheIfThenElse(address indexed caller, bytes32 control, bytes32 ifTrue, bytes32 ifFalse, bytes32 result);
    /// @notice A random value.
    event FheRand(address indexed caller, FheType randType, bytes16 seed, bytes32 result);
    /// @notice A random value below a power of two.
    event FheRandBounded(address indexed caller, uint256 upperBound, FheType randType, bytes16 seed, bytes32 result);
    /// @notice Sum of a collection.
    event FheSum(address indexed caller, bytes32[] values, bytes32 result);
    /// @notice Whether a value is in a collection.
    event FheIsIn(address indexed caller, bytes32 value, bytes32[] values, bytes32 result);
    /// @notice Product of two values divided by a plaintext; `scalarByte` is 0x03 when the second factor is a
    ///         plaintext, and 0x01 when it is a handle.
    event FheMulDiv(
        address indexed caller, bytes32 factor1, bytes32 factor2, bytes32 divisor, bytes1 scalarByte, bytes32 result
    );
}
