// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {
    FHE, eaddress, ebool, euint128, euint256, euint64, euint8, externalEaddress, externalEbool, externalEuint128,
    externalEuint256, externalEuint64, externalEuint8
} from "@cipherloom/solidity/lib/FHE.sol";
import {ZamaEthereumConfig} from "@cipherloom/solidity/config/ZamaConfig.sol";

/// @title A drawer for one encrypted value of each kind
/// @notice Takes several values with one proof, keeps them for whoever has put them in, publishes them on demand, and
///         checks what the KMS says they are.
contract AllTypes is ZamaEthereumConfig {
    /// @notice The values that were last verified, in the clear.
    struct Clear {
        bool flag;
        uint8 small;
        uint64 amount;
        uint128 large;
        address account;
        uint256 word;
    }

    ebool private _flag;
    euint8 private _small;
    euint64 private _amount;
    euint128 private _large;
    eaddress private _account;
    euint256 private _word;

    /// @notice What was last verified.
    Clear public verified;

    /// @notice Puts a value of each kind in. The flag is turned over on the way, so that something is computed.
    function put(
        externalEbool flag,
        externalEuint8 small,
        externalEuint64 amount,
        externalEuint128 large,
        externalEaddress account,
        externalEuint256 word,
        bytes calldata proof
    ) external {
        _flag = FHE.not(FHE.fromExternal(flag, proof));
        _small = FHE.fromExternal(small, proof);
        _amount = FHE.fromExternal(amount, proof);
        _large = FHE.fromExternal(large, proof);
        _account = FHE.fromExternal(account, proof);
        _word = FHE.fromExternal(word, proof);
        FHE.allowThis(_flag);
        FHE.allow(_flag, msg.sender);
        FHE.allowThis(_small);
        FHE.allow(_small, msg.sender);
        FHE.allowThis(_amount);
        FHE.allow(_amount, msg.sender);
        FHE.allowThis(_large);
        FHE.allow(_large, msg.sender);
        FHE.allowThis(_account);
        FHE.allow(_account, msg.sender);
        FHE.allowThis(_word);
        FHE.allow(_word, msg.sender);
    }

    /// @notice Lets everybody decrypt all values.
    function publish() external {
        FHE.makePubliclyDecryptable(_flag);
        FHE.makePubliclyDecryptable(_small);
        FHE.makePubliclyDecryptable(_amount);
        FHE.makePubliclyDecryptable(_large);
        FHE.makePubliclyDecryptable(_account);
        FHE.makePubliclyDecryptable(_word);
    }

    /// @notice Keeps the values if the KMS has signed them.
    /// @param cleartexts The values, encoded one after the other.
    /// @param proof The KMS's signatures.
    function verify(bytes calldata cleartexts, bytes calldata proof) external {
        FHE.checkSignatures(handles(), cleartexts, proof);
        verified = abi.decode(cleartexts, (Clear));
    }

    /// @notice The handles of all values, in the order in which they were put in.
    function handles() public view returns (bytes32[] memory all) {
        all = new bytes32[](6);
        all[0] = ebool.unwrap(_flag);
        all[1] = euint8.unwrap(_small);
        all[2] = euint64.unwrap(_amount);
        all[3] = euint128.unwrap(_large);
        all[4] = eaddress.unwrap(_account);
        all[5] = euint256.unwrap(_word);
    }
}
