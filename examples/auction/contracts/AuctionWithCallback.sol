// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {GatewayCaller} from "@cipherloom/solidity/lib/GatewayCaller.sol";
import {IConfidentialToken} from "./IConfidentialToken.sol";
import {SealedBidAuction} from "./SealedBidAuction.sol";

/// @title The same auction, with the result coming as a call
/// @notice Nobody has to fetch the decrypted result and bring it: the contract asks for it, and the gateway contract calls back.
///         `settle` still works, should nobody deliver.
contract AuctionWithCallback is SealedBidAuction, GatewayCaller {
    /// @notice The answer to an earlier question may still come, or has come.
    error AlreadyAsked();

    /// @notice This is no answer to the question that was asked last.
    /// @param requestID What it answers.
    error UnexpectedAnswer(uint256 requestID);

    /// @notice The result was asked for.
    /// @param requestID The number of the request.
    event ResultRequested(uint256 indexed requestID);

    /// @notice How long an answer is waited for, in seconds.
    uint256 public constant PATIENCE = 1 hours;

    /// @notice The number of the request that was made last.
    uint256 public request;

    /// @notice The last second in which its answer can come; zero before the first request.
    uint256 public answerableUntil;

    /// @notice Starts the auction.
    /// @param token_ What bids are paid in.
    /// @param beneficiary_ Who gets the winning bid.
    /// @param durationSeconds How long bidding goes on.
    /// @param gateway The gateway contract of the chain.
    constructor(IConfidentialToken token_, address beneficiary_, uint256 durationSeconds, address gateway)
        SealedBidAuction(token_, beneficiary_, durationSeconds)
        GatewayCaller(gateway)
    {}

    /// @notice Asks for the result. Anyone may call it once the auction is over, and again if no answer has come in time.
    function requestResult() external {
        if (block.timestamp <= answerableUntil || settled) revert AlreadyAsked();
        reveal();
        answerableUntil = block.timestamp + PATIENCE;
        request = _requestDecryption(_resultHandles(), this.receiveResult.selector, answerableUntil);
        emit ResultRequested(request);
    }

    /// @notice Takes the result. Only the gateway contract calls it, which has checked the KMS's signatures over it.
    /// @param requestID The number of the request.
    /// @param winner_ Who has won.
    /// @param price_ For how much.
    function receiveResult(uint256 requestID, address winner_, uint64 price_) external onlyGateway {
        // The gateway contract answers whoever has asked: were this contract to ask for more than one thing, the number would tell which.
        if (requestID != request || answerableUntil == 0) revert UnexpectedAnswer(requestID);
        _settle(winner_, price_);
    }
}
