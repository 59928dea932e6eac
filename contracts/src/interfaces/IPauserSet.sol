// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The accounts that may pause the protocol
interface IPauserSet {
    /// @notice An account may pause from now on.
    /// @param account The account.
    event AddPauser(address account);

    /// @notice An account may no longer pause.
    /// @param account The account.
    event RemovePauser(address account);

    /// @notice One account took the place of another.
    /// @param oldAccount The account that may no longer pause.
    /// @param newAccount The account that may pause from now on.
    event SwapPauser(address oldAccount, address newAccount);

    /// @notice The zero address cannot be a pauser.
    error InvalidNullPauser();

    /// @notice The account is a pauser already.
    error AccountAlreadyPauser(address account);

    /// @notice The account is not a pauser.
    error AccountNotPauser(address account);

    /// @notice Lets an account pause. ACL owner only.
    /// @param account The account.
    function addPauser(address account) external;

    /// @notice Takes the right to pause away. ACL owner only.
    /// @param account The account.
    function removePauser(address account) external;

    /// @notice Replaces one pauser by another. ACL owner only.
    /// @param oldAccount The pauser to remove.
    /// @param newAccount The pauser to add.
    function swapPauser(address oldAccount, address newAccount) external;

    /// @notice Returns whether an account may pause.
    /// @param account The account.
    /// @return Whether it may.
    function isPauser(address account) external view returns (bool);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external pure returns (string memory);
}
