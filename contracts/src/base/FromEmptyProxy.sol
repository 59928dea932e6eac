// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";

/// @title The second phase of the deployment of a host contract
/// @notice Host contracts know each other's addresses, so their proxies are created first, on an empty implementation
///         (initialized version 1), and upgraded to the real one afterwards (version 2). Later upgrades that carry a
///         migration take versions 3 and up.
abstract contract FromEmptyProxy is Initializable, UUPSUpgradeable {
    /// @dev Version that the empty implementation leaves behind.
    uint64 private constant EMPTY_PROXY_VERSION = 1;

    /// @dev Version after the second phase.
    uint64 internal constant FIRST_VERSION = 2;

    /// @notice The proxy is not (or no longer) on its empty implementation.
    error NotInitializingFromEmptyProxy();

    /// @dev Admits only the upgrade from the empty implementation.
    modifier onlyFromEmptyProxy() {
        if (_getInitializedVersion() != EMPTY_PROXY_VERSION) revert NotInitializingFromEmptyProxy();
        _;
    }

    constructor() {
        _disableInitializers();
    }
}
