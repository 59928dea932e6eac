// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Changes of permissions, as the coprocessor and the KMS follow them
interface IACLEvents {
    /// @notice An account may use a handle for ever.
    /// @param caller Who allowed it.
    /// @param account The account.
    /// @param handle The handle.
    event Allowed(address indexed caller, address indexed account, bytes32 handle);

    /// @notice Anyone may decrypt the handles.
    /// @param caller Who allowed it.
    /// @param handlesList The handles.
    event AllowedForDecryption(address indexed caller, bytes32[] handlesList);

    /// @notice A delegate may decrypt a delegator's values.
    /// @param delegator Who delegates.
    /// @param delegate Who may decrypt.
    /// @param contractAddress The contract whose values it covers, or the wildcard.
    /// @param delegationCounter How often this delegation was changed, this change included.
    /// @param oldExpirationDate Unix time in seconds at which it would have ended, 0 if it is new.
    /// @param newExpirationDate Unix time in seconds at which it ends.
    event DelegatedForUserDecryption(
        address indexed delegator,
        address indexed delegate,
        address contractAddress,
        uint64 delegationCounter,
        uint64 oldExpirationDate,
        uint64 newExpirationDate
    );

    /// @notice A delegation has ended.
    /// @param delegator Who delegated.
    /// @param delegate Who may no longer decrypt.
    /// @param contractAddress The contract whose values it covered, or the wildcard.
    /// @param delegationCounter How often this delegation was changed, this change included.
    /// @param oldExpirationDate Unix time in seconds at which it would have ended.
    event RevokedDelegationForUserDecryption(
        address indexed delegator,
        address indexed delegate,
        address contractAddress,
        uint64 delegationCounter,
        uint64 oldExpirationDate
    );

    /// @notice Decryption permits an account signed before a time are worthless.
    /// @param account The account.
    /// @param timestamp Unix time in seconds.
    event DecryptionSignaturesInvalidated(address indexed account, uint256 timestamp);

    /// @notice An account was put on the deny list.
    /// @param account The account.
    event BlockedAccount(address indexed account);

    /// @notice An account was taken off the deny list.
    /// @param account The account.
    event UnblockedAccount(address indexed account);
}
