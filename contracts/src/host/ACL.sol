// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {MulticallUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/MulticallUpgradeable.sol";
import {FromEmptyProxy} from "../base/FromEmptyProxy.sol";
import {ProtocolFace} from "../base/ProtocolFace.sol";
import {IACL} from "../interfaces/IACL.sol";
import {IPauserSet} from "../interfaces/IPauserSet.sol";
import {TransientSet} from "../libraries/TransientSet.sol";

/// @title Who may use which encrypted value
/// @notice Its owner administers every host contract.
contract ACL is
    IACL,
    FromEmptyProxy,
    Ownable2StepUpgradeable,
    PausableUpgradeable,
    MulticallUpgradeable,
    ProtocolFace
{
    /// @dev What a user has delegated to one delegate for one contract. One storage slot.
    struct Delegation {
        uint64 expirationDate;
        uint64 lastChangeBlock;
        uint64 counter;
    }

    /// @custom:storage-location erc7201:fhevm.storage.ACL
    struct ACLStorage {
        mapping(bytes32 handle => mapping(address account => bool isAllowed)) persistedAllowed;
        mapping(bytes32 handle => bool isAllowed) allowedForDecryption;
        mapping(
            address delegator => mapping(address delegate => mapping(address contractAddress => Delegation delegation))
        ) delegations;
        mapping(address account => bool isDenied) denied;
        mapping(address account => uint256 timestamp) signaturesInvalidatedBefore;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.ACL")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0xa688f31953c2015baaf8c0a488ee1ee22eb0e05273cc1fd31ea4cbee42febc00;

    /// @inheritdoc IACL
    address public constant WILDCARD_DELEGATION_ADDRESS = address(type(uint160).max);

    address private immutable EXECUTOR;
    address private immutable PAUSER_SET;
    address private immutable BRIDGE;

    /// @dev Admits callers that are not on the deny list.
    modifier onlyNotDenied() {
        if (_acl().denied[msg.sender]) revert SenderDenied(msg.sender);
        _;
    }

    /// @param executor The FHEVMExecutor proxy.
    /// @param pauserSet The PauserSet.
    /// @param bridge The bridge, zero for none.
    /// @param face The minor number of the protocol version that `getVersion` speaks for.
    constructor(address executor, address pauserSet, address bridge, uint8 face) ProtocolFace(face) {
        EXECUTOR = executor;
        PAUSER_SET = pauserSet;
        BRIDGE = bridge;
    }

    /// @notice Completes the deployment; the owner was set by the empty implementation.
    function initializeFromEmptyProxy() external onlyFromEmptyProxy reinitializer(FIRST_VERSION) {
        __Pausable_init();
    }

    /// @inheritdoc IACL
    function allow(bytes32 handle, address account) external whenNotPaused onlyNotDenied {
        _requireAllowed(handle);
        _acl().persistedAllowed[handle][account] = true;
        emit Allowed(msg.sender, account, handle);
    }

    /// @inheritdoc IACL
    function allowForDecryption(bytes32[] calldata handlesList) external whenNotPaused onlyNotDenied {
        uint256 count = handlesList.length;
        if (count == 0) revert HandlesListIsEmpty();
        ACLStorage storage $ = _acl();
        for (uint256 i = 0; i < count; i++) {
            _requireAllowed(handlesList[i]);
            $.allowedForDecryption[handlesList[i]] = true;
        }
        emit AllowedForDecryption(msg.sender, handlesList);
    }

    /// @inheritdoc IACL
    function allowTransient(bytes32 handle, address account) external whenNotPaused {
        // The executor and the bridge create handles, so nobody can have allowed them before.
        if (msg.sender != EXECUTOR && (BRIDGE == address(0) || msg.sender != BRIDGE)) {
            if (_acl().denied[msg.sender]) revert SenderDenied(msg.sender);
            _requireAllowed(handle);
        }
        TransientSet.add(_transientKey(handle, account));
    }

    /// @inheritdoc IACL
    function cleanTransientStorage() external {
        TransientSet.clear();
    }

    /// @inheritdoc IACL
    function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate)
        external
        whenNotPaused
    {
        if (contractAddress == msg.sender) revert SenderCannotBeContractAddress(contractAddress);
        if (delegate == msg.sender) revert SenderCannotBeDelegate(delegate);
        if (delegate == contractAddress) revert DelegateCannotBeContractAddress(contractAddress);
        if (delegate == WILDCARD_DELEGATION_ADDRESS) revert DelegateCannotBeWildcard();
        if (expirationDate <= block.timestamp) revert ExpirationDateInThePast();

        Delegation storage delegation = _acl().delegations[msg.sender][delegate][contractAddress];
        uint64 oldExpirationDate = delegation.expirationDate;
        if (expirationDate == oldExpirationDate) {
            revert ExpirationDateAlreadySetToSameValue(msg.sender, delegate, contractAddress, expirationDate);
        }
        uint64 counter = _countChange(delegation, delegate, contractAddress);
        delegation.expirationDate = expirationDate;
        emit DelegatedForUserDecryption(
            msg.sender, delegate, contractAddress, counter, oldExpirationDate, expirationDate
        );
    }

    /// @inheritdoc IACL
    function revokeDelegationForUserDecryption(address delegate, address contractAddress) external whenNotPaused {
        Delegation storage delegation = _acl().delegations[msg.sender][delegate][contractAddress];
        uint64 oldExpirationDate = delegation.expirationDate;
        if (oldExpirationDate == 0) revert NotDelegatedYet(msg.sender, delegate, contractAddress);
        uint64 counter = _countChange(delegation, delegate, contractAddress);
        delegation.expirationDate = 0;
        emit RevokedDelegationForUserDecryption(msg.sender, delegate, contractAddress, counter, oldExpirationDate);
    }

    /// @inheritdoc IACL
    function invalidateDecryptionSignaturesBefore(uint256 timestamp) external whenNotPaused {
        if (timestamp == 0) timestamp = block.timestamp;
        if (timestamp > block.timestamp) revert InvalidationTimestampInTheFuture(timestamp, block.timestamp);
        ACLStorage storage $ = _acl();
        uint256 current = $.signaturesInvalidatedBefore[msg.sender];
        if (timestamp <= current) revert InvalidationTimestampTooLow(timestamp, current);
        $.signaturesInvalidatedBefore[msg.sender] = timestamp;
        emit DecryptionSignaturesInvalidated(msg.sender, timestamp);
    }

    /// @inheritdoc IACL
    function blockAccount(address account) external whenNotPaused onlyOwner {
        ACLStorage storage $ = _acl();
        if ($.denied[account]) revert AccountAlreadyBlocked(account);
        $.denied[account] = true;
        emit BlockedAccount(account);
    }

    /// @inheritdoc IACL
    function unblockAccount(address account) external whenNotPaused onlyOwner {
        ACLStorage storage $ = _acl();
        if (!$.denied[account]) revert AccountNotBlocked(account);
        $.denied[account] = false;
        emit UnblockedAccount(account);
    }

    /// @inheritdoc IACL
    function pause() external {
        if (!isPauser(msg.sender)) revert NotPauser(msg.sender);
        _pause();
    }

    /// @inheritdoc IACL
    function unpause() external onlyOwner {
        _unpause();
    }

    /// @inheritdoc IACL
    function decryptionSignatureInvalidatedBefore(address account) external view returns (uint256) {
        return _acl().signaturesInvalidatedBefore[account];
    }

    /// @inheritdoc IACL
    function getUserDecryptionDelegationExpirationDate(address delegator, address delegate, address contractAddress)
        external
        view
        returns (uint64)
    {
        return _acl().delegations[delegator][delegate][contractAddress].expirationDate;
    }

    /// @inheritdoc IACL
    function isHandleDelegatedForUserDecryption(
        address delegator,
        address delegate,
        address contractAddress,
        bytes32 handle
    ) external view returns (bool) {
        ACLStorage storage $ = _acl();
        if (!$.persistedAllowed[handle][delegator] || !$.persistedAllowed[handle][contractAddress]) return false;
        mapping(address contractAddress => Delegation delegation) storage given = $.delegations[delegator][delegate];
        return given[contractAddress].expirationDate > block.timestamp
            || given[WILDCARD_DELEGATION_ADDRESS].expirationDate > block.timestamp;
    }

    /// @inheritdoc IACL
    function isAllowedForDecryption(bytes32 handle) external view returns (bool) {
        return _acl().allowedForDecryption[handle];
    }

    /// @inheritdoc IACL
    function isAccountDenied(address account) external view returns (bool) {
        return _acl().denied[account];
    }

    /// @inheritdoc IACL
    function getFHEVMExecutorAddress() external view returns (address) {
        return EXECUTOR;
    }

    /// @inheritdoc IACL
    function getPauserSetAddress() external view returns (address) {
        return PAUSER_SET;
    }

    /// @inheritdoc IACL
    function getConfidentialBridgeAddress() external view returns (address) {
        return BRIDGE;
    }

    /// @inheritdoc IACL
    function getVersion() external view returns (string memory) {
        return _versionOf("ACL v0.3.0", "ACL v0.5.0");
    }

    /// @inheritdoc IACL
    function isAllowed(bytes32 handle, address account) public view returns (bool) {
        return allowedTransient(handle, account) || persistAllowed(handle, account);
    }

    /// @inheritdoc IACL
    function allowedTransient(bytes32 handle, address account) public view returns (bool) {
        return TransientSet.contains(_transientKey(handle, account));
    }

    /// @inheritdoc IACL
    function persistAllowed(bytes32 handle, address account) public view returns (bool) {
        return _acl().persistedAllowed[handle][account];
    }

    /// @inheritdoc IACL
    function isPauser(address account) public view returns (bool) {
        return IPauserSet(PAUSER_SET).isPauser(account);
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}

    function _requireAllowed(bytes32 handle) private view {
        if (!isAllowed(handle, msg.sender)) revert SenderNotAllowed(msg.sender);
    }

    /// @dev Followers order changes of a delegation by block, so there must not be two in one.
    function _countChange(Delegation storage delegation, address delegate, address contractAddress)
        private
        returns (uint64)
    {
        if (delegation.lastChangeBlock == block.number) {
            revert AlreadyDelegatedOrRevokedInSameBlock(msg.sender, delegate, contractAddress, block.number);
        }
        delegation.lastChangeBlock = uint64(block.number);
        return ++delegation.counter;
    }

    function _transientKey(bytes32 handle, address account) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(handle, account));
    }

    function _acl() private pure returns (ACLStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
