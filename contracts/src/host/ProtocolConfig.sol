// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {HostContract} from "../base/HostContract.sol";
import {IProtocolConfig} from "../interfaces/IProtocolConfig.sol";
import {SignerSets} from "../libraries/SignerSets.sol";

/// @title Who the KMS is
/// @notice Holds contexts, epochs and thresholds; the KMSVerifier checks signatures against them.
contract ProtocolConfig is IProtocolConfig, HostContract {
    using SignerSets for SignerSets.SignerSet;

    /// @dev The set's threshold is that of public decryptions.
    struct KmsContext {
        SignerSets.SignerSet signerSet;
        uint256 userDecryptionThreshold;
        uint256 mpcThreshold;
        bool isDestroyed;
    }

    /// @dev An epoch without a context does not exist.
    struct KmsEpoch {
        uint256 contextId;
        bool isDestroyed;
    }

    /// @custom:storage-location erc7201:fhevm.storage.ProtocolConfig
    struct ProtocolConfigStorage {
        uint256 currentContextId;
        uint256 currentEpochId;
        mapping(uint256 contextId => KmsContext context) contexts;
        mapping(uint256 epochId => KmsEpoch epoch) epochs;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.ProtocolConfig")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0x80f3585af86806c5774303b06c1ee640aa83b6ef3e45df49bb26c8524500c200;

    /// @dev Identifiers count up from here; the highest byte tells contexts, epochs and other identifiers apart.
    uint256 private constant CONTEXT_ID_BASE = 0x07 << 248;
    uint256 private constant EPOCH_ID_BASE = 0x08 << 248;

    /// @param acl The ACL proxy, whose owner administers this contract.
    constructor(address acl) HostContract(acl) {}

    /// @notice Completes the deployment.
    /// @param initialSigners The KMS nodes' signing addresses.
    /// @param initialThresholds How many of them it takes.
    function initializeFromEmptyProxy(address[] calldata initialSigners, KmsThresholds calldata initialThresholds)
        external
        onlyFromEmptyProxy
        reinitializer(FIRST_VERSION)
    {
        ProtocolConfigStorage storage $ = _protocolConfig();
        $.currentContextId = CONTEXT_ID_BASE;
        $.currentEpochId = EPOCH_ID_BASE;
        _defineNewKmsContext(initialSigners, initialThresholds);
    }

    /// @inheritdoc IProtocolConfig
    function defineNewKmsContext(address[] calldata signers, KmsThresholds calldata thresholds) external onlyACLOwner {
        _defineNewKmsContext(signers, thresholds);
    }

    /// @inheritdoc IProtocolConfig
    function defineNewKmsEpoch() external onlyACLOwner {
        ProtocolConfigStorage storage $ = _protocolConfig();
        uint256 contextId = $.currentContextId;
        emit NewKmsEpoch(contextId, _beginEpoch($, contextId));
    }

    /// @inheritdoc IProtocolConfig
    function setKmsThresholds(KmsThresholds calldata thresholds) external onlyACLOwner {
        uint256 contextId = _protocolConfig().currentContextId;
        KmsContext storage context = _context(contextId);
        context.signerSet.changeThreshold(thresholds.publicDecryption);
        _setOtherThresholds(context, thresholds);
        emit KmsThresholdsSet(contextId, thresholds);
    }

    /// @inheritdoc IProtocolConfig
    function destroyKmsContext(uint256 contextId) external onlyACLOwner {
        if (contextId == _protocolConfig().currentContextId) revert CurrentKmsContextCannotBeDestroyed(contextId);
        _context(contextId).isDestroyed = true;
        emit KmsContextDestroyed(contextId);
    }

    /// @inheritdoc IProtocolConfig
    function destroyKmsEpoch(uint256 epochId) external onlyACLOwner {
        ProtocolConfigStorage storage $ = _protocolConfig();
        if (epochId == $.currentEpochId) revert CurrentKmsEpochCannotBeDestroyed(epochId);
        if (!isValidKmsEpoch(epochId)) revert InvalidKMSEpoch(epochId);
        $.epochs[epochId].isDestroyed = true;
        emit KmsEpochDestroyed(epochId);
    }

    /// @inheritdoc IProtocolConfig
    function getCurrentKmsContextId() external view returns (uint256) {
        return _protocolConfig().currentContextId;
    }

    /// @inheritdoc IProtocolConfig
    function getCurrentKmsContextAndEpoch() external view returns (uint256 contextId, uint256 epochId) {
        ProtocolConfigStorage storage $ = _protocolConfig();
        return ($.currentContextId, $.currentEpochId);
    }

    /// @inheritdoc IProtocolConfig
    function getCurrentKmsSignersAndThreshold() external view returns (address[] memory signers, uint256 threshold) {
        return _signersAndThreshold(_protocolConfig().currentContextId);
    }

    /// @inheritdoc IProtocolConfig
    function getKmsSignersAndThresholdForContext(uint256 contextId)
        external
        view
        returns (address[] memory signers, uint256 threshold)
    {
        return _signersAndThreshold(contextId);
    }

    /// @inheritdoc IProtocolConfig
    function getKmsSignersAndThresholdForEpoch(uint256 contextId, uint256 epochId)
        external
        view
        returns (address[] memory signers, uint256 threshold)
    {
        (signers, threshold) = _signersAndThreshold(contextId);
        KmsEpoch storage epoch = _protocolConfig().epochs[epochId];
        if (epoch.contextId != contextId || epoch.isDestroyed) revert InvalidKMSEpoch(epochId);
    }

    /// @inheritdoc IProtocolConfig
    function getKmsSignersForContext(uint256 contextId) external view returns (address[] memory) {
        return _context(contextId).signerSet.signers;
    }

    /// @inheritdoc IProtocolConfig
    function isKmsSigner(address account) external view returns (bool) {
        return isKmsSignerForContext(_protocolConfig().currentContextId, account);
    }

    /// @inheritdoc IProtocolConfig
    function getPublicDecryptionThresholdForContext(uint256 contextId) external view returns (uint256) {
        return _context(contextId).signerSet.threshold;
    }

    /// @inheritdoc IProtocolConfig
    function getUserDecryptionThresholdForContext(uint256 contextId) external view returns (uint256) {
        return _context(contextId).userDecryptionThreshold;
    }

    /// @inheritdoc IProtocolConfig
    function getMpcThresholdForContext(uint256 contextId) external view returns (uint256) {
        return _context(contextId).mpcThreshold;
    }

    /// @inheritdoc IProtocolConfig
    function getVersion() external pure returns (string memory) {
        return "ProtocolConfig v0.2.0";
    }

    /// @inheritdoc IProtocolConfig
    function isKmsSignerForContext(uint256 contextId, address account) public view returns (bool) {
        return _context(contextId).signerSet.isMember[account];
    }

    /// @inheritdoc IProtocolConfig
    function isValidKmsContext(uint256 contextId) public view returns (bool) {
        KmsContext storage context = _protocolConfig().contexts[contextId];
        return context.signerSet.threshold != 0 && !context.isDestroyed;
    }

    /// @inheritdoc IProtocolConfig
    function isValidKmsEpoch(uint256 epochId) public view returns (bool) {
        KmsEpoch storage epoch = _protocolConfig().epochs[epochId];
        return !epoch.isDestroyed && isValidKmsContext(epoch.contextId);
    }

    function _defineNewKmsContext(address[] calldata signers, KmsThresholds calldata thresholds) private {
        ProtocolConfigStorage storage $ = _protocolConfig();
        uint256 contextId = ++$.currentContextId;
        KmsContext storage context = $.contexts[contextId];
        context.signerSet.replace(signers, thresholds.publicDecryption);
        _setOtherThresholds(context, thresholds);
        emit NewKmsContext(contextId, _beginEpoch($, contextId), signers, thresholds);
    }

    function _beginEpoch(ProtocolConfigStorage storage $, uint256 contextId) private returns (uint256 epochId) {
        epochId = ++$.currentEpochId;
        $.epochs[epochId].contextId = contextId;
    }

    function _setOtherThresholds(KmsContext storage context, KmsThresholds calldata thresholds) private {
        uint256 count = context.signerSet.signers.length;
        uint256 userDecryption = thresholds.userDecryption;
        if (userDecryption == 0 || userDecryption > count) revert InvalidUserDecryptionThreshold(userDecryption);
        if (thresholds.mpc >= count) revert InvalidMpcThreshold(thresholds.mpc);
        context.userDecryptionThreshold = userDecryption;
        context.mpcThreshold = thresholds.mpc;
    }

    function _signersAndThreshold(uint256 contextId) private view returns (address[] memory, uint256) {
        SignerSets.SignerSet storage signerSet = _context(contextId).signerSet;
        return (signerSet.signers, signerSet.threshold);
    }

    /// @dev The context with this identifier, which must exist and not be destroyed.
    function _context(uint256 contextId) private view returns (KmsContext storage) {
        if (!isValidKmsContext(contextId)) revert InvalidKMSContext(contextId);
        return _protocolConfig().contexts[contextId];
    }

    function _protocolConfig() private pure returns (ProtocolConfigStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
