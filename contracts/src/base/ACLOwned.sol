// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IOwnable} from "../interfaces/IOwnable.sol";

/// @title A contract administered by the owner of the ACL
/// @notice All host contracts have one administrator, and it is kept in one place.
abstract contract ACLOwned {
    /// @dev The ACL proxy. Immutable, so that reading it costs nothing and no upgrade of storage can redirect it.
    address internal immutable ACL_ADDRESS;

    /// @notice The caller is not the owner of the ACL.
    /// @param sender The caller.
    error NotHostOwner(address sender);

    /// @dev Admits the owner of the ACL alone.
    modifier onlyACLOwner() {
        _checkACLOwner();
        _;
    }

    /// @param acl The ACL proxy.
    constructor(address acl) {
        ACL_ADDRESS = acl;
    }

    function _checkACLOwner() private view {
        if (msg.sender != IOwnable(ACL_ADDRESS).owner()) revert NotHostOwner(msg.sender);
    }
}
