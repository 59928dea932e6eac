// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FheType} from "../types/FheType.sol";
import {Operation} from "../types/Operation.sol";

/// @title Limits on homomorphic work
/// @notice Every operation costs homomorphic complexity units (HCU). A transaction has a limit on their sum and on the
///         longest chain of operations that depend on each other; a block has a limit on the sum.
interface IHCULimit {
    /// @notice The limit of a block has changed.
    /// @param hcuPerBlock The new limit in HCU.
    event HCUPerBlockSet(uint48 hcuPerBlock);

    /// @notice The limit of a transaction has changed.
    /// @param maxHCUPerTx The new limit in HCU.
    event MaxHCUPerTxSet(uint48 maxHCUPerTx);

    /// @notice The limit of a chain of dependent operations has changed.
    /// @param maxHCUDepthPerTx The new limit in HCU.
    event MaxHCUDepthPerTxSet(uint48 maxHCUDepthPerTx);

    /// @notice A contract no longer counts towards the limit of a block.
    /// @param account The contract.
    event BlockHCUWhitelistAdded(address indexed account);

    /// @notice A contract counts towards the limit of a block again.
    /// @param account The contract.
    event BlockHCUWhitelistRemoved(address indexed account);

    /// @notice The contract is on the list already.
    error AlreadyBlockHCUWhitelisted(address account);

    /// @notice The caller is not the FHEVMExecutor.
    error CallerMustBeFHEVMExecutorContract();

    /// @notice The block's operations cost too much.
    error HCUBlockLimitExceeded();

    /// @notice The operations that depend on each other cost too much.
    error HCUTransactionDepthLimitExceeded();

    /// @notice The transaction's operations cost too much.
    error HCUTransactionLimitExceeded();

    /// @notice The limits must satisfy depth <= transaction <= block.
    error InconsistentHCULimits(uint48 hcuPerBlock, uint48 maxHCUPerTx, uint48 maxHCUDepthPerTx);

    /// @notice The contract is not on the list.
    error NotBlockHCUWhitelisted(address account);

    /// @notice The operation has no cost for this type.
    error UnsupportedOperation(Operation operation, FheType fheType);

    /// @notice Counts an operation towards the limits. Executor only.
    /// @param operation The operation.
    /// @param fheType The type that determines its cost: the type of its operands.
    /// @param isScalar Whether the second operand is a plaintext.
    /// @param operands Its encrypted operands.
    /// @param result Its result.
    /// @param caller The contract that asked for it.
    function checkHCU(
        Operation operation,
        FheType fheType,
        bool isScalar,
        bytes32[] calldata operands,
        bytes32 result,
        address caller
    ) external;

    /// @notice Changes the limit of a block. ACL owner only.
    /// @param hcuPerBlock The limit in HCU; the largest value switches it off.
    function setHCUPerBlock(uint48 hcuPerBlock) external;

    /// @notice Changes the limit of a transaction. ACL owner only.
    /// @param maxHCUPerTx The limit in HCU.
    function setMaxHCUPerTx(uint48 maxHCUPerTx) external;

    /// @notice Changes the limit of a chain of dependent operations. ACL owner only.
    /// @param maxHCUDepthPerTx The limit in HCU.
    function setMaxHCUDepthPerTx(uint48 maxHCUDepthPerTx) external;

    /// @notice Exempts a contract from the limit of a block. ACL owner only.
    /// @param account The contract.
    function addToBlockHCUWhitelist(address account) external;

    /// @notice Ends an exemption. ACL owner only.
    /// @param account The contract.
    function removeFromBlockHCUWhitelist(address account) external;

    /// @notice Returns the cost of an operation.
    /// @param operation The operation.
    /// @param fheType The type of its operands.
    /// @param isScalar Whether the second operand is a plaintext.
    /// @param collectionSize How many elements the collection has, for operations on one.
    /// @return The cost in HCU.
    function getHCU(Operation operation, FheType fheType, bool isScalar, uint256 collectionSize)
        external
        pure
        returns (uint256);

    /// @notice Returns the limit of a block.
    /// @return The limit in HCU.
    function getGlobalHCUCapPerBlock() external view returns (uint48);

    /// @notice Returns the limit of a transaction.
    /// @return The limit in HCU.
    function getMaxHCUPerTx() external view returns (uint48);

    /// @notice Returns the limit of a chain of dependent operations.
    /// @return The limit in HCU.
    function getMaxHCUDepthPerTx() external view returns (uint48);

    /// @notice Returns whether a contract is exempt from the limit of a block.
    /// @param account The contract.
    /// @return Whether it is.
    function isBlockHCUWhitelisted(address account) external view returns (bool);

    /// @notice Returns what was counted last towards the limit of a block.
    /// @return blockNumber The block.
    /// @return usedHCU Its operations so far, in HCU.
    function getBlockMeter() external view returns (uint48 blockNumber, uint48 usedHCU);

    /// @notice Returns the FHEVMExecutor.
    /// @return Its address.
    function getFHEVMExecutorAddress() external view returns (address);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external view returns (string memory);
}
