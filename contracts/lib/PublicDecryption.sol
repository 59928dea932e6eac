// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IKMSVerifier} from "./HostContracts.sol";

/// @title Checks a public decryption without changing anything
/// @notice The KMSVerifier's own check uses transient storage and so is no view. This one does the same work here, from
///         what the KMSVerifier tells about its signers and its EIP-712 domain.
library PublicDecryption {
    /// @notice The proof is shorter than the number of signatures it begins with asks for.
    error DeserializingDecryptionProofFail();

    /// @notice The proof is empty.
    error EmptyDecryptionProof();

    /// @notice A signature is not of one of the KMS's signers.
    error KMSInvalidSigner(address invalidSigner);

    /// @notice The proof holds fewer signatures than the threshold.
    error KMSSignatureThresholdNotReached(uint256 numSignatures);

    /// @notice The proof holds no signature.
    error KMSZeroSignature();

    /// @notice A signature is not a valid ECDSA signature.
    error ECDSAInvalidSignature();

    /// @notice A signature's `s` lies in the upper half of the curve order, where each signature has a twin.
    error ECDSAInvalidSignatureS(bytes32 s);

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    bytes32 private constant DECRYPTION_TYPEHASH =
        keccak256("PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)");

    /// @dev Half the order of secp256k1.
    uint256 private constant MAX_S = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    uint256 private constant SIGNATURE_BYTES = 65;

    /// @notice Returns whether enough different signers have signed.
    /// @param verifier The KMSVerifier.
    /// @param handles The handles.
    /// @param cleartexts The plaintexts, ABI-encoded in the order of the handles.
    /// @param proof Number of signatures (one byte), the signatures, extra data.
    function isValid(IKMSVerifier verifier, bytes32[] memory handles, bytes memory cleartexts, bytes memory proof)
        internal
        view
        returns (bool)
    {
        if (proof.length == 0) revert EmptyDecryptionProof();
        uint256 count = uint8(proof[0]);
        uint256 end = 1 + SIGNATURE_BYTES * count;
        if (proof.length < end) revert DeserializingDecryptionProofFail();
        if (count == 0) revert KMSZeroSignature();

        bytes memory extraData = _tail(proof, end);
        (address[] memory signers, uint256 threshold) = verifier.getContextSignersAndThresholdFromExtraData(extraData);
        if (count < threshold) revert KMSSignatureThresholdNotReached(count);

        bytes32 digest = _digest(verifier, handles, cleartexts, extraData);
        bool[] memory counted = new bool[](signers.length);
        uint256 unique;
        for (uint256 i = 0; i < count; i++) {
            uint256 position = _position(signers, _signer(digest, proof, 1 + SIGNATURE_BYTES * i));
            if (counted[position]) continue;
            counted[position] = true;
            unique++;
            if (unique >= threshold) return true;
        }
        return false;
    }

    /// @dev The EIP-712 digest that the KMS signs.
    function _digest(IKMSVerifier verifier, bytes32[] memory handles, bytes memory cleartexts, bytes memory extraData)
        private
        view
        returns (bytes32)
    {
        bytes32 content = keccak256(
            abi.encode(
                DECRYPTION_TYPEHASH,
                keccak256(abi.encodePacked(handles)),
                keccak256(cleartexts),
                keccak256(extraData)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", _domain(verifier), content));
    }

    function _domain(IKMSVerifier verifier) private view returns (bytes32) {
        (, string memory name, string memory version, uint256 chainId, address verifyingContract,,) =
            verifier.eip712Domain();
        return keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256(bytes(name)), keccak256(bytes(version)), chainId, verifyingContract)
        );
    }

    function _position(address[] memory signers, address signer) private pure returns (uint256) {
        for (uint256 i = 0; i < signers.length; i++) {
            if (signers[i] == signer) return i;
        }
        revert KMSInvalidSigner(signer);
    }

    /// @dev Recovers who made the signature that begins at an offset of the proof.
    function _signer(bytes32 digest, bytes memory proof, uint256 offset) private pure returns (address signer) {
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly ("memory-safe") {
            let start := add(add(proof, 0x20), offset)
            r := mload(start)
            s := mload(add(start, 0x20))
            v := byte(0, mload(add(start, 0x40)))
        }
        if (uint256(s) > MAX_S) revert ECDSAInvalidSignatureS(s);
        signer = ecrecover(digest, v, r, s);
        if (signer == address(0)) revert ECDSAInvalidSignature();
    }

    function _tail(bytes memory data, uint256 start) private pure returns (bytes memory tail) {
        tail = new bytes(data.length - start);
        for (uint256 i = 0; i < tail.length; i++) {
            tail[i] = data[start + i];
        }
    }
}
