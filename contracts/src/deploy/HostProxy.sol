// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";

/// @title The proxy in front of every upgradeable host contract
contract HostProxy is ERC1967Proxy {
    /// @param implementation The first implementation.
    /// @param data The initializing call.
    constructor(address implementation, bytes memory data) ERC1967Proxy(implementation, data) {}
}
