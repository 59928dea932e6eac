// `hardhat test --network embedded`: the matchers and every network helper on a chain that is not Hardhat's own.

const { anyValue } = require("@nomicfoundation/hardhat-chai-matchers/withArgs");
const helpers = require("@nomicfoundation/hardhat-network-helpers");
const { expect } = require("chai");
const { ethers, network } = require("hardhat");

const { loadFixture, time } = helpers;
const DAY = 24 * 60 * 60;

describe("Vault", function () {
  async function deployed() {
    const [owner, other] = await ethers.getSigners();
    const opensAt = (await time.latest()) + DAY;
    const vault = await ethers.deployContract("Vault", [opensAt], { value: 1000n });
    return { vault, opensAt, owner, other };
  }

  describe("fixtures", function () {
    it("start from what the fixture made", async function () {
      const { vault, other } = await loadFixture(deployed);
      await vault.connect(other).deposit({ value: 7n });
      expect(await vault.total()).to.equal(7n);
    });

    it("start from there again, at the same block", async function () {
      const { vault, opensAt, owner } = await loadFixture(deployed);
      expect(await vault.total()).to.equal(0n);
      expect(await vault.opensAt()).to.equal(opensAt);
      expect(await vault.owner()).to.equal(owner.address);
      expect(await ethers.provider.getBalance(vault)).to.equal(1000n);
    });
  });

  describe("matchers", function () {
    it("see events with their arguments", async function () {
      const { vault, other } = await loadFixture(deployed);
      await expect(vault.connect(other).deposit({ value: 3n }))
        .to.emit(vault, "Deposit")
        .withArgs(other.address, 3n, anyValue);
    });

    it("see every kind of revert", async function () {
      const { vault, opensAt, other } = await loadFixture(deployed);
      await expect(vault.connect(other).withdraw()).to.be.revertedWithCustomError(vault, "OnlyOwner").withArgs(other.address);
      await expect(vault.withdraw()).to.be.revertedWithCustomError(vault, "TooEarly").withArgs(opensAt, anyValue);
      await expect(vault.complain()).to.be.revertedWith("out of order");
      await expect(vault.divide(0)).to.be.revertedWithPanic(0x12);
      await expect(vault.connect(other).withdraw.staticCall()).to.be.reverted;
      await expect(vault.withdraw({ gasLimit: 100_000 })).to.be.reverted;
      await expect(vault.deposit()).not.to.be.reverted;
    });

    it("see changes of balances", async function () {
      const { vault, opensAt, owner } = await loadFixture(deployed);
      await time.increaseTo(opensAt);
      await expect(vault.withdraw()).to.changeEtherBalances([owner, vault], [1000n, -1000n]);
    });
  });

  describe("time", function () {
    it("is moved by its helpers", async function () {
      const { vault, opensAt, owner } = await loadFixture(deployed);
      const before = await time.latest();
      const block = await time.latestBlock();
      expect(await time.increase(60)).to.equal(before + 60);
      expect(await time.latestBlock()).to.equal(block + 1);
      await time.increaseTo(before + 1000);
      expect(await time.latest()).to.equal(before + 1000);
      await time.setNextBlockTimestamp(opensAt - 1);
      await expect(vault.withdraw()).to.be.reverted;
      await time.setNextBlockTimestamp(opensAt + 5);
      await expect(vault.withdraw()).to.emit(vault, "Withdrawal");
      expect((await ethers.provider.getBlock("latest")).timestamp).to.equal(opensAt + 5);
      expect(await vault.owner()).to.equal(owner.address);
    });

    it("passes with mined blocks", async function () {
      await loadFixture(deployed);
      const block = await time.latestBlock();
      await helpers.mine();
      await helpers.mine(10, { interval: 12 });
      expect(await time.latestBlock()).to.equal(block + 11);
      const [first, last] = [await ethers.provider.getBlock(block + 2), await ethers.provider.getBlock("latest")];
      expect(last.timestamp - first.timestamp).to.equal(9 * 12);
      await helpers.mineUpTo(block + 20_000);
      expect(await time.latestBlock()).to.equal(block + 20_000);
    });
  });

  describe("state", function () {
    it("is set by its helpers", async function () {
      const { vault, other } = await loadFixture(deployed);
      const somebody = ethers.Wallet.createRandom().address;
      await helpers.setBalance(somebody, 10n ** 18n);
      expect(await ethers.provider.getBalance(somebody)).to.equal(10n ** 18n);
      await helpers.setNonce(somebody, 5);
      expect(await ethers.provider.getTransactionCount(somebody)).to.equal(5);
      await helpers.setStorageAt(await vault.getAddress(), 0, 99);
      expect(await vault.total()).to.equal(99n);
      expect(BigInt(await helpers.getStorageAt(await vault.getAddress(), 0))).to.equal(99n);
      await helpers.setCode(somebody, await ethers.provider.getCode(vault));
      expect(await vault.attach(somebody).opensAt()).to.equal(await vault.opensAt());
      expect(other.address).not.to.equal(somebody);
    });

    it("is changed in the name of a contract", async function () {
      const { vault } = await loadFixture(deployed);
      const address = await vault.getAddress();
      await helpers.setBalance(address, 10n ** 18n);
      await helpers.impersonateAccount(address);
      const signer = await ethers.getSigner(address);
      await expect(vault.connect(signer).deposit({ value: 5n })).to.emit(vault, "Deposit").withArgs(address, 5n, 5n);
      await helpers.stopImpersonatingAccount(address);
      await expect(signer.sendTransaction({ to: address })).to.be.rejected;
    });

    it("goes back to snapshots", async function () {
      const { vault } = await loadFixture(deployed);
      const snapshot = await helpers.takeSnapshot();
      await vault.deposit({ value: 1n });
      await snapshot.restore();
      expect(await vault.total()).to.equal(0n);
      await vault.deposit({ value: 2n });
      await snapshot.restore();
      expect(await vault.total()).to.equal(0n);
    });
  });

  describe("blocks", function () {
    it("are made as told", async function () {
      const { vault, owner } = await loadFixture(deployed);
      const coinbase = ethers.Wallet.createRandom().address;
      await helpers.setCoinbase(coinbase);
      await helpers.setBlockGasLimit(25_000_000);
      await helpers.setPrevRandao(12345);
      await helpers.setNextBlockBaseFeePerGas(3_000_000_000);
      await owner.sendTransaction({ to: coinbase, value: 1n });
      const block = await ethers.provider.getBlock("latest");
      expect(block.baseFeePerGas).to.equal(3_000_000_000n);
      const seen = await vault.surroundings();
      expect(seen.number).to.equal(block.number);
      expect(seen.coinbase).to.equal(coinbase);
      expect(seen.prevrandao).to.equal(12345n);
      expect(seen.gasLimit).to.equal(25_000_000n);
    });

    it("wait when mining is manual", async function () {
      const { owner, other } = await loadFixture(deployed);
      await network.provider.send("evm_setAutomine", [false]);
      const dropped = await owner.sendTransaction({ to: other.address, value: 1n });
      expect((await ethers.provider.send("eth_pendingTransactions", [])).length).to.equal(1);
      expect(await ethers.provider.getTransactionReceipt(dropped.hash)).to.equal(null);
      await helpers.dropTransaction(dropped.hash);
      const kept = await owner.sendTransaction({ to: other.address, value: 2n });
      await network.provider.send("evm_setIntervalMining", [200]);
      expect((await kept.wait()).status).to.equal(1);
      await network.provider.send("evm_setIntervalMining", [0]);
      await network.provider.send("evm_setAutomine", [true]);
      expect(await ethers.provider.getTransaction(dropped.hash)).to.equal(null);
    });

    it("are gone after a reset", async function () {
      await helpers.reset();
      expect(await time.latestBlock()).to.equal(0);
      const { vault } = await deployed();
      expect(await vault.total()).to.equal(0n);
    });
  });
});
