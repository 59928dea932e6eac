// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Decryptions that come back to the contract as a call
/// @notice A contract asks for public decryption of handles and names the function to call with the values. A relayer delivers
///         them, signed by the KMS. The shapes are those of the 0.6 generation's gateway, on handles of 32 bytes.
interface IGatewayContract {
    /// @notice A contract asks for values.
    /// @param requestID The request's number; they count up from 0.
    /// @param cts The handles.
    /// @param contractCaller Who asked, and is called back.
    /// @param callbackSelector The function that is called.
    /// @param msgValue The wei that is sent with the call.
    /// @param maxTimestamp The last second in which the request can be fulfilled, since the Unix epoch.
    /// @param passSignaturesToCaller Whether the called contract checks the KMS's signatures by itself.
    event EventDecryption(
        uint256 indexed requestID,
        bytes32[] cts,
        address contractCaller,
        bytes4 callbackSelector,
        uint256 msgValue,
        uint256 maxTimestamp,
        bool passSignaturesToCaller
    );

    /// @notice The values were delivered. A request gets this event once.
    /// @param requestID The request's number.
    /// @param success Whether the called function returned.
    /// @param result What it returned or reverted with, at most the first 1024 bytes.
    event ResultCallback(uint256 indexed requestID, bool success, bytes result);

    /// @notice An account may deliver values from now on.
    /// @param relayer The account.
    event AddedRelayer(address indexed relayer);

    /// @notice An account may no longer deliver values.
    /// @param relayer The account.
    event RemovedRelayer(address indexed relayer);

    /// @notice The account delivers values already.
    error AlreadyRelayer(address relayer);

    /// @notice The account does not deliver values.
    error NotRelayer(address account);

    /// @notice The zero address cannot be a relayer.
    error InvalidNullRelayer();

    /// @notice The request asks for nothing, or for more values than a decryption has.
    error InvalidNumberOfHandles(uint256 count);

    /// @notice The handle is not allowed for public decryption, so that nobody will decrypt it.
    error HandleNotAllowedForDecryption(bytes32 handle);

    /// @notice The time limit lies in the past or is the present.
    error MaxTimestampNotInFuture(uint256 maxTimestamp);

    /// @notice The time limit lies too far in the future.
    error MaxTimestampTooLate(uint256 maxTimestamp, uint256 latest);

    /// @notice There is no such request.
    error UnknownRequest(uint256 requestID);

    /// @notice The values were delivered before.
    error RequestAlreadyFulfilled(uint256 requestID);

    /// @notice The time limit has passed.
    error RequestExpired(uint256 requestID);

    /// @notice The wei sent are not those that the request asks for.
    error InvalidMsgValue(uint256 expected, uint256 sent);

    /// @notice There are not as many words as handles.
    error InvalidDecryptedLength(uint256 expected, uint256 found);

    /// @notice A signature does not have 65 bytes, or there are more than 255.
    error InvalidSignatures();

    /// @notice Too few different KMS nodes signed these values.
    error KMSVerificationFailed();

    /// @notice The callback reverted, and the relayer does not take the wei back.
    error RefundFailed();

    /// @notice Asks for the values of handles that are allowed for public decryption.
    /// @param ctsHandles The handles, 1 to 64.
    /// @param callbackSelector The caller's function that is called with the request's number and the values, one word each.
    /// @param msgValue The wei that are sent with that call.
    /// @param maxTimestamp The last second in which the request can be fulfilled: in the future, and within a day.
    /// @param passSignaturesToCaller Whether to leave the check of the KMS's signatures to the caller, who gets them as a last argument
    ///        of type `bytes[]`.
    /// @return requestID The request's number.
    function requestDecryption(
        bytes32[] calldata ctsHandles,
        bytes4 callbackSelector,
        uint256 msgValue,
        uint256 maxTimestamp,
        bool passSignaturesToCaller
    ) external returns (uint256 requestID);

    /// @notice Delivers values. Relayers only. A call that reverts counts as delivered: there is no second attempt.
    /// @param requestID The request's number.
    /// @param decryptedCts The values, one word each, in the order of the handles.
    /// @param signatures The KMS nodes' signatures over handles and values, for the current context.
    function fulfillRequest(uint256 requestID, bytes calldata decryptedCts, bytes[] calldata signatures) external payable;

    /// @notice Lets an account deliver values. ACL owner only.
    /// @param relayer The account.
    function addRelayer(address relayer) external;

    /// @notice Takes that right away. ACL owner only.
    /// @param relayer The account.
    function removeRelayer(address relayer) external;

    /// @notice Returns whether an account may deliver values.
    /// @param account The account.
    /// @return Whether it may.
    function isRelayer(address account) external view returns (bool);

    /// @notice Returns whether nothing will come of a request any more.
    /// @param requestID The request's number.
    /// @return Whether it was fulfilled or its time limit has passed.
    function isExpiredOrFulfilled(uint256 requestID) external view returns (bool);

    /// @notice Returns the handles of a request, empty once it was fulfilled.
    /// @param requestID The request's number.
    /// @return The handles.
    function getRequestedHandles(uint256 requestID) external view returns (bytes32[] memory);

    /// @notice Returns the number of the next request, which is how many there were.
    /// @return The number.
    function getCounter() external view returns (uint256);

    /// @notice Returns the name and version of the contract.
    /// @return The name and version.
    function getVersion() external pure returns (string memory);
}
