// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {euint64, externalEuint64} from "@cipherloom/solidity/lib/FHE.sol";

/// @title What the auction needs of a confidential token
/// @notice A part of `ConfidentialToken` in `examples/confidential-token`.
interface IConfidentialToken {
    /// @notice Moves tokens of the caller.
    /// @param to Who gets them.
    /// @param amount How many: a handle that the caller and the token may use, with an empty proof.
    /// @param inputProof The proof that comes with an encryption, or nothing.
    /// @return moved The handle of how many have moved.
    function transfer(address to, externalEuint64 amount, bytes calldata inputProof) external returns (euint64 moved);

    /// @notice Moves tokens of someone who has approved the caller.
    /// @param from Whose they are.
    /// @param to Who gets them.
    /// @param amount How many: a handle that the caller and the token may use, with an empty proof.
    /// @param inputProof The proof that comes with an encryption, or nothing.
    /// @return moved The handle of how many have moved, which the caller may use in this transaction.
    function transferFrom(address from, address to, externalEuint64 amount, bytes calldata inputProof)
        external
        returns (euint64 moved);
}
