// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IInputVerifier} from "./IInputVerifier.sol";

/// @title Checks encrypted inputs on a chain whose validators compute on ciphertexts themselves
/// @notice What callers of an InputVerifier know is the same. A proof is: number of handles (1 byte), zero (1 byte), handles (32 bytes
///         each), the input list with its proof of knowledge (the rest).
interface INativeInputVerifier is IInputVerifier {
    /// @notice The chain's nodes refuse the list: it cannot be read, or its proof does not hold for this user and contract.
    error InputProofRefused();

    /// @notice The proof names another number of handles than the list has values.
    /// @param handles How many it names.
    /// @param values How many there are.
    error WrongNumberOfHandles(uint256 handles, uint256 values);

    /// @notice There are no coprocessors to be set: every validator checks inputs.
    error NoCoprocessors();
}
