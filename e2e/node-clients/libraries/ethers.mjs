// ethers 6 against a node, over HTTP and WebSocket.
//
// usage: node ethers.mjs RPC_URL WS_URL PRIVATE_KEY

import assert from "node:assert/strict";
import { Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, getCreateAddress, parseEther, verifyTypedData } from "ethers";
import { compile, within } from "./vault.mjs";

const [rpc, ws, key] = process.argv.slice(2);
const { abi, bytecode } = compile();

async function deploys(provider, wallet) {
  const factory = new ContractFactory(abi, bytecode, wallet);
  const expected = getCreateAddress({ from: wallet.address, nonce: await wallet.getNonce() });
  const vault = await factory.deploy(2_000_000_000n, { value: 1000n });
  await vault.waitForDeployment();
  assert.equal(await vault.getAddress(), expected);
  const receipt = await vault.deploymentTransaction().wait();
  assert.equal(receipt.contractAddress, expected);
  assert.equal(await provider.getBalance(vault), 1000n);
  return vault;
}

async function readsBlocksAndFees(provider, vault) {
  const [fees, block, network] = await Promise.all([provider.getFeeData(), provider.getBlock("latest", true), provider.getNetwork()]);
  assert(fees.gasPrice > 0n && fees.maxFeePerGas >= fees.maxPriorityFeePerGas);
  assert.equal(network.chainId, 31337n);
  assert.equal(block.prefetchedTransactions[0].blockHash, block.hash);
  const history = await provider.send("eth_feeHistory", ["0x4", "latest", [25, 75]]);
  assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
  assert.equal(await provider.getStorage(vault, 0), `0x${"0".repeat(64)}`);
  assert.equal((await provider.getBlock("pending")).number, block.number + 1);
  for (const tag of ["safe", "finalized", "earliest"]) assert(await provider.getBlock(tag));
}

async function sendsAllKinds(provider, wallet, vault) {
  const estimate = await vault.deposit.estimateGas({ value: 1n });
  const legacy = await (await vault.deposit({ value: 1n, type: 0 })).wait();
  assert(legacy.gasUsed <= estimate);
  const { accessList } = await provider.send("eth_createAccessList", [{ from: wallet.address, to: vault.target, value: "0x2", data: vault.interface.encodeFunctionData("deposit") }, "latest"]);
  assert.equal(accessList[0].address, vault.target.toLowerCase());
  for (const type of [1, 2]) {
    const receipt = await (await vault.deposit({ value: 1n, type, accessList })).wait();
    assert.equal(receipt.type, type);
    assert.equal(receipt.status, 1);
  }
  assert.equal(await vault.total(), 3n);
  const managed = new NonceManager(wallet);
  const sent = await Promise.all([1n, 2n, 3n].map((value) => managed.sendTransaction({ to: vault.target, value, data: "0xd0e30db0" })));
  const receipts = await Promise.all(sent.map((transaction) => provider.waitForTransaction(transaction.hash)));
  assert.equal(new Set(receipts.map((receipt) => receipt.blockHash)).size, 3);
  const found = await provider.getTransaction(sent[0].hash);
  assert.equal(found.from, wallet.address);
  assert.equal((await provider.getTransactionReceipt(sent[1].hash)).logs.length, 1);
}

async function understandsFailures(vault, wallet) {
  await assert.rejects(vault.withdraw.staticCall(), (error) => error.revert?.name === "TooEarly" && error.revert.args[0] === 2_000_000_000n);
  await assert.rejects(vault.withdraw(), (error) => error.code === "CALL_EXCEPTION" && error.action === "estimateGas");
  await assert.rejects(vault.complain(), (error) => error.reason === "out of order");
  await assert.rejects(vault.divide(0), (error) => error.revert?.name === "Panic" && Number(error.revert.args[0]) === 0x12);
  const mined = await vault.withdraw({ gasLimit: 100_000 });
  await assert.rejects(mined.wait(), (error) => error.code === "CALL_EXCEPTION" && error.receipt.status === 0);
  await assert.rejects(wallet.sendTransaction({ to: wallet.address, nonce: 0 }), (error) => error.code === "NONCE_EXPIRED");
  await assert.rejects(wallet.sendTransaction({ to: wallet.address, value: parseEther("1000000") }), (error) => error.code === "INSUFFICIENT_FUNDS");
}

async function findsAndHearsEvents(provider, vault) {
  const before = await vault.queryFilter("Deposit", 0, "latest");
  assert.equal(before.length, 6);
  const mine = vault.filters.Deposit(await vault.runner.getAddress());
  assert.equal((await vault.queryFilter(mine)).length, 6);
  for (const listener of [provider, new WebSocketProvider(ws)]) {
    const heard = new Contract(vault.target, abi, listener);
    const event = new Promise((resolve) => heard.once("Deposit", (from, amount, total) => resolve({ amount, total })));
    const block = new Promise((resolve) => listener.once("block", resolve));
    // The subscription is sent before these, so it stands when they are answered; a polling provider notes the head meanwhile.
    await listener.getBlockNumber();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await (await vault.deposit({ value: 10n })).wait();
    assert.equal((await within(20, "an event", event)).amount, 10n);
    assert(await within(20, "a block", block));
    await heard.removeAllListeners();
    // Answered after what was cancelled just now, which must not be under way any more when the connection ends.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await listener.send("eth_chainId", []);
    if (listener !== provider) await listener.destroy();
  }
}

async function signsWithUnlockedAccounts(provider) {
  const signer = await provider.getSigner(1);
  const types = { Mail: [{ name: "text", type: "string" }] };
  const signature = await signer.signTypedData({ name: "Test" }, types, { text: "hello" });
  assert.equal(verifyTypedData({ name: "Test" }, types, { text: "hello" }, signature), signer.address);
  const sent = await signer.sendTransaction({ to: signer.address, value: 1n });
  assert.equal((await sent.wait()).status, 1);
}

const provider = new JsonRpcProvider(rpc, undefined, { cacheTimeout: -1, pollingInterval: 100 });
const wallet = new Wallet(key, provider);
const vault = await deploys(provider, wallet);
await readsBlocksAndFees(provider, vault);
await sendsAllKinds(provider, wallet, vault);
await understandsFailures(vault, wallet);
await findsAndHearsEvents(provider, vault);
await signsWithUnlockedAccounts(provider);
provider.destroy();
console.log("ethers works with this node");
