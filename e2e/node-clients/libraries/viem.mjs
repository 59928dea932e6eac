// viem against a node: public, wallet and test clients, over HTTP and WebSocket.
//
// usage: node viem.mjs RPC_URL WS_URL PRIVATE_KEY

import assert from "node:assert/strict";
import { createPublicClient, createTestClient, createWalletClient, encodeFunctionData, http, parseEther, webSocket } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { compile, within } from "./vault.mjs";

const [rpc, ws, key] = process.argv.slice(2);
const { abi, bytecode } = compile();
const account = privateKeyToAccount(key);
const somebody = "0x00000000000000000000000000000000000000aa";
const reader = createPublicClient({ chain: foundry, transport: http(rpc, { batch: true }), pollingInterval: 100, cacheTime: 0 });
const writer = createWalletClient({ chain: foundry, transport: http(rpc), account });

async function receiptOf(hash) {
  return within(20, "a receipt", reader.waitForTransactionReceipt({ hash }));
}

async function deploys() {
  const receipt = await receiptOf(await writer.deployContract({ abi, bytecode, args: [2_000_000_000n], value: 1000n }));
  assert.equal(receipt.status, "success");
  assert.equal(await reader.getBalance({ address: receipt.contractAddress }), 1000n);
  return receipt.contractAddress;
}

async function readsAndSimulates(address) {
  const fees = await reader.estimateFeesPerGas();
  assert(fees.maxFeePerGas > 0n && (await reader.estimateMaxPriorityFeePerGas()) > 0n);
  const history = await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [50] });
  assert.equal(history.reward.length, history.gasUsedRatio.length);
  const { request } = await reader.simulateContract({ address, abi, functionName: "deposit", value: 5n, account });
  const estimate = await reader.estimateContractGas({ address, abi, functionName: "deposit", value: 5n, account });
  const receipt = await receiptOf(await writer.writeContract(request));
  assert(receipt.gasUsed <= estimate);
  assert.equal(await reader.readContract({ address, abi, functionName: "total" }), 5n);
  await assert.rejects(
    reader.simulateContract({ address, abi, functionName: "withdraw", account }),
    (error) => error.walk((cause) => cause.data?.errorName === "TooEarly") !== null,
  );
  const data = encodeFunctionData({ abi, functionName: "deposit" });
  const { accessList, gasUsed } = await reader.createAccessList({ account: account.address, to: address, data, value: 1n });
  assert.equal(accessList[0].address, address);
  assert(gasUsed > 21_000n);
  const proof = await reader.getProof({ address, storageKeys: [`0x${"0".repeat(64)}`] });
  assert.equal(proof.storageProof[0].value, 5n);
  const overridden = await reader.readContract({ address, abi, functionName: "total", stateOverride: [{ address, stateDiff: [{ slot: `0x${"0".repeat(64)}`, value: `0x${"0".repeat(63)}9` }] }] });
  assert.equal(overridden, 9n);
}

async function simulatesBlocks(address) {
  const calls = [
    { to: address, abi, functionName: "deposit", value: 6n },
    { to: address, abi, functionName: "total" },
    { to: address, abi, functionName: "complain" },
  ];
  const { results, assetChanges } = await reader.simulateCalls({ account: account.address, calls, traceAssetChanges: true });
  assert.deepEqual(results.map((result) => result.status), ["success", "success", "failure"]);
  assert.equal(results[1].result, 11n);
  assert.equal(assetChanges[0].value.diff, -6n);
  const blocks = await reader.simulateBlocks({
    blocks: [
      { calls: [{ account: somebody, to: address, value: 1n, data: "0xd0e30db0" }], stateOverrides: [{ address: somebody, balance: parseEther("1") }] },
      { blockOverrides: { time: 4_000_000_000n }, calls: [{ account: account.address, to: address, abi, functionName: "withdraw" }] },
    ],
    traceTransfers: true,
  });
  assert.equal(blocks[0].calls[0].logs.length, 2);
  assert.equal(blocks[1].calls[0].status, "success");
  assert.equal(blocks[1].parentHash, blocks[0].hash);
  assert.equal(await reader.readContract({ address, abi, functionName: "total" }), 5n);
}

/** Blocks and events, by polling filters and by subscriptions. */
async function watches(address) {
  for (const transport of [http(rpc), webSocket(ws)]) {
    const client = createPublicClient({ chain: foundry, transport, pollingInterval: 100, cacheTime: 0 });
    const stop = [];
    const block = new Promise((resolve, reject) => stop.push(client.watchBlocks({ onBlock: resolve, onError: reject })));
    const number = new Promise((resolve, reject) => stop.push(client.watchBlockNumber({ onBlockNumber: resolve, onError: reject })));
    const pending = new Promise((resolve, reject) => stop.push(client.watchPendingTransactions({ onTransactions: resolve, onError: reject })));
    const logs = new Promise((resolve, reject) => stop.push(client.watchContractEvent({ address, abi, eventName: "Deposit", onLogs: resolve, onError: reject })));
    await new Promise((resolve) => setTimeout(resolve, 500));
    const hash = await writer.writeContract({ address, abi, functionName: "deposit", value: 7n });
    const [log] = await within(20, "a log", logs);
    assert.equal(log.args.amount, 7n);
    assert.equal(log.transactionHash, hash);
    assert((await within(20, "a block", block)).number > 0n);
    assert((await within(20, "a block number", number)) > 0n);
    assert((await within(20, "a pending transaction", pending)).length > 0);
    stop.forEach((unwatch) => unwatch());
    if (transport !== undefined && client.transport.type === "webSocket") (await client.transport.getRpcClient()).close();
  }
}

/** The test client's actions, as the two tools that have them name them. */
async function controls(mode, address) {
  const test = createTestClient({ chain: foundry, mode, transport: http(rpc) });
  const latest = () => reader.getBlock();
  const id = await test.snapshot();

  await test.setAutomine(false);
  assert.equal(await test.getAutomine(), false);
  const hash = await writer.sendTransaction({ to: address, data: "0xd0e30db0", value: 1n, gas: 100_000n });
  assert.equal((await test.getTxpoolStatus()).pending, 1);
  assert.equal(Object.keys((await test.getTxpoolContent()).pending).length, 1);
  assert.equal(Object.keys((await test.inspectTxpool()).pending).length, 1);
  await test.dropTransaction({ hash });
  assert.equal((await test.getTxpoolStatus()).pending, 0);
  await test.setAutomine(true);

  const before = await latest();
  await test.mine({ blocks: 5, interval: 10 });
  assert.equal((await latest()).number, before.number + 5n);
  await test.increaseTime({ seconds: 3600 });
  await test.mine({ blocks: 1 });
  assert((await latest()).timestamp >= before.timestamp + 3600n);
  await test.setNextBlockTimestamp({ timestamp: before.timestamp + 100_000n });
  await test.setNextBlockBaseFeePerGas({ baseFeePerGas: 5_000_000_000n });
  await test.setCoinbase({ address: somebody });
  await test.setBlockGasLimit({ gasLimit: 25_000_000n });
  await test.mine({ blocks: 1 });
  const made = await latest();
  assert.equal(made.timestamp, before.timestamp + 100_000n);
  assert.equal(made.baseFeePerGas, 5_000_000_000n);
  assert.equal(made.miner, somebody);
  assert.equal(made.gasLimit, 25_000_000n);
  await test.setBlockTimestampInterval({ interval: 30 });
  await test.mine({ blocks: 2 });
  assert.equal((await latest()).timestamp, made.timestamp + 60n);
  await test.removeBlockTimestampInterval();
  await test.setIntervalMining({ interval: mode === "hardhat" ? 1 : 0 });
  await test.setIntervalMining({ interval: 0 });
  await test.setAutomine(true);
  await test.setLoggingEnabled(false);

  await test.setBalance({ address: somebody, value: parseEther("2") });
  await test.setNonce({ address: somebody, nonce: 9 });
  await test.setStorageAt({ address, index: 0, value: `0x${"0".repeat(62)}63` });
  assert.equal(await reader.readContract({ address, abi, functionName: "total" }), 99n);
  await test.impersonateAccount({ address: somebody });
  const impersonator = createWalletClient({ chain: foundry, transport: http(rpc), account: somebody });
  assert.equal((await receiptOf(await impersonator.sendTransaction({ to: address, data: "0xd0e30db0", value: 1n }))).from, somebody);
  await test.stopImpersonatingAccount({ address: somebody });
  await assert.rejects(impersonator.sendTransaction({ to: address, value: 1n, gas: 50_000n }));
  assert.equal((await receiptOf(await test.sendUnsignedTransaction({ from: somebody, to: somebody, value: 1n }))).status, "success");
  await test.setCode({ address: somebody, bytecode: await reader.getCode({ address }) });
  assert.equal(await reader.readContract({ address: somebody, abi, functionName: "opensAt" }), 2_000_000_000n);
  await assert.rejects(test.setMinGasPrice({ gasPrice: 1n }));

  await test.revert({ id });
  assert.equal((await latest()).hash, before.hash);
  const total = await reader.readContract({ address, abi, functionName: "total" });
  const state = await test.dumpState();
  await test.reset();
  assert.equal(await reader.getBlockNumber(), 0n);
  await test.loadState({ state });
  assert.equal(await reader.readContract({ address, abi, functionName: "total" }), total);
}

const address = await deploys();
await readsAndSimulates(address);
await simulatesBlocks(address);
await watches(address);
await controls("anvil", address);
await controls("hardhat", address);
console.log("viem works with this node");
process.exit(0);
