// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Vault} from "../contracts/Vault.sol";

/// The part of forge's cheat codes that a deployment needs.
interface Vm {
    function startBroadcast(uint256 privateKey) external;
    function stopBroadcast() external;
    function addr(uint256 privateKey) external pure returns (address);
    function envUint(string calldata name) external view returns (uint256);
}

/// Deploys a vault, uses it, and deploys a second one at an address known in advance.
contract Deploy {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    event Deployed(address vault);

    function run() external {
        uint256 key = vm.envUint("DEPLOYER_KEY");
        vm.startBroadcast(key);
        Vault vault = new Vault{value: 1000}(2_000_000_000);
        vault.deposit{value: 11}();
        vault.deposit{value: 12}();
        new Vault{salt: keccak256("known in advance")}(1);
        vm.stopBroadcast();
        require(vault.deposits(vm.addr(key)) == 23, "the simulation knows the deposits");
        emit Deployed(address(vault));
    }
}
