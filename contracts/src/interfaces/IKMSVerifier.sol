// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IKMSContextErrors} from "./IKMSContextErrors.sol";

/// @title Checks that the KMS vouches for decrypted values
/// @notice The ProtocolConfig says who signs for the KMS in which context and epoch. Requests and proofs name the context
///         in their extra data; version 0 (no extra data, or a zero byte) means the current one, version 1 carries the
///         context id, version 2 the context id and the epoch id.
interface IKMSVerifier is IKMSContextErrors {
    /// @notice The proof is too short for the count it begins with.
    error DeserializingDecryptionProofFail();

    /// @notice The extra data do not have the length of their version.
    error DeserializingExtraDataFail();

    /// @notice The proof is empty.
    error EmptyDecryptionProof();

    /// @notice A signature is not one of the context's.
    error KMSInvalidSigner(address invalidSigner);

    /// @notice The proof holds fewer signatures than the threshold.
    error KMSSignatureThresholdNotReached(uint256 numSignatures);

    /// @notice The proof holds no signature.
    error KMSZeroSignature();

    /// @notice The extra data have an unknown version.
    error UnsupportedExtraDataVersion(uint8 version);

    /// @notice Checks that the KMS signed these plaintexts for these handles.
    /// @param handlesList The handles.
    /// @param decryptedResult The plaintexts, ABI-encoded in the order of the handles.
    /// @param decryptionProof Number of signatures, the signatures, extra data.
    /// @return Whether enough different signers have signed.
    function verifyDecryptionEIP712KMSSignatures(
        bytes32[] calldata handlesList,
        bytes calldata decryptedResult,
        bytes calldata decryptionProof
    ) external returns (bool);

    /// @notice Returns the signers of the current context.
    /// @return The addresses.
    function getKmsSigners() external view returns (address[] memory);

    /// @notice Returns how many signers of the current context must sign a public decryption.
    /// @return The threshold.
    function getThreshold() external view returns (uint256);

    /// @notice Returns whether an address is a signer of the current context.
    /// @param account The address.
    /// @return Whether it is.
    function isSigner(address account) external view returns (bool);

    /// @notice Returns the current context.
    /// @return Its identifier.
    function getCurrentKmsContextId() external view returns (uint256);

    /// @notice Returns the current context and its epoch.
    /// @return contextId The context's identifier.
    /// @return epochId The epoch's identifier.
    function getCurrentKmsContextAndEpoch() external view returns (uint256 contextId, uint256 epochId);

    /// @notice Returns the signers of a context.
    /// @param contextId Its identifier.
    /// @return The addresses.
    function getSignersForKmsContext(uint256 contextId) external view returns (address[] memory);

    /// @notice Returns which signers, and how many of them, must sign a message with these extra data.
    /// @param extraData The extra data of a request or a proof.
    /// @return signers The signers.
    /// @return threshold How many of them must sign.
    function getContextSignersAndThresholdFromExtraData(bytes calldata extraData)
        external
        view
        returns (address[] memory signers, uint256 threshold);

    /// @notice Returns the contract that holds contexts and epochs.
    /// @return Its address.
    function getProtocolConfigAddress() external view returns (address);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external view returns (string memory);
}
