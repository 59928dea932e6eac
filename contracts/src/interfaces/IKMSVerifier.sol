// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Checks that the KMS vouches for decrypted values
/// @notice KMS nodes form contexts: a set of signers with a threshold, and an identifier whose highest byte is 0x07.
///         Requests and proofs name the context in their extra data; version 0 (no extra data, or a zero byte) means
///         the current one, version 1 carries the context id, version 2 the context id and the epoch id.
interface IKMSVerifier {
    /// @notice A new context is current.
    /// @param contextId Its identifier.
    /// @param newSigners Its signers.
    /// @param newThreshold How many of them must sign.
    event NewContextSet(uint256 indexed contextId, address[] newSigners, uint256 newThreshold);

    /// @notice The threshold of the current context has changed.
    /// @param contextId Its identifier.
    /// @param newThreshold How many of its signers must sign.
    event ThresholdSet(uint256 indexed contextId, uint256 newThreshold);

    /// @notice Proofs of a former context are no longer accepted.
    /// @param contextId Its identifier.
    event KmsContextDestroyed(uint256 indexed contextId);

    /// @notice The current context cannot be destroyed.
    error CurrentKmsContextCannotBeDestroyed(uint256 contextId);

    /// @notice The proof is too short for the count it begins with.
    error DeserializingDecryptionProofFail();

    /// @notice The extra data do not have the length of their version.
    error DeserializingExtraDataFail();

    /// @notice The proof is empty.
    error EmptyDecryptionProof();

    /// @notice There is no such context, or it was destroyed.
    error InvalidKMSContext(uint256 contextId);

    /// @notice The context has no such epoch.
    error InvalidKMSEpoch(uint256 epochId);

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

    /// @notice Makes a new context the current one. ACL owner only.
    /// @param newSigners The signers.
    /// @param newThreshold How many of them must sign.
    function defineNewContext(address[] calldata newSigners, uint256 newThreshold) external;

    /// @notice Changes the threshold of the current context. ACL owner only.
    /// @param newThreshold How many of its signers must sign.
    function setThreshold(uint256 newThreshold) external;

    /// @notice Stops accepting proofs of a former context. ACL owner only.
    /// @param contextId Its identifier.
    function destroyKmsContext(uint256 contextId) external;

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

    /// @notice Returns the contract that holds contexts and epochs, which here is this one.
    /// @return Its address.
    function getProtocolConfigAddress() external view returns (address);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external pure returns (string memory);
}
