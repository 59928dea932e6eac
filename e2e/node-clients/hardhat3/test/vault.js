// `hardhat test mocha --network embedded`: the matchers and the network helpers on a chain that is not Hardhat's own.

import { expect } from "chai";
import { network } from "hardhat";

const { ethers, networkHelpers: helpers } = await network.create();
const { time } = helpers;
const DAY = 24 * 60 * 60;

describe("Vault", function () {
  async function deployed() {
    const [owner, other] = await ethers.getSigners();
    const opensAt = (await time.latest()) + DAY;
    const vault = await ethers.deployContract("Vault", [opensAt], { value: 1000n });
    return { vault, opensAt, owner, other };
  }

  it("starts from what a fixture made, and again", async function () {
    const { vault, other } = await helpers.loadFixture(deployed);
    await vault.connect(other).deposit({ value: 7n });
    expect(await vault.total()).to.equal(7n);
    const again = await helpers.loadFixture(deployed);
    expect(await again.vault.total()).to.equal(0n);
  });

  it("shows events and every kind of revert", async function () {
    const { vault, opensAt, owner, other } = await helpers.loadFixture(deployed);
    await expect(vault.connect(other).deposit({ value: 3n })).to.emit(vault, "Deposit").withArgs(other.address, 3n, 3n);
    await expect(vault.connect(other).withdraw()).to.be.revertedWithCustomError(vault, "OnlyOwner").withArgs(other.address);
    await expect(vault.withdraw()).to.be.revertedWithCustomError(vault, "TooEarly");
    await expect(vault.complain()).to.be.revertedWith("out of order");
    await expect(vault.divide(0)).to.be.revertedWithPanic(0x12);
    await expect(vault.withdraw({ gasLimit: 100_000 })).to.be.revert(ethers);
    await time.increaseTo(opensAt);
    await expect(vault.withdraw()).to.changeEtherBalances(ethers, [owner, vault], [1003n, -1003n]);
  });

  it("lives in a time that its helpers move", async function () {
    await helpers.loadFixture(deployed);
    const before = await time.latest();
    expect(await time.increase(60)).to.equal(before + 60);
    await time.increaseTo(before + 1000);
    await time.setNextBlockTimestamp(before + 2000);
    const block = await time.latestBlock();
    await helpers.mine();
    expect(await time.latest()).to.equal(before + 2000);
    await helpers.mine(10, { interval: 12 });
    await helpers.mineUpTo(block + 100);
    expect(await time.latestBlock()).to.equal(block + 100);
  });

  it("has the state and the blocks that its helpers set", async function () {
    const { vault, owner } = await helpers.loadFixture(deployed);
    const [address, somebody] = [await vault.getAddress(), ethers.Wallet.createRandom().address];
    const snapshot = await helpers.takeSnapshot();
    await helpers.setBalance(address, 10n ** 18n);
    await helpers.setNonce(somebody, 5);
    await helpers.setStorageAt(address, 0, 99);
    await helpers.setCode(somebody, await ethers.provider.getCode(address));
    expect(BigInt(await helpers.getStorageAt(address, 0))).to.equal(99n);
    await helpers.impersonateAccount(address);
    await expect(vault.connect(await ethers.getSigner(address)).deposit({ value: 5n })).to.emit(vault, "Deposit");
    await helpers.stopImpersonatingAccount(address);
    await helpers.setCoinbase(somebody);
    await helpers.setBlockGasLimit(25_000_000);
    await helpers.setPrevRandao(12345);
    await helpers.setNextBlockBaseFeePerGas(3_000_000_000);
    await owner.sendTransaction({ to: somebody, value: 0n, data: "0xd0e30db0" });
    const seen = await vault.surroundings();
    expect([seen.coinbase, seen.prevrandao, seen.gasLimit]).to.deep.equal([somebody, 12345n, 25_000_000n]);
    await snapshot.restore();
    expect(await vault.total()).to.equal(0n);
  });
});
