// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title A set of keys that lives until the end of the transaction
/// @notice A member's own slot holds 1. Slot 0 holds the number of members and slots 1 to n list them, so that the set
///         can be emptied in the middle of a transaction (account-abstraction bundles run several users in one).
/// @dev Members are keccak256 digests, which cannot collide with the small slot numbers of the list. One contract can
///      hold one such set, because it occupies the low slots of the contract's transient storage.
library TransientSet {
    /// @dev Adds a key; adding it again changes nothing.
    function add(bytes32 key) internal {
        assembly ("memory-safe") {
            if iszero(tload(key)) {
                tstore(key, 1)
                let count := add(tload(0), 1)
                tstore(0, count)
                tstore(count, key)
            }
        }
    }

    /// @dev Whether the key was added in this transaction.
    function contains(bytes32 key) internal view returns (bool member) {
        assembly ("memory-safe") {
            member := tload(key)
        }
    }

    /// @dev Removes every key.
    function clear() internal {
        assembly ("memory-safe") {
            let count := tload(0)
            tstore(0, 0)
            for { let slot := 1 } iszero(gt(slot, count)) { slot := add(slot, 1) } {
                tstore(tload(slot), 0)
                tstore(slot, 0)
            }
        }
    }
}
