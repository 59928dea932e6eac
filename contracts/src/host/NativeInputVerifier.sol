// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ForeignEIP712} from "../base/ForeignEIP712.sol";
import {HostContract} from "../base/HostContract.sol";
import {IFheLib} from "../interfaces/IFheLib.sol";
import {IInputVerifier} from "../interfaces/IInputVerifier.sol";
import {INativeInputVerifier} from "../interfaces/INativeInputVerifier.sol";
import {Handles} from "../libraries/Handles.sol";
import {NativeHandles} from "../libraries/NativeHandles.sol";
import {TransientSet} from "../libraries/TransientSet.sol";

/// @title Checks encrypted inputs where every validator does what coprocessors do elsewhere
/// @notice The proof carries the encrypted list itself. The nodes check its proof of knowledge while they execute the transaction, and this
///         contract computes every handle again from the list, type included. Nobody signs, so there is no one to trust. A list can come with the
///         transaction that uses its values, or before it: what was deposited is storage, so that its ciphertexts are state.
contract NativeInputVerifier is INativeInputVerifier, HostContract, ForeignEIP712 {
    /// @custom:storage-location erc7201:fhevm.storage.NativeInputVerifier
    struct NativeInputVerifierStorage {
        /// @dev Each slot holds the handle itself: a ciphertext becomes state when a slot holds its handle.
        mapping(bytes32 key => bytes32 handle) deposited;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.NativeInputVerifier")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0x657209d23faa3a67299c050c77df029bc820aa4de513ff3c36d64e8dee93c200;

    /// @dev Nodes of a native chain answer here.
    IFheLib private constant FHE_LIB = IFheLib(address(0x5d));

    /// @dev Number of handles, and zero where other chains' proofs count signatures.
    uint256 private constant HEADER_BYTES = 2;

    /// @dev An ABI-encoded `bytes` takes at least its offset and its length.
    uint256 private constant MIN_ANSWER_BYTES = 64;

    /// @param acl The ACL proxy, whose owner administers this contract.
    constructor(address acl) HostContract(acl) {}

    /// @notice Completes the deployment. The domain signs nothing here; SDKs read it.
    /// @param verifyingContractSource The gateway contract of the domain.
    /// @param chainIDSource The chain of that contract.
    function initializeFromEmptyProxy(address verifyingContractSource, uint64 chainIDSource)
        external
        onlyFromEmptyProxy
        reinitializer(FIRST_VERSION)
    {
        _setEIP712Source(verifyingContractSource, chainIDSource);
    }

    /// @inheritdoc IInputVerifier
    function verifyInput(ContextUserInputs calldata context, bytes32 inputHandle, bytes calldata inputProof)
        external
        returns (bytes32)
    {
        uint256 listStart = _listStart(inputProof);
        _requireListed(inputHandle, inputProof[HEADER_BYTES:listStart]);
        if (_bringsNoList(inputProof[listStart:])) {
            if (!isDeposited(context, inputHandle)) revert InputNotDeposited(inputHandle);
            return inputHandle;
        }

        // A contract that takes several inputs passes the same proof for each: its list is checked once.
        bytes32 proofKey = keccak256(abi.encodePacked(context.contractAddress, context.userAddress, inputProof));
        if (!TransientSet.contains(proofKey)) {
            _verifyList(context, inputProof[HEADER_BYTES:listStart], inputProof[listStart:]);
            TransientSet.add(proofKey);
        }
        return inputHandle;
    }

    /// @inheritdoc INativeInputVerifier
    function depositInput(ContextUserInputs calldata context, bytes calldata inputProof) external {
        uint256 listStart = _listStart(inputProof);
        bytes calldata listed = inputProof[HEADER_BYTES:listStart];
        _verifyList(context, listed, inputProof[listStart:]);
        bytes32[] memory handles = new bytes32[](listed.length / 32);
        mapping(bytes32 => bytes32) storage deposited = _storage().deposited;
        for (uint256 i = 0; i < handles.length; i++) {
            handles[i] = bytes32(listed[32 * i:32 * i + 32]);
            deposited[_depositKey(context, handles[i])] = handles[i];
        }
        // Nodes take from this which inputs the list holds.
        emit InputDeposited(context.contractAddress, context.userAddress, handles);
    }

    /// @inheritdoc INativeInputVerifier
    function isDeposited(ContextUserInputs calldata context, bytes32 inputHandle) public view returns (bool) {
        return _storage().deposited[_depositKey(context, inputHandle)] != 0;
    }

    /// @inheritdoc IInputVerifier
    function cleanTransientStorage() external {
        TransientSet.clear();
    }

    /// @inheritdoc IInputVerifier
    function defineNewContext(address[] calldata, uint256) external pure {
        revert NoCoprocessors();
    }

    /// @inheritdoc IInputVerifier
    function setThreshold(uint256) external pure {
        revert NoCoprocessors();
    }

    /// @inheritdoc IInputVerifier
    function getCoprocessorSigners() external pure returns (address[] memory) {
        return new address[](0);
    }

    /// @inheritdoc IInputVerifier
    function getThreshold() external pure returns (uint256) {
        return 0;
    }

    /// @inheritdoc IInputVerifier
    function isSigner(address) external pure returns (bool) {
        return false;
    }

    /// @inheritdoc IInputVerifier
    function getHandleVersion() external pure returns (uint8) {
        return Handles.VERSION;
    }

    /// @inheritdoc IInputVerifier
    function getVersion() external pure returns (string memory) {
        // Clients choose their wire formats by it, and those are the same.
        return "InputVerifier v0.2.0";
    }

    function _domainName() internal pure override returns (string memory) {
        return "InputVerification";
    }

    function _storage() private pure returns (NativeInputVerifierStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }

    function _depositKey(ContextUserInputs calldata context, bytes32 handle) private pure returns (bytes32) {
        return keccak256(abi.encode(context.contractAddress, context.userAddress, handle));
    }

    /// @dev Where the list begins. A list without bytes holds no values.
    function _listStart(bytes calldata inputProof) private pure returns (uint256 listStart) {
        if (inputProof.length == 0) revert EmptyInputProof();
        if (inputProof.length < HEADER_BYTES || inputProof[1] != 0) revert DeserializingInputProofFail();
        listStart = HEADER_BYTES + 32 * uint256(uint8(inputProof[0]));
        if (inputProof.length <= listStart) revert DeserializingInputProofFail();
    }

    /// @dev What SDKs write where other chains' proofs have extra data: one zero byte. No list is so short.
    function _bringsNoList(bytes calldata list) private pure returns (bool) {
        return list.length == 1 && list[0] == 0;
    }

    /// @dev Has the node check the list, and compares all handles with those that its values have.
    function _verifyList(ContextUserInputs calldata context, bytes calldata handles, bytes calldata list) private view {
        bytes memory types = _typesOf(context, list);
        uint256 count = handles.length / 32;
        if (types.length != count) revert WrongNumberOfHandles(count, types.length);
        bytes32 nativeDigest = keccak256(list);
        bytes32 digest = NativeHandles.listDigest(list);
        for (uint256 i = 0; i < count; i++) {
            bytes32 handle = bytes32(handles[32 * i:32 * i + 32]);
            if (Handles.versionOf(handle) != Handles.VERSION) revert InvalidHandleVersion();
            uint8 index = uint8(i);
            if (
                handle != NativeHandles.input(digest, index, types[i], ACL_ADDRESS)
                    && handle != NativeHandles.legacyInput(nativeDigest, index, types[i])
            ) revert InvalidInputHandle();
        }
    }

    /// @dev Asks the node. Where nobody answers at the address, the call succeeds and returns nothing.
    function _typesOf(ContextUserInputs calldata context, bytes calldata list) private view returns (bytes memory) {
        bytes memory call =
            abi.encodeCall(IFheLib.verifyInput, (ACL_ADDRESS, context.userAddress, context.contractAddress, list));
        (bool success, bytes memory answer) = address(FHE_LIB).staticcall(call);
        if (!success || answer.length < MIN_ANSWER_BYTES) revert InputProofRefused();
        return abi.decode(answer, (bytes));
    }

    /// @dev Admits a handle that stands in the list of handles at the index it names, in either form.
    function _requireListed(bytes32 inputHandle, bytes calldata handles) private view {
        bool namesChain = Handles.chainIdOf(inputHandle) == uint64(block.chainid);
        uint256 index = namesChain ? Handles.indexOf(inputHandle) : NativeHandles.legacyIndexOf(inputHandle);
        if (32 * index >= handles.length) revert InvalidIndex();
        if (bytes32(handles[32 * index:32 * index + 32]) != inputHandle) revert InvalidInputHandle();
    }
}
