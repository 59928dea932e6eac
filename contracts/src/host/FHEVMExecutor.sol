// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {HostContract} from "../base/HostContract.sol";
import {ProtocolFace} from "../base/ProtocolFace.sol";
import {OperandTypes} from "../generated/OperandTypes.sol";
import {Operations} from "../generated/Operations.sol";
import {IACL} from "../interfaces/IACL.sol";
import {IFHEVMExecutor} from "../interfaces/IFHEVMExecutor.sol";
import {IHCULimit} from "../interfaces/IHCULimit.sol";
import {IInputVerifier} from "../interfaces/IInputVerifier.sol";
import {Handles} from "../libraries/Handles.sol";
import {FHE_BOOL, FHE_UINT256, FheType} from "../types/FheType.sol";
import {Operation} from "../types/Operation.sol";

/// @title Symbolic execution of operations on encrypted values
/// @notice Every operation checks its types, then that the caller may use its operands, derives the handle of the
///         result, allows it to the caller for the transaction, counts the cost, and emits the event from which the
///         coprocessor computes the ciphertext. The types an operation takes come from the generated table.
/// @dev A computed handle hashes the operation, its operands and the block, so the same operation on the same operands
///      in one block has the same handle, and in another block or on another chain a different one.
contract FHEVMExecutor is IFHEVMExecutor, HostContract, ProtocolFace {
    /// @custom:storage-location erc7201:fhevm.storage.FHEVMExecutor
    struct FHEVMExecutorStorage {
        uint256 randCounter;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("fhevm.storage.FHEVMExecutor")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0x4613e1771f6b755d243e536fb5a23c5b15e2826575fee921e8fe7a22a760c800;

    /// @dev First bytes of the pre-image of a computed handle.
    bytes8 private constant COMPUTATION_DOMAIN = "FHE_comp";

    /// @dev First bytes of the pre-image of a random seed.
    bytes8 private constant SEED_DOMAIN = "FHE_seed";

    bytes1 private constant ENCRYPTED = 0x00;
    bytes1 private constant SCALAR = 0x01;
    bytes1 private constant MUL_DIV_ENCRYPTED = 0x01;
    bytes1 private constant MUL_DIV_SCALAR = 0x03;

    address private immutable INPUT_VERIFIER;
    address private immutable HCU_LIMIT;

    /// @param acl The ACL proxy.
    /// @param inputVerifier The InputVerifier proxy.
    /// @param hcuLimit The HCULimit proxy.
    /// @param face The minor number of the protocol version that `getVersion` speaks for.
    constructor(address acl, address inputVerifier, address hcuLimit, uint8 face)
        HostContract(acl)
        ProtocolFace(face)
    {
        INPUT_VERIFIER = inputVerifier;
        HCU_LIMIT = hcuLimit;
    }

    /// @notice Completes the deployment.
    function initializeFromEmptyProxy() external onlyFromEmptyProxy reinitializer(FIRST_VERSION) {}

    /// @inheritdoc IFHEVMExecutor
    function fheAdd(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_ADD, OperandTypes.FHE_ADD, lhs, rhs, scalarByte);
        emit FheAdd(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheSub(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_SUB, OperandTypes.FHE_SUB, lhs, rhs, scalarByte);
        emit FheSub(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheMul(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_MUL, OperandTypes.FHE_MUL, lhs, rhs, scalarByte);
        emit FheMul(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheDiv(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _divide(Operations.FHE_DIV, OperandTypes.FHE_DIV, lhs, rhs, scalarByte);
        emit FheDiv(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheRem(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _divide(Operations.FHE_REM, OperandTypes.FHE_REM, lhs, rhs, scalarByte);
        emit FheRem(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheBitAnd(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_BIT_AND, OperandTypes.FHE_BIT_AND, lhs, rhs, scalarByte);
        emit FheBitAnd(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheBitOr(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_BIT_OR, OperandTypes.FHE_BIT_OR, lhs, rhs, scalarByte);
        emit FheBitOr(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheBitXor(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_BIT_XOR, OperandTypes.FHE_BIT_XOR, lhs, rhs, scalarByte);
        emit FheBitXor(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheShl(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_SHL, OperandTypes.FHE_SHL, lhs, rhs, scalarByte);
        emit FheShl(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheShr(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_SHR, OperandTypes.FHE_SHR, lhs, rhs, scalarByte);
        emit FheShr(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheRotl(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_ROTL, OperandTypes.FHE_ROTL, lhs, rhs, scalarByte);
        emit FheRotl(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheRotr(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_ROTR, OperandTypes.FHE_ROTR, lhs, rhs, scalarByte);
        emit FheRotr(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheEq(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _compare(Operations.FHE_EQ, OperandTypes.FHE_EQ, lhs, rhs, scalarByte);
        emit FheEq(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheNe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _compare(Operations.FHE_NE, OperandTypes.FHE_NE, lhs, rhs, scalarByte);
        emit FheNe(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheGe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _compare(Operations.FHE_GE, OperandTypes.FHE_GE, lhs, rhs, scalarByte);
        emit FheGe(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheGt(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _compare(Operations.FHE_GT, OperandTypes.FHE_GT, lhs, rhs, scalarByte);
        emit FheGt(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheLe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _compare(Operations.FHE_LE, OperandTypes.FHE_LE, lhs, rhs, scalarByte);
        emit FheLe(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheLt(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _compare(Operations.FHE_LT, OperandTypes.FHE_LT, lhs, rhs, scalarByte);
        emit FheLt(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheMin(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_MIN, OperandTypes.FHE_MIN, lhs, rhs, scalarByte);
        emit FheMin(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheMax(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _combine(Operations.FHE_MAX, OperandTypes.FHE_MAX, lhs, rhs, scalarByte);
        emit FheMax(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheNeg(bytes32 ct) external returns (bytes32 result) {
        result = _unary(Operations.FHE_NEG, OperandTypes.FHE_NEG, ct);
        emit FheNeg(msg.sender, ct, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheNot(bytes32 ct) external returns (bytes32 result) {
        result = _unary(Operations.FHE_NOT, OperandTypes.FHE_NOT, ct);
        emit FheNot(msg.sender, ct, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function verifyInput(bytes32 inputHandle, address userAddress, bytes calldata inputProof, FheType inputType)
        external
        returns (bytes32 result)
    {
        _requireType(inputType, OperandTypes.VERIFY_INPUT);
        if (Handles.typeOf(inputHandle) != inputType) revert InvalidType();
        IInputVerifier.ContextUserInputs memory context =
            IInputVerifier.ContextUserInputs({userAddress: userAddress, contractAddress: msg.sender});
        result = IInputVerifier(INPUT_VERIFIER).verifyInput(context, inputHandle, inputProof);
        IACL(ACL_ADDRESS).allowTransient(result, msg.sender);
        emit VerifyInput(msg.sender, inputHandle, userAddress, inputProof, inputType, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function cast(bytes32 ct, FheType toType) external returns (bytes32 result) {
        FheType fromType = Handles.typeOf(ct);
        _requireType(fromType, OperandTypes.CAST);
        _requireType(toType, OperandTypes.CAST_TARGETS);
        if (fromType == toType) revert InvalidType();
        _requireAllowed(ct);
        bytes32 preHandle = keccak256(abi.encodePacked(COMPUTATION_DOMAIN, Operations.CAST, ct, toType, _tail()));
        result = _finish(Operations.CAST, fromType, false, _list(ct), preHandle, toType);
        emit Cast(msg.sender, ct, toType, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function trivialEncrypt(uint256 pt, FheType toType) external returns (bytes32 result) {
        _requireType(toType, OperandTypes.TRIVIAL_ENCRYPT);
        bytes32 preHandle =
            keccak256(abi.encodePacked(COMPUTATION_DOMAIN, Operations.TRIVIAL_ENCRYPT, pt, toType, _tail()));
        result = _finish(Operations.TRIVIAL_ENCRYPT, toType, false, new bytes32[](0), preHandle, toType);
        emit TrivialEncrypt(msg.sender, pt, toType, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheIfThenElse(bytes32 control, bytes32 ifTrue, bytes32 ifFalse) external returns (bytes32 result) {
        FheType fheType = Handles.typeOf(ifTrue);
        _requireType(fheType, OperandTypes.FHE_IF_THEN_ELSE);
        if (Handles.typeOf(control) != FHE_BOOL) revert UnsupportedType();
        if (Handles.typeOf(ifFalse) != fheType) revert IncompatibleTypes();
        _requireAllowed(control);
        _requireAllowed(ifTrue);
        _requireAllowed(ifFalse);
        bytes32 preHandle = keccak256(
            abi.encodePacked(COMPUTATION_DOMAIN, Operations.FHE_IF_THEN_ELSE, control, ifTrue, ifFalse, _tail())
        );
        bytes32[] memory operands = new bytes32[](3);
        (operands[0], operands[1], operands[2]) = (control, ifTrue, ifFalse);
        result = _finish(Operations.FHE_IF_THEN_ELSE, fheType, false, operands, preHandle, fheType);
        emit FheIfThenElse(msg.sender, control, ifTrue, ifFalse, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheRand(FheType randType) external returns (bytes32 result) {
        _requireType(randType, OperandTypes.FHE_RAND);
        bytes16 seed = _nextSeed();
        bytes32 preHandle = keccak256(abi.encodePacked(COMPUTATION_DOMAIN, Operations.FHE_RAND, randType, seed));
        result = _finish(Operations.FHE_RAND, randType, false, new bytes32[](0), preHandle, randType);
        emit FheRand(msg.sender, randType, seed, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheRandBounded(uint256 upperBound, FheType randType) external returns (bytes32 result) {
        _requireType(randType, OperandTypes.FHE_RAND_BOUNDED);
        if (upperBound == 0 || upperBound & (upperBound - 1) != 0) revert NotPowerOfTwo();
        if (randType != FHE_UINT256 && upperBound > _maxValue(randType) + 1) revert UpperBoundAboveMaxTypeValue();
        bytes16 seed = _nextSeed();
        bytes32 preHandle = keccak256(
            abi.encodePacked(COMPUTATION_DOMAIN, Operations.FHE_RAND_BOUNDED, upperBound, randType, seed)
        );
        result = _finish(Operations.FHE_RAND_BOUNDED, randType, false, new bytes32[](0), preHandle, randType);
        emit FheRandBounded(msg.sender, upperBound, randType, seed, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheSum(bytes32[] calldata values, FheType fheType) external returns (bytes32 result) {
        _requireType(fheType, OperandTypes.FHE_SUM);
        _requireCollection(values, fheType);
        bytes32 preHandle = keccak256(
            abi.encodePacked(COMPUTATION_DOMAIN, Operations.FHE_SUM, values.length, values, _tail())
        );
        result = _finish(Operations.FHE_SUM, fheType, false, values, preHandle, fheType);
        emit FheSum(msg.sender, values, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheIsIn(bytes32 value, bytes32[] calldata values, FheType fheType) external returns (bytes32 result) {
        _requireType(fheType, OperandTypes.FHE_IS_IN);
        if (Handles.typeOf(value) != fheType) revert IncompatibleTypes();
        _requireAllowed(value);
        _requireCollection(values, fheType);
        bytes32[] memory operands = new bytes32[](values.length + 1);
        operands[0] = value;
        for (uint256 i = 0; i < values.length; i++) {
            operands[i + 1] = values[i];
        }
        bytes32 preHandle = keccak256(
            abi.encodePacked(COMPUTATION_DOMAIN, Operations.FHE_IS_IN, values.length, operands, _tail())
        );
        result = _finish(Operations.FHE_IS_IN, fheType, false, operands, preHandle, FHE_BOOL);
        emit FheIsIn(msg.sender, value, values, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function fheMulDiv(bytes32 factor1, bytes32 factor2, bytes32 divisor, bytes1 scalarByte)
        external
        returns (bytes32 result)
    {
        FheType fheType = Handles.typeOf(factor1);
        _requireType(fheType, OperandTypes.FHE_MUL_DIV);
        if (scalarByte != MUL_DIV_ENCRYPTED && scalarByte != MUL_DIV_SCALAR) revert InvalidMulDivScalarByte();
        bool isScalar = scalarByte == MUL_DIV_SCALAR;
        if (uint256(divisor) & _maxValue(fheType) == 0) revert DivisionByZero();
        bytes32[] memory operands = _checkedOperands(fheType, factor1, factor2, isScalar);
        bytes32 preHandle = keccak256(
            abi.encodePacked(
                COMPUTATION_DOMAIN, Operations.FHE_MUL_DIV, factor1, factor2, divisor, scalarByte, _tail()
            )
        );
        result = _finish(Operations.FHE_MUL_DIV, fheType, isScalar, operands, preHandle, fheType);
        emit FheMulDiv(msg.sender, factor1, factor2, divisor, scalarByte, result);
    }

    /// @inheritdoc IFHEVMExecutor
    function getACLAddress() external view returns (address) {
        return ACL_ADDRESS;
    }

    /// @inheritdoc IFHEVMExecutor
    function getHCULimitAddress() external view returns (address) {
        return HCU_LIMIT;
    }

    /// @inheritdoc IFHEVMExecutor
    function getInputVerifierAddress() external view returns (address) {
        return INPUT_VERIFIER;
    }

    /// @inheritdoc IFHEVMExecutor
    function getHandleVersion() external pure returns (uint8) {
        return Handles.VERSION;
    }

    /// @inheritdoc IFHEVMExecutor
    function getVersion() external view returns (string memory) {
        return _versionOf("FHEVMExecutor v0.3.0", "FHEVMExecutor v0.5.0");
    }

    /// @dev An operation on two values whose result has their type.
    function _combine(Operation operation, uint256 types, bytes32 lhs, bytes32 rhs, bytes1 scalarByte)
        private
        returns (bytes32)
    {
        return _binary(operation, types, lhs, rhs, scalarByte, Handles.typeOf(lhs));
    }

    /// @dev An operation on two values whose result is an `ebool`.
    function _compare(Operation operation, uint256 types, bytes32 lhs, bytes32 rhs, bytes1 scalarByte)
        private
        returns (bytes32)
    {
        return _binary(operation, types, lhs, rhs, scalarByte, FHE_BOOL);
    }

    /// @dev An operation whose second operand must be a plaintext that is not zero in the type of the first.
    function _divide(Operation operation, uint256 types, bytes32 lhs, bytes32 rhs, bytes1 scalarByte)
        private
        returns (bytes32)
    {
        FheType fheType = Handles.typeOf(lhs);
        _requireType(fheType, types);
        if (scalarByte != SCALAR) revert IsNotScalar();
        if (uint256(rhs) & _maxValue(fheType) == 0) revert DivisionByZero();
        return _binary(operation, types, lhs, rhs, scalarByte, fheType);
    }

    function _binary(
        Operation operation,
        uint256 types,
        bytes32 lhs,
        bytes32 rhs,
        bytes1 scalarByte,
        FheType resultType
    ) private returns (bytes32) {
        FheType fheType = Handles.typeOf(lhs);
        _requireType(fheType, types);
        if (scalarByte != ENCRYPTED && scalarByte != SCALAR) revert ScalarByteIsNotBoolean();
        bool isScalar = scalarByte == SCALAR;
        bytes32[] memory operands = _checkedOperands(fheType, lhs, rhs, isScalar);
        bytes32 preHandle = keccak256(abi.encodePacked(COMPUTATION_DOMAIN, operation, lhs, rhs, scalarByte, _tail()));
        return _finish(operation, fheType, isScalar, operands, preHandle, resultType);
    }

    function _unary(Operation operation, uint256 types, bytes32 ct) private returns (bytes32) {
        FheType fheType = Handles.typeOf(ct);
        _requireType(fheType, types);
        _requireAllowed(ct);
        bytes32 preHandle = keccak256(abi.encodePacked(COMPUTATION_DOMAIN, operation, ct, _tail()));
        return _finish(operation, fheType, false, _list(ct), preHandle, fheType);
    }

    /// @dev What every operation does once its operands are checked, up to the event.
    function _finish(
        Operation operation,
        FheType fheType,
        bool isScalar,
        bytes32[] memory operands,
        bytes32 preHandle,
        FheType resultType
    ) private returns (bytes32 result) {
        result = Handles.computed(preHandle, resultType);
        IACL(ACL_ADDRESS).allowTransient(result, msg.sender);
        IHCULimit(HCU_LIMIT).checkHCU(operation, fheType, isScalar, operands, result, msg.sender);
    }

    /// @dev Checks the second operand's type, and the caller's right to use both. A plaintext needs neither.
    function _checkedOperands(FheType fheType, bytes32 lhs, bytes32 rhs, bool isScalar)
        private
        view
        returns (bytes32[] memory operands)
    {
        if (!isScalar && Handles.typeOf(rhs) != fheType) revert IncompatibleTypes();
        _requireAllowed(lhs);
        if (isScalar) return _list(lhs);
        _requireAllowed(rhs);
        operands = new bytes32[](2);
        (operands[0], operands[1]) = (lhs, rhs);
    }

    function _requireCollection(bytes32[] calldata values, FheType fheType) private view {
        uint256 limit = OperandTypes.collectionLimit(fheType);
        if (values.length > limit) revert FHECollectionSizeInvalid(values.length, limit);
        for (uint256 i = 0; i < values.length; i++) {
            if (Handles.typeOf(values[i]) != fheType) revert IncompatibleTypes();
            _requireAllowed(values[i]);
        }
    }

    function _requireAllowed(bytes32 handle) private view {
        if (!IACL(ACL_ADDRESS).isAllowed(handle, msg.sender)) revert ACLNotAllowed(handle, msg.sender);
    }

    function _nextSeed() private returns (bytes16) {
        FHEVMExecutorStorage storage $ = _executor();
        return bytes16(keccak256(abi.encodePacked(SEED_DOMAIN, $.randCounter++, _tail())));
    }

    /// @dev What ties a handle to this deployment, chain and block: the last bytes of its pre-image.
    function _tail() private view returns (bytes memory) {
        return abi.encodePacked(ACL_ADDRESS, block.chainid, blockhash(block.number - 1), block.timestamp);
    }

    /// @dev Types are a mask: bit n stands for type number n.
    function _requireType(FheType fheType, uint256 types) private pure {
        if ((types >> FheType.unwrap(fheType)) & 1 == 0) revert UnsupportedType();
    }

    function _maxValue(FheType fheType) private pure returns (uint256) {
        return type(uint256).max >> (256 - OperandTypes.bits(fheType));
    }

    function _list(bytes32 handle) private pure returns (bytes32[] memory list) {
        list = new bytes32[](1);
        list[0] = handle;
    }

    function _executor() private pure returns (FHEVMExecutorStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
