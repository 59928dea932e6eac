// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title EIP-712 messages that are signed for another contract on another chain
/// @notice Coprocessors and KMS nodes sign for the gateway's contracts. The domain therefore names the gateway's chain and
///         contract, not this chain and this contract; SDKs read it here and refuse a domain that names this contract.
/// @dev The message itself names the host chain and its contracts, so a signature cannot be replayed across host chains.
abstract contract ForeignEIP712 is IERC5267 {
    /// @custom:storage-location erc7201:cipherloom.storage.ForeignEIP712
    struct ForeignEIP712Storage {
        address verifyingContract;
        uint64 chainId;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("cipherloom.storage.ForeignEIP712")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_SLOT = 0xc35898c4dc8993781998e88d172601541257968cc57b9562e3e1268b25835d00;

    bytes32 private constant DOMAIN_TYPE_HASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    string private constant DOMAIN_VERSION = "1";

    /// @notice The domain must name a contract other than this one, and a chain.
    error InvalidEIP712Source();

    /// @inheritdoc IERC5267
    function eip712Domain()
        external
        view
        override
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        ForeignEIP712Storage storage $ = _foreignEIP712();
        return (
            hex"0f", _domainName(), DOMAIN_VERSION, $.chainId, $.verifyingContract, bytes32(0), new uint256[](0)
        );
    }

    /// @dev Sets the domain.
    /// @param verifyingContract The gateway's contract.
    /// @param chainId The gateway's chain.
    function _setEIP712Source(address verifyingContract, uint64 chainId) internal {
        if (verifyingContract == address(0) || verifyingContract == address(this) || chainId == 0) {
            revert InvalidEIP712Source();
        }
        ForeignEIP712Storage storage $ = _foreignEIP712();
        $.verifyingContract = verifyingContract;
        $.chainId = chainId;
    }

    /// @dev The digest to sign for a struct with this hash.
    function _hashTypedData(bytes32 structHash) internal view returns (bytes32) {
        ForeignEIP712Storage storage $ = _foreignEIP712();
        bytes32 domainSeparator = keccak256(
            abi.encode(
                DOMAIN_TYPE_HASH,
                keccak256(bytes(_domainName())),
                keccak256(bytes(DOMAIN_VERSION)),
                $.chainId,
                $.verifyingContract
            )
        );
        return MessageHashUtils.toTypedDataHash(domainSeparator, structHash);
    }

    /// @dev The `name` of the domain.
    function _domainName() internal pure virtual returns (string memory);

    function _foreignEIP712() private pure returns (ForeignEIP712Storage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_SLOT
        }
    }
}
