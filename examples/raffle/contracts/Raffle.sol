// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FHE, euint32} from "@cipherloom/solidity/lib/FHE.sol";
import {GatewayCaller} from "@cipherloom/solidity/lib/GatewayCaller.sol";
import {ZamaEthereumConfig} from "@cipherloom/solidity/config/ZamaConfig.sol";

/// @title A raffle whose winner nobody knows before it is drawn
/// @notice People join a round; anyone closes it. The number that decides is drawn encrypted in the transaction that closes the round, so
///         that nobody can join, or refuse to close, knowing it. It becomes public only then, and comes back as a call.
contract Raffle is ZamaEthereumConfig, GatewayCaller {
    /// @dev A round and what is known about it.
    struct Round {
        address[] players;
        euint32 ticket;
        uint256 request;
        uint256 answerableUntil;
        address winner;
    }

    /// @notice Nobody has joined this round.
    error NoPlayers();

    /// @notice The round was not closed, or has its winner.
    /// @param round Its number.
    error NotWaiting(uint256 round);

    /// @notice The answer to an earlier question may still come.
    /// @param round The round.
    error StillAnswerable(uint256 round);

    /// @notice This is no answer to a question that was asked.
    /// @param requestID What it answers.
    error UnexpectedAnswer(uint256 requestID);

    /// @notice Someone has joined.
    /// @param round Which round.
    /// @param player Who.
    event Joined(uint256 indexed round, address indexed player);

    /// @notice A round was closed, or its number asked for once more.
    /// @param round Which.
    /// @param requestID The number of the request.
    event Drawing(uint256 indexed round, uint256 indexed requestID);

    /// @notice A round has its winner.
    /// @param round Which.
    /// @param winner Who.
    event Won(uint256 indexed round, address indexed winner);

    /// @notice How long an answer is waited for, in seconds.
    uint256 public constant PATIENCE = 1 hours;

    /// @notice The round that can be joined.
    uint256 public currentRound;

    /// @notice How many rounds have a winner.
    uint256 public finishedRounds;

    mapping(uint256 round => Round) private _rounds;
    mapping(uint256 requestID => uint256 roundPlusOne) private _asked;

    /// @notice Starts with an empty first round.
    /// @param gateway The gateway contract of the chain.
    constructor(address gateway) GatewayCaller(gateway) {}

    /// @notice Joins the current round. Joining twice doubles the chance.
    function join() external {
        _rounds[currentRound].players.push(msg.sender);
        emit Joined(currentRound, msg.sender);
    }

    /// @notice Closes the current round and begins the next. Anyone may.
    /// @return round The number of the closed round.
    function draw() external returns (uint256 round) {
        round = currentRound++;
        Round storage closed = _rounds[round];
        uint256 count = closed.players.length;
        if (count == 0) revert NoPlayers();
        // Every player has the same chance, up to a part in 2^32 for each player.
        euint32 ticket = FHE.rem(FHE.randEuint32(), uint32(count));
        closed.ticket = FHE.makePubliclyDecryptable(FHE.allowThis(ticket));
        _ask(round, closed);
    }

    /// @notice Asks again for the number of a round, if no answer has come in time. It is the same number.
    /// @param round The round.
    function drawAgain(uint256 round) external {
        Round storage closed = _rounds[round];
        if (round >= currentRound || closed.winner != address(0)) revert NotWaiting(round);
        if (block.timestamp <= closed.answerableUntil) revert StillAnswerable(round);
        _ask(round, closed);
    }

    /// @notice Takes the number of a round. Only the gateway contract calls it, which has checked the KMS's signatures over it.
    /// @param requestID The number of the request.
    /// @param ticket Whose turn it is.
    function receiveTicket(uint256 requestID, uint32 ticket) external onlyGateway {
        uint256 round = _asked[requestID];
        if (round == 0) revert UnexpectedAnswer(requestID);
        delete _asked[requestID];
        round--;
        Round storage closed = _rounds[round];
        closed.winner = closed.players[ticket];
        finishedRounds++;
        emit Won(round, closed.winner);
    }

    /// @notice Returns the winner of a round.
    /// @param round The round.
    /// @return Who, or zero while that is not known.
    function winnerOf(uint256 round) external view returns (address) {
        return _rounds[round].winner;
    }

    /// @notice Returns how many have joined a round.
    /// @param round The round.
    /// @return How many.
    function playersOf(uint256 round) external view returns (uint256) {
        return _rounds[round].players.length;
    }

    function _ask(uint256 round, Round storage closed) private {
        bytes32[] memory handles = new bytes32[](1);
        handles[0] = FHE.toBytes32(closed.ticket);
        // An answer to an earlier request of the round cannot come any more: its time is over. Before the first there is none to forget, and
        // request 0 may be another round's.
        if (closed.answerableUntil != 0) delete _asked[closed.request];
        closed.answerableUntil = block.timestamp + PATIENCE;
        closed.request = _requestDecryption(handles, this.receiveTicket.selector, closed.answerableUntil);
        _asked[closed.request] = round + 1;
        emit Drawing(round, closed.request);
    }
}
