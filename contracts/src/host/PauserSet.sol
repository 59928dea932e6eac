// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ACLOwned} from "../base/ACLOwned.sol";
import {IPauserSet} from "../interfaces/IPauserSet.sol";

/// @title The accounts that may pause the protocol
/// @notice Not upgradeable: an emergency brake must not depend on an upgrade.
contract PauserSet is IPauserSet, ACLOwned {
    mapping(address account => bool isPauser) private _pausers;

    /// @param acl The ACL proxy, whose owner administers the set.
    constructor(address acl) ACLOwned(acl) {}

    /// @inheritdoc IPauserSet
    function addPauser(address account) external onlyACLOwner {
        _add(account);
        emit AddPauser(account);
    }

    /// @inheritdoc IPauserSet
    function removePauser(address account) external onlyACLOwner {
        _remove(account);
        emit RemovePauser(account);
    }

    /// @inheritdoc IPauserSet
    function swapPauser(address oldAccount, address newAccount) external onlyACLOwner {
        _remove(oldAccount);
        _add(newAccount);
        emit SwapPauser(oldAccount, newAccount);
    }

    /// @inheritdoc IPauserSet
    function isPauser(address account) external view returns (bool) {
        return _pausers[account];
    }

    /// @inheritdoc IPauserSet
    function getVersion() external pure returns (string memory) {
        return "PauserSet v0.1.0";
    }

    function _add(address account) private {
        if (account == address(0)) revert InvalidNullPauser();
        if (_pausers[account]) revert AccountAlreadyPauser(account);
        _pausers[account] = true;
    }

    function _remove(address account) private {
        if (!_pausers[account]) revert AccountNotPauser(account);
        _pausers[account] = false;
    }
}
