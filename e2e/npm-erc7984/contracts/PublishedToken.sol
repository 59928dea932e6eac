// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.27;

import {FHE, euint64, externalEuint64} from "@fhevm/solidity/lib/FHE.sol";
import {ZamaEthereumConfig} from "@fhevm/solidity/config/ZamaConfig.sol";
import {ERC7984} from "@openzeppelin/confidential-contracts/token/ERC7984/ERC7984.sol";

/// @title The published confidential token, with what a deployment of it has to add: someone who mints and burns
contract PublishedToken is ZamaEthereumConfig, ERC7984 {
    /// @notice Only the owner may do this.
    error OnlyOwner();

    address private immutable OWNER;

    constructor() ERC7984("Published Token", "PUB", "") {
        OWNER = msg.sender;
    }

    /// @notice Makes new tokens.
    /// @param to Who gets them.
    /// @param amount How many, encrypted by the owner for this contract.
    /// @param inputProof The proof that comes with the encryption.
    function mint(address to, externalEuint64 amount, bytes calldata inputProof) external {
        if (msg.sender != OWNER) revert OnlyOwner();
        _mint(to, FHE.fromExternal(amount, inputProof));
    }

    /// @notice Destroys tokens of the caller.
    /// @param amount How many, encrypted by the caller for this contract.
    /// @param inputProof The proof that comes with the encryption.
    function burn(externalEuint64 amount, bytes calldata inputProof) external {
        _burn(msg.sender, FHE.fromExternal(amount, inputProof));
    }
}
