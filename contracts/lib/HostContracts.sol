// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @notice Where the host contracts are that a contract works with.
/// @param ACLAddress Who may use which encrypted value.
/// @param CoprocessorAddress The executor, which takes the operations.
/// @param KMSVerifierAddress Checks decrypted values.
struct CoprocessorConfig {
    address ACLAddress;
    address CoprocessorAddress;
    address KMSVerifierAddress;
}

/// @title The access control list, as far as the library uses it
interface IACL {
    /// @notice Lets an account use a handle for ever.
    function allow(bytes32 handle, address account) external;

    /// @notice Lets an account use a handle until the end of the transaction.
    function allowTransient(bytes32 handle, address account) external;

    /// @notice Lets anyone decrypt the handles.
    function allowForDecryption(bytes32[] memory handlesList) external;

    /// @notice Forgets all transient allowances of this transaction.
    function cleanTransientStorage() external;

    /// @notice Lets a delegate decrypt the caller's values of one contract until a time.
    function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate) external;

    /// @notice Ends a delegation of the caller.
    function revokeDelegationForUserDecryption(address delegate, address contractAddress) external;

    /// @notice Makes several calls of this contract in one.
    function multicall(bytes[] calldata data) external payable returns (bytes[] memory results);

    /// @notice Returns whether an account may use a handle now.
    function isAllowed(bytes32 handle, address account) external view returns (bool);

    /// @notice Returns whether an account may use a handle for ever.
    function persistAllowed(bytes32 handle, address account) external view returns (bool);

    /// @notice Returns whether anyone may decrypt a handle.
    function isAllowedForDecryption(bytes32 handle) external view returns (bool);

    /// @notice Returns whether an account is on the deny list.
    function isAccountDenied(address account) external view returns (bool);

    /// @notice Returns when a delegation ends, in Unix seconds; 0 without a delegation.
    function getUserDecryptionDelegationExpirationDate(address delegator, address delegate, address contractAddress)
        external
        view
        returns (uint64);

    /// @notice Returns whether a delegate may decrypt a value of a delegator now.
    function isHandleDelegatedForUserDecryption(
        address delegator,
        address delegate,
        address contractAddress,
        bytes32 handle
    ) external view returns (bool);
}

/// @title The check of encrypted inputs, as far as the library uses it
interface IInputVerifier {
    /// @notice Forgets which proofs were checked in this transaction.
    function cleanTransientStorage() external;
}

/// @title The check of decrypted values, as far as the library uses it
interface IKMSVerifier {
    /// @notice Checks that the KMS signed these plaintexts for these handles.
    function verifyDecryptionEIP712KMSSignatures(
        bytes32[] memory handlesList,
        bytes memory decryptedResult,
        bytes memory decryptionProof
    ) external returns (bool);

    /// @notice Returns which signers, and how many of them, must sign a message with these extra data.
    function getContextSignersAndThresholdFromExtraData(bytes memory extraData)
        external
        view
        returns (address[] memory signers, uint256 threshold);

    /// @notice Returns the EIP-712 domain under which the KMS signs (ERC-5267).
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}
