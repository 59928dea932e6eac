// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FHE, ebool, euint8, euint32, externalEuint8} from "@cipherloom/solidity/lib/FHE.sol";
import {ZamaEthereumConfig} from "@cipherloom/solidity/config/ZamaConfig.sol";

/// @title A vote whose ballots stay secret
/// @notice Everybody sees who has voted, nobody for what. Tallies are encrypted while the vote goes on, and become public with
///         proof when it is over.
contract SecretBallot is ZamaEthereumConfig {
    /// @notice Only the chair may do this.
    error OnlyChair();

    /// @notice A vote has from two to sixteen options.
    error WrongNumberOfOptions();

    /// @notice Only those with a weight vote.
    error MayNotVote();

    /// @notice Everybody votes once, and whoever has voted keeps the weight she has voted with.
    error AlreadyVoted();

    /// @notice The vote is over.
    error Ended();

    /// @notice The vote is not over yet.
    error NotEnded();

    /// @notice `close` was not called yet.
    error NotClosed();

    /// @notice Someone has been given a weight.
    /// @param voter Who.
    /// @param weight How much the vote counts.
    event Registered(address indexed voter, uint32 weight);

    /// @notice Someone has voted.
    /// @param voter Who.
    event Voted(address indexed voter);

    /// @notice Anyone may now have the tallies decrypted.
    /// @param tallies Their handles, in the order of the options.
    event Closed(bytes32[] tallies);

    /// @notice The KMS has decrypted the tallies, and the contract has checked them.
    /// @param counts The tallies.
    event Published(uint256[] counts);

    /// @notice Who registers voters.
    address public immutable chair;

    /// @notice How many options there are.
    uint8 public immutable options;

    /// @notice When voting ends, in seconds since 1970.
    uint256 public immutable endsAt;

    /// @notice How much a vote counts; zero for those who may not vote.
    mapping(address voter => uint32) public weightOf;

    /// @notice Who has voted.
    mapping(address voter => bool) public hasVoted;

    /// @notice The sum of all weights. No tally is larger, so none can overflow.
    uint32 public totalWeight;

    euint32[] private _tallies;
    uint256[] private _counts;
    bool private _closed;

    /// @notice Starts a vote; the sender is its chair.
    /// @param options_ How many options there are, numbered from 0.
    /// @param durationSeconds How long the vote goes on.
    constructor(uint8 options_, uint256 durationSeconds) {
        if (options_ < 2 || options_ > 16) revert WrongNumberOfOptions();
        chair = msg.sender;
        options = options_;
        endsAt = block.timestamp + durationSeconds;
        euint32 zero = FHE.allowThis(FHE.asEuint32(0));
        for (uint256 option = 0; option < options_; option++) {
            _tallies.push(zero);
        }
    }

    /// @notice Gives someone the right to vote, or takes it away with a weight of zero; not after she has voted.
    /// @dev The sum of all weights is checked: encrypted tallies wrap, and nobody would see it.
    /// @param voter Who.
    /// @param weight How much the vote counts.
    function register(address voter, uint32 weight) external {
        if (msg.sender != chair) revert OnlyChair();
        if (block.timestamp >= endsAt) revert Ended();
        if (hasVoted[voter]) revert AlreadyVoted();
        totalWeight = totalWeight - weightOf[voter] + weight;
        weightOf[voter] = weight;
        emit Registered(voter, weight);
    }

    /// @notice Votes.
    /// @dev A number that is no option counts for none: an abstention that nobody can tell from a vote.
    /// @param choice The number of the option, encrypted by the voter for this contract.
    /// @param inputProof The proof that comes with the encryption.
    function vote(externalEuint8 choice, bytes calldata inputProof) external {
        if (block.timestamp >= endsAt) revert Ended();
        uint32 weight = weightOf[msg.sender];
        if (weight == 0) revert MayNotVote();
        if (hasVoted[msg.sender]) revert AlreadyVoted();
        hasVoted[msg.sender] = true;

        euint8 chosen = FHE.fromExternal(choice, inputProof);
        euint32 counts = FHE.asEuint32(weight);
        euint32 nothing = FHE.asEuint32(0);
        // Every tally changes its handle with every vote, whether its value changes or not.
        for (uint8 option = 0; option < options; option++) {
            ebool isThis = FHE.eq(chosen, option);
            euint32 added = FHE.select(isThis, counts, nothing);
            _tallies[option] = FHE.allowThis(FHE.add(_tallies[option], added));
        }
        emit Voted(msg.sender);
    }

    /// @notice Lets anyone have the tallies decrypted, once the vote is over. Anyone may call it.
    function close() external {
        if (block.timestamp < endsAt) revert NotEnded();
        _closed = true;
        for (uint256 option = 0; option < options; option++) {
            FHE.makePubliclyDecryptable(_tallies[option]);
        }
        emit Closed(tallies());
    }

    /// @notice Stores the tallies in the clear, as the KMS has decrypted them. Anyone may call it.
    /// @param counts The tallies, in the order of the options.
    /// @param decryptionProof The KMS's signatures, as the gateway returns them with the plaintexts.
    function publish(uint256[] calldata counts, bytes calldata decryptionProof) external {
        if (!_closed) revert NotClosed();
        if (counts.length != options) revert WrongNumberOfOptions();
        // The KMS signs the plaintexts one after the other, a word each; that is how this encodes the elements.
        FHE.checkSignatures(tallies(), abi.encodePacked(counts), decryptionProof);
        _counts = counts;
        emit Published(counts);
    }

    /// @notice Returns the handles of the tallies. Nobody may decrypt them before `close`.
    /// @return handles The handles, in the order of the options.
    function tallies() public view returns (bytes32[] memory handles) {
        handles = new bytes32[](options);
        for (uint256 option = 0; option < options; option++) {
            handles[option] = FHE.toBytes32(_tallies[option]);
        }
    }

    /// @notice Returns the verified tallies.
    /// @return The tallies, in the order of the options; empty before `publish`.
    function result() external view returns (uint256[] memory) {
        return _counts;
    }
}
