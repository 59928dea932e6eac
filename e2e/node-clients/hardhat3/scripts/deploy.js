// A deployment script as projects have them: `hardhat run --network embedded scripts/deploy.js`.

import { network } from "hardhat";

const { ethers } = await network.create();
const [deployer] = await ethers.getSigners();
const vault = await ethers.deployContract("Vault", [2_000_000_000n], { value: 1000n });
const receipt = await vault.deploymentTransaction().wait();
if (receipt.status !== 1 || (await vault.owner()) !== deployer.address) {
  throw new Error("the deployed contract is not what was deployed");
}
console.log(`deployed ${vault.target} with ${receipt.gasUsed} gas`);
