// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FheType} from "../types/FheType.sol";
import {IFHEVMExecutorEvents} from "./IFHEVMExecutorEvents.sol";

/// @title Symbolic execution of operations on encrypted values
/// @notice Operations take and give handles. The calling contract must be allowed to use every handle it passes, and is
///         allowed to use the result until the end of the transaction. In operations on two values, `scalarByte` 0x01
///         says that `rhs` is a plaintext (32 bytes, big-endian), and 0x00 that it is a handle of the type of `lhs`.
interface IFHEVMExecutor is IFHEVMExecutorEvents {
    /// @notice The caller may not use the handle.
    error ACLNotAllowed(bytes32 handle, address account);

    /// @notice The divisor is zero in the type of the dividend.
    error DivisionByZero();

    /// @notice The collection has too many elements.
    error FHECollectionSizeInvalid(uint256 size, uint256 limit);

    /// @notice The operands have different types.
    error IncompatibleTypes();

    /// @notice The scalar byte says neither that the second factor is a plaintext nor that it is a handle.
    error InvalidMulDivScalarByte();

    /// @notice The type does not fit the handle.
    error InvalidType();

    /// @notice The operation needs a plaintext as its second operand.
    error IsNotScalar();

    /// @notice The upper bound is not a power of two.
    error NotPowerOfTwo();

    /// @notice The scalar byte is neither 0x00 nor 0x01.
    error ScalarByteIsNotBoolean();

    /// @notice The operation does not exist for the type.
    error UnsupportedType();

    /// @notice The upper bound is above what the type can hold.
    error UpperBoundAboveMaxTypeValue();

    /// @notice Adds two values, modulo two to the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheAdd(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Subtracts the second value from the first, modulo two to the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheSub(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Multiplies two values, modulo two to the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheMul(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Divides a value by a plaintext that is not zero, rounding down.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheDiv(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes the remainder of a value divided by a plaintext that is not zero.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheRem(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes the bitwise and.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheBitAnd(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes the bitwise or.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheBitOr(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes the bitwise exclusive or.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheBitXor(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Shifts to the left by an amount taken modulo the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheShl(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Shifts to the right by an amount taken modulo the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheShr(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Rotates to the left by an amount taken modulo the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheRotl(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Rotates to the right by an amount taken modulo the number of bits.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheRotr(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes whether two values are equal.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheEq(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes whether two values differ.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheNe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes whether the first value is at least the second.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheGe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes whether the first value is above the second.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheGt(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes whether the first value is at most the second.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheLe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes whether the first value is below the second.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheLt(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes the smaller of two values.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheMin(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Computes the larger of two values.
    /// @param lhs The first operand, a handle.
    /// @param rhs The second operand, a handle or a plaintext.
    /// @param scalarByte Whether the second operand is a plaintext.
    /// @return result The handle of the result.
    function fheMax(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Negates a value, modulo two to the number of bits.
    /// @param ct The handle of the value.
    /// @return result The handle of the result.
    function fheNeg(bytes32 ct) external returns (bytes32 result);

    /// @notice Computes the bitwise complement of a value.
    /// @param ct The handle of the value.
    /// @return result The handle of the result.
    function fheNot(bytes32 ct) external returns (bytes32 result);

    /// @notice Admits an encrypted input that the coprocessors have checked.
    /// @param inputHandle The handle of the input.
    /// @param userAddress Who encrypted it.
    /// @param inputProof The coprocessors' signatures.
    /// @param inputType The type the caller expects.
    /// @return result The handle of the input.
    function verifyInput(bytes32 inputHandle, address userAddress, bytes calldata inputProof, FheType inputType)
        external
        returns (bytes32 result);

    /// @notice Converts a value to another type, cutting off high bits or filling up with zeros.
    /// @param ct The handle of the value.
    /// @param toType The type to convert to.
    /// @return result The handle of the result.
    function cast(bytes32 ct, FheType toType) external returns (bytes32 result);

    /// @notice Encrypts a plaintext that everyone knows.
    /// @param pt The plaintext.
    /// @param toType The type.
    /// @return result The handle of the result.
    function trivialEncrypt(uint256 pt, FheType toType) external returns (bytes32 result);

    /// @notice Chooses between two values.
    /// @param control The handle of the condition, an `ebool`.
    /// @param ifTrue The handle of the result if the condition is true.
    /// @param ifFalse The handle of the result if the condition is false.
    /// @return result The handle of the result.
    function fheIfThenElse(bytes32 control, bytes32 ifTrue, bytes32 ifFalse) external returns (bytes32 result);

    /// @notice Draws a random value.
    /// @param randType The type.
    /// @return result The handle of the result.
    function fheRand(FheType randType) external returns (bytes32 result);

    /// @notice Draws a random value below a bound.
    /// @param upperBound The bound, a power of two.
    /// @param randType The type.
    /// @return result The handle of the result.
    function fheRandBounded(uint256 upperBound, FheType randType) external returns (bytes32 result);

    /// @notice Adds up a collection, modulo two to the number of bits.
    /// @param values The handles of the values.
    /// @param fheType The type of the values.
    /// @return result The handle of the result.
    function fheSum(bytes32[] calldata values, FheType fheType) external returns (bytes32 result);

    /// @notice Computes whether a value is in a collection.
    /// @param value The handle of the value.
    /// @param values The handles of the collection.
    /// @param fheType The type of the value and of the collection.
    /// @return result The handle of the result.
    function fheIsIn(bytes32 value, bytes32[] calldata values, FheType fheType) external returns (bytes32 result);

    /// @notice Multiplies two values and divides the full product by a plaintext that is not zero, rounding down.
    /// @param factor1 The first factor, a handle.
    /// @param factor2 The second factor, a handle or a plaintext.
    /// @param divisor The divisor, a plaintext.
    /// @param scalarByte 0x01 if the second factor is a handle, 0x03 if it is a plaintext.
    /// @return result The handle of the result.
    function fheMulDiv(bytes32 factor1, bytes32 factor2, bytes32 divisor, bytes1 scalarByte)
        external
        returns (bytes32 result);

    /// @notice Returns the ACL.
    /// @return Its address.
    function getACLAddress() external view returns (address);

    /// @notice Returns the contract that limits homomorphic work.
    /// @return Its address.
    function getHCULimitAddress() external view returns (address);

    /// @notice Returns the contract that checks encrypted inputs.
    /// @return Its address.
    function getInputVerifierAddress() external view returns (address);

    /// @notice Returns the version of the handles it makes.
    /// @return The version, byte 31 of a handle.
    function getHandleVersion() external pure returns (uint8);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external view returns (string memory);
}
