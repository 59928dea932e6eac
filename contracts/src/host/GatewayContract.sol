// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {HostContract} from "../base/HostContract.sol";
import {IACL} from "../interfaces/IACL.sol";
import {IGatewayContract} from "../interfaces/IGatewayContract.sol";
import {IKMSVerifier} from "../interfaces/IKMSVerifier.sol";

/// @title Decryptions that come back to the contract as a call
/// @notice It holds no secret and decides nothing: whether a handle may be decrypted stands in the ACL, and whether values are right is
///         shown by the KMS's signatures. A relayer can withhold a delivery, and no more.
contract GatewayContract is IGatewayContract, HostContract {
    /// @dev Two storage slots and the handles.
    struct Request {
        address contractCaller;
        bytes4 callbackSelector;
        bool passSignaturesToCaller;
        bool isFulfilled;
        uint40 maxTimestamp;
        uint256 msgValue;
        bytes32[] handles;
    }

    /// @custom:storage-location erc7201:cipherloom.storage.GatewayContract
    struct GatewayStorage {
        uint256 counter;
        mapping(uint256 requestID => Request request) requests;
        mapping(address account => bool isRelayer) relayers;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("cipherloom.storage.GatewayContract")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0x84aae28917547391a7f7ea74dfb7778cbf36fd8985f819d41c93f42d8d210500;

    /// @notice How far in the future a time limit can lie.
    uint256 public constant MAX_DELAY = 1 days;

    /// @dev Bounds the gas of a delivery. The KMS has a limit of its own, on the values' bits.
    uint256 private constant MAX_HANDLES = 64;

    /// @dev How much of what a callback returns is kept: a callee must not make the relayer pay for a long answer.
    uint256 private constant MAX_RESULT_BYTES = 1024;

    uint256 private constant SIGNATURE_BYTES = 65;

    IKMSVerifier private immutable KMS_VERIFIER;

    /// @dev Admits relayers.
    modifier onlyRelayer() {
        if (!_gateway().relayers[msg.sender]) revert NotRelayer(msg.sender);
        _;
    }

    /// @param acl The ACL proxy, whose owner names relayers and decides on upgrades.
    /// @param kmsVerifier The KMSVerifier proxy.
    constructor(address acl, address kmsVerifier) HostContract(acl) {
        KMS_VERIFIER = IKMSVerifier(kmsVerifier);
    }

    /// @notice Completes the deployment. The proxy may have been on the empty implementation, or on none before: a gateway
    ///         contract can be deployed later than the others, and by another account.
    /// @param initialRelayers Who delivers values.
    function initialize(address[] calldata initialRelayers) external reinitializer(FIRST_VERSION) {
        for (uint256 i = 0; i < initialRelayers.length; i++) {
            _addRelayer(initialRelayers[i]);
        }
    }

    /// @inheritdoc IGatewayContract
    function requestDecryption(
        bytes32[] calldata ctsHandles,
        bytes4 callbackSelector,
        uint256 msgValue,
        uint256 maxTimestamp,
        bool passSignaturesToCaller
    ) external returns (uint256 requestID) {
        uint256 count = ctsHandles.length;
        if (count == 0 || count > MAX_HANDLES) revert InvalidNumberOfHandles(count);
        if (maxTimestamp <= block.timestamp) revert MaxTimestampNotInFuture(maxTimestamp);
        uint256 latest = block.timestamp + MAX_DELAY;
        if (maxTimestamp > latest) revert MaxTimestampTooLate(maxTimestamp, latest);
        for (uint256 i = 0; i < count; i++) {
            if (!IACL(ACL_ADDRESS).isAllowedForDecryption(ctsHandles[i])) {
                revert HandleNotAllowedForDecryption(ctsHandles[i]);
            }
        }
        GatewayStorage storage $ = _gateway();
        requestID = $.counter++;
        Request storage request = $.requests[requestID];
        request.contractCaller = msg.sender;
        request.callbackSelector = callbackSelector;
        request.passSignaturesToCaller = passSignaturesToCaller;
        // A day from now fits: 40 bits of seconds last 34 thousand years.
        request.maxTimestamp = uint40(maxTimestamp);
        request.msgValue = msgValue;
        request.handles = ctsHandles;
        emit EventDecryption(
            requestID, ctsHandles, msg.sender, callbackSelector, msgValue, maxTimestamp, passSignaturesToCaller
        );
    }

    /// @inheritdoc IGatewayContract
    function fulfillRequest(uint256 requestID, bytes calldata decryptedCts, bytes[] calldata signatures)
        external
        payable
        onlyRelayer
    {
        Request storage request = _request(requestID);
        if (request.isFulfilled) revert RequestAlreadyFulfilled(requestID);
        if (block.timestamp > request.maxTimestamp) revert RequestExpired(requestID);
        if (msg.value != request.msgValue) revert InvalidMsgValue(request.msgValue, msg.value);
        bytes32[] memory handles = request.handles;
        if (decryptedCts.length != 32 * handles.length) {
            revert InvalidDecryptedLength(32 * handles.length, decryptedCts.length);
        }
        // Before the call, so that the callee cannot have it delivered again.
        request.isFulfilled = true;
        delete request.handles;

        bytes memory arguments = abi.encodePacked(request.callbackSelector, requestID, decryptedCts);
        if (request.passSignaturesToCaller) {
            // The list is the last argument: its place in the head, then, after the head, the list itself, whose encoding begins with
            // the word 0x20 where that place would stand.
            uint256 head = 32 * (2 + handles.length);
            arguments = abi.encodePacked(arguments, head, _withoutFirstWord(abi.encode(signatures)));
        } else if (
            !KMS_VERIFIER.verifyDecryptionEIP712KMSSignatures(handles, decryptedCts, _proof(signatures))
        ) {
            revert KMSVerificationFailed();
        }
        (bool success, bytes memory result) = _call(request.contractCaller, msg.value, arguments);
        emit ResultCallback(requestID, success, result);
        if (!success && msg.value > 0) {
            // The wei came back with the revert; they are the relayer's.
            (bool returned,) = msg.sender.call{value: msg.value}("");
            if (!returned) revert RefundFailed();
        }
    }

    /// @inheritdoc IGatewayContract
    function addRelayer(address relayer) external onlyACLOwner {
        _addRelayer(relayer);
    }

    /// @inheritdoc IGatewayContract
    function removeRelayer(address relayer) external onlyACLOwner {
        GatewayStorage storage $ = _gateway();
        if (!$.relayers[relayer]) revert NotRelayer(relayer);
        $.relayers[relayer] = false;
        emit RemovedRelayer(relayer);
    }

    /// @inheritdoc IGatewayContract
    function isRelayer(address account) external view returns (bool) {
        return _gateway().relayers[account];
    }

    /// @inheritdoc IGatewayContract
    function isExpiredOrFulfilled(uint256 requestID) external view returns (bool) {
        Request storage request = _request(requestID);
        return request.isFulfilled || block.timestamp > request.maxTimestamp;
    }

    /// @inheritdoc IGatewayContract
    function getRequestedHandles(uint256 requestID) external view returns (bytes32[] memory) {
        return _request(requestID).handles;
    }

    /// @inheritdoc IGatewayContract
    function getCounter() external view returns (uint256) {
        return _gateway().counter;
    }

    /// @inheritdoc IGatewayContract
    function getVersion() external pure returns (string memory) {
        return "GatewayContract v0.1.1";
    }

    function _addRelayer(address relayer) private {
        if (relayer == address(0)) revert InvalidNullRelayer();
        GatewayStorage storage $ = _gateway();
        if ($.relayers[relayer]) revert AlreadyRelayer(relayer);
        $.relayers[relayer] = true;
        emit AddedRelayer(relayer);
    }

    function _request(uint256 requestID) private view returns (Request storage request) {
        GatewayStorage storage $ = _gateway();
        if (requestID >= $.counter) revert UnknownRequest(requestID);
        return $.requests[requestID];
    }

    /// @dev The proof as the KMSVerifier reads it, with no extra data: the current context.
    function _proof(bytes[] calldata signatures) private pure returns (bytes memory proof) {
        if (signatures.length > type(uint8).max) revert InvalidSignatures();
        proof = abi.encodePacked(uint8(signatures.length));
        for (uint256 i = 0; i < signatures.length; i++) {
            if (signatures[i].length != SIGNATURE_BYTES) revert InvalidSignatures();
            proof = abi.encodePacked(proof, signatures[i]);
        }
    }

    function _withoutFirstWord(bytes memory data) private pure returns (bytes memory tail) {
        tail = new bytes(data.length - 32);
        assembly ("memory-safe") {
            mcopy(add(tail, 0x20), add(data, 0x40), mload(tail))
        }
    }

    /// @dev Calls, and copies no more than `MAX_RESULT_BYTES` of what comes back.
    function _call(address target, uint256 value, bytes memory data)
        private
        returns (bool success, bytes memory result)
    {
        assembly ("memory-safe") {
            success := call(gas(), target, value, add(data, 0x20), mload(data), 0, 0)
        }
        uint256 size;
        assembly ("memory-safe") {
            size := returndatasize()
        }
        result = new bytes(size < MAX_RESULT_BYTES ? size : MAX_RESULT_BYTES);
        assembly ("memory-safe") {
            returndatacopy(add(result, 0x20), 0, mload(result))
        }
    }

    function _gateway() private pure returns (GatewayStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
