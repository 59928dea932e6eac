// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ForeignEIP712} from "../base/ForeignEIP712.sol";
import {HostContract} from "../base/HostContract.sol";
import {IKMSVerifier} from "../interfaces/IKMSVerifier.sol";
import {SignerSets} from "../libraries/SignerSets.sol";

/// @title Checks that the KMS vouches for decrypted values
/// @notice A proof is: number of signatures (1 byte), signatures (65 bytes each), extra data (the rest).
contract KMSVerifier is IKMSVerifier, HostContract, ForeignEIP712 {
    using SignerSets for SignerSets.SignerSet;

    /// @custom:storage-location erc7201:fhevm.storage.KMSVerifier
    struct KMSVerifierStorage {
        uint256 currentContextId;
        mapping(uint256 contextId => SignerSets.SignerSet context) contexts;
        mapping(uint256 contextId => bool isDestroyed) destroyed;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.KMSVerifier")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0x7e81a744be86773af8644dd7304fa1dc9350ccabf16cfcaa614ddb78b4ce8900;

    /// @dev The message a KMS node signs.
    bytes32 private constant PUBLIC_DECRYPT_VERIFICATION_TYPE_HASH =
        keccak256("PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)");

    /// @dev Context identifiers count up from here; the highest byte tells them from other identifiers.
    uint256 private constant CONTEXT_ID_BASE = 0x07 << 248;

    /// @dev A context's signers do not reshare their key, so every context is in its first epoch.
    uint256 private constant FIRST_EPOCH_ID = (0x08 << 248) | 1;

    uint8 private constant EXTRA_DATA_CURRENT = 0;
    uint8 private constant EXTRA_DATA_CONTEXT = 1;
    uint8 private constant EXTRA_DATA_CONTEXT_AND_EPOCH = 2;

    /// @param acl The ACL proxy, whose owner administers this contract.
    constructor(address acl) HostContract(acl) {}

    /// @notice Completes the deployment.
    /// @param verifyingContractSource The gateway contract that the KMS signs for.
    /// @param chainIDSource The chain of that contract.
    /// @param initialSigners The KMS nodes' signing addresses.
    /// @param initialThreshold How many of them must sign.
    function initializeFromEmptyProxy(
        address verifyingContractSource,
        uint64 chainIDSource,
        address[] calldata initialSigners,
        uint256 initialThreshold
    ) external onlyFromEmptyProxy reinitializer(FIRST_VERSION) {
        _setEIP712Source(verifyingContractSource, chainIDSource);
        _kmsVerifier().currentContextId = CONTEXT_ID_BASE;
        _defineNewContext(initialSigners, initialThreshold);
    }

    /// @inheritdoc IKMSVerifier
    function verifyDecryptionEIP712KMSSignatures(
        bytes32[] calldata handlesList,
        bytes calldata decryptedResult,
        bytes calldata decryptionProof
    ) external view returns (bool) {
        if (decryptionProof.length == 0) revert EmptyDecryptionProof();
        uint256 signaturesEnd = 1 + SignerSets.SIGNATURE_BYTES * uint8(decryptionProof[0]);
        if (decryptionProof.length < signaturesEnd) revert DeserializingDecryptionProofFail();
        bytes calldata extraData = decryptionProof[signaturesEnd:];

        SignerSets.SignerSet storage context = _context(_contextIdOf(extraData));
        bytes32 digest = _hashTypedData(
            keccak256(
                abi.encode(
                    PUBLIC_DECRYPT_VERIFICATION_TYPE_HASH,
                    keccak256(abi.encodePacked(handlesList)),
                    keccak256(decryptedResult),
                    keccak256(extraData)
                )
            )
        );
        bytes calldata signatures = decryptionProof[1:signaturesEnd];
        (SignerSets.Outcome outcome, address unknown) = context.check(digest, signatures);
        if (outcome == SignerSets.Outcome.NoSignature) revert KMSZeroSignature();
        if (outcome == SignerSets.Outcome.UnknownSigner) revert KMSInvalidSigner(unknown);
        if (outcome == SignerSets.Outcome.TooFewSignatures) {
            revert KMSSignatureThresholdNotReached(signatures.length / SignerSets.SIGNATURE_BYTES);
        }
        return outcome == SignerSets.Outcome.Accepted;
    }

    /// @inheritdoc IKMSVerifier
    function defineNewContext(address[] calldata newSigners, uint256 newThreshold) external onlyACLOwner {
        _defineNewContext(newSigners, newThreshold);
    }

    /// @inheritdoc IKMSVerifier
    function setThreshold(uint256 newThreshold) external onlyACLOwner {
        uint256 contextId = _kmsVerifier().currentContextId;
        _context(contextId).changeThreshold(newThreshold);
        emit ThresholdSet(contextId, newThreshold);
    }

    /// @inheritdoc IKMSVerifier
    function destroyKmsContext(uint256 contextId) external onlyACLOwner {
        KMSVerifierStorage storage $ = _kmsVerifier();
        if (contextId == $.currentContextId) revert CurrentKmsContextCannotBeDestroyed(contextId);
        _context(contextId); // reverts unless the context exists
        $.destroyed[contextId] = true;
        emit KmsContextDestroyed(contextId);
    }

    /// @inheritdoc IKMSVerifier
    function getKmsSigners() external view returns (address[] memory) {
        return _currentContext().signers;
    }

    /// @inheritdoc IKMSVerifier
    function getThreshold() external view returns (uint256) {
        return _currentContext().threshold;
    }

    /// @inheritdoc IKMSVerifier
    function isSigner(address account) external view returns (bool) {
        return _currentContext().isMember[account];
    }

    /// @inheritdoc IKMSVerifier
    function getCurrentKmsContextId() external view returns (uint256) {
        return _kmsVerifier().currentContextId;
    }

    /// @inheritdoc IKMSVerifier
    function getCurrentKmsContextAndEpoch() external view returns (uint256 contextId, uint256 epochId) {
        return (_kmsVerifier().currentContextId, FIRST_EPOCH_ID);
    }

    /// @inheritdoc IKMSVerifier
    function getSignersForKmsContext(uint256 contextId) external view returns (address[] memory) {
        return _context(contextId).signers;
    }

    /// @inheritdoc IKMSVerifier
    function getContextSignersAndThresholdFromExtraData(bytes calldata extraData)
        external
        view
        returns (address[] memory signers, uint256 threshold)
    {
        SignerSets.SignerSet storage context = _context(_contextIdOf(extraData));
        return (context.signers, context.threshold);
    }

    /// @inheritdoc IKMSVerifier
    function getProtocolConfigAddress() external view returns (address) {
        return address(this);
    }

    /// @inheritdoc IKMSVerifier
    function getVersion() external pure returns (string memory) {
        return "KMSVerifier v0.2.0";
    }

    function _domainName() internal pure override returns (string memory) {
        return "Decryption";
    }

    function _defineNewContext(address[] calldata newSigners, uint256 newThreshold) private {
        KMSVerifierStorage storage $ = _kmsVerifier();
        uint256 contextId = ++$.currentContextId;
        $.contexts[contextId].replace(newSigners, newThreshold);
        emit NewContextSet(contextId, newSigners, newThreshold);
    }

    /// @dev Reads which context extra data speak of. Version 0 is open: what follows the zero byte is not read.
    function _contextIdOf(bytes calldata extraData) private view returns (uint256 contextId) {
        uint8 version = extraData.length == 0 ? EXTRA_DATA_CURRENT : uint8(extraData[0]);
        if (version == EXTRA_DATA_CURRENT) return _kmsVerifier().currentContextId;
        if (version > EXTRA_DATA_CONTEXT_AND_EPOCH) revert UnsupportedExtraDataVersion(version);
        if (extraData.length != (version == EXTRA_DATA_CONTEXT ? 33 : 65)) revert DeserializingExtraDataFail();
        contextId = uint256(bytes32(extraData[1:33]));
        if (version == EXTRA_DATA_CONTEXT_AND_EPOCH) {
            uint256 epochId = uint256(bytes32(extraData[33:65]));
            if (epochId != FIRST_EPOCH_ID) revert InvalidKMSEpoch(epochId);
        }
    }

    /// @dev The context with this identifier, which must exist and not be destroyed.
    function _context(uint256 contextId) private view returns (SignerSets.SignerSet storage context) {
        KMSVerifierStorage storage $ = _kmsVerifier();
        context = $.contexts[contextId];
        if (context.threshold == 0 || $.destroyed[contextId]) revert InvalidKMSContext(contextId);
    }

    function _currentContext() private view returns (SignerSets.SignerSet storage) {
        KMSVerifierStorage storage $ = _kmsVerifier();
        return $.contexts[$.currentContextId];
    }

    function _kmsVerifier() private pure returns (KMSVerifierStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
