// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.27;

import {FHE, ebool, euint64} from "@fhevm/solidity/lib/FHE.sol";
import {ZamaEthereumConfig} from "@fhevm/solidity/config/ZamaConfig.sol";
import {IERC7984Receiver} from "@openzeppelin/confidential-contracts/interfaces/IERC7984Receiver.sol";

/// @title A contract that accepts tokens if they are enough, and else lets the token send them back
contract Receiver is ZamaEthereumConfig, IERC7984Receiver {
    /// @notice The smallest amount that is accepted.
    uint64 public constant MINIMUM = 10;

    /// @notice Says whether an amount is accepted.
    /// @param amount How many tokens have come.
    /// @return accepted Whether they are enough, encrypted.
    function onConfidentialTransferReceived(address, address, euint64 amount, bytes calldata) external returns (ebool accepted) {
        accepted = FHE.ge(amount, MINIMUM);
        FHE.allowTransient(accepted, msg.sender);
    }
}
