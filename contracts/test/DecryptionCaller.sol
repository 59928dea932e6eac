// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {GatewayCaller} from "@cipherloom/solidity/lib/GatewayCaller.sol";

/// @title What a KMSVerifier answers
interface IVerifier {
    function verifyDecryptionEIP712KMSSignatures(bytes32[] memory, bytes memory, bytes memory) external returns (bool);
}

/// @title A contract that asks for decryptions, for tests
contract DecryptionCaller is GatewayCaller {
    IVerifier private immutable VERIFIER;

    /// @notice The request that was answered last, and the answer.
    uint256 public answeredRequest;
    uint64 public number;
    bool public flag;
    bool public wasSigned;

    /// @notice What the callback does next: 0 returns, 1 reverts, 2 reverts with much data; more is so much gas that it burns before it returns.
    uint256 public behaviour;
    uint256 public wei_;

    /// @notice How often values were taken.
    uint256 public deliveries;
    bytes32[] private _handles;

    error Refused(uint256 requestID);

    constructor(address gateway, address verifier) GatewayCaller(gateway) {
        VERIFIER = IVerifier(verifier);
    }

    function setBehaviour(uint256 newBehaviour) external {
        behaviour = newBehaviour;
    }

    function ask(bytes32[] calldata handles, uint256 maxTimestamp) external returns (uint256) {
        return _requestDecryption(handles, this.receiveValues.selector, maxTimestamp);
    }

    function askSigned(bytes32[] calldata handles, uint256 maxTimestamp) external returns (uint256) {
        _handles = handles;
        return _requestSignedDecryption(handles, this.receiveSigned.selector, maxTimestamp);
    }

    function receiveValues(uint256 requestID, uint64 newNumber, bool newFlag) external payable onlyGateway {
        if (behaviour == 1) revert Refused(requestID);
        if (behaviour == 2) {
            assembly ("memory-safe") {
                revert(0, 100000)
            }
        }
        if (behaviour > 2) {
            uint256 start = gasleft();
            while (start - gasleft() < behaviour) {}
        }
        (answeredRequest, number, flag, wei_) = (requestID, newNumber, newFlag, msg.value);
        deliveries++;
    }

    function receiveSigned(uint256 requestID, uint64 newNumber, bool newFlag, bytes[] calldata signatures)
        external
        onlyGateway
    {
        wasSigned = VERIFIER.verifyDecryptionEIP712KMSSignatures(
            _handles, abi.encode(newNumber, newFlag), _decryptionProof(signatures)
        );
        if (!wasSigned) revert Refused(requestID);
        (answeredRequest, number, flag) = (requestID, newNumber, newFlag);
    }
}
