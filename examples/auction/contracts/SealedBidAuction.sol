// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FHE, eaddress, ebool, euint64, externalEuint64} from "@cipherloom/solidity/lib/FHE.sol";
import {ZamaEthereumConfig} from "@cipherloom/solidity/config/ZamaConfig.sol";
import {IConfidentialToken} from "./IConfidentialToken.sol";

/// @title An auction in which nobody sees the bids
/// @notice Bids are paid in a confidential token and held here. Who leads, and with how much, is encrypted as well and becomes
///         public only when the auction is over. The others' bids stay secret for ever and go back to them.
contract SealedBidAuction is ZamaEthereumConfig {
    /// @notice Bidding is over.
    error Ended();

    /// @notice Bidding is not over yet.
    error NotEnded();

    /// @notice Only those who have bid, and each once.
    error NothingToWithdraw();

    /// @notice The beneficiary was paid already.
    error AlreadyCollected();

    /// @notice `reveal` was not called yet.
    error NotRevealed();

    /// @notice Someone has bid, or has raised a bid.
    /// @param bidder Who.
    /// @param total The handle of all that the bidder has paid; the bidder may decrypt it.
    event Bid(address indexed bidder, euint64 total);

    /// @notice Someone who has bid has got back what is due.
    /// @param bidder Who.
    /// @param refund The handle of how much; zero for the winner.
    event Withdrawn(address indexed bidder, euint64 refund);

    /// @notice Anyone may now have winner and price decrypted.
    /// @param winner The handle of the winner's address.
    /// @param price The handle of the winning bid.
    event Revealed(eaddress winner, euint64 price);

    /// @notice The KMS has decrypted the result, and the contract has checked it.
    /// @param winner Who has won.
    /// @param price For how much.
    event Settled(address indexed winner, uint64 price);

    /// @notice What bids are paid in.
    IConfidentialToken public immutable token;

    /// @notice Who gets the winning bid.
    address public immutable beneficiary;

    /// @notice When bidding ends, in seconds since 1970.
    uint256 public immutable endsAt;

    /// @notice Who has won, once that is verified.
    address public winner;

    /// @notice The winning bid, once that is verified.
    uint64 public price;

    /// @notice Whether winner and price are verified.
    bool public settled;

    /// @notice Whether the beneficiary was paid.
    bool public collected;

    mapping(address bidder => euint64) private _bids;
    euint64 private _highestBid;
    eaddress private _highestBidder;
    bool private _revealed;

    /// @notice Starts the auction.
    /// @param token_ What bids are paid in.
    /// @param beneficiary_ Who gets the winning bid.
    /// @param durationSeconds How long bidding goes on.
    constructor(IConfidentialToken token_, address beneficiary_, uint256 durationSeconds) {
        token = token_;
        beneficiary = beneficiary_;
        endsAt = block.timestamp + durationSeconds;
        _highestBid = FHE.allowThis(FHE.asEuint64(0));
        _highestBidder = FHE.allowThis(FHE.asEaddress(address(0)));
    }

    /// @notice Bids, or raises a bid by an amount. The bidder has approved this contract at the token.
    /// @dev A bid that the bidder cannot pay counts as zero: the token moves nothing then, and does not revert. Sums cannot overflow: all
    ///      that was bid is held here, and the token's total supply fits.
    /// @param amount How much, encrypted by the bidder for this contract.
    /// @param inputProof The proof that comes with the encryption.
    function bid(externalEuint64 amount, bytes calldata inputProof) external {
        if (block.timestamp >= endsAt) revert Ended();
        euint64 paid = _pull(msg.sender, FHE.fromExternal(amount, inputProof));
        euint64 total = FHE.add(_bids[msg.sender], paid);
        _bids[msg.sender] = FHE.allowThis(total);
        FHE.allow(total, msg.sender);

        // Of equal bids the earlier one wins.
        ebool higher = FHE.gt(total, _highestBid);
        _highestBid = FHE.allowThis(FHE.select(higher, total, _highestBid));
        _highestBidder = FHE.allowThis(FHE.select(higher, FHE.asEaddress(msg.sender), _highestBidder));
        emit Bid(msg.sender, total);
    }

    /// @notice Gives a bidder back what is due: everything, or nothing if the bidder has won. Nobody learns which.
    function withdraw() external {
        if (block.timestamp < endsAt) revert NotEnded();
        euint64 paid = _bids[msg.sender];
        if (!FHE.isInitialized(paid)) revert NothingToWithdraw();
        _bids[msg.sender] = euint64.wrap(0);
        ebool won = FHE.eq(_highestBidder, msg.sender);
        euint64 refund = FHE.allowThis(FHE.select(won, FHE.asEuint64(0), paid));
        FHE.allow(refund, msg.sender);
        _push(msg.sender, refund);
        emit Withdrawn(msg.sender, refund);
    }

    /// @notice Pays the beneficiary the winning bid. Anyone may call it, once.
    function collect() external {
        if (block.timestamp < endsAt) revert NotEnded();
        if (collected) revert AlreadyCollected();
        collected = true;
        _push(beneficiary, _highestBid);
    }

    /// @notice Lets anyone have winner and price decrypted. Anyone may call it.
    function reveal() public {
        if (block.timestamp < endsAt) revert NotEnded();
        _revealed = true;
        FHE.makePubliclyDecryptable(_highestBidder);
        FHE.makePubliclyDecryptable(_highestBid);
        emit Revealed(_highestBidder, _highestBid);
    }

    /// @notice Stores the result in the clear, as the KMS has decrypted it. Anyone may call it.
    /// @param winner_ Who has won.
    /// @param price_ For how much.
    /// @param decryptionProof The KMS's signatures, as the gateway returns them with the plaintexts.
    function settle(address winner_, uint64 price_, bytes calldata decryptionProof) external {
        if (!_revealed) revert NotRevealed();
        FHE.checkSignatures(_resultHandles(), abi.encode(winner_, price_), decryptionProof);
        _settle(winner_, price_);
    }

    /// @notice Returns the handle of a bid; only the bidder may decrypt it.
    /// @param bidder Whose bid.
    /// @return The handle, zero if there is none or it was withdrawn.
    function bidOf(address bidder) external view returns (euint64) {
        return _bids[bidder];
    }

    /// @notice Returns the handles of the winner and the winning bid. Nobody may decrypt them before `reveal`.
    /// @return The winner's address.
    /// @return The winning bid.
    function result() external view returns (eaddress, euint64) {
        return (_highestBidder, _highestBid);
    }

    /// @dev The handles of the result, in the order in which it is decrypted.
    function _resultHandles() internal view returns (bytes32[] memory handles) {
        handles = new bytes32[](2);
        handles[0] = FHE.toBytes32(_highestBidder);
        handles[1] = FHE.toBytes32(_highestBid);
    }

    /// @dev Stores the result; whoever calls this has made sure that it is the right one.
    function _settle(address winner_, uint64 price_) internal {
        settled = true;
        winner = winner_;
        price = price_;
        emit Settled(winner_, price_);
    }

    /// @dev Takes tokens, and returns how many have really moved.
    function _pull(address from, euint64 amount) private returns (euint64) {
        FHE.allowTransient(amount, address(token));
        return token.transferFrom(from, address(this), externalEuint64.wrap(FHE.toBytes32(amount)), "");
    }

    function _push(address to, euint64 amount) private {
        FHE.allowTransient(amount, address(token));
        token.transfer(to, externalEuint64.wrap(FHE.toBytes32(amount)), "");
    }
}
