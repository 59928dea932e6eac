// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.27;

import {ZamaEthereumConfig} from "@fhevm/solidity/config/ZamaConfig.sol";
import {ERC7984} from "@openzeppelin/confidential-contracts/token/ERC7984/ERC7984.sol";
import {ERC7984ERC20Wrapper} from "@openzeppelin/confidential-contracts/token/ERC7984/extensions/ERC7984ERC20Wrapper.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title The published wrapper of a public token, with what a deployment of it has to add: a name, and where the host contracts are
contract PublishedWrapper is ZamaEthereumConfig, ERC7984ERC20Wrapper {
    /// @param underlying The public token.
    constructor(IERC20 underlying) ERC7984("Wrapped Token", "WPT", "") ERC7984ERC20Wrapper(underlying) {}
}
