// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IValidatorSet} from "../interfaces/IValidatorSet.sol";

/// @title The list of validators, as nodes and light clients read it
/// @notice Nodes read the list straight from storage after each block, and light clients prove it with `eth_getProof`, so its layout is
///         part of the chain's rules: slot 0 holds the number of validators, slot keccak256(0) + i the i-th one as power << 160 | address.
/// @dev Must be the first base of the contract, so that the list is its first variable.
abstract contract ValidatorList is IValidatorSet {
    /// @dev One slot.
    struct Validator {
        address account;
        uint64 power;
    }

    /// @dev The most validators of a set: a block's certificate carries a signature of each.
    uint256 internal constant MAX_VALIDATORS = 128;

    /// @dev The most voting power of a set: JSON readers keep integers exact up to here.
    uint256 internal constant MAX_TOTAL_POWER = 1 << 53;

    Validator[] private _list;

    /// @dev Position in the list plus one; zero for who is not in it.
    mapping(address account => uint256 position) private _positions;

    uint64 private _totalPower;

    /// @inheritdoc IValidatorSet
    function validators() external view returns (address[] memory addresses, uint64[] memory powers) {
        uint256 count = _list.length;
        addresses = new address[](count);
        powers = new uint64[](count);
        for (uint256 i = 0; i < count; i++) {
            Validator memory validator = _list[i];
            (addresses[i], powers[i]) = (validator.account, validator.power);
        }
    }

    /// @inheritdoc IValidatorSet
    function powerOf(address account) external view returns (uint64) {
        uint256 position = _positions[account];
        return position == 0 ? 0 : _list[position - 1].power;
    }

    /// @inheritdoc IValidatorSet
    function totalPower() external view returns (uint64) {
        return _totalPower;
    }

    function _add(address account, uint64 power) internal {
        if (account == address(0)) revert NullValidator();
        if (_positions[account] != 0) revert AlreadyValidator(account);
        if (_list.length == MAX_VALIDATORS) revert TooManyValidators();
        _replacePower(0, power);
        _list.push(Validator(account, power));
        _positions[account] = _list.length;
        emit ValidatorAdded(account, power);
    }

    /// @dev The last entry takes the place of the removed one.
    function _remove(address account) internal {
        uint256 index = _indexOf(account);
        uint256 last = _list.length - 1;
        if (last == 0) revert LastValidator();
        _totalPower -= _list[index].power;
        if (index != last) {
            Validator memory moved = _list[last];
            _list[index] = moved;
            _positions[moved.account] = index + 1;
        }
        _list.pop();
        delete _positions[account];
        emit ValidatorRemoved(account);
    }

    function _setPower(address account, uint64 power) internal {
        Validator storage validator = _list[_indexOf(account)];
        uint64 oldPower = validator.power;
        _replacePower(oldPower, power);
        validator.power = power;
        emit PowerChanged(account, oldPower, power);
    }

    function _indexOf(address account) private view returns (uint256) {
        uint256 position = _positions[account];
        if (position == 0) revert NotValidator(account);
        return position - 1;
    }

    function _replacePower(uint64 oldPower, uint64 newPower) private {
        if (newPower == 0) revert PowerIsNull();
        uint256 total = uint256(_totalPower) - oldPower + newPower;
        if (total > MAX_TOTAL_POWER) revert TotalPowerTooLarge(total);
        _totalPower = uint64(total);
    }
}
