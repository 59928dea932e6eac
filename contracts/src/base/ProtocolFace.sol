// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The version of the protocol a contract says it is
/// @notice Client libraries choose wire formats and code paths by `getVersion()`. What a contract can do is the same under
///         every face, so a deployment chooses the face for the clients it serves, and an upgrade can change it.
abstract contract ProtocolFace {
    /// @dev The first version with KMS contexts: extra data of version 1.
    uint8 private constant FACE_0_12 = 12;

    /// @dev The first version whose epochs and unified permits clients use: extra data of version 2.
    uint8 private constant FACE_0_14 = 14;

    /// @dev The minor number of the protocol version.
    uint8 private immutable FACE;

    /// @notice There is no such face.
    /// @param face The minor number of a protocol version.
    error UnknownProtocolFace(uint8 face);

    /// @param face The minor number of the protocol version: 12 or 14.
    constructor(uint8 face) {
        if (face != FACE_0_12 && face != FACE_0_14) revert UnknownProtocolFace(face);
        FACE = face;
    }

    /// @dev Returns the one of two version strings that belongs to the face.
    function _versionOf(string memory protocol012, string memory protocol014) internal view returns (string memory) {
        return FACE == FACE_0_12 ? protocol012 : protocol014;
    }
}
