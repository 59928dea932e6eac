// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title A vault that opens at a set time: events, errors, time, value and storage for tools to work with.
contract Vault {
    /// @notice The vault opens later.
    error TooEarly(uint256 opensAt, uint256 timestamp);
    /// @notice Only the owner may do this.
    error OnlyOwner(address caller);

    /// @notice Somebody has put ether in.
    event Deposit(address indexed from, uint256 amount, uint256 total);
    /// @notice The owner has taken everything out.
    event Withdrawal(uint256 amount);

    /// @notice Slot 0: what was put in, all told.
    uint256 public total;
    /// @notice Slot 1: what each account has put in.
    mapping(address => uint256) public deposits;
    address public immutable owner;
    uint256 public immutable opensAt;

    constructor(uint256 opensAt_) payable {
        owner = msg.sender;
        opensAt = opensAt_;
    }

    /// @notice Puts the value of the call in.
    function deposit() external payable {
        total += msg.value;
        deposits[msg.sender] += msg.value;
        emit Deposit(msg.sender, msg.value, total);
    }

    /// @notice Gives everything to the owner, once the time has come.
    function withdraw() external {
        if (msg.sender != owner) revert OnlyOwner(msg.sender);
        if (block.timestamp < opensAt) revert TooEarly(opensAt, block.timestamp);
        uint256 amount = address(this).balance;
        emit Withdrawal(amount);
        (bool sent, ) = owner.call{value: amount}("");
        require(sent, "the owner does not take it");
    }

    /// @notice Fails for a reason in words.
    function complain() external pure {
        revert("out of order");
    }

    /// @notice Fails with a panic if `divisor` is zero.
    function divide(uint256 divisor) external pure returns (uint256) {
        return 100 / divisor;
    }

    /// @notice Returns what blocks are made with.
    function surroundings() external view returns (uint256 number, uint256 timestamp, address coinbase, uint256 prevrandao, uint256 gasLimit) {
        return (block.number, block.timestamp, block.coinbase, block.prevrandao, block.gaslimit);
    }
}
