// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ACLOwned} from "./ACLOwned.sol";
import {FromEmptyProxy} from "./FromEmptyProxy.sol";

/// @title Base of every upgradeable host contract but the ACL
/// @notice The owner of the ACL decides on upgrades.
abstract contract HostContract is FromEmptyProxy, ACLOwned {
    /// @param acl The ACL proxy.
    constructor(address acl) ACLOwned(acl) {}

    function _authorizeUpgrade(address) internal override onlyACLOwner {}
}
