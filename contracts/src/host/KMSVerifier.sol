// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ForeignEIP712} from "../base/ForeignEIP712.sol";
import {HostContract} from "../base/HostContract.sol";
import {ProtocolFace} from "../base/ProtocolFace.sol";
import {IKMSVerifier} from "../interfaces/IKMSVerifier.sol";
import {IProtocolConfig} from "../interfaces/IProtocolConfig.sol";
import {SignerSets} from "../libraries/SignerSets.sol";

/// @title Checks that the KMS vouches for decrypted values
/// @notice A proof is: number of signatures (1 byte), signatures (65 bytes each), extra data (the rest). Who the signers
///         are stands in the ProtocolConfig; this contract answers for it too, because most clients ask here.
contract KMSVerifier is IKMSVerifier, HostContract, ForeignEIP712, ProtocolFace {
    /// @dev The message a KMS node signs.
    bytes32 private constant PUBLIC_DECRYPT_VERIFICATION_TYPE_HASH =
        keccak256("PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)");

    uint8 private constant EXTRA_DATA_CURRENT = 0;
    uint8 private constant EXTRA_DATA_CONTEXT = 1;
    uint8 private constant EXTRA_DATA_CONTEXT_AND_EPOCH = 2;

    IProtocolConfig private immutable PROTOCOL_CONFIG;

    /// @param acl The ACL proxy, whose owner administers this contract.
    /// @param protocolConfig The ProtocolConfig proxy.
    /// @param face The minor number of the protocol version that `getVersion` speaks for.
    constructor(address acl, address protocolConfig, uint8 face) HostContract(acl) ProtocolFace(face) {
        PROTOCOL_CONFIG = IProtocolConfig(protocolConfig);
    }

    /// @notice Completes the deployment.
    /// @param verifyingContractSource The gateway contract that the KMS signs for.
    /// @param chainIDSource The chain of that contract.
    function initializeFromEmptyProxy(address verifyingContractSource, uint64 chainIDSource)
        external
        onlyFromEmptyProxy
        reinitializer(FIRST_VERSION)
    {
        _setEIP712Source(verifyingContractSource, chainIDSource);
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
        bytes calldata signatures = decryptionProof[1:signaturesEnd];

        bytes32 digest = _digest(handlesList, decryptedResult, extraData);
        (address[] memory signers, uint256 threshold) = _signersAndThreshold(extraData);
        (SignerSets.Outcome outcome, address unknown) =
            SignerSets.checkAgainst(signers, threshold, digest, signatures);
        if (outcome == SignerSets.Outcome.NoSignature) revert KMSZeroSignature();
        if (outcome == SignerSets.Outcome.UnknownSigner) revert KMSInvalidSigner(unknown);
        if (outcome == SignerSets.Outcome.TooFewSignatures) {
            revert KMSSignatureThresholdNotReached(signatures.length / SignerSets.SIGNATURE_BYTES);
        }
        return outcome == SignerSets.Outcome.Accepted;
    }

    /// @inheritdoc IKMSVerifier
    function getKmsSigners() external view returns (address[] memory signers) {
        (signers,) = PROTOCOL_CONFIG.getCurrentKmsSignersAndThreshold();
    }

    /// @inheritdoc IKMSVerifier
    function getThreshold() external view returns (uint256 threshold) {
        (, threshold) = PROTOCOL_CONFIG.getCurrentKmsSignersAndThreshold();
    }

    /// @inheritdoc IKMSVerifier
    function isSigner(address account) external view returns (bool) {
        return PROTOCOL_CONFIG.isKmsSigner(account);
    }

    /// @inheritdoc IKMSVerifier
    function getCurrentKmsContextId() external view returns (uint256) {
        return PROTOCOL_CONFIG.getCurrentKmsContextId();
    }

    /// @inheritdoc IKMSVerifier
    function getCurrentKmsContextAndEpoch() external view returns (uint256 contextId, uint256 epochId) {
        return PROTOCOL_CONFIG.getCurrentKmsContextAndEpoch();
    }

    /// @inheritdoc IKMSVerifier
    function getSignersForKmsContext(uint256 contextId) external view returns (address[] memory) {
        return PROTOCOL_CONFIG.getKmsSignersForContext(contextId);
    }

    /// @inheritdoc IKMSVerifier
    function getContextSignersAndThresholdFromExtraData(bytes calldata extraData)
        external
        view
        returns (address[] memory signers, uint256 threshold)
    {
        return _signersAndThreshold(extraData);
    }

    /// @inheritdoc IKMSVerifier
    function getProtocolConfigAddress() external view returns (address) {
        return address(PROTOCOL_CONFIG);
    }

    /// @inheritdoc IKMSVerifier
    function getVersion() external view returns (string memory) {
        return _versionOf("KMSVerifier v0.2.0", "KMSVerifier v0.4.0");
    }

    /// @dev What the KMS signs.
    function _digest(bytes32[] calldata handlesList, bytes calldata decryptedResult, bytes calldata extraData)
        private
        view
        returns (bytes32)
    {
        return _hashTypedData(
            keccak256(
                abi.encode(
                    PUBLIC_DECRYPT_VERIFICATION_TYPE_HASH,
                    keccak256(abi.encodePacked(handlesList)),
                    keccak256(decryptedResult),
                    keccak256(extraData)
                )
            )
        );
    }

    function _domainName() internal pure override returns (string memory) {
        return "Decryption";
    }

    /// @dev Reads which context extra data speak of. Version 0 is open: what follows the zero byte is not read.
    function _signersAndThreshold(bytes calldata extraData) private view returns (address[] memory, uint256) {
        uint8 version = extraData.length == 0 ? EXTRA_DATA_CURRENT : uint8(extraData[0]);
        if (version == EXTRA_DATA_CURRENT) return PROTOCOL_CONFIG.getCurrentKmsSignersAndThreshold();
        if (version > EXTRA_DATA_CONTEXT_AND_EPOCH) revert UnsupportedExtraDataVersion(version);
        if (extraData.length != (version == EXTRA_DATA_CONTEXT ? 33 : 65)) revert DeserializingExtraDataFail();
        uint256 contextId = uint256(bytes32(extraData[1:33]));
        if (version == EXTRA_DATA_CONTEXT) return PROTOCOL_CONFIG.getKmsSignersAndThresholdForContext(contextId);
        return PROTOCOL_CONFIG.getKmsSignersAndThresholdForEpoch(contextId, uint256(bytes32(extraData[33:65])));
    }
}
