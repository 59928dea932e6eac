// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IValidatorSet} from "../interfaces/IValidatorSet.sol";
import {ValidatorList} from "./ValidatorList.sol";

/// @title Who signs the blocks of a native chain
/// @notice Stands at 0x5f from the genesis block on. The owner of the set decides who validates; whoever can send as the owner controls
///         the chain, so it is meant to be a multisignature wallet or a contract of the chain's governance. An owner who renounces
///         makes the set final.
/// @dev Without a proxy: how the set is stored is part of the chain's rules, which an upgrade must not change.
contract ValidatorSet is ValidatorList, Ownable2Step {
    /// @param owner Who decides on the set.
    /// @param accounts The first validators, 1 to 128.
    /// @param powers Their voting powers, in the same order.
    constructor(address owner, address[] memory accounts, uint64[] memory powers) Ownable(owner) {
        if (accounts.length != powers.length) revert LengthMismatch(accounts.length, powers.length);
        if (accounts.length == 0) revert LastValidator();
        for (uint256 i = 0; i < accounts.length; i++) {
            _add(accounts[i], powers[i]);
        }
    }

    /// @inheritdoc IValidatorSet
    function addValidator(address account, uint64 power) external onlyOwner {
        _add(account, power);
    }

    /// @inheritdoc IValidatorSet
    function removeValidator(address account) external onlyOwner {
        _remove(account);
    }

    /// @inheritdoc IValidatorSet
    function setPower(address account, uint64 power) external onlyOwner {
        _setPower(account, power);
    }

    /// @inheritdoc IValidatorSet
    function getVersion() external pure returns (string memory) {
        return "ValidatorSet v0.1.0";
    }
}
