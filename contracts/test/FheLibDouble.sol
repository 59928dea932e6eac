// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFheLib} from "../src/interfaces/IFheLib.sol";

/// @title What nodes of a native chain answer about inputs, without their cryptography
/// @notice Tests of contracts put it where the node's library is on a native chain. It accepts the lists it was told to accept, each for one
///         ACL, user and contract, and refuses all others.
contract FheLibDouble is IFheLib {
    /// @notice The list is none of those that were accepted.
    error Refused();

    mapping(bytes32 input => bytes types) private _accepted;

    /// @notice Has a list accepted from now on.
    /// @param acl The ACL its proof is bound to.
    /// @param user Who encrypted it.
    /// @param contractAddress The contract that may use it.
    /// @param list The list.
    /// @param types The types of its values.
    function accept(address acl, address user, address contractAddress, bytes calldata list, bytes calldata types)
        external
    {
        _accepted[_key(acl, user, contractAddress, list)] = types;
    }

    /// @inheritdoc IFheLib
    function verifyInput(address acl, address user, address contractAddress, bytes calldata list)
        external
        view
        returns (bytes memory types)
    {
        types = _accepted[_key(acl, user, contractAddress, list)];
        if (types.length == 0) revert Refused();
    }

    /// @inheritdoc IFheLib
    function getCiphertext(uint256) external pure returns (bytes memory) {
        revert Refused();
    }

    /// @inheritdoc IFheLib
    function fhePubKey(bytes1) external pure returns (bytes memory) {
        revert Refused();
    }

    function _key(address acl, address user, address contractAddress, bytes calldata list)
        private
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, acl, user, contractAddress, list));
    }
}
