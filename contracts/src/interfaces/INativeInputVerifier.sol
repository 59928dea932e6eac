// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IInputVerifier} from "./IInputVerifier.sol";

/// @title Checks encrypted inputs on a chain whose validators compute on ciphertexts themselves
/// @notice What callers of an InputVerifier know is the same. A proof is: number of handles (1 byte), zero (1 byte), handles (32 bytes
///         each), the input list with its proof of knowledge (the rest).
///
///         Published SDKs end their proofs with one zero byte and leave the list to others. Such a proof is accepted for inputs that somebody has
///         deposited before, with the list.
interface INativeInputVerifier is IInputVerifier {
    /// @notice A user can use these inputs in a contract by their handles alone.
    /// @param contractAddress The contract.
    /// @param userAddress The user.
    /// @param handles The inputs.
    event InputDeposited(address indexed contractAddress, address indexed userAddress, bytes32[] handles);

    /// @notice The proof brings no list, and nobody has deposited this input for the user and the contract.
    /// @param inputHandle The input.
    error InputNotDeposited(bytes32 inputHandle);

    /// @notice The chain's nodes refuse the list: it cannot be read, or its proof does not hold for this user and contract.
    error InputProofRefused();

    /// @notice The proof names another number of handles than the list has values.
    /// @param handles How many it names.
    /// @param values How many there are.
    error WrongNumberOfHandles(uint256 handles, uint256 values);

    /// @notice There are no coprocessors to be set: every validator checks inputs.
    error NoCoprocessors();

    /// @notice Has a list checked and keeps its values, so that the user's own transaction needs nothing but their handles. Anybody may do so and pay
    ///         for it: the proof of knowledge binds the values to user and contract, and using them is up to the user.
    /// @param context The user and the contract.
    /// @param inputProof Number of handles, zero, the handles, the list.
    function depositInput(ContextUserInputs calldata context, bytes calldata inputProof) external;

    /// @notice Returns whether an input was deposited for a user and a contract.
    /// @param context The user and the contract.
    /// @param inputHandle The input.
    /// @return Whether it was.
    function isDeposited(ContextUserInputs calldata context, bytes32 inputHandle) external view returns (bool);
}
