// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IACLEvents} from "./IACLEvents.sol";

/// @title Who may use which encrypted value
/// @notice A handle may be used by an account for the rest of the transaction (transient), for ever (persisted), or be
///         decrypted by anyone. Users delegate their right to decrypt per contract and for a limited time.
interface IACL is IACLEvents {
    /// @notice The account is denied already.
    error AccountAlreadyBlocked(address account);

    /// @notice The account is not denied.
    error AccountNotBlocked(address account);

    /// @notice One change of a delegation per block.
    error AlreadyDelegatedOrRevokedInSameBlock(
        address delegator, address delegate, address contractAddress, uint256 blockNumber
    );

    /// @notice The delegate and the contract of a delegation are the same.
    error DelegateCannotBeContractAddress(address contractAddress);

    /// @notice The wildcard names contracts, not delegates.
    error DelegateCannotBeWildcard();

    /// @notice The delegation already ends at that time.
    error ExpirationDateAlreadySetToSameValue(
        address delegator, address delegate, address contractAddress, uint64 expirationDate
    );

    /// @notice A delegation must end in the future.
    error ExpirationDateInThePast();

    /// @notice No handle was given.
    error HandlesListIsEmpty();

    /// @notice Signatures cannot be invalidated in advance.
    error InvalidationTimestampInTheFuture(uint256 timestamp, uint256 blockTimestamp);

    /// @notice The time before which signatures are invalid only moves forward.
    error InvalidationTimestampTooLow(uint256 timestamp, uint256 current);

    /// @notice There is no delegation to revoke.
    error NotDelegatedYet(address delegator, address delegate, address contractAddress);

    /// @notice The caller may not pause.
    error NotPauser(address account);

    /// @notice The delegator and the contract of a delegation are the same.
    error SenderCannotBeContractAddress(address contractAddress);

    /// @notice The delegator and the delegate are the same.
    error SenderCannotBeDelegate(address delegate);

    /// @notice The caller is on the deny list.
    error SenderDenied(address sender);

    /// @notice The caller may not use the handle.
    error SenderNotAllowed(address sender);

    /// @notice Lets an account use a handle for ever.
    /// @param handle The handle; the caller must be allowed to use it.
    /// @param account The account.
    function allow(bytes32 handle, address account) external;

    /// @notice Lets anyone decrypt the handles.
    /// @param handlesList The handles; the caller must be allowed to use each.
    function allowForDecryption(bytes32[] calldata handlesList) external;

    /// @notice Lets an account use a handle until the end of the transaction.
    /// @param handle The handle; the caller must be allowed to use it, or be the executor or the bridge.
    /// @param account The account.
    function allowTransient(bytes32 handle, address account) external;

    /// @notice Forgets all transient allowances of this transaction.
    function cleanTransientStorage() external;

    /// @notice Lets a delegate decrypt the caller's values of one contract until a time.
    /// @param delegate The delegate.
    /// @param contractAddress The contract, or the wildcard for every contract.
    /// @param expirationDate Unix time in seconds at which the delegation ends.
    function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate) external;

    /// @notice Ends a delegation of the caller.
    /// @param delegate The delegate.
    /// @param contractAddress The contract, or the wildcard.
    function revokeDelegationForUserDecryption(address delegate, address contractAddress) external;

    /// @notice Makes decryption permits that the caller signed before a time worthless.
    /// @param timestamp Unix time in seconds, not in the future and later than the current one; 0 for now.
    function invalidateDecryptionSignaturesBefore(uint256 timestamp) external;

    /// @notice Puts an account on the deny list. Owner only.
    /// @param account The account.
    function blockAccount(address account) external;

    /// @notice Takes an account off the deny list. Owner only.
    /// @param account The account.
    function unblockAccount(address account) external;

    /// @notice Stops every change of permissions. Pausers only.
    function pause() external;

    /// @notice Ends the pause. Owner only.
    function unpause() external;

    /// @notice Returns the time before which an account's decryption permits are worthless.
    /// @param account The account.
    /// @return Unix time in seconds, 0 if never set.
    function decryptionSignatureInvalidatedBefore(address account) external view returns (uint256);

    /// @notice Returns when a delegation ends.
    /// @param delegator Who delegates.
    /// @param delegate Who may decrypt.
    /// @param contractAddress The contract, or the wildcard.
    /// @return Unix time in seconds, 0 if there is no delegation.
    function getUserDecryptionDelegationExpirationDate(address delegator, address delegate, address contractAddress)
        external
        view
        returns (uint64);

    /// @notice Returns whether a delegate may decrypt a value of a delegator now.
    /// @param delegator Who delegates.
    /// @param delegate Who wants to decrypt.
    /// @param contractAddress The contract that holds the value.
    /// @param handle The value.
    /// @return Whether both the delegator and the contract are allowed the handle and the delegation is in force.
    function isHandleDelegatedForUserDecryption(
        address delegator,
        address delegate,
        address contractAddress,
        bytes32 handle
    ) external view returns (bool);

    /// @notice Returns whether an account may use a handle now.
    /// @param handle The handle.
    /// @param account The account.
    /// @return Whether it may, transiently or for ever.
    function isAllowed(bytes32 handle, address account) external view returns (bool);

    /// @notice Returns whether an account may use a handle in this transaction.
    /// @param handle The handle.
    /// @param account The account.
    /// @return Whether it may, not counting persisted allowances.
    function allowedTransient(bytes32 handle, address account) external view returns (bool);

    /// @notice Returns whether an account may use a handle for ever.
    /// @param handle The handle.
    /// @param account The account.
    /// @return Whether it may, not counting transient allowances.
    function persistAllowed(bytes32 handle, address account) external view returns (bool);

    /// @notice Returns whether anyone may decrypt a handle.
    /// @param handle The handle.
    /// @return Whether anyone may.
    function isAllowedForDecryption(bytes32 handle) external view returns (bool);

    /// @notice Returns whether an account is on the deny list.
    /// @param account The account.
    /// @return Whether it is.
    function isAccountDenied(address account) external view returns (bool);

    /// @notice Returns whether an account may pause.
    /// @param account The account.
    /// @return Whether it may.
    function isPauser(address account) external view returns (bool);

    /// @notice Returns the address that stands for every contract in a delegation.
    /// @return The wildcard.
    function WILDCARD_DELEGATION_ADDRESS() external view returns (address);

    /// @notice Returns the executor.
    /// @return Its address.
    function getFHEVMExecutorAddress() external view returns (address);

    /// @notice Returns the set of pausers.
    /// @return Its address.
    function getPauserSetAddress() external view returns (address);

    /// @notice Returns the bridge, which like the executor may allow handles it creates.
    /// @return Its address, zero without a bridge.
    function getConfidentialBridgeAddress() external view returns (address);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external view returns (string memory);
}
