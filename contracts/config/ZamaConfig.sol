// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {FHE} from "../lib/FHE.sol";
import {CoprocessorConfig} from "../lib/HostContracts.sol";

/// @title Where the host contracts are on each chain
/// @notice The names are those of the published library, so that a contract moves over by changing its import. Chain
///         31337 is a local development chain; its addresses follow from the deployer's key and the order of deployment.
library ZamaConfig {
    /// @notice There are no host contracts on this chain.
    error ZamaProtocolUnsupported();

    uint256 private constant ETHEREUM = 1;
    uint256 private constant SEPOLIA = 11155111;
    uint256 private constant POLYGON_AMOY = 80002;
    uint256 private constant LOCAL = 31337;

    uint256 private constant MAINNET_PROTOCOL_ID = 1;
    uint256 private constant TESTNET_PROTOCOL_ID = 10001;

    /// @notice Returns the host contracts of this chain; reverts if there are none.
    function getCoprocessorConfig() internal view returns (CoprocessorConfig memory) {
        return block.chainid == POLYGON_AMOY ? getPolygonCoprocessorConfig() : getEthereumCoprocessorConfig();
    }

    /// @notice Returns the host contracts of Ethereum, its test network or the local chain; reverts on other chains.
    function getEthereumCoprocessorConfig() internal view returns (CoprocessorConfig memory) {
        if (block.chainid == ETHEREUM) {
            return CoprocessorConfig({
                ACLAddress: 0xcA2E8f1F656CD25C01F05d0b243Ab1ecd4a8ffb6,
                CoprocessorAddress: 0xD82385dADa1ae3E969447f20A3164F6213100e75,
                KMSVerifierAddress: 0x77627828a55156b04Ac0DC0eb30467f1a552BB03
            });
        }
        if (block.chainid == SEPOLIA) {
            return CoprocessorConfig({
                ACLAddress: 0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D,
                CoprocessorAddress: 0x92C920834Ec8941d2C77D188936E1f7A6f49c127,
                KMSVerifierAddress: 0xbE0E383937d564D7FF0BC3b46c51f0bF8d5C311A
            });
        }
        if (block.chainid == LOCAL) return _local();
        revert ZamaProtocolUnsupported();
    }

    /// @notice Returns the host contracts of Polygon's test network or the local chain; reverts on other chains.
    function getPolygonCoprocessorConfig() internal view returns (CoprocessorConfig memory) {
        if (block.chainid == POLYGON_AMOY) {
            return CoprocessorConfig({
                ACLAddress: 0xD99Cb9Fc3c42c87f2A4A12e8Fd60318d6bDdf985,
                CoprocessorAddress: 0x89420269f61e4db00545cd99da0aEcA7fF0912f9,
                KMSVerifierAddress: 0xCD1D89E311bce4C8DEa9a0857a0c9A4E153D4041
            });
        }
        if (block.chainid == LOCAL) return _local();
        revert ZamaProtocolUnsupported();
    }

    /// @notice Returns which network of host contracts this chain belongs to: 1 for the main network, 10001 for test
    ///         networks, the largest integer for the local chain, 0 for a chain without host contracts.
    function getConfidentialProtocolId() internal view returns (uint256) {
        if (block.chainid == ETHEREUM) return MAINNET_PROTOCOL_ID;
        if (block.chainid == SEPOLIA || block.chainid == POLYGON_AMOY) return TESTNET_PROTOCOL_ID;
        if (block.chainid == LOCAL) return type(uint256).max;
        return 0;
    }

    function _local() private pure returns (CoprocessorConfig memory) {
        return CoprocessorConfig({
            ACLAddress: 0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D,
            CoprocessorAddress: 0xe3a9105a3a932253A70F126eb1E3b589C643dD24,
            KMSVerifierAddress: 0x901F8942346f7AB3a01F6D7613119Bca447Bb030
        });
    }
}

/// @title Configures a contract for Ethereum, its test network or the local chain
abstract contract ZamaEthereumConfig {
    constructor() {
        FHE.setCoprocessor(ZamaConfig.getEthereumCoprocessorConfig());
    }

    /// @notice Returns which network of host contracts the contract belongs to.
    function confidentialProtocolId() public view returns (uint256) {
        return ZamaConfig.getConfidentialProtocolId();
    }
}

/// @title Configures a contract for Polygon's test network or the local chain
abstract contract ZamaPolygonConfig {
    constructor() {
        FHE.setCoprocessor(ZamaConfig.getPolygonCoprocessorConfig());
    }

    /// @notice Returns which network of host contracts the contract belongs to.
    function confidentialProtocolId() public view returns (uint256) {
        return ZamaConfig.getConfidentialProtocolId();
    }
}

/// @title Configures a contract for whichever supported chain it is deployed on
abstract contract ZamaMultiChainConfig {
    constructor() {
        FHE.setCoprocessor(ZamaConfig.getCoprocessorConfig());
    }

    /// @notice Returns which network of host contracts the contract belongs to.
    function confidentialProtocolId() public view returns (uint256) {
        return ZamaConfig.getConfidentialProtocolId();
    }
}
