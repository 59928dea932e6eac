// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.27;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC1363} from "@openzeppelin/contracts/token/ERC20/extensions/ERC1363.sol";

/// @title A public token of 18 decimals, for the wrapper; all of it belongs to whoever deploys it
contract PublicToken is ERC1363 {
    constructor() ERC20("Public Token", "PT") {
        _mint(msg.sender, 1_000_000 * 10 ** decimals());
    }
}
