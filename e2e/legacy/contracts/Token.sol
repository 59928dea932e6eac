// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {TFHE, FHEVMConfigStruct} from "fhevm/lib/TFHE.sol";
import {ConfidentialERC20Mintable} from "fhevm-contracts/contracts/token/ERC20/extensions/ConfidentialERC20Mintable.sol";

/// @notice The published token of the 0.6 generation, told where that generation's contracts are.
contract Token is ConfidentialERC20Mintable {
    constructor(FHEVMConfigStruct memory config) ConfidentialERC20Mintable("Legacy", "LEG", msg.sender) {
        TFHE.setFHEVM(config);
    }
}
