// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IKMSContextErrors} from "./IKMSContextErrors.sol";

/// @title Who the KMS is
/// @notice KMS nodes form contexts: a set of signers with thresholds, and an identifier whose highest byte is 0x07. When
///         the nodes of a context share their key anew, a new epoch of it begins; an epoch's highest byte is 0x08. Both
///         count up from 1. One context is current, and one epoch of it; former ones stay valid until they are destroyed,
///         so that answers on their way can still be used.
interface IProtocolConfig is IKMSContextErrors {
    /// @notice How many nodes of a context it takes.
    /// @param publicDecryption Signatures under a public decryption, from 1 to the number of signers.
    /// @param userDecryption Answers to a user's request, from 1 to the number of signers.
    /// @param mpc Nodes that may be dishonest without harm, from 0 to one less than the number of signers.
    struct KmsThresholds {
        uint256 publicDecryption;
        uint256 userDecryption;
        uint256 mpc;
    }

    /// @notice A new context, in a first epoch of its own, is current.
    /// @param contextId Its identifier.
    /// @param epochId The epoch's identifier.
    /// @param signers Its signers.
    /// @param thresholds How many of them it takes.
    event NewKmsContext(uint256 indexed contextId, uint256 indexed epochId, address[] signers, KmsThresholds thresholds);

    /// @notice A new epoch of the current context has begun.
    /// @param contextId The context's identifier.
    /// @param epochId The epoch's identifier.
    event NewKmsEpoch(uint256 indexed contextId, uint256 indexed epochId);

    /// @notice The thresholds of the current context have changed.
    /// @param contextId Its identifier.
    /// @param thresholds How many of its signers it takes.
    event KmsThresholdsSet(uint256 indexed contextId, KmsThresholds thresholds);

    /// @notice Nothing of a former context is accepted any longer.
    /// @param contextId Its identifier.
    event KmsContextDestroyed(uint256 indexed contextId);

    /// @notice Nothing of a former epoch is accepted any longer.
    /// @param epochId Its identifier.
    event KmsEpochDestroyed(uint256 indexed epochId);

    /// @notice The current context cannot be destroyed.
    error CurrentKmsContextCannotBeDestroyed(uint256 contextId);

    /// @notice The current epoch cannot be destroyed.
    error CurrentKmsEpochCannotBeDestroyed(uint256 epochId);

    /// @notice More answers are asked for than there are signers, or none.
    error InvalidUserDecryptionThreshold(uint256 threshold);

    /// @notice All nodes may be dishonest.
    error InvalidMpcThreshold(uint256 threshold);

    /// @notice Makes a new context the current one. ACL owner only.
    /// @param signers The signers, 1 to 255, all different.
    /// @param thresholds How many of them it takes.
    function defineNewKmsContext(address[] calldata signers, KmsThresholds calldata thresholds) external;

    /// @notice Begins a new epoch of the current context. ACL owner only.
    function defineNewKmsEpoch() external;

    /// @notice Changes the thresholds of the current context. ACL owner only.
    /// @param thresholds How many of its signers it takes.
    function setKmsThresholds(KmsThresholds calldata thresholds) external;

    /// @notice Stops accepting anything of a former context. ACL owner only.
    /// @param contextId Its identifier.
    function destroyKmsContext(uint256 contextId) external;

    /// @notice Stops accepting anything of a former epoch. ACL owner only.
    /// @param epochId Its identifier.
    function destroyKmsEpoch(uint256 epochId) external;

    /// @notice Returns the current context.
    /// @return Its identifier.
    function getCurrentKmsContextId() external view returns (uint256);

    /// @notice Returns the current context and its current epoch.
    /// @return contextId The context's identifier.
    /// @return epochId The epoch's identifier.
    function getCurrentKmsContextAndEpoch() external view returns (uint256 contextId, uint256 epochId);

    /// @notice Returns the current context's signers, and how many must sign a public decryption.
    /// @return signers The addresses.
    /// @return threshold How many of them must sign.
    function getCurrentKmsSignersAndThreshold() external view returns (address[] memory signers, uint256 threshold);

    /// @notice Returns a context's signers, and how many must sign a public decryption.
    /// @param contextId The context's identifier.
    /// @return signers The addresses.
    /// @return threshold How many of them must sign.
    function getKmsSignersAndThresholdForContext(uint256 contextId)
        external
        view
        returns (address[] memory signers, uint256 threshold);

    /// @notice Returns the signers of a context in one of its epochs, and how many must sign a public decryption.
    /// @param contextId The context's identifier.
    /// @param epochId The epoch's identifier.
    /// @return signers The addresses.
    /// @return threshold How many of them must sign.
    function getKmsSignersAndThresholdForEpoch(uint256 contextId, uint256 epochId)
        external
        view
        returns (address[] memory signers, uint256 threshold);

    /// @notice Returns a context's signers.
    /// @param contextId The context's identifier.
    /// @return The addresses.
    function getKmsSignersForContext(uint256 contextId) external view returns (address[] memory);

    /// @notice Returns whether an address is a signer of the current context.
    /// @param account The address.
    /// @return Whether it is.
    function isKmsSigner(address account) external view returns (bool);

    /// @notice Returns whether an address is a signer of a context.
    /// @param contextId The context's identifier.
    /// @param account The address.
    /// @return Whether it is.
    function isKmsSignerForContext(uint256 contextId, address account) external view returns (bool);

    /// @notice Returns how many signers of a context must sign a public decryption.
    /// @param contextId The context's identifier.
    /// @return The threshold.
    function getPublicDecryptionThresholdForContext(uint256 contextId) external view returns (uint256);

    /// @notice Returns how many nodes of a context must answer a user's request.
    /// @param contextId The context's identifier.
    /// @return The threshold.
    function getUserDecryptionThresholdForContext(uint256 contextId) external view returns (uint256);

    /// @notice Returns how many nodes of a context may be dishonest without harm.
    /// @param contextId The context's identifier.
    /// @return The threshold.
    function getMpcThresholdForContext(uint256 contextId) external view returns (uint256);

    /// @notice Returns whether a context exists and was not destroyed.
    /// @param contextId The context's identifier.
    /// @return Whether it is.
    function isValidKmsContext(uint256 contextId) external view returns (bool);

    /// @notice Returns whether an epoch exists, and neither it nor its context was destroyed.
    /// @param epochId The epoch's identifier.
    /// @return Whether it is.
    function isValidKmsEpoch(uint256 epochId) external view returns (bool);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external pure returns (string memory);
}
