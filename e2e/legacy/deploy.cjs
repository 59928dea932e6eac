// Deploys the published contracts of the 0.6 generation where the stack waits for them.
//
// Their artifacts on npm were compiled for one deployment, with each other's addresses in them as constants; whoever had another deployment compiled
// them again. Here the constants are replaced in the bytecode instead, which gives the same code: an address is 20 bytes wherever it stands.

"use strict";
const assert = require("node:assert/strict");
const { ContractFactory, Interface, getCreateAddress } = require("ethers");

// The addresses that the artifacts were compiled with.
const COMPILED = {
  ACL: "0xFee8407e2f5e3Ee68ad77cAE98c434e637f516e5",
  TFHEExecutor: "0x687408aB54661ba0b4aeF3a44156c616c6955E07",
  KMSVerifier: "0x9D6891A6240D6130c54ae243d8005063D05fE14b",
  InputVerifier: "0x3a2DA6f1daE9eF988B48d9CF27523FA31a8eBE50",
  FHEPayment: "0xFb03BE574d14C256D56F09a198B586bdfc0A9de2",
  coprocessor: "0xc9990FEfE0c27D31D0C2aa36196b085c0c4d456c",
};

// In the order of deployment: an implementation and its proxy take two transactions each.
const CONTRACTS = [
  ["ACL", "ACL.sol/ACL"],
  ["TFHEExecutor", "TFHEExecutorWithEvents.sol/TFHEExecutorWithEvents"],
  ["KMSVerifier", "KMSVerifier.sol/KMSVerifier"],
  ["InputVerifier", "InputVerifier.coprocessor.sol/InputVerifier"],
  ["FHEPayment", "FHEPayment.sol/FHEPayment"],
];

/** Replaces the addresses an artifact was compiled with by those of this deployment. */
function relocated(bytecode, site) {
  const addresses = { ...site.contracts, coprocessor: site.coprocessorSigner };
  return Object.entries(COMPILED).reduce((code, [name, address]) => {
    const hex = (text) => text.slice(2).toLowerCase();
    return code.replaceAll(hex(address), hex(addresses[name]));
  }, bytecode.toLowerCase());
}

/** Deploys everything with the deployer's first ten transactions and registers the KMS's signer. */
async function deploy(deployer, site) {
  assert.equal(deployer.address, site.deployer);
  const proxyArtifact = require("@openzeppelin/contracts/build/contracts/ERC1967Proxy.json");
  const contracts = {};
  let nonce = 0;
  for (const [name, file] of CONTRACTS) {
    const artifact = require(`fhevm-core-contracts/artifacts/contracts/${file}.json`);
    const implementation = await new ContractFactory(artifact.abi, relocated(artifact.bytecode, site), deployer).deploy({ nonce });
    await implementation.waitForDeployment();
    const initialize = new Interface(artifact.abi).encodeFunctionData("initialize", [deployer.address]);
    const factory = new ContractFactory(proxyArtifact.abi, proxyArtifact.bytecode, deployer);
    const proxy = await factory.deploy(await implementation.getAddress(), initialize, { nonce: nonce + 1 });
    await proxy.waitForDeployment();
    assert.equal(await proxy.getAddress(), getCreateAddress({ from: deployer.address, nonce: nonce + 1 }));
    assert.equal(await proxy.getAddress(), site.contracts[name], `${name} is where the stack looks for it`);
    contracts[name] = implementation.attach(site.contracts[name]);
    nonce += 2;
  }
  await (await contracts.KMSVerifier.addSigner(site.kmsSigner, { nonce })).wait();
  assert.equal(await contracts.InputVerifier.getCoprocessorAddress(), site.coprocessorSigner);
  return contracts;
}

module.exports = { deploy };
