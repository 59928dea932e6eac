// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {ACLOwned} from "../base/ACLOwned.sol";

/// @title What stands behind the other host proxies until their contracts are deployed
/// @notice Does nothing but let the owner of the ACL upgrade.
contract EmptyHostContract is Initializable, UUPSUpgradeable, ACLOwned {
    /// @param acl The ACL proxy.
    constructor(address acl) ACLOwned(acl) {
        _disableInitializers();
    }

    /// @notice Marks the proxy as initialized.
    function initialize() external initializer {}

    function _authorizeUpgrade(address) internal override onlyACLOwner {}
}
