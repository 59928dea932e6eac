// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FHE, ebool, euint64, externalEuint64} from "@cipherloom/solidity/lib/FHE.sol";
import {ZamaEthereumConfig} from "@cipherloom/solidity/config/ZamaConfig.sol";

/// @title A token whose balances nobody but their owners can read
/// @notice Balances, allowances, amounts and the total supply are encrypted. A transfer of more than there is moves
///         nothing and does not revert, because a revert would tell everybody that the balance was too small.
contract ConfidentialToken is ZamaEthereumConfig {
    /// @notice Only the owner may do this.
    error OnlyOwner();

    /// @notice The zero address has no balance.
    error ZeroAddress();

    /// @notice `makeTotalSupplyPublic` was not called yet.
    error TotalSupplyNotPublic();

    /// @notice Tokens have moved.
    /// @param from Whose they were; zero if they are new.
    /// @param to Whose they are.
    /// @param amount The handle of how many; both may decrypt it.
    event Transfer(address indexed from, address indexed to, euint64 amount);

    /// @notice A spender may move tokens of an owner.
    /// @param owner Whose they are.
    /// @param spender Who may move them.
    /// @param amount The handle of how many at most; both may decrypt it.
    event Approval(address indexed owner, address indexed spender, euint64 amount);

    /// @notice Anyone may now have the total supply decrypted.
    /// @param handle The handle of the total supply at this moment.
    event TotalSupplyPublished(euint64 handle);

    /// @notice The KMS has decrypted the total supply, and the contract has checked it.
    /// @param handle The handle of the total supply.
    /// @param amount The total supply.
    event TotalSupplyVerified(euint64 indexed handle, uint64 amount);

    string public constant name = "Confidential Token";
    string public constant symbol = "CTK";
    uint8 public constant decimals = 6;

    /// @notice Who may mint and publish the total supply.
    address public immutable owner;

    /// @notice The total supply that was last verified, in the clear.
    uint64 public verifiedTotalSupply;

    mapping(address account => euint64) private _balances;
    mapping(address account => mapping(address spender => euint64)) private _allowances;
    euint64 private _totalSupply;
    euint64 private _publishedTotalSupply;

    modifier onlyOwner() {
        if (msg.sender != owner) revert OnlyOwner();
        _;
    }

    constructor() {
        owner = msg.sender;
    }

    /// @notice Makes new tokens; everybody can see how many.
    /// @param to Who gets them.
    /// @param amount How many.
    function mint(address to, uint64 amount) external onlyOwner {
        _mint(to, FHE.asEuint64(amount));
    }

    /// @notice Makes new tokens; only the owner and the receiver know how many.
    /// @param to Who gets them.
    /// @param amount How many, encrypted by the owner for this contract.
    /// @param inputProof The proof that comes with the encryption.
    function mintEncrypted(address to, externalEuint64 amount, bytes calldata inputProof) external onlyOwner {
        _mint(to, FHE.fromExternal(amount, inputProof));
    }

    /// @notice Moves tokens of the caller.
    /// @dev A contract that holds an amount already passes its handle with an empty proof.
    /// @param to Who gets them.
    /// @param amount How many, encrypted by the caller for this contract.
    /// @param inputProof The proof that comes with the encryption.
    /// @return moved The handle of how many have moved: all of `amount`, or zero.
    function transfer(address to, externalEuint64 amount, bytes calldata inputProof) external returns (euint64 moved) {
        return _transfer(msg.sender, to, FHE.fromExternal(amount, inputProof));
    }

    /// @notice Lets a spender move tokens of the caller.
    /// @param spender Who may move them.
    /// @param amount How many at most, encrypted by the caller for this contract.
    /// @param inputProof The proof that comes with the encryption.
    function approve(address spender, externalEuint64 amount, bytes calldata inputProof) external {
        if (spender == address(0)) revert ZeroAddress();
        euint64 allowed = FHE.fromExternal(amount, inputProof);
        _setAllowance(msg.sender, spender, allowed);
        emit Approval(msg.sender, spender, allowed);
    }

    /// @notice Moves tokens of someone who has approved the caller.
    /// @param from Whose they are.
    /// @param to Who gets them.
    /// @param amount How many, encrypted by the caller for this contract.
    /// @param inputProof The proof that comes with the encryption.
    /// @return moved The handle of how many have moved: all of `amount`, or zero.
    function transferFrom(address from, address to, externalEuint64 amount, bytes calldata inputProof)
        external
        returns (euint64 moved)
    {
        euint64 wanted = FHE.fromExternal(amount, inputProof);
        euint64 allowed = _allowances[from][msg.sender];
        // Beyond the allowance the wish becomes zero, and then nothing moves.
        euint64 granted = FHE.select(FHE.le(wanted, allowed), wanted, FHE.asEuint64(0));
        moved = _transfer(from, to, granted);
        _setAllowance(from, msg.sender, FHE.sub(allowed, moved));
        FHE.allowTransient(moved, msg.sender);
    }

    /// @notice Lets anyone have the current total supply decrypted.
    function makeTotalSupplyPublic() external onlyOwner {
        _publishedTotalSupply = FHE.makePubliclyDecryptable(_totalSupply);
        emit TotalSupplyPublished(_publishedTotalSupply);
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
        emit TotalSupplyVerified(_publishedTotalSupply, clear);
    }

    /// @notice Returns the handle of a balance; only the account may decrypt it.
    /// @param account Whose balance.
    /// @return The handle, zero if the account never had tokens.
    function balanceOf(address account) external view returns (euint64) {
        return _balances[account];
    }

    /// @notice Returns the handle of an allowance; only the two accounts may decrypt it.
    /// @param account Whose tokens.
    /// @param spender Who may move them.
    /// @return The handle, zero if there never was an approval.
    function allowance(address account, address spender) external view returns (euint64) {
        return _allowances[account][spender];
    }

    /// @notice Returns the handle of the total supply.
    /// @return The handle, zero before the first mint.
    function totalSupply() external view returns (euint64) {
        return _totalSupply;
    }

    /// @notice Returns the handle that `makeTotalSupplyPublic` published last.
    /// @return The handle, zero before.
    function publishedTotalSupply() external view returns (euint64) {
        return _publishedTotalSupply;
    }

    function _mint(address to, euint64 amount) private {
        if (to == address(0)) revert ZeroAddress();
        // No balance is larger than the total, so if the total does not overflow, no balance does.
        euint64 total = FHE.add(_totalSupply, amount);
        ebool fits = FHE.ge(total, _totalSupply);
        euint64 minted = FHE.select(fits, amount, FHE.asEuint64(0));
        _totalSupply = FHE.allowThis(FHE.add(_totalSupply, minted));
        FHE.allow(_totalSupply, owner);
        _setBalance(to, FHE.add(_balances[to], minted));
        FHE.allow(FHE.allowThis(minted), owner);
        FHE.allow(minted, to);
        emit Transfer(address(0), to, minted);
    }

    function _transfer(address from, address to, euint64 amount) private returns (euint64 moved) {
        if (to == address(0)) revert ZeroAddress();
        ebool enough = FHE.le(amount, _balances[from]);
        moved = FHE.select(enough, amount, FHE.asEuint64(0));
        _setBalance(from, FHE.sub(_balances[from], moved));
        _setBalance(to, FHE.add(_balances[to], moved));
        // Whoever decrypts a value does so for a contract, which needs the permission too.
        FHE.allow(FHE.allowThis(moved), from);
        FHE.allow(moved, to);
        emit Transfer(from, to, moved);
    }

    function _setBalance(address account, euint64 balance) private {
        _balances[account] = FHE.allowThis(balance);
        FHE.allow(balance, account);
    }

    function _setAllowance(address account, address spender, euint64 amount) private {
        _allowances[account][spender] = FHE.allowThis(amount);
        FHE.allow(amount, account);
        FHE.allow(amount, spender);
    }
}
