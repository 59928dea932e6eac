// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {HostContract} from "../base/HostContract.sol";
import {ProtocolFace} from "../base/ProtocolFace.sol";
import {HCUCosts} from "../generated/HCUCosts.sol";
import {IHCULimit} from "../interfaces/IHCULimit.sol";
import {FheType} from "../types/FheType.sol";
import {Operation} from "../types/Operation.sol";

/// @title Limits on homomorphic work
/// @notice Costs come from the generated table. The sum and the depth of a transaction live in transient storage.
contract HCULimit is IHCULimit, HostContract, ProtocolFace {
    /// @custom:storage-location erc7201:fhevm.storage.HCULimit
    struct HCULimitStorage {
        uint48 hcuPerBlock;
        uint48 maxHCUPerTx;
        uint48 maxHCUDepthPerTx;
        uint48 meterBlock;
        uint48 meterHCU;
        mapping(address account => bool isExempt) blockWhitelist;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.HCULimit")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0xc13af6c514bff8997f30c90003baa82bd02aad978179d1ce58d85c4319ad6500;

    /// @dev Transient slot of the transaction's sum. A handle's depth is in the slot numbered by the handle, and no
    ///      handle ends in this byte, because the last byte of a handle is the version 0 of its layout.
    uint256 private constant TRANSACTION_HCU_SLOT = 0x01;

    /// @dev This limit of a block is no limit, and the meter is not kept.
    uint48 private constant NO_BLOCK_LIMIT = type(uint48).max;

    address private immutable EXECUTOR;

    /// @param acl The ACL proxy, whose owner administers this contract.
    /// @param executor The FHEVMExecutor proxy.
    /// @param face The minor number of the protocol version that `getVersion` speaks for.
    constructor(address acl, address executor, uint8 face) HostContract(acl) ProtocolFace(face) {
        EXECUTOR = executor;
    }

    /// @notice Completes the deployment.
    /// @param hcuPerBlock The limit of a block in HCU.
    /// @param maxHCUDepthPerTx The limit of a chain of dependent operations in HCU.
    /// @param maxHCUPerTx The limit of a transaction in HCU.
    function initializeFromEmptyProxy(uint48 hcuPerBlock, uint48 maxHCUDepthPerTx, uint48 maxHCUPerTx)
        external
        onlyFromEmptyProxy
        reinitializer(FIRST_VERSION)
    {
        HCULimitStorage storage $ = _hcuLimit();
        $.hcuPerBlock = hcuPerBlock;
        $.maxHCUPerTx = maxHCUPerTx;
        $.maxHCUDepthPerTx = maxHCUDepthPerTx;
        _requireConsistent($);
        emit HCUPerBlockSet(hcuPerBlock);
        emit MaxHCUPerTxSet(maxHCUPerTx);
        emit MaxHCUDepthPerTxSet(maxHCUDepthPerTx);
    }

    /// @inheritdoc IHCULimit
    function checkHCU(
        Operation operation,
        FheType fheType,
        bool isScalar,
        bytes32[] calldata operands,
        bytes32 result,
        address caller
    ) external {
        if (msg.sender != EXECUTOR) revert CallerMustBeFHEVMExecutorContract();
        uint256 cost = getHCU(operation, fheType, isScalar, HCUCosts.collectionSize(operation, operands.length));
        HCULimitStorage storage $ = _hcuLimit();

        uint256 total = _load(bytes32(TRANSACTION_HCU_SLOT)) + cost;
        if (total > $.maxHCUPerTx) revert HCUTransactionLimitExceeded();
        _store(bytes32(TRANSACTION_HCU_SLOT), total);

        uint256 depth = 0;
        for (uint256 i = 0; i < operands.length; i++) {
            uint256 operandDepth = _load(operands[i]);
            if (operandDepth > depth) depth = operandDepth;
        }
        depth += cost;
        if (depth > $.maxHCUDepthPerTx) revert HCUTransactionDepthLimitExceeded();
        _store(result, depth);

        _countInBlock($, cost, caller);
    }

    /// @inheritdoc IHCULimit
    function setHCUPerBlock(uint48 hcuPerBlock) external onlyACLOwner {
        HCULimitStorage storage $ = _hcuLimit();
        $.hcuPerBlock = hcuPerBlock;
        _requireConsistent($);
        emit HCUPerBlockSet(hcuPerBlock);
    }

    /// @inheritdoc IHCULimit
    function setMaxHCUPerTx(uint48 maxHCUPerTx) external onlyACLOwner {
        HCULimitStorage storage $ = _hcuLimit();
        $.maxHCUPerTx = maxHCUPerTx;
        _requireConsistent($);
        emit MaxHCUPerTxSet(maxHCUPerTx);
    }

    /// @inheritdoc IHCULimit
    function setMaxHCUDepthPerTx(uint48 maxHCUDepthPerTx) external onlyACLOwner {
        HCULimitStorage storage $ = _hcuLimit();
        $.maxHCUDepthPerTx = maxHCUDepthPerTx;
        _requireConsistent($);
        emit MaxHCUDepthPerTxSet(maxHCUDepthPerTx);
    }

    /// @inheritdoc IHCULimit
    function addToBlockHCUWhitelist(address account) external onlyACLOwner {
        HCULimitStorage storage $ = _hcuLimit();
        if ($.blockWhitelist[account]) revert AlreadyBlockHCUWhitelisted(account);
        $.blockWhitelist[account] = true;
        emit BlockHCUWhitelistAdded(account);
    }

    /// @inheritdoc IHCULimit
    function removeFromBlockHCUWhitelist(address account) external onlyACLOwner {
        HCULimitStorage storage $ = _hcuLimit();
        if (!$.blockWhitelist[account]) revert NotBlockHCUWhitelisted(account);
        $.blockWhitelist[account] = false;
        emit BlockHCUWhitelistRemoved(account);
    }

    /// @inheritdoc IHCULimit
    function getGlobalHCUCapPerBlock() external view returns (uint48) {
        return _hcuLimit().hcuPerBlock;
    }

    /// @inheritdoc IHCULimit
    function getMaxHCUPerTx() external view returns (uint48) {
        return _hcuLimit().maxHCUPerTx;
    }

    /// @inheritdoc IHCULimit
    function getMaxHCUDepthPerTx() external view returns (uint48) {
        return _hcuLimit().maxHCUDepthPerTx;
    }

    /// @inheritdoc IHCULimit
    function isBlockHCUWhitelisted(address account) external view returns (bool) {
        return _hcuLimit().blockWhitelist[account];
    }

    /// @inheritdoc IHCULimit
    function getBlockMeter() external view returns (uint48 blockNumber, uint48 usedHCU) {
        HCULimitStorage storage $ = _hcuLimit();
        return ($.meterBlock, $.meterHCU);
    }

    /// @inheritdoc IHCULimit
    function getFHEVMExecutorAddress() external view returns (address) {
        return EXECUTOR;
    }

    /// @inheritdoc IHCULimit
    function getVersion() external view returns (string memory) {
        return _versionOf("HCULimit v0.2.0", "HCULimit v0.4.0");
    }

    /// @inheritdoc IHCULimit
    function getHCU(Operation operation, FheType fheType, bool isScalar, uint256 collectionSize)
        public
        pure
        returns (uint256 cost)
    {
        cost = HCUCosts.cost(operation, fheType, isScalar, collectionSize);
        if (cost == 0) revert UnsupportedOperation(operation, fheType);
    }

    /// @dev Counts towards the block, unless there is no limit or the caller is exempt.
    function _countInBlock(HCULimitStorage storage $, uint256 cost, address caller) private {
        uint256 limit = $.hcuPerBlock;
        if (limit == NO_BLOCK_LIMIT || $.blockWhitelist[caller]) return;
        uint256 used = ($.meterBlock == block.number ? $.meterHCU : 0) + cost;
        if (used > limit) revert HCUBlockLimitExceeded();
        $.meterBlock = uint48(block.number);
        $.meterHCU = uint48(used); // cannot truncate: the limit is a uint48
    }

    function _requireConsistent(HCULimitStorage storage $) private view {
        (uint48 perBlock, uint48 perTx, uint48 depth) = ($.hcuPerBlock, $.maxHCUPerTx, $.maxHCUDepthPerTx);
        if (depth > perTx || perTx > perBlock) revert InconsistentHCULimits(perBlock, perTx, depth);
    }

    function _load(bytes32 slot) private view returns (uint256 value) {
        assembly ("memory-safe") {
            value := tload(slot)
        }
    }

    function _store(bytes32 slot, uint256 value) private {
        assembly ("memory-safe") {
            tstore(slot, value)
        }
    }

    function _hcuLimit() private pure returns (HCULimitStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
