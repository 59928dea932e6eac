// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Several calls in one transaction, for tests
/// @notice A handle is known only once its operation has run, and may be used without further permission only in the same
///         transaction. A batch therefore writes results of earlier calls into the data of later ones.
contract Batch {
    /// @param offset Where in the call's data the word is written.
    /// @param source The earlier call whose result's first word is written.
    struct Patch {
        uint256 offset;
        uint256 source;
    }

    /// @param target The called contract.
    /// @param data The call's data.
    /// @param patches What to write into the data first.
    struct Call {
        address target;
        bytes data;
        Patch[] patches;
    }

    /// @notice A call reverted.
    /// @param index Which one.
    /// @param reason What it returned.
    error CallFailed(uint256 index, bytes reason);

    /// @notice A patch lies outside its call's data, or its source has no result.
    error InvalidPatch(uint256 index);

    /// @notice What became of an attempt.
    /// @param successes Which calls succeeded.
    /// @param results What each returned.
    event Attempted(bool[] successes, bytes[] results);

    /// @notice Makes the calls one after the other.
    /// @param calls The calls.
    /// @return results What they returned.
    function run(Call[] calldata calls) external returns (bytes[] memory results) {
        results = new bytes[](calls.length);
        for (uint256 i = 0; i < calls.length; i++) {
            (bool success, bytes memory result) = calls[i].target.call(_patched(calls, i, results));
            if (!success) revert CallFailed(i, result);
            results[i] = result;
        }
    }

    /// @notice Makes every call, whatever becomes of the others. The result of a failed call is zero in later ones.
    /// @param calls The calls.
    /// @return successes Which succeeded.
    /// @return results What each returned.
    function attempt(Call[] calldata calls) external returns (bool[] memory successes, bytes[] memory results) {
        successes = new bool[](calls.length);
        results = new bytes[](calls.length);
        bytes[] memory words = new bytes[](calls.length);
        for (uint256 i = 0; i < calls.length; i++) {
            (successes[i], results[i]) = calls[i].target.call(_patched(calls, i, words));
            words[i] = successes[i] ? results[i] : new bytes(32);
        }
        emit Attempted(successes, results);
    }

    function _patched(Call[] calldata calls, uint256 i, bytes[] memory results) private pure returns (bytes memory data) {
        data = calls[i].data;
        for (uint256 j = 0; j < calls[i].patches.length; j++) {
            Patch calldata patch = calls[i].patches[j];
            if (patch.source >= i || results[patch.source].length < 32 || patch.offset + 32 > data.length) {
                revert InvalidPatch(i);
            }
            bytes32 word = bytes32(results[patch.source]);
            uint256 offset = patch.offset;
            assembly ("memory-safe") {
                mstore(add(add(data, 0x20), offset), word)
            }
        }
    }
}
