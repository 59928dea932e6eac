// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title A wallet that is a contract
/// @notice It signs by ERC-1271: whatever its owner has signed counts as signed by the wallet.
contract ContractWallet {
    bytes4 private constant VALID = 0x1626ba7e;

    /// @notice Whose signatures count.
    address public immutable owner;

    constructor(address owner_) {
        owner = owner_;
    }

    /// @notice Says whether a signature of this digest counts as the wallet's.
    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        if (signature.length != 65) return 0xffffffff;
        bytes32 r = bytes32(signature[:32]);
        bytes32 s = bytes32(signature[32:64]);
        address signer = ecrecover(digest, uint8(signature[64]), r, s);
        return signer != address(0) && signer == owner ? VALID : bytes4(0xffffffff);
    }
}
