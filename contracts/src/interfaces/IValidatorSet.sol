// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Who signs the blocks of a native chain
/// @notice What the set is after block N signs block N + 1.
interface IValidatorSet {
    /// @notice An account signs blocks from the next block on.
    /// @param validator The account.
    /// @param power Its voting power.
    event ValidatorAdded(address indexed validator, uint64 power);

    /// @notice An account no longer signs blocks, from the next block on.
    /// @param validator The account.
    event ValidatorRemoved(address indexed validator);

    /// @notice The voting power of a validator is another one from the next block on.
    /// @param validator The validator.
    /// @param oldPower The power before.
    /// @param newPower The power from now on.
    event PowerChanged(address indexed validator, uint64 oldPower, uint64 newPower);

    /// @notice The zero address cannot sign.
    error NullValidator();

    /// @notice The account is a validator already.
    error AlreadyValidator(address account);

    /// @notice The account is no validator.
    error NotValidator(address account);

    /// @notice A validator has a power of at least 1.
    error PowerIsNull();

    /// @notice All powers together may be 2^53 at most.
    error TotalPowerTooLarge(uint256 totalPower);

    /// @notice A set holds at most 128 validators.
    error TooManyValidators();

    /// @notice The last validator stays: without one there are no more blocks.
    error LastValidator();

    /// @notice As many powers as validators are needed.
    error LengthMismatch(uint256 validators, uint256 powers);

    /// @notice Adds a validator. Owner only.
    /// @param account Its address.
    /// @param power Its voting power, at least 1.
    function addValidator(address account, uint64 power) external;

    /// @notice Removes a validator. Owner only.
    /// @param account Its address.
    function removeValidator(address account) external;

    /// @notice Changes the voting power of a validator. Owner only.
    /// @param account Its address.
    /// @param power Its voting power from now on, at least 1.
    function setPower(address account, uint64 power) external;

    /// @notice Returns all validators, in no particular order.
    /// @return addresses Their addresses.
    /// @return powers Their voting powers, in the same order.
    function validators() external view returns (address[] memory addresses, uint64[] memory powers);

    /// @notice Returns the voting power of an account; zero if it is no validator.
    /// @param account The account.
    /// @return Its power.
    function powerOf(address account) external view returns (uint64);

    /// @notice Returns the voting power of all validators together.
    /// @return The sum.
    function totalPower() external view returns (uint64);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external pure returns (string memory);
}
