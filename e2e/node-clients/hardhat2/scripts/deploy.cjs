// A deployment script as projects have them: `hardhat run --network embedded scripts/deploy.cjs`.

const { ethers } = require("hardhat");

async function main() {
  const [deployer] = await ethers.getSigners();
  const vault = await ethers.deployContract("Vault", [2_000_000_000n], { value: ethers.parseEther("1") });
  await vault.waitForDeployment();
  const receipt = await vault.deploymentTransaction().wait();
  const code = await ethers.provider.getCode(vault.target);
  if (receipt.status !== 1 || code === "0x" || (await vault.owner()) !== deployer.address) {
    throw new Error("the deployed contract is not what was deployed");
  }
  console.log(`deployed ${vault.target} with ${receipt.gasUsed} gas`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
