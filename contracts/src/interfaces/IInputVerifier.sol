// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Checks that the coprocessors vouch for encrypted inputs
interface IInputVerifier {
    /// @notice For whom an input was encrypted: the proof of knowledge binds both addresses.
    /// @param userAddress Who encrypted it.
    /// @param contractAddress The contract that uses it.
    struct ContextUserInputs {
        address userAddress;
        address contractAddress;
    }

    /// @notice The set of coprocessors or their threshold has changed.
    /// @param newSigners The signers.
    /// @param newThreshold How many of them must sign.
    event NewContextSet(address[] newSigners, uint256 newThreshold);

    /// @notice The proof is too short for the counts it begins with.
    error DeserializingInputProofFail();

    /// @notice The proof is empty.
    error EmptyInputProof();

    /// @notice The handle belongs to another chain.
    error InvalidChainId();

    /// @notice The handle's version is not supported.
    error InvalidHandleVersion();

    /// @notice The handle's index is not one of the proof's.
    error InvalidIndex();

    /// @notice The proof lists another handle at the handle's index.
    error InvalidInputHandle();

    /// @notice A signature is not a coprocessor's.
    error InvalidSigner(address invalidSigner);

    /// @notice The proof holds fewer signatures than the threshold.
    error SignatureThresholdNotReached(uint256 numSignatures);

    /// @notice The proof's signatures come from too few different signers.
    error SignaturesVerificationFailed();

    /// @notice The proof holds no signature.
    error ZeroSignature();

    /// @notice Checks that a handle is one of the inputs that the coprocessors signed for this user and contract.
    /// @param context The user and the contract.
    /// @param inputHandle The handle.
    /// @param inputProof Number of handles, number of signatures, the handles, the signatures, extra data.
    /// @return The handle.
    function verifyInput(ContextUserInputs calldata context, bytes32 inputHandle, bytes calldata inputProof)
        external
        returns (bytes32);

    /// @notice Forgets which proofs were checked in this transaction.
    function cleanTransientStorage() external;

    /// @notice Replaces the set of coprocessors. ACL owner only.
    /// @param newSigners The signers.
    /// @param newThreshold How many of them must sign.
    function defineNewContext(address[] calldata newSigners, uint256 newThreshold) external;

    /// @notice Changes how many coprocessors must sign. ACL owner only.
    /// @param newThreshold How many of them must sign.
    function setThreshold(uint256 newThreshold) external;

    /// @notice Returns the coprocessors' signing addresses.
    /// @return The addresses.
    function getCoprocessorSigners() external view returns (address[] memory);

    /// @notice Returns how many coprocessors must sign.
    /// @return The threshold.
    function getThreshold() external view returns (uint256);

    /// @notice Returns whether an address is a coprocessor's.
    /// @param account The address.
    /// @return Whether it is.
    function isSigner(address account) external view returns (bool);

    /// @notice Returns the version of the handles it accepts.
    /// @return The version, byte 31 of a handle.
    function getHandleVersion() external pure returns (uint8);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external pure returns (string memory);
}
