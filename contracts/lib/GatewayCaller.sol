// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The gateway contract, as far as the library uses it
interface IGatewayContract {
    /// @notice Asks for the values of handles that are allowed for public decryption.
    function requestDecryption(
        bytes32[] calldata ctsHandles,
        bytes4 callbackSelector,
        uint256 msgValue,
        uint256 maxTimestamp,
        bool passSignaturesToCaller
    ) external returns (uint256 requestID);
}

/// @title A contract that gets decrypted values as a call
/// @notice Allow the handles with `FHE.makePubliclyDecryptable` first, then ask with `_requestDecryption`. The named function gets
///         the request's number, one word per value and, if asked for, the KMS's signatures; let `onlyGateway` guard it.
/// @dev Values come in a later transaction and at most once. A callback that reverts is not called again: keep what is needed to ask
///      again, and let somebody do so after the time limit.
abstract contract GatewayCaller {
    IGatewayContract private immutable GATEWAY;

    /// @notice The caller is not the gateway contract.
    /// @param sender The caller.
    error OnlyGateway(address sender);

    /// @dev Admits the gateway contract alone, which passes on nothing but what the KMS has signed.
    modifier onlyGateway() {
        if (msg.sender != address(GATEWAY)) revert OnlyGateway(msg.sender);
        _;
    }

    /// @param gateway The gateway contract of the chain.
    constructor(address gateway) {
        GATEWAY = IGatewayContract(gateway);
    }

    /// @notice Returns the gateway contract.
    /// @return Its address.
    function gatewayContract() public view returns (address) {
        return address(GATEWAY);
    }

    /// @dev Asks for values, whose signatures the gateway contract checks.
    /// @param handles The handles, allowed for public decryption.
    /// @param callback The function to call.
    /// @param maxTimestamp The last second in which values are of use, within a day.
    /// @return requestID The request's number, which the callback gets too.
    function _requestDecryption(bytes32[] memory handles, bytes4 callback, uint256 maxTimestamp)
        internal
        returns (uint256 requestID)
    {
        return GATEWAY.requestDecryption(handles, callback, 0, maxTimestamp, false);
    }

    /// @dev Asks for values and their signatures, for a callback that checks them itself:
    ///      `FHE.checkSignatures(handles, abi.encode(value, …), _decryptionProof(signatures))`.
    /// @param handles The handles, allowed for public decryption.
    /// @param callback The function to call.
    /// @param maxTimestamp The last second in which values are of use, within a day.
    /// @return requestID The request's number, which the callback gets too.
    function _requestSignedDecryption(bytes32[] memory handles, bytes4 callback, uint256 maxTimestamp)
        internal
        returns (uint256 requestID)
    {
        return GATEWAY.requestDecryption(handles, callback, 0, maxTimestamp, true);
    }

    /// @dev Makes the proof that `FHE.checkSignatures` takes of the signatures that a callback gets.
    /// @param signatures The KMS nodes' signatures, at most 255.
    /// @return proof Number of signatures and signatures.
    function _decryptionProof(bytes[] memory signatures) internal pure returns (bytes memory proof) {
        // A count that does not fit would be a different, valid-looking proof.
        if (signatures.length > type(uint8).max) revert();
        proof = abi.encodePacked(uint8(signatures.length));
        for (uint256 i = 0; i < signatures.length; i++) {
            proof = abi.encodePacked(proof, signatures[i]);
        }
    }
}
