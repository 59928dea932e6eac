// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ForeignEIP712} from "../base/ForeignEIP712.sol";
import {HostContract} from "../base/HostContract.sol";
import {IInputVerifier} from "../interfaces/IInputVerifier.sol";
import {Handles} from "../libraries/Handles.sol";
import {SignerSets} from "../libraries/SignerSets.sol";
import {TransientSet} from "../libraries/TransientSet.sol";

/// @title Checks that the coprocessors vouch for encrypted inputs
/// @notice A coprocessor signs the handles of an input list after it has checked the list's proof of knowledge. A proof
///         on chain is: number of handles (1 byte), number of signatures (1 byte), handles (32 bytes each), signatures
///         (65 bytes each), extra data (the rest).
contract InputVerifier is IInputVerifier, HostContract, ForeignEIP712 {
    using SignerSets for SignerSets.SignerSet;

    /// @custom:storage-location erc7201:fhevm.storage.InputVerifier
    struct InputVerifierStorage {
        SignerSets.SignerSet coprocessors;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.InputVerifier")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0x3f7d7a96c8c7024e92d37afccfc9b87773a33b9bc22e23134b683e74a50ace00;

    /// @dev The message a coprocessor signs.
    bytes32 private constant CIPHERTEXT_VERIFICATION_TYPE_HASH = keccak256(
        "CiphertextVerification(bytes32[] ctHandles,address userAddress,address contractAddress,uint256 contractChainId,bytes extraData)"
    );

    /// @dev Byte 21 of an input handle is an index; 255 marks computed handles.
    uint8 private constant MAX_INDEX = 254;

    uint256 private constant HEADER_BYTES = 2;

    /// @param acl The ACL proxy, whose owner administers this contract.
    constructor(address acl) HostContract(acl) {}

    /// @notice Completes the deployment.
    /// @param verifyingContractSource The gateway contract that the coprocessors sign for.
    /// @param chainIDSource The chain of that contract.
    /// @param initialSigners The coprocessors' signing addresses.
    /// @param initialThreshold How many of them must sign.
    function initializeFromEmptyProxy(
        address verifyingContractSource,
        uint64 chainIDSource,
        address[] calldata initialSigners,
        uint256 initialThreshold
    ) external onlyFromEmptyProxy reinitializer(FIRST_VERSION) {
        _setEIP712Source(verifyingContractSource, chainIDSource);
        _defineNewContext(initialSigners, initialThreshold);
    }

    /// @inheritdoc IInputVerifier
    function verifyInput(ContextUserInputs calldata context, bytes32 inputHandle, bytes calldata inputProof)
        external
        returns (bytes32)
    {
        if (Handles.chainIdOf(inputHandle) != uint64(block.chainid)) revert InvalidChainId();
        if (inputProof.length == 0) revert EmptyInputProof();
        if (inputProof.length < HEADER_BYTES) revert DeserializingInputProofFail();

        uint256 handleCount = uint8(inputProof[0]);
        uint256 signaturesStart = HEADER_BYTES + 32 * handleCount;
        uint256 signaturesEnd = signaturesStart + SignerSets.SIGNATURE_BYTES * uint8(inputProof[1]);
        uint8 index = Handles.indexOf(inputHandle);
        if (index > MAX_INDEX || index >= handleCount) revert InvalidIndex();
        if (inputProof.length < signaturesEnd) revert DeserializingInputProofFail();

        // A contract that takes several inputs passes the same proof for each: its signatures are checked once.
        bytes32 proofKey = keccak256(abi.encodePacked(context.contractAddress, context.userAddress, inputProof));
        if (!TransientSet.contains(proofKey)) {
            _verifyProof(context, inputProof, signaturesStart, signaturesEnd);
            TransientSet.add(proofKey);
        }

        uint256 handleStart = HEADER_BYTES + 32 * uint256(index);
        if (bytes32(inputProof[handleStart:handleStart + 32]) != inputHandle) revert InvalidInputHandle();
        return inputHandle;
    }

    /// @inheritdoc IInputVerifier
    function cleanTransientStorage() external {
        TransientSet.clear();
    }

    /// @inheritdoc IInputVerifier
    function defineNewContext(address[] calldata newSigners, uint256 newThreshold) external onlyACLOwner {
        _defineNewContext(newSigners, newThreshold);
    }

    /// @inheritdoc IInputVerifier
    function setThreshold(uint256 newThreshold) external onlyACLOwner {
        SignerSets.SignerSet storage coprocessors = _inputVerifier().coprocessors;
        coprocessors.changeThreshold(newThreshold);
        emit NewContextSet(coprocessors.signers, newThreshold);
    }

    /// @inheritdoc IInputVerifier
    function getCoprocessorSigners() external view returns (address[] memory) {
        return _inputVerifier().coprocessors.signers;
    }

    /// @inheritdoc IInputVerifier
    function getThreshold() external view returns (uint256) {
        return _inputVerifier().coprocessors.threshold;
    }

    /// @inheritdoc IInputVerifier
    function isSigner(address account) external view returns (bool) {
        return _inputVerifier().coprocessors.isMember[account];
    }

    /// @inheritdoc IInputVerifier
    function getHandleVersion() external pure returns (uint8) {
        return Handles.VERSION;
    }

    /// @inheritdoc IInputVerifier
    function getVersion() external pure returns (string memory) {
        return "InputVerifier v0.2.0";
    }

    function _domainName() internal pure override returns (string memory) {
        return "InputVerification";
    }

    function _defineNewContext(address[] calldata newSigners, uint256 newThreshold) private {
        _inputVerifier().coprocessors.replace(newSigners, newThreshold);
        emit NewContextSet(newSigners, newThreshold);
    }

    /// @dev Checks everything about a proof that does not depend on which of its handles is used.
    function _verifyProof(
        ContextUserInputs calldata context,
        bytes calldata inputProof,
        uint256 signaturesStart,
        uint256 signaturesEnd
    ) private view {
        bytes calldata handles = inputProof[HEADER_BYTES:signaturesStart];
        for (uint256 end = 32; end <= handles.length; end += 32) {
            if (uint8(handles[end - 1]) != Handles.VERSION) revert InvalidHandleVersion();
        }
        bytes32 digest = _hashTypedData(
            keccak256(
                abi.encode(
                    CIPHERTEXT_VERIFICATION_TYPE_HASH,
                    keccak256(handles),
                    context.userAddress,
                    context.contractAddress,
                    block.chainid,
                    keccak256(inputProof[signaturesEnd:])
                )
            )
        );
        bytes calldata signatures = inputProof[signaturesStart:signaturesEnd];
        (SignerSets.Outcome outcome, address unknown) = _inputVerifier().coprocessors.check(digest, signatures);
        if (outcome == SignerSets.Outcome.Accepted) return;
        if (outcome == SignerSets.Outcome.NoSignature) revert ZeroSignature();
        if (outcome == SignerSets.Outcome.UnknownSigner) revert InvalidSigner(unknown);
        if (outcome == SignerSets.Outcome.TooFewSignatures) {
            revert SignatureThresholdNotReached(signatures.length / SignerSets.SIGNATURE_BYTES);
        }
        revert SignaturesVerificationFailed();
    }

    function _inputVerifier() private pure returns (InputVerifierStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
