// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Sets of signers with a threshold
/// @notice A message is accepted once `threshold` different members of the set have signed it.
library SignerSets {
    /// @dev A set is written once and replaced as a whole; only its threshold changes in place.
    struct SignerSet {
        address[] signers;
        mapping(address signer => bool isMember) isMember;
        uint256 threshold;
    }

    /// @dev What became of the signatures of one message.
    enum Outcome {
        Accepted,
        NoSignature,
        TooFewSignatures,
        UnknownSigner,
        TooFewSigners
    }

    /// @notice A set needs at least one signer.
    error SignersSetIsEmpty();

    /// @notice A proof counts its signatures in one byte, so a set holds at most 255 signers.
    error TooManySigners(uint256 count);

    /// @notice The zero address cannot sign.
    error SignerNull();

    /// @notice The address stands twice in the new set.
    error AlreadySigner(address signer);

    /// @notice At least one signature must be asked for.
    error ThresholdIsNull();

    /// @notice More signatures are asked for than there are signers.
    error ThresholdIsAboveNumberOfSigners();

    /// @dev Bytes of one signature: r, s, v.
    uint256 internal constant SIGNATURE_BYTES = 65;

    /// @dev Replaces the set.
    function replace(SignerSet storage self, address[] memory signers, uint256 threshold) internal {
        uint256 previous = self.signers.length;
        for (uint256 i = 0; i < previous; i++) {
            self.isMember[self.signers[i]] = false;
        }
        uint256 count = signers.length;
        if (count == 0) revert SignersSetIsEmpty();
        if (count > type(uint8).max) revert TooManySigners(count);
        for (uint256 i = 0; i < count; i++) {
            address signer = signers[i];
            if (signer == address(0)) revert SignerNull();
            if (self.isMember[signer]) revert AlreadySigner(signer);
            self.isMember[signer] = true;
        }
        self.signers = signers;
        changeThreshold(self, threshold);
    }

    /// @dev Changes how many different signers must sign.
    function changeThreshold(SignerSet storage self, uint256 threshold) internal {
        if (threshold == 0) revert ThresholdIsNull();
        if (threshold > self.signers.length) revert ThresholdIsAboveNumberOfSigners();
        self.threshold = threshold;
    }

    /// @dev Checks `signatures`, a whole number of signatures without separators, over `digest`. Signatures beyond the
    ///      threshold are not looked at, and a signer who signs twice counts once. Malformed signatures revert in ECDSA.
    /// @return outcome Whether the message is accepted, or why not.
    /// @return unknown The recovered address when the outcome is `UnknownSigner`.
    function check(SignerSet storage self, bytes32 digest, bytes calldata signatures)
        internal
        view
        returns (Outcome outcome, address unknown)
    {
        uint256 threshold = self.threshold;
        outcome = _checkCount(signatures, threshold);
        if (outcome != Outcome.Accepted) return (outcome, address(0));
        address[] memory seen = new address[](threshold);
        uint256 unique = 0;
        for (uint256 at = 0; at < signatures.length && unique < threshold; at += SIGNATURE_BYTES) {
            address signer = ECDSA.recover(digest, signatures[at:at + SIGNATURE_BYTES]);
            if (!self.isMember[signer]) return (Outcome.UnknownSigner, signer);
            if (!_contains(seen, unique, signer)) seen[unique++] = signer;
        }
        return (unique < threshold ? Outcome.TooFewSigners : Outcome.Accepted, address(0));
    }

    /// @dev As `check`, against a set that another contract holds.
    function checkAgainst(address[] memory signers, uint256 threshold, bytes32 digest, bytes calldata signatures)
        internal
        pure
        returns (Outcome outcome, address unknown)
    {
        outcome = _checkCount(signatures, threshold);
        if (outcome != Outcome.Accepted) return (outcome, address(0));
        address[] memory seen = new address[](threshold);
        uint256 unique = 0;
        for (uint256 at = 0; at < signatures.length && unique < threshold; at += SIGNATURE_BYTES) {
            address signer = ECDSA.recover(digest, signatures[at:at + SIGNATURE_BYTES]);
            if (!_contains(signers, signers.length, signer)) return (Outcome.UnknownSigner, signer);
            if (!_contains(seen, unique, signer)) seen[unique++] = signer;
        }
        return (unique < threshold ? Outcome.TooFewSigners : Outcome.Accepted, address(0));
    }

    function _checkCount(bytes calldata signatures, uint256 threshold) private pure returns (Outcome) {
        uint256 count = signatures.length / SIGNATURE_BYTES;
        if (count == 0) return Outcome.NoSignature;
        return count < threshold ? Outcome.TooFewSignatures : Outcome.Accepted;
    }

    function _contains(address[] memory list, uint256 length, address item) private pure returns (bool) {
        for (uint256 i = 0; i < length; i++) {
            if (list[i] == item) return true;
        }
        return false;
    }
}
