// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FHE, ebool, euint64, externalEuint64} from "@cipherloom/solidity/lib/FHE.sol";
import {CoprocessorConfig} from "@cipherloom/solidity/lib/Impl.sol";

/// @title A confidential token for a chain of one's own
/// @notice Whoever deploys it says where the host contracts are, because no library can know that for every chain. Apart from that it is
///         the token of `examples/confidential-token`, without allowances.
contract OwnChainToken {
    /// @notice Only the owner may do this.
    error OnlyOwner();

    /// @notice There is nothing at the address of a host contract: the configuration is that of another chain.
    /// @param contractAddress The address.
    error NoHostContract(address contractAddress);

    /// @notice `makeTotalSupplyPublic` was not called yet.
    error TotalSupplyNotPublic();

    /// @notice Tokens have moved.
    /// @param from Whose they were; zero if they are new.
    /// @param to Whose they are.
    /// @param amount The handle of how many; both may decrypt it.
    event Transfer(address indexed from, address indexed to, euint64 amount);

    /// @notice Who may mint and publish the total supply.
    address public immutable owner;

    /// @notice The total supply that was last verified, in the clear.
    uint64 public verifiedTotalSupply;

    mapping(address account => euint64) private _balances;
    euint64 private _totalSupply;
    euint64 private _publishedTotalSupply;

    modifier onlyOwner() {
        if (msg.sender != owner) revert OnlyOwner();
        _;
    }

    /// @param config Where the host contracts are on this chain.
    constructor(CoprocessorConfig memory config) {
        _requireCode(config.ACLAddress);
        _requireCode(config.CoprocessorAddress);
        _requireCode(config.KMSVerifierAddress);
        FHE.setCoprocessor(config);
        owner = msg.sender;
    }

    /// @notice Makes new tokens; everybody can see how many. The total must stay below 2^64.
    /// @param to Who gets them.
    /// @param amount How many.
    function mint(address to, uint64 amount) external onlyOwner {
        euint64 minted = FHE.asEuint64(amount);
        _totalSupply = FHE.allowThis(FHE.add(_totalSupply, minted));
        _setBalance(to, FHE.add(_balances[to], minted));
        FHE.allow(minted, to);
        emit Transfer(address(0), to, minted);
    }

    /// @notice Moves tokens of the caller.
    /// @param to Who gets them.
    /// @param amount How many, encrypted by the caller for this contract.
    /// @param inputProof The proof that comes with the encryption.
    /// @return moved The handle of how many have moved: all of `amount`, or zero.
    function transfer(address to, externalEuint64 amount, bytes calldata inputProof) external returns (euint64 moved) {
        euint64 wanted = FHE.fromExternal(amount, inputProof);
        ebool enough = FHE.le(wanted, _balances[msg.sender]);
        moved = FHE.select(enough, wanted, FHE.asEuint64(0));
        _setBalance(msg.sender, FHE.sub(_balances[msg.sender], moved));
        _setBalance(to, FHE.add(_balances[to], moved));
        FHE.allow(moved, msg.sender);
        FHE.allow(moved, to);
        emit Transfer(msg.sender, to, moved);
    }

    /// @notice Lets anyone have the current total supply decrypted.
    function makeTotalSupplyPublic() external onlyOwner {
        _publishedTotalSupply = FHE.makePubliclyDecryptable(_totalSupply);
    }

    /// @notice Stores the published total supply in the clear, as the KMS has decrypted it. Anyone may call it.
    /// @param clear The total supply.
    /// @param decryptionProof The KMS's signatures, as the gateway returns them with the plaintext.
    function verifyTotalSupply(uint64 clear, bytes calldata decryptionProof) external {
        if (!FHE.isInitialized(_publishedTotalSupply)) revert TotalSupplyNotPublic();
        bytes32[] memory handles = new bytes32[](1);
        handles[0] = FHE.toBytes32(_publishedTotalSupply);
        FHE.checkSignatures(handles, abi.encode(clear), decryptionProof);
        verifiedTotalSupply = clear;
    }

    /// @notice Returns the handle of a balance; only the account may decrypt it.
    /// @param account Whose balance.
    /// @return The handle, zero if the account never had tokens.
    function balanceOf(address account) external view returns (euint64) {
        return _balances[account];
    }

    /// @notice Returns the handle that `makeTotalSupplyPublic` published last.
    /// @return The handle, zero before.
    function publishedTotalSupply() external view returns (euint64) {
        return _publishedTotalSupply;
    }

    function _setBalance(address account, euint64 balance) private {
        _balances[account] = FHE.allowThis(balance);
        FHE.allow(balance, account);
    }

    function _requireCode(address contractAddress) private view {
        if (contractAddress.code.length == 0) revert NoHostContract(contractAddress);
    }
}
